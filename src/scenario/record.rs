//! Records the state and the events of a real runtime as a scenario file.
//!
//! It makes read calls only: Version, lists, statuses and the event stream. This module owns the reading tasks; `tape` owns the known state
//! and the steps. The stream has its own task that does nothing else: a subscriber that does not read can block the runtime.

mod fields;
mod pseudonyms;
mod tape;

use std::time::Duration;

use futures::{StreamExt as _, stream};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use self::tape::{By, Effect, Event, ListedItem, Tape};
use super::format::CODES;
use crate::{
    clock::{Clock, Mono, Stamped, Wall},
    cri::{
        Client, CriError, Listing, RawEvent, RuntimeInfo,
        quirks::{Quirk, Quirks},
    },
    model::{ContainerStatus, SandboxStatus, Subject},
};

/// Interval between lists.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a changed object is read at each poll, because reasons and addresses can change later without an event.
const SETTLE: Duration = Duration::from_secs(5);
/// How many statuses of unchanged objects a poll reads.
const OTHERS: usize = 20;
/// How many statuses are read in parallel.
const PARALLEL: usize = 4;
/// How long a removed id is remembered: longer than any list takes.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Maximum number of events queued while the runtime is listed.
const QUEUE: usize = 65_536;
/// Delay before the stream is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Contents and limits of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Writes names, label values, ids and addresses unchanged.
    pub keep_names: bool,
    /// Follows the stream even if that can harm the runtime.
    pub force_events: bool,
    /// Maximum number of steps.
    pub steps: usize,
    /// Maximum size of the steps in bytes.
    pub bytes: usize,
}

/// Progress of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events received.
    pub events: u64,
    /// Steps recorded.
    pub steps: usize,
}

/// A recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The scenario file.
    pub text: String,
    /// Events and steps in it.
    pub progress: Progress,
    /// Remarks about it, also written to the file.
    pub notes: Vec<String>,
}

/// A message from the stream's task.
enum FromStream {
    Event(Box<RawEvent>),
    Ended(Mono),
    /// There is no stream, with the reason as the file spells it.
    None(&'static str),
    /// The queue was full.
    Overflowed,
}

/// A status that a poll has read.
enum Read {
    Sandbox(Result<Option<SandboxStatus>, CriError>),
    Container(Result<Option<ContainerStatus>, CriError>),
}

struct Recorder<'a> {
    client: &'a Client,
    clock: &'a Clock,
    options: &'a Options,
    tape: Tape,
    /// What an event of this runtime proves about its state.
    effect: Effect,
    /// Start of the recording: older events describe the state before the first list.
    began: Wall,
    /// Time of plegd's start in the scenario.
    starts_at: Wall,
    progress: Progress,
    /// The method that fails, with its code.
    failing: Option<(String, &'static str)>,
    is_down: bool,
    malformed: u64,
    events: &'static str,
    notes: Vec<String>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { keep_names: false, force_events: false, steps: 100_000, bytes: 64 << 20 }
    }
}

/// Records until `stop`, or until a limit is reached.
///
/// # Errors
///
/// [`CriError`] if the first list fails. Later failures are part of the recording.
pub async fn record(
    client: &Client,
    clock: &Clock,
    options: &Options,
    stop: CancellationToken,
    progress: watch::Sender<Progress>,
) -> Result<Recording, CriError> {
    let runtime = client.version().await?;
    let quirks = Quirks::of(&runtime.name, &runtime.version);
    let mut notes = Vec::new();
    let (sender, mut received) = mpsc::channel(QUEUE);
    let follower = CancellationToken::new();
    let _stopped_at_the_end = follower.clone().drop_guard();
    match harm(&quirks).filter(|_| !options.force_events) {
        Some(harm) => {
            notes.push(format!("The event stream was not followed: {harm}. --force-events follows it."));
        }
        None => drop(tokio::spawn(follow(client.clone(), clock.clone(), sender, follower))),
    }
    let (now, began) = clock.now_both();
    let mut recorder = Recorder {
        client,
        clock,
        options,
        tape: Tape::new(options.keep_names, now),
        effect: effect(&quirks),
        began,
        starts_at: began,
        progress: Progress::default(),
        failing: None,
        is_down: false,
        malformed: 0,
        events: if notes.is_empty() { "stream" } else { "unimplemented" },
        notes,
    };
    match stop.run_until_cancelled(recorder.first_poll()).await {
        Some(polled) => polled?,
        None => recorder.notes.push("The recording ended before everything was read once.".to_owned()),
    }
    recorder.run(&mut received, &stop, &progress).await;
    Ok(recorder.finish(&runtime))
}

/// How following the stream can harm the runtime, if it can.
fn harm(quirks: &Quirks) -> Option<&'static str> {
    if quirks.has(Quirk::SharedChannel) {
        Some("this runtime sends each event to one subscriber only, so others would miss it")
    } else if quirks.has(Quirk::DisconnectMayCrashRuntime) {
        Some("this runtime can crash when a subscriber leaves")
    } else {
        None
    }
}

/// What an event of a runtime with these quirks proves.
fn effect(quirks: &Quirks) -> Effect {
    if quirks.has(Quirk::ContainerDeletedEarly) {
        Effect::Statuses
    } else if quirks.has(Quirk::SandboxDeletedEarly) {
        Effect::AllWithDelayedSandboxes
    } else {
        Effect::All
    }
}

/// Receives events only.
async fn follow(client: Client, clock: Clock, sender: mpsc::Sender<FromStream>, stop: CancellationToken) {
    let following = async {
        loop {
            let mut received = false;
            match client.events().await {
                Err(CriError::Unimplemented { .. }) => {
                    let _ = sender.try_send(FromStream::None("unimplemented"));
                    return;
                }
                Err(_) => {}
                Ok(mut stream) => {
                    while let Ok(Some(event)) = stream.next().await {
                        received = true;
                        let (at, wall) = clock.now_both();
                        let event = Box::new(RawEvent::new(event, at, wall));
                        if sender.try_send(FromStream::Event(event)).is_err() {
                            // The channel is full, so this send waits; the stream is closed before.
                            drop(stream);
                            let _ = sender.send(FromStream::Overflowed).await;
                            return;
                        }
                    }
                    if !received {
                        let _ = sender.try_send(FromStream::None("eof"));
                        return;
                    }
                }
            }
            if received {
                let _ = sender.try_send(FromStream::Ended(clock.now()));
            }
            tokio::time::sleep(REOPEN_AFTER).await;
        }
    };
    stop.run_until_cancelled(following).await;
}

// === impl Recorder ===

impl Recorder<'_> {
    /// The state before plegd's start.
    async fn first_poll(&mut self) -> Result<(), CriError> {
        let began = self.clock.now();
        let listing = self.client.list().await?;
        let targets = self.tape.to_read(&listing, began, usize::MAX);
        let read = self.read(targets, began).await;
        self.apply_poll(&listing, read, began, began);
        let (now, wall) = self.clock.now_both();
        self.starts_at = wall;
        self.tape.start(now);
        Ok(())
    }

    async fn run(
        &mut self,
        received: &mut mpsc::Receiver<FromStream>,
        stop: &CancellationToken,
        progress: &watch::Sender<Progress>,
    ) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        let mut has_stream = true;
        loop {
            self.progress.steps = self.tape.steps().len();
            progress.send_replace(self.progress);
            if self.is_full() {
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                next = received.recv(), if has_stream => match next {
                    Some(next) => self.receive(next),
                    None => has_stream = false,
                },
                _ = tick.tick() => drop(stop.run_until_cancelled(self.poll(received)).await),
            }
        }
        // Events received before the end are part of the recording.
        while let Ok(next) = received.try_recv() {
            self.receive(next);
        }
        self.tape.advance(self.clock.now());
    }

    /// Whether a limit is reached; adds a note if so.
    fn is_full(&mut self) -> bool {
        let (steps, bytes) = (self.tape.steps().len(), self.tape.bytes());
        let limit = if steps >= self.options.steps {
            format!("{} steps", self.options.steps)
        } else if bytes >= self.options.bytes {
            format!("{} bytes", self.options.bytes)
        } else {
            return false;
        };
        self.notes.push(format!("The recording ended early: it has {limit}, which is the limit."));
        true
    }

    fn receive(&mut self, next: FromStream) {
        match next {
            FromStream::Event(event) => self.event(*event),
            FromStream::Ended(at) => self.tape.plain("break_streams", at),
            FromStream::None(word) => self.events = word,
            FromStream::Overflowed => {
                self.tape.plain("break_streams", self.clock.now());
                self.notes.push(format!(
                    "The event stream was closed after {} events: plegd read the events too slowly.",
                    self.progress.events
                ));
            }
        }
    }

    fn event(&mut self, event: RawEvent) {
        self.progress.events += 1;
        let (kind, received) = (event.kind(), event.received);
        let parts = event.into_parts();
        self.malformed += parts.malformed;
        let effect = if parts.created_at >= self.began { self.effect } else { Effect::Nothing };
        let sent = match self.clock.to_monotonic(parts.created_at, received) {
            Stamped::At(sent) => sent.min(received),
            Stamped::BeforeStep(_) | Stamped::Unknown => received,
        };
        let event = Event {
            id: parts.event.id.to_string(),
            kind,
            created_at: parts.created_at,
            sent,
            received,
            sandbox: parts.sandboxes.first().map(|status| status.as_ref().clone()),
            containers: parts.containers.iter().map(|status| status.as_ref().clone()).collect(),
        };
        self.tape.event(event, effect);
    }

    /// Lists everything and reads statuses; events received in the meantime are recorded first.
    async fn poll(&mut self, received: &mut mpsc::Receiver<FromStream>) {
        let began = self.clock.now();
        let listing = self.client.list().await;
        let read = match &listing {
            Ok(listing) => {
                let targets = self.tape.to_read(listing, began - SETTLE, OTHERS);
                self.read(targets, began).await
            }
            Err(_) => Vec::new(),
        };
        let at = self.clock.now();
        while let Ok(next) = received.try_recv() {
            self.receive(next);
        }
        match listing {
            Ok(listing) => {
                self.list_succeeded(at);
                self.apply_poll(&listing, read, began, at);
            }
            Err(error) => self.list_failed(&error, at),
        }
    }

    async fn read(&self, targets: Vec<(String, Subject, String)>, began: Mono) -> Vec<(String, Mono, Read)> {
        let clock = self.clock;
        let reads = targets.into_iter().map(|(id, subject, sandbox_id)| async move {
            let began = clock.now().max(began);
            let object = id.as_str().into();
            let read = match subject {
                Subject::Sandbox => Read::Sandbox(self.client.sandbox_status(&object).await),
                Subject::Container => {
                    Read::Container(self.client.container_status(&object, &sandbox_id.as_str().into()).await)
                }
            };
            (id, began, read)
        });
        // In the order of the list, so that sandboxes come first.
        stream::iter(reads).buffered(PARALLEL).collect().await
    }

    fn apply_poll(&mut self, listing: &Listing, read: Vec<(String, Mono, Read)>, began: Mono, at: Mono) {
        self.tape.list(listing, began, at);
        for (id, began, read) in read {
            let status = match read {
                Read::Sandbox(Ok(Some(status))) => Ok(self.tape.sandbox(&status)),
                Read::Container(Ok(Some(status))) => Ok(self.tape.container(&status)),
                Read::Sandbox(Ok(None)) | Read::Container(Ok(None)) => Err(Code::NotFound),
                Read::Sandbox(Err(error)) | Read::Container(Err(error)) => Err(error.code()),
            };
            match status {
                Ok(status) => {
                    self.tape.apply(status, By::Read(began), at);
                    self.tape.status_read(&id, at);
                }
                Err(code) => {
                    if let Some(item) = item(listing, &id) {
                        self.tape.status_failed(&item, word(code), began, at);
                    }
                }
            }
        }
        self.tape.compare(listing, at);
    }

    fn list_succeeded(&mut self, at: Mono) {
        if std::mem::take(&mut self.is_down) {
            self.tape.plain("up", at);
        }
        if let Some((method, _)) = self.failing.take() {
            self.tape.method_fails(&method, None, at);
        }
    }

    fn list_failed(&mut self, error: &CriError, at: Mono) {
        let (method, code) = match error {
            CriError::Unreachable { .. } => {
                if !std::mem::replace(&mut self.is_down, true) {
                    self.tape.plain("down", at);
                }
                return;
            }
            CriError::Malformed { method, .. } => (method.to_string(), "GARBAGE"),
            // These do not occur for a list call.
            CriError::Empty { .. } | CriError::ListedNotFound { .. } => return,
            CriError::Deadline { method, .. }
            | CriError::Unimplemented { method, .. }
            | CriError::Failed { method, .. } => (method.to_string(), word(error.code())),
        };
        let failing = Some((method, code));
        if failing != self.failing {
            if let Some((method, _)) = self.failing.take() {
                self.tape.method_fails(&method, None, at);
            }
            self.failing = failing;
            if let Some((method, code)) = &self.failing {
                self.tape.method_fails(method, Some(code), at);
            }
        }
    }

    fn finish(mut self, runtime: &RuntimeInfo) -> Recording {
        self.progress.steps = self.tape.steps().len();
        if self.malformed > 0 {
            self.notes.push(format!(
                "{} statuses in events could not be decoded and were left out.",
                self.malformed
            ));
        }
        let head = [
            ("source", json!(format!("recorded by plegd {}", env!("CARGO_PKG_VERSION")))),
            ("notes", json!(self.notes)),
            ("runtime", json!({ "name": runtime.name, "version": runtime.version })),
            ("events", json!(self.events)),
            ("starts_at", json!(self.starts_at.as_nanos())),
        ];
        let mut text = String::from("{\n");
        for (key, value) in head {
            text.push_str(&format!("  \"{key}\": {value},\n"));
        }
        text.push_str("  \"steps\": [\n    ");
        text.push_str(&self.tape.steps().join(",\n    "));
        text.push_str("\n  ]\n}\n");
        Recording { text, progress: self.progress, notes: self.notes }
    }
}

fn item<'a>(listing: &'a Listing, id: &str) -> Option<ListedItem<'a>> {
    let sandbox = listing.sandboxes.iter().find(|item| item.id == id).map(ListedItem::Sandbox);
    sandbox.or_else(|| listing.containers.iter().find(|item| item.id == id).map(ListedItem::Container))
}

/// The code as a scenario file spells it.
fn word(code: Code) -> &'static str {
    CODES.iter().find(|(_, it)| *it == code).map_or("UNKNOWN", |(word, _)| word)
}
