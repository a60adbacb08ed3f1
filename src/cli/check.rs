//! `plegd check`: detects the runtime of this node and its properties.

mod events;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use humantime::format_duration;

use super::run::flags;
use crate::{
    clock::Clock,
    config::{self, ConfigError, Inputs, Loaded},
    cri::{
        Client, CriError, Endpoint, Link,
        endpoint::discovery::{ADVICE, Probed, probe_well_known},
        quirks::{Quirk, Quirks},
    },
    metrics::Metrics,
    printable::visible,
    supervisor::longest_period,
};

const EXAMPLES: &str = "\
Examples:
  plegd check
  plegd check --runtime-endpoint unix:///run/k3s/containerd/containerd.sock";

/// Flags of `plegd check`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Configuration file [env: PLEGD_CONFIG] [default: /etc/plegd/plegd.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Socket of the runtime: unix:///path or /path [default: the first well-known socket that answers]
    #[arg(long, value_name = "SOCKET")]
    pub runtime_endpoint: Option<String>,
}

/// Prints the runtime and its known properties.
///
/// # Errors
///
/// If no runtime is found or it does not answer.
pub async fn run(loaded: Loaded) -> anyhow::Result<()> {
    let config = loaded.config;
    let mut report = Report::default();
    let endpoint = match config.runtime.endpoint {
        Some(endpoint) => endpoint,
        None => find(&mut report, probe_well_known().await)?,
    };
    report.line("endpoint", endpoint.to_string());
    let deadline = config.runtime.request_timeout;
    let client = Client::new(Link::unix(endpoint), deadline, Clock::system(), Arc::new(Metrics::new()));
    let runtime = client.version().await.map_err(|error| report.stop(&error))?;
    let quirks = Quirks::of(&runtime.name, &runtime.version);
    report.line("runtime", format!("{runtime}, CRI {}", runtime.api_version));
    for (condition, reason, message) in client.conditions().await.map_err(|error| report.stop(&error))? {
        report.line("not ready", format!("{condition}: {reason}: {message}"));
    }
    let listing = client.list().await.map_err(|error| report.stop(&error))?;
    let (sandboxes, containers) = (listing.sandboxes.len(), listing.containers.len());
    report.line("holds", format!("{sandboxes} pod sandboxes, {containers} containers"));
    let events = events::detect(&client, &quirks, &listing).await;
    events.report(&mut report);
    if !config.stream.enabled {
        report.line("", "disabled in the configuration: stream.enabled = false".into());
    }
    let works = config.stream.enabled && events.expected();
    let longest = longest_period(&quirks, config.relist.max_period).max(config.relist.period);
    report.line("mode", expected_mode(works, config.relist.period, longest));
    for (n, quirk) in quirks.iter().enumerate() {
        report.line(if n == 0 { "quirks" } else { "" }, quirk.summary().into());
    }
    if quirks.has(Quirk::EventsOffByDefault) {
        events.advise(&mut report);
    }
    print!("{report}");
    Ok(())
}

/// Reports the reply of each socket. `plegd run` would follow the first one with a runtime.
fn find(report: &mut Report, probed: Vec<Probed>) -> anyhow::Result<Endpoint> {
    let widest = probed.iter().map(|probed| probed.endpoint.to_string().len()).max().unwrap_or(0);
    for (n, Probed { endpoint, answer }) in probed.iter().enumerate() {
        let answer = match answer {
            Ok(runtime) => format!("{runtime}, CRI {}", runtime.api_version),
            Err(unfit) => unfit.to_string(),
        };
        let endpoint = endpoint.to_string();
        report.line(if n == 0 { "sockets" } else { "" }, format!("{endpoint:widest$}  {answer}"));
    }
    let mut answering = probed.into_iter().filter(|probed| probed.answer.is_ok());
    let Some(first) = answering.next() else {
        print!("{report}");
        anyhow::bail!("no container runtime answers at a well-known socket. {ADVICE}");
    };
    if answering.next().is_some() {
        let several =
            "several runtimes answer; if the kubelet does not use the first one, set runtime.endpoint";
        report.line("advice", several.into());
    }
    Ok(first.endpoint)
}

fn expected_mode(events: bool, period: Duration, longest: Duration) -> String {
    let (period, longest) = (format_duration(period), format_duration(longest));
    if events {
        format!(
            "probing at first, a relist every {period}; evented once the stream is trusted, every {longest}"
        )
    } else {
        format!("polling, a relist every {period}; containers with a shorter lifetime may be missed")
    }
}

/// Lines, each with a name and a text.
#[derive(Default)]
struct Report(Vec<(&'static str, String)>);

// === impl Report ===

impl Report {
    fn line(&mut self, name: &'static str, text: String) {
        self.0.push((name, text));
    }

    /// Prints the lines before the failure, and returns the error.
    fn stop(&self, error: &CriError) -> anyhow::Error {
        print!("{self}");
        match error {
            CriError::Unimplemented { .. } => anyhow::anyhow!(
                "{error}. This socket does not serve CRI v1. The CRI plugin of the runtime may be disabled, or another program \
                 may listen on this socket"
            ),
            error => anyhow::Error::new(error.clone()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, text)| writeln!(f, "{name:<10}{}", visible(text)))
    }
}

// === impl Args ===

impl Args {
    /// The configuration of this process with these flags.
    ///
    /// # Errors
    ///
    /// All errors in it.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let flags = flags([("--runtime-endpoint", "runtime.endpoint", &self.runtime_endpoint)]);
        config::load(&Inputs::of_process(self.config.clone(), flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::{RuntimeInfo, endpoint::discovery::Unfit};

    fn probed(path: &str, answer: Result<&str, Unfit>) -> Probed {
        let runtime = |name: &str| RuntimeInfo {
            name: name.into(),
            version: "2.1\u{1b}[2J".into(),
            api_version: "v1".into(),
        };
        Probed { endpoint: path.parse().unwrap(), answer: answer.map(runtime) }
    }

    #[test]
    fn each_socket_is_reported_and_the_first_one_that_answers_is_used() {
        let mut report = Report::default();
        let all = vec![
            probed("/run/a.sock", Err(Unfit::NoCri)),
            probed("/run/k3s/b.sock", Ok("containerd")),
            probed("/run/c.sock", Err(Unfit::Missing)),
        ];
        assert_eq!(find(&mut report, all).unwrap().to_string(), "unix:///run/k3s/b.sock");
        assert_eq!(
            report.to_string(),
            "\
sockets   unix:///run/a.sock      no CRI v1: is \"cri\" in disabled_plugins of /etc/containerd/config.toml, or is it no runtime?
          unix:///run/k3s/b.sock  containerd 2.1\\u{1b}[2J, CRI v1
          unix:///run/c.sock      no socket
"
        );
        let none = find(&mut Report::default(), vec![probed("/run/a.sock", Err(Unfit::Refused))]);
        assert!(
            none.unwrap_err().to_string().starts_with("no container runtime answers at a well-known socket.")
        );
        let two = vec![probed("/run/a.sock", Ok("containerd")), probed("/run/b.sock", Ok("cri-o"))];
        let mut report = Report::default();
        assert_eq!(find(&mut report, two).unwrap().to_string(), "unix:///run/a.sock");
        assert!(report.to_string().contains("several runtimes answer"), "{report}");
    }
}
