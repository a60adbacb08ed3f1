//! `plegd top`: the activity of this node, redrawn every second.
//!
//! A thin loop: one task requests plegd's status, a watch delivers events, and both become a frame (`top/frame.rs`). If stdout is no
//! terminal, it prints one frame.

mod activity;
mod frame;
mod terminal;

use std::{
    io::{self, IsTerminal as _},
    pin::pin,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use self::{
    activity::Activity,
    frame::{Format, FrameInput, frame},
    terminal::{Keys, Terminal},
};
use super::{connection::Connection, introspect::Introspect, status::View};
use crate::print::{
    answer::{page, show},
    coloured,
    text::{Paint, age},
};
use crate::{
    client::{CallError, Client, Since, Update, Watch, WatchOptions},
    clock::{Clock, Mono},
    config::Value,
    model::Position,
    v1::{Event, GetStatusResponse, Subscriber},
};

/// Maximum number of past events to read from the journal for the first frame.
const BACKLOG: u64 = 10_000;
/// Timeout for reading these events.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// Bookmark interval: the first bookmark marks the end of these events.
const BOOKMARKS: Duration = Duration::from_millis(200);
/// Maximum height of a frame that is printed once.
const PRINTED_HEIGHT: usize = 60;
const CTRL_C: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  plegd top
  plegd top --interval 5s
  plegd top --once                                   print one frame and exit

Press q or Ctrl-C to exit.";

/// Flags of `plegd top`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The connection to the running plegd.
    #[command(flatten)]
    pub connection: Connection,
    /// Interval between frames, from 100ms to 1h [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = period)]
    pub interval: Option<Duration>,
    /// Print one frame and exit
    #[arg(long)]
    pub once: bool,
}

fn period(text: &str) -> Result<Duration, String> {
    let period = <Duration as Value>::parse(text)?;
    let allowed = Duration::from_millis(100)..=Duration::from_secs(3_600);
    if allowed.contains(&period) { Ok(period) } else { Err("it is not between 100ms and 1h".into()) }
}

/// The last responses of plegd.
struct Poll {
    status: GetStatusResponse,
    subscribers: Vec<Subscriber>,
}

/// The state of the display.
struct TopState {
    poll: Poll,
    /// The error of the last call, if it failed.
    error: Option<String>,
    activity: Activity,
    /// Sequence number of the newest event at the start of the watch: later events are live.
    head: u64,
    clock: Clock,
}

/// Draws frames until it is stopped.
///
/// # Errors
///
/// If plegd cannot be reached or does not answer at first. Later errors are shown, and the call is repeated.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connection.client().await?;
    let introspect = Introspect::over(&client);
    let mut state = TopState::new(poll(&introspect).await?);
    let mut watch = state.watch(&client);
    if args.once || !io::stdout().is_terminal() {
        state.catch_up(&mut watch).await?;
        state.poll = poll(&introspect).await?;
        let (width, paint) = page();
        show(&state.frame(Format { width, height: PRINTED_HEIGHT, paint }))?;
        if !args.once {
            eprintln!(
                "plegd: stdout is no terminal, so only one frame was printed; use --once to suppress this message"
            );
        }
        return Ok(());
    }
    live(&mut state, introspect, watch, args.interval.unwrap_or(Duration::from_secs(1))).await
}

async fn live(
    state: &mut TopState,
    introspect: Introspect,
    mut watch: Watch,
    period: Duration,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut resized = signal(SignalKind::window_change())?;
    let (sender, mut polls) = mpsc::channel(1);
    // The calls run in their own task: a plegd that does not answer must not block the keys.
    let polling = tokio::spawn(async move {
        let mut ticker = interval(period);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            if sender.send(poll(&introspect).await).await.is_err() {
                return;
            }
        }
    });
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watching = true;
    let mut keys = Keys::new();
    let mut terminal = Terminal::enter()?;
    let paint = Paint(coloured(true));
    let ended = loop {
        tokio::select! {
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            _ = hangup.recv() => break Ok(()),
            key = keys.next() => match key {
                b'q' | b'Q' | CTRL_C => break Ok(()),
                _ => continue,
            },
            update = watch.next(), if watching => {
                match update {
                    Some(Ok(update)) => state.take(&update),
                    Some(Err(error)) => break Err(error.into()),
                    None => watching = false,
                }
                continue;
            }
            Some(result) = polls.recv() => {
                state.polled(result);
                continue;
            }
            _ = ticker.tick() => {}
            _ = resized.recv() => {}
        }
        let (width, height) = terminal.size();
        if let Err(error) = terminal.draw(&state.frame(Format { width, height, paint })) {
            break Err(error.into());
        }
    };
    polling.abort();
    ended
}

/// Requests plegd's status and the list of subscribers.
async fn poll(introspect: &Introspect) -> Result<Poll, CallError> {
    let (status, subscribers) = tokio::join!(introspect.status(), introspect.subscribers());
    // The status is shown even if the list is not available.
    Ok(Poll { status: status?, subscribers: subscribers.unwrap_or_default().subscribers })
}

// === impl TopState ===

impl TopState {
    fn new(poll: Poll) -> Self {
        let clock = Clock::system();
        let journal = poll.status.journal.unwrap_or_default();
        let head = journal.head.map_or(0, |head| head.sequence);
        Self { poll, error: None, activity: Activity::new(clock.now()), head, clock }
    }

    /// A watch that starts with the last events in the journal.
    fn watch(&self, client: &Client) -> Watch {
        let journal = self.poll.status.journal.unwrap_or_default();
        let since = journal.head.map_or(Since::Now, |head| {
            let sequence = head.sequence.saturating_sub(BACKLOG).max(journal.oldest.saturating_sub(1));
            Since::After(Position { epoch: head.epoch, sequence: sequence.min(head.sequence) })
        });
        client.watch(WatchOptions { since, bookmark_interval: BOOKMARKS, ..WatchOptions::named("plegd top") })
    }

    /// Reads the past events, with a timeout.
    async fn catch_up(&mut self, watch: &mut Watch) -> Result<(), CallError> {
        let mut caught_up = pin!(timeout(CATCH_UP_TIMEOUT, async {
            while let Some(update) = watch.next().await {
                let update = update?;
                self.take(&update);
                let at_head = match &update {
                    Update::Bookmark(_) => true,
                    Update::Event { event, .. } => event.sequence >= self.head,
                    _ => false,
                };
                if at_head {
                    break;
                }
            }
            Ok(())
        }));
        caught_up.as_mut().await.unwrap_or(Ok(()))
    }

    fn take(&mut self, update: &Update) {
        match update {
            Update::Event { event, .. } => {
                self.activity.observe(self.observed_at(event), self.clock.now(), event)
            }
            // Another run of plegd has its own sequence numbers.
            Update::Gap(_) => self.head = 0,
            _ => {}
        }
    }

    /// The time at which plegd observed an event; for a live event the current time, independent of plegd's clock.
    fn observed_at(&self, event: &Event) -> Mono {
        let (now, wall) = self.clock.now_both();
        match &event.observed_at {
            Some(at) if event.sequence <= self.head => now - age(wall, at),
            _ => now,
        }
    }

    fn polled(&mut self, result: Result<Poll, CallError>) {
        match result {
            Ok(poll) => {
                self.poll = poll;
                self.error = None;
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }

    fn frame(&mut self, format: Format) -> String {
        let (now, wall) = self.clock.now_both();
        self.activity.forget(now);
        let view = View { status: &self.poll.status, subscribers: &self.poll.subscribers, now: wall };
        let input = FrameInput { view, activity: &self.activity, now, error: self.error.as_deref() };
        frame(&input, format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::status::tests::healthy,
        client::mock::{EPOCH, Mock, bookmark, event, hello, position},
        v1::Journal,
    };

    fn state(oldest: u64, head: u64) -> TopState {
        let journal = Journal { head: position(EPOCH, head), oldest, ..Journal::default() };
        let status = GetStatusResponse { journal: Some(journal), ..healthy() };
        TopState::new(Poll { status, subscribers: Vec::new() })
    }

    #[tokio::test]
    async fn the_first_frame_shows_past_events() {
        let script = vec![hello(EPOCH, 1, 3), event(1), event(2), event(3), bookmark(EPOCH, 3)];
        let mock = Mock::watched([script]);
        let mut state = state(1, 3);
        let mut watch = state.watch(&mock.client());
        state.catch_up(&mut watch).await.unwrap();
        assert_eq!(mock.watches()[0].after, position(EPOCH, 0));
        let text = state.frame(Format { width: 80, height: 24, paint: Paint(false) });
        assert!(text.contains("\nstarted ") && text.contains("        3  "), "{text}");
    }

    #[tokio::test]
    async fn at_most_10000_past_events_are_read() {
        for (oldest, head, after) in [(1, 0, 0), (1, 9_000, 0), (1, 65_000, 55_000), (64_000, 65_000, 63_999)]
        {
            let mock = Mock::watched([vec![hello(EPOCH, oldest, head), bookmark(EPOCH, head)]]);
            let mut state = state(oldest, head);
            let mut watch = state.watch(&mock.client());
            state.catch_up(&mut watch).await.unwrap();
            assert_eq!(mock.watches()[0].after, position(EPOCH, after), "{oldest} {head}");
        }
    }

    #[tokio::test]
    async fn a_failed_call_is_shown_until_a_call_succeeds() {
        let mut state = state(1, 3);
        let format = Format { width: 80, height: 24, paint: Paint(false) };
        state.polled(Err(CallError::Lost { why: "gone".into() }));
        assert!(state.frame(format).contains("!! Not current"));
        state.polled(Ok(Poll { status: healthy(), subscribers: Vec::new() }));
        assert!(!state.frame(format).contains("!!"));
    }
}
