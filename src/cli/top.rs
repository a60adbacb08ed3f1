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
    frame::{Format, Scene, frame},
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

/// Limit for the number of events read back from the journal, so that the first frame shows a whole minute.
const BACKLOG: u64 = 10_000;
/// Limit for the wait of the first frame for these events.
const PATIENCE: Duration = Duration::from_secs(2);
/// The bookmark interval, after which the end of these events is known.
const BOOKMARKS: Duration = Duration::from_millis(200);
/// Limit for the height of a printed frame.
const PRINTED_HEIGHT: usize = 60;
const CTRL_C: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  plegd top
  plegd top --interval 5s
  plegd top --once                                   one frame, for a report

q or Ctrl-C ends it.";

/// Flags of `plegd top`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where plegd is.
    #[command(flatten)]
    pub connection: Connection,
    /// Time between two frames, from 100ms to 1h [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = period)]
    pub interval: Option<Duration>,
    /// Print one frame and end
    #[arg(long)]
    pub once: bool,
}

fn period(text: &str) -> Result<Duration, String> {
    let period = <Duration as Value>::parse(text)?;
    let allowed = Duration::from_millis(100)..=Duration::from_secs(3_600);
    if allowed.contains(&period) { Ok(period) } else { Err("it is not from 100ms to 1h".into()) }
}

/// plegd's last answer.
struct Answer {
    status: GetStatusResponse,
    subscribers: Vec<Subscriber>,
}

/// The state of the display.
struct Known {
    answer: Answer,
    /// The error of the last call, if the answer is not current.
    trouble: Option<String>,
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
    let mut known = Known::new(answer(&introspect).await?);
    let mut watch = known.watch(&client);
    if args.once || !io::stdout().is_terminal() {
        known.catch_up(&mut watch).await?;
        known.answer = answer(&introspect).await?;
        let (width, paint) = page();
        show(&known.frame(Format { width, height: PRINTED_HEIGHT, paint }))?;
        if !args.once {
            eprintln!("plegd: stdout is no terminal, so this is one frame; --once says that it is meant");
        }
        return Ok(());
    }
    live(&mut known, introspect, watch, args.interval.unwrap_or(Duration::from_secs(1))).await
}

async fn live(
    known: &mut Known,
    introspect: Introspect,
    mut watch: Watch,
    period: Duration,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut resized = signal(SignalKind::window_change())?;
    let (sender, mut answers) = mpsc::channel(1);
    // The calls run in their own task: a plegd that does not answer must not block the keys.
    let asking = tokio::spawn(async move {
        let mut ticker = interval(period);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            if sender.send(answer(&introspect).await).await.is_err() {
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
                    Some(Ok(update)) => known.take(&update),
                    Some(Err(error)) => break Err(error.into()),
                    None => watching = false,
                }
                continue;
            }
            Some(answer) = answers.recv() => {
                known.answered(answer);
                continue;
            }
            _ = ticker.tick() => {}
            _ = resized.recv() => {}
        }
        let (width, height) = terminal.size();
        if let Err(error) = terminal.draw(&known.frame(Format { width, height, paint })) {
            break Err(error.into());
        }
    };
    asking.abort();
    ended
}

/// Requests plegd's status and the list of subscribers.
async fn answer(introspect: &Introspect) -> Result<Answer, CallError> {
    let (status, subscribers) = tokio::join!(introspect.status(), introspect.subscribers());
    // The status is shown even if the list is not available.
    Ok(Answer { status: status?, subscribers: subscribers.unwrap_or_default().subscribers })
}

// === impl Known ===

impl Known {
    fn new(answer: Answer) -> Self {
        let clock = Clock::system();
        let journal = answer.status.journal.unwrap_or_default();
        let head = journal.head.map_or(0, |head| head.sequence);
        Self { answer, trouble: None, activity: Activity::new(clock.now()), head, clock }
    }

    /// A watch that starts with the last events in the journal.
    fn watch(&self, client: &Client) -> Watch {
        let journal = self.answer.status.journal.unwrap_or_default();
        let since = journal.head.map_or(Since::Now, |head| {
            let sequence = head.sequence.saturating_sub(BACKLOG).max(journal.oldest.saturating_sub(1));
            Since::After(Position { epoch: head.epoch, sequence: sequence.min(head.sequence) })
        });
        client.watch(WatchOptions { since, bookmark_interval: BOOKMARKS, ..WatchOptions::named("plegd top") })
    }

    /// Reads the events until now, for a limited time.
    async fn catch_up(&mut self, watch: &mut Watch) -> Result<(), CallError> {
        let mut patience = pin!(timeout(PATIENCE, async {
            while let Some(update) = watch.next().await {
                let update = update?;
                self.take(&update);
                let there = match &update {
                    Update::Bookmark(_) => true,
                    Update::Event { event, .. } => event.sequence >= self.head,
                    _ => false,
                };
                if there {
                    break;
                }
            }
            Ok(())
        }));
        patience.as_mut().await.unwrap_or(Ok(()))
    }

    fn take(&mut self, update: &Update) {
        match update {
            Update::Event { event, .. } => {
                self.activity.observe(self.seen_at(event), self.clock.now(), event)
            }
            // Another run of plegd has its own sequence numbers.
            Update::Gap(_) => self.head = 0,
            _ => {}
        }
    }

    /// The moment at which an event was seen: for a live event now, independent of plegd's clock.
    fn seen_at(&self, event: &Event) -> Mono {
        let (now, wall) = self.clock.now_both();
        match &event.observed_at {
            Some(at) if event.sequence <= self.head => now - age(wall, at),
            _ => now,
        }
    }

    fn answered(&mut self, answer: Result<Answer, CallError>) {
        match answer {
            Ok(answer) => {
                self.answer = answer;
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    fn frame(&mut self, format: Format) -> String {
        let (now, wall) = self.clock.now_both();
        self.activity.forget(now);
        let view = View { status: &self.answer.status, subscribers: &self.answer.subscribers, now: wall };
        let scene = Scene { view, activity: &self.activity, now, trouble: self.trouble.as_deref() };
        frame(&scene, format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::status::tests::well,
        client::mock::{EPOCH, Mock, bookmark, event, hello, position},
        v1::Journal,
    };

    fn known(oldest: u64, head: u64) -> Known {
        let journal = Journal { head: position(EPOCH, head), oldest, ..Journal::default() };
        let status = GetStatusResponse { journal: Some(journal), ..well() };
        Known::new(Answer { status, subscribers: Vec::new() })
    }

    #[tokio::test]
    async fn the_first_frame_shows_what_has_happened_lately() {
        let script = vec![hello(EPOCH, 1, 3), event(1), event(2), event(3), bookmark(EPOCH, 3)];
        let mock = Mock::watched([script]);
        let mut known = known(1, 3);
        let mut watch = known.watch(&mock.client());
        known.catch_up(&mut watch).await.unwrap();
        assert_eq!(mock.watches()[0].after, position(EPOCH, 0));
        let text = known.frame(Format { width: 80, height: 24, paint: Paint(false) });
        assert!(text.contains("\nstarted ") && text.contains("        3  "), "{text}");
    }

    #[tokio::test]
    async fn a_long_journal_is_not_read_back_in_whole() {
        for (oldest, head, after) in [(1, 0, 0), (1, 9_000, 0), (1, 65_000, 55_000), (64_000, 65_000, 63_999)]
        {
            let mock = Mock::watched([vec![hello(EPOCH, oldest, head), bookmark(EPOCH, head)]]);
            let mut known = known(oldest, head);
            let mut watch = known.watch(&mock.client());
            known.catch_up(&mut watch).await.unwrap();
            assert_eq!(mock.watches()[0].after, position(EPOCH, after), "{oldest} {head}");
        }
    }

    #[tokio::test]
    async fn a_plegd_that_cannot_be_asked_is_said_to_be_so_until_it_can() {
        let mut known = known(1, 3);
        let format = Format { width: 80, height: 24, paint: Paint(false) };
        known.answered(Err(CallError::Lost { why: "gone".into() }));
        assert!(known.frame(format).contains("!! This is not the newest"));
        known.answered(Ok(Answer { status: well(), subscribers: Vec::new() }));
        assert!(!known.frame(format).contains("!!"));
    }
}
