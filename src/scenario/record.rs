//! Records what a real runtime shows and sends, as a scenario file.
//!
//! Reads only: Version, lists, statuses and the event stream. Owns the tasks that read; `tape` owns what is known and
//! what is written. The stream has a task of its own that does nothing else, since a subscriber that does not read can hold
//! up the runtime.

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

/// How often everything is listed.
const PERIOD: Duration = Duration::from_secs(1);
/// For how long what has changed is read at each poll: reasons and addresses change later, without an event.
const SETTLE: Duration = Duration::from_secs(5);
/// How many statuses a poll reads of what has not changed.
const OTHERS: usize = 20;
/// How many statuses are read at the same time.
const PARALLEL: usize = 4;
/// How long it is known that something is gone: longer than any list takes.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Events that may wait while the runtime is listed.
const WAITING: usize = 65_536;
/// How long to wait before the stream is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// What is recorded, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Writes names, label values, ids and addresses as they are.
    pub keep_names: bool,
    /// Follows the stream even where that can do harm.
    pub force_events: bool,
    /// How many steps are recorded at most.
    pub steps: usize,
    /// How many bytes the steps have at most.
    pub bytes: usize,
}

/// How far a recording has come.
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
    /// How much is in it.
    pub progress: Progress,
    /// What is to be known about it; it is in the file too.
    pub notes: Vec<String>,
}

/// What comes from the stream's task.
enum FromStream {
    Event(Box<RawEvent>),
    Ended(Mono),
    /// There is no stream, as this word in the file says.
    None(&'static str),
    /// More events waited than may.
    Overflowed,
}

/// What a poll has read.
enum Read {
    Sandbox(Result<Option<SandboxStatus>, CriError>),
    Container(Result<Option<ContainerStatus>, CriError>),
}

struct Recorder<'a> {
    client: &'a Client,
    clock: &'a Clock,
    options: &'a Options,
    tape: Tape,
    /// What an event of this recording proves.
    effect: Effect,
    /// Events from before say how things were before the first list.
    began: Wall,
    /// When the steps after those before plegd's start begin.
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

/// Records until `stop`, or until the recording is as long as it may be.
///
/// # Errors
///
/// [`CriError`] if the runtime cannot be listed to begin with. What fails later is part of the recording.
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
    let (sender, mut received) = mpsc::channel(WAITING);
    let follower = CancellationToken::new();
    let _stopped_in_the_end = follower.clone().drop_guard();
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

/// Why following the stream can do harm, if it can.
fn harm(quirks: &Quirks) -> Option<&'static str> {
    if quirks.has(Quirk::SharedChannel) {
        Some("this runtime sends each event to one subscriber only, so others would miss it")
    } else if quirks.has(Quirk::DisconnectMayCrashRuntime) {
        Some("this runtime can crash when a subscriber leaves")
    } else {
        None
    }
}

/// What an event of such a runtime proves.
fn effect(quirks: &Quirks) -> Effect {
    if quirks.has(Quirk::ContainerDeletedEarly) {
        Effect::Statuses
    } else if quirks.has(Quirk::SandboxDeletedEarly) {
        Effect::AllButSandboxesAtOnce
    } else {
        Effect::All
    }
}

/// Receives events and does nothing else.
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
                            // The channel is full, and so this waits: the stream is closed by then.
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
    /// What there is before plegd starts.
    async fn first_poll(&mut self) -> Result<(), CriError> {
        let began = self.clock.now();
        let listing = self.client.list().await?;
        let targets = self.tape.to_read(&listing, began, usize::MAX);
        let read = self.read(targets, began).await;
        self.take_in(&listing, read, began, began);
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
        // What came before the end is part of the recording.
        while let Ok(next) = received.try_recv() {
            self.receive(next);
        }
        self.tape.advance(self.clock.now());
    }

    /// Whether the recording is as long as it may be; then it says so.
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
                    "The event stream was closed after {} events: too many waited.",
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

    /// Lists everything and reads what has to be read; events that came meanwhile are recorded first.
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
                self.lists(at);
                self.take_in(&listing, read, began, at);
            }
            Err(error) => self.cannot_list(&error, at),
        }
    }

    async fn read(&self, targets: Vec<(String, Subject, String)>, began: Mono) -> Vec<(String, Mono, Read)> {
        let clock = self.clock;
        let reads = targets.into_iter().map(|(id, subject, home)| async move {
            let asked = clock.now().max(began);
            let object = id.as_str().into();
            let read = match subject {
                Subject::Sandbox => Read::Sandbox(self.client.sandbox_status(&object).await),
                Subject::Container => {
                    Read::Container(self.client.container_status(&object, &home.as_str().into()).await)
                }
            };
            (id, asked, read)
        });
        // In the order of the list, so that sandboxes come first.
        stream::iter(reads).buffered(PARALLEL).collect().await
    }

    fn take_in(&mut self, listing: &Listing, read: Vec<(String, Mono, Read)>, began: Mono, at: Mono) {
        self.tape.list(listing, began, at);
        for (id, asked, read) in read {
            let seen = match read {
                Read::Sandbox(Ok(Some(status))) => Ok(self.tape.sandbox(&status)),
                Read::Container(Ok(Some(status))) => Ok(self.tape.container(&status)),
                Read::Sandbox(Ok(None)) | Read::Container(Ok(None)) => Err(Code::NotFound),
                Read::Sandbox(Err(error)) | Read::Container(Err(error)) => Err(error.code()),
            };
            match seen {
                Ok(seen) => {
                    self.tape.see(seen, By::Read(asked), at);
                    self.tape.reads(&id, at);
                }
                Err(code) => {
                    if let Some(item) = item(listing, &id) {
                        self.tape.fails(&item, word(code), asked, at);
                    }
                }
            }
        }
        self.tape.compare(listing, at);
    }

    fn lists(&mut self, at: Mono) {
        if std::mem::take(&mut self.is_down) {
            self.tape.plain("up", at);
        }
        if let Some((method, _)) = self.failing.take() {
            self.tape.method_fails(&method, None, at);
        }
    }

    fn cannot_list(&mut self, error: &CriError, at: Mono) {
        let (method, code) = match error {
            CriError::Unreachable { .. } => {
                if !std::mem::replace(&mut self.is_down, true) {
                    self.tape.plain("down", at);
                }
                return;
            }
            CriError::Malformed { method, .. } => (method.to_string(), "GARBAGE"),
            // No answer to a list call.
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

/// The code, as a scenario file writes it.
fn word(code: Code) -> &'static str {
    CODES.iter().find(|(_, it)| *it == code).map_or("UNKNOWN", |(word, _)| word)
}
