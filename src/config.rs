//! Configuration: defaults, then a TOML file, then `PLEGD_*` environment variables, then flags.
//!
//! Each key is described once, in the table below: its type, default, range and what it does. Field, parser, file key,
//! environment variable and reference all come from there. Everything is checked before anything is started and all
//! problems are told at once, each with its place. This room never asks the system for anything but the file and the
//! environment, and never changes what it has given out.

mod error;
mod file;
mod key;
mod layers;
mod value;

pub use self::{
    error::{ConfigError, Place, Problem},
    key::{Form, Key, Section},
    layers::{DEFAULT_FILE, FILE_VARIABLE, Flag, Inputs, Loaded, SOCKET_VARIABLE, load},
    value::{Bytes, EventTypes, Filter, LogFormat, PrintFormat, Value},
};

use std::{net::SocketAddr, time::Duration};

use crate::cri::Endpoint;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

key::config! {
    /// The container runtime that is followed.
    runtime: Runtime {
        /// Socket of the runtime: `unix:///run/containerd/containerd.sock`, or just its path. Empty: the first of the
        /// well-known sockets (containerd, k3s and RKE2, CRI-O) that answers.
        endpoint: Option<Endpoint> = None;
        /// How long one unary CRI call may take before it is given up and tried again.
        request_timeout: Duration = Duration::from_secs(5), in Duration::from_millis(100)..=5 * MINUTE;
    }
    /// The generic path: lists everything every so often and reads what differs.
    relist: Relist {
        /// Time between two relists while the event stream is down or not there; also the shortest there is. The
        /// kubelet's is 1s.
        period: Duration = Duration::from_secs(1), in Duration::from_millis(100)..=10 * MINUTE;
        /// Time between two relists once the event stream has earned trust. The period grows up to here, doubling with
        /// each relist that finds nothing the stream has missed. Not below `relist.period`.
        max_period: Duration = MINUTE, in Duration::from_millis(100)..=HOUR;
        /// By which part of itself a period is varied at random in both directions, so that the nodes of a fleet do not
        /// relist in step: 0.1 makes 1s anything from 0.9s to 1.1s.
        jitter: f64 = 0.1, in 0.0..=0.5;
        /// How many status reads may be under way at the same time.
        parallelism: usize = 4, in 1..=64;
    }
    /// The evented path: the runtime's stream of container events.
    stream: Stream {
        /// Whether to subscribe at all. `false` leaves the relist alone, which then sees nothing that comes and goes
        /// between two of its runs.
        enabled: bool = true;
        /// Messages that may wait between the stream and the arbiter. Past it their payloads are dropped (id, type and
        /// time stay) and, past twice as many, the stream is dropped and everything is listed.
        queue_messages: usize = 65_536, in 64..=4_194_304;
        /// The same in bytes of payload.
        queue_bytes: Bytes = Bytes::mib(32), in Bytes::mib(1)..=Bytes::mib(1024);
    }
    /// The journal of lifecycle events, from which subscribers read and resume.
    journal: Journal {
        /// How many of the newest events are kept.
        events: usize = 65_536, in 64..=4_194_304;
        /// How many bytes of them at most; whichever of both limits is met first.
        bytes: Bytes = Bytes::mib(32), in Bytes::mib(1)..=Bytes::mib(1024);
    }
    /// Metrics and health over HTTP.
    http: Http {
        /// Address to listen on. It is not authenticated: choose more than loopback only where the network is yours.
        /// Empty or "off": none.
        address: Option<SocketAddr> = Some(SocketAddr::from(([127, 0, 0, 1], 7534)));
    }
    /// plegd's own log, which goes to stderr.
    log: Log {
        /// Level, or levels by module, as `info,plegd::relister=debug`.
        level: Filter = Filter::info();
        /// Text for people, or one JSON object a line for collectors.
        format: LogFormat = LogFormat::Text;
    }
    /// Lifecycle events on stdout.
    print: Print {
        /// As a table for people, as one JSON object a line, or not at all.
        format: PrintFormat = PrintFormat::None;
        /// Which events: any of started, died, removed, changed and sync, with commas between them, or all. The default
        /// is what the kubelet's sync loop is sent.
        types: EventTypes = EventTypes::kubelet();
    }
}

// === impl Config ===

impl Config {
    /// All keys with their documentation as a TOML file, each with the value that it has in this configuration. Reading
    /// it gives this configuration again.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for section in SECTIONS {
            if !text.is_empty() {
                text.push('\n');
            }
            comment(&mut text, section.doc);
            text.push_str(&format!("[{}]\n", section.name));
            for key in KEYS.iter().filter(|key| key.section == section.name) {
                text.push('\n');
                comment(&mut text, key.doc);
                comment(&mut text, &format!("Allowed: {}. Default: {}.", key.allowed(), key.default_toml()));
                text.push_str(&format!("{} = {}\n", key.name, key.toml(self)));
            }
        }
        text
    }

    /// What is wrong with keys that are each fine alone; each problem with the key to blame.
    fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let Relist { period, max_period, .. } = &self.relist;
        if max_period < period {
            found.push((
                "relist.max_period",
                format!(
                    "relist.max_period ({}) is below relist.period ({}); raise the one or lower the other",
                    max_period.text(),
                    period.text()
                ),
            ));
        }
        found
    }
}

fn comment(text: &mut String, doc: &str) {
    for line in doc.lines() {
        text.push_str(&format!("# {}\n", line.trim()));
    }
}

#[cfg(test)]
mod tests;
