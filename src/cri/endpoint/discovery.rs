//! Finds the container runtime of a node among the well-known sockets.
//!
//! A socket file alone proves nothing. It may be left over from a runtime that is gone, belong to a containerd whose CRI plugin
//! is disabled, as Docker's packages install it, or to a process that hangs. So each socket that is there is asked for its CRI
//! version, and the first one in order that answers is the runtime.
//!
//! Until one has answered, all of them are tried again whenever a connection is needed. Once one has answered, the choice
//! holds for the life of the process: a runtime that restarts must not lose its node to another one that answers meanwhile.

use std::{fmt, io, os::unix::fs::FileTypeExt as _, sync::OnceLock, time::Duration};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::net::UnixStream;

use super::{Endpoint, WELL_KNOWN};
use crate::{
    clock::{Clock, Mono},
    cri::{
        CriError, Link, RuntimeInfo,
        link::{Connection, Use},
        v1::{self, runtime_service_client::RuntimeServiceClient},
    },
    model::Method,
    printable::visible,
};

/// How long a socket may take to answer. A runtime answers this call from memory, in milliseconds.
const DEADLINE: Duration = Duration::from_secs(2);

/// The first pause before a socket is asked again that is there and did not answer as a runtime. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause. An operator who enables the CRI plugin waits for no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The choice among some sockets.
#[derive(Debug)]
pub(in crate::cri) struct Discovery {
    candidates: Vec<Endpoint>,
    clock: Clock,
    chosen: OnceLock<Endpoint>,
    /// What each candidate last answered, as long as none is chosen.
    tried: Mutex<Vec<Tried>>,
}

/// What is known of a candidate that does not answer as a runtime.
#[derive(Clone, Debug, Default)]
struct Tried {
    unfit: Option<Unfit>,
    failures: u32,
    /// It is not asked again before this.
    again: Mono,
}

/// What a socket answered.
#[derive(Clone, Debug)]
pub(crate) struct Probed {
    /// The socket.
    pub(crate) endpoint: Endpoint,
    /// The runtime behind it, or why there is none.
    pub(crate) answer: Result<RuntimeInfo, Unfit>,
}

/// Why a socket has no container runtime that plegd can follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// There is no such file.
    Missing,
    /// There is a file, which is no socket.
    NotASocket,
    /// The socket is there, and no process listens on it.
    Refused,
    /// This process may not open it.
    Denied,
    /// Something answers that does not speak CRI v1.
    NoCri,
    /// Something accepts connections and does not answer within [`DEADLINE`].
    Silent,
    /// The connection or the call failed in another way.
    Failed(String),
}

/// No socket answers as a container runtime. One line, because it ends up in the log, in `/readyz` and in `plegd status`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no container runtime answers: {}. {}", list(.0), ADVICE)]
pub(crate) struct NoneAnswers(Vec<(Endpoint, Unfit)>);

/// What to do where no socket has a runtime.
pub(crate) const ADVICE: &str =
    "Start containerd or CRI-O, or name the socket of another one with --runtime-endpoint";

/// Asks all well-known sockets at the same time.
pub(crate) async fn probe_well_known() -> Vec<Probed> {
    join_all(WELL_KNOWN.into_iter().map(|path| Endpoint(path.into())).map(probe)).await
}

/// Asks the socket for the version of its runtime.
pub(crate) async fn probe(endpoint: Endpoint) -> Probed {
    let answer = tokio::time::timeout(DEADLINE, version(&endpoint)).await.unwrap_or(Err(Unfit::Silent));
    Probed { endpoint, answer }
}

async fn version(endpoint: &Endpoint) -> Result<RuntimeInfo, Unfit> {
    let stream = UnixStream::connect(endpoint.path()).await.map_err(|error| unfit(endpoint, &error))?;
    // This one connection and no second: what is wrong with connecting is known by now.
    let stream = Mutex::new(Some(stream));
    let link = Link::new(&endpoint.to_string(), move || {
        let stream = stream.lock().take().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted));
        Box::pin(std::future::ready(stream.map(|stream| Box::new(stream) as Box<dyn Connection>)))
    });
    let request = v1::VersionRequest { version: "v1".into() };
    match RuntimeServiceClient::new(link.channel(Use::Unary)).version(request).await {
        Ok(answer) => Ok(answer.into_inner().into()),
        Err(status) => Err(match CriError::of(Method::Version, &status) {
            CriError::Unimplemented { .. } => Unfit::NoCri,
            error => Unfit::Failed(error.to_string()),
        }),
    }
}

fn unfit(endpoint: &Endpoint, error: &io::Error) -> Unfit {
    let is_socket = || std::fs::metadata(endpoint.path()).is_ok_and(|at| at.file_type().is_socket());
    match error.kind() {
        io::ErrorKind::NotFound => Unfit::Missing,
        io::ErrorKind::PermissionDenied => Unfit::Denied,
        io::ErrorKind::ConnectionRefused if is_socket() => Unfit::Refused,
        io::ErrorKind::ConnectionRefused => Unfit::NotASocket,
        _ => Unfit::Failed(error.to_string()),
    }
}

// === impl Discovery ===

impl Discovery {
    /// Among the well-known sockets.
    pub(in crate::cri) fn well_known() -> Self {
        let candidates = WELL_KNOWN.into_iter().map(|path| Endpoint(path.into())).collect();
        Self::among(candidates, Clock::system())
    }

    /// Among these, the first one first.
    pub(in crate::cri) fn among(candidates: Vec<Endpoint>, clock: Clock) -> Self {
        let tried = Mutex::new(vec![Tried::default(); candidates.len()]);
        Self { candidates, clock, chosen: OnceLock::new(), tried }
    }

    /// The socket of the runtime.
    ///
    /// # Errors
    ///
    /// [`NoneAnswers`] if no socket answers as one; then it can be tried again at any time.
    pub(in crate::cri) async fn endpoint(&self) -> Result<Endpoint, NoneAnswers> {
        if let Some(chosen) = self.chosen.get() {
            return Ok(chosen.clone());
        }
        let probed = join_all((0..self.candidates.len()).map(|n| self.ask(n))).await;
        let Some(first) = probed.iter().find(|probed| probed.answer.is_ok()) else {
            return Err(self.none_answers(probed));
        };
        let mut is_news = false;
        let chosen = self.chosen.get_or_init(|| {
            is_news = true;
            first.endpoint.clone()
        });
        if is_news {
            announce(first, &probed);
        }
        Ok(chosen.clone())
    }

    /// What a candidate answers, or has answered if it is too early to ask it again.
    async fn ask(&self, n: usize) -> Probed {
        let endpoint = self.candidates[n].clone();
        let known = self.tried.lock()[n].clone();
        match known.unfit {
            Some(unfit) if self.clock.now() < known.again => Probed { endpoint, answer: Err(unfit) },
            _ => probe(endpoint).await,
        }
    }

    /// Notes what was wrong with each, and logs it if it is not what was wrong before. The first time the caller logs it.
    fn none_answers(&self, probed: Vec<Probed>) -> NoneAnswers {
        let now = self.clock.now();
        let mut tried = self.tried.lock();
        let (mut was_tried, mut is_news) = (false, false);
        let mut unfits = Vec::new();
        for (known, Probed { endpoint, answer }) in tried.iter_mut().zip(probed) {
            let Err(unfit) = answer else { continue };
            was_tried |= known.unfit.is_some();
            is_news |= known.unfit.as_ref() != Some(&unfit);
            if now >= known.again {
                known.again = now + unfit.pause(&mut known.failures);
            }
            known.unfit = Some(unfit.clone());
            unfits.push((endpoint, unfit));
        }
        drop(tried);
        let none = NoneAnswers(unfits);
        if was_tried && is_news {
            tracing::warn!(sockets = list(&none.0), "Still no container runtime answers. {ADVICE}.");
        }
        none
    }
}

fn announce(first: &Probed, probed: &[Probed]) {
    let (Ok(runtime), endpoint) = (&first.answer, &first.endpoint) else { return };
    tracing::info!(%endpoint, %runtime, "Found the container runtime.");
    let others = probed.iter().filter(|other| other.endpoint != *endpoint);
    let others: Vec<String> = others
        .filter_map(|other| Some(format!("{} at {}", other.answer.as_ref().ok()?, other.endpoint)))
        .collect();
    if !others.is_empty() {
        tracing::warn!(
            %endpoint,
            others = others.join(", "),
            "Several container runtimes answer; plegd follows the first. If the kubelet uses another one, set runtime.endpoint."
        );
    }
}

fn list(unfits: &[(Endpoint, Unfit)]) -> String {
    let each = unfits.iter().map(|(endpoint, unfit)| format!("{endpoint}: {unfit}"));
    visible(&each.collect::<Vec<_>>().join("; ")).into_owned()
}

// === impl Unfit ===

impl Unfit {
    /// How long this candidate is not asked. What only the kernel answers costs next to nothing, so that there is no pause.
    fn pause(&self, failures: &mut u32) -> Duration {
        match self {
            Unfit::Missing | Unfit::NotASocket | Unfit::Refused | Unfit::Denied => {
                *failures = 0;
                Duration::ZERO
            }
            Unfit::NoCri | Unfit::Silent | Unfit::Failed(_) => {
                let pause = (FIRST_PAUSE * (1 << (*failures).min(16))).min(LONGEST_PAUSE);
                *failures = failures.saturating_add(1);
                pause
            }
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Missing => f.write_str("no socket"),
            Unfit::NotASocket => f.write_str("a file that is no socket"),
            Unfit::Refused => f.write_str("refused, no process listens: is the runtime down?"),
            Unfit::Denied => f.write_str("permission denied: run as root or in the group that owns the socket"),
            Unfit::NoCri => f.write_str(
                "no CRI v1: is \"cri\" in disabled_plugins of /etc/containerd/config.toml, or is it no runtime?",
            ),
            Unfit::Silent => {
                write!(f, "no answer within {}: it hangs, or is no runtime", humantime::format_duration(DEADLINE))
            }
            Unfit::Failed(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests;
