//! A readable trace in the order of time: actions, true changes, messages of the runtime, published events.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use plegd::{
    clock::Mono,
    model::FollowerStatus,
    sim::{ChangeKind, Exchange, Message, Method, SimRuntime, v1},
};

use super::{driver::Received, plan::Action};
use crate::support::word;

/// The trace of a run.
#[derive(Default)]
pub struct Trace {
    lines: Vec<(Mono, Kind, String)>,
    mode: String,
    names: BTreeMap<String, String>,
    calls: BTreeMap<Method, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Action,
    Truth,
    Exchange,
    Published,
    Mode,
}

// === impl Trace ===

impl Trace {
    pub fn action(&mut self, at: Mono, action: &Action) {
        self.lines.push((at, Kind::Action, format!("{action:?}")));
    }

    pub fn note(&mut self, at: Mono, text: &str) {
        self.lines.push((at, Kind::Action, text.to_owned()));
    }

    pub fn published(&mut self, received: &Received) {
        let event = &received.event;
        let text = format!("{} {} {} by {}", event.sequence, word(event), event.id, event.source.as_str());
        self.lines.push((received.at, Kind::Published, text));
    }

    pub fn mode(&mut self, at: Mono, follower_status: &FollowerStatus) {
        let mode = format!(
            "{}, {:?}, stream {}",
            follower_status.mode, follower_status.period, follower_status.stream
        );
        if self.mode != mode {
            self.lines.push((at, Kind::Mode, mode.clone()));
            self.mode = mode;
        }
    }

    pub fn history(&mut self, sim: &SimRuntime) {
        for change in sim.history() {
            let silently = if change.signalled { "" } else { " (silently)" };
            let what = match &change.kind {
                ChangeKind::Died { exit_code, reason } => format!("died {exit_code} {reason}"),
                other => format!("{other:?}").to_lowercase(),
            };
            self.lines.push((change.at, Kind::Truth, format!("{} {what}{silently}", change.id)));
        }
    }

    pub fn exchanges(&mut self, exchanges: &[Exchange]) {
        for it in exchanges {
            let text = match &it.message {
                Message::Event(event) => of_event(event, it),
                Message::Sandboxes(all) => format!("list of {} sandboxes", all.len()),
                Message::Containers(all) => format!("list of {} containers", all.len()),
                Message::Sandbox(status) => format!("status {}", sandbox_words(status)),
                Message::Container(status) => format!("status {}", container_words(status)),
                Message::Garbage => "garbage".into(),
            };
            self.lines.push((it.at, Kind::Exchange, text));
        }
    }

    pub fn calls(&mut self, calls: BTreeMap<Method, u64>) {
        self.calls = calls;
    }

    pub fn name_ids(&mut self, names: BTreeMap<String, String>) {
        self.names = names;
    }

    /// Replaces ids by names.
    pub fn named(&self, text: &str) -> String {
        let mut named = text.to_owned();
        for (id, name) in &self.names {
            if named.contains(id.as_str()) {
                named = named.replace(id.as_str(), name);
            }
        }
        named
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<_> = self.lines.iter().collect();
        lines.sort_by_key(|(at, kind, _)| (*at, *kind));
        let began = lines.first().map_or(Mono::ZERO, |(at, ..)| *at);
        for (at, kind, text) in lines {
            let label = match kind {
                Kind::Action => "plan ",
                Kind::Truth => "truth",
                Kind::Exchange => "  sent",
                Kind::Published => "    published",
                Kind::Mode => "  mode",
            };
            writeln!(f, "{:>9.3} {label:<9} {}", at.since(began).as_secs_f64(), self.named(text))?;
        }
        writeln!(f, "calls: {:?}", self.calls)
    }
}

fn of_event(event: &v1::ContainerEventResponse, exchange: &Exchange) -> String {
    let kind = event.container_event_type().as_str_name().replace("CONTAINER_", "").replace("_EVENT", "");
    let mut text = format!("event {kind} {}:", event.container_id);
    match &event.pod_sandbox_status {
        Some(status) => write!(text, " {}", sandbox_words(status)),
        None => write!(text, " no sandbox"),
    }
    .expect("a string");
    for status in &event.containers_statuses {
        write!(text, ", {}", container_words(status)).expect("a string");
    }
    let late = exchange.wall.as_nanos().saturating_sub(event.created_at) / 1_000_000;
    if late != 0 {
        write!(text, " (timestamp {late} ms old)").expect("a string");
    }
    text
}

fn sandbox_words(status: &v1::PodSandboxStatus) -> String {
    let state = status.state().as_str_name().replace("SANDBOX_", "").to_lowercase();
    format!("{} {state}", status.id)
}

fn container_words(status: &v1::ContainerStatus) -> String {
    let state = status.state().as_str_name().replace("CONTAINER_", "").to_lowercase();
    format!("{} {state} {} {}", status.id, status.exit_code, status.reason)
}
