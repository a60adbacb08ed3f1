//! The format for the systemd journal: lines with a priority, without the fields that the journal adds.
//!
//! Lines go to stderr, each with its priority as a prefix, as defined by sd-daemon(3). The journal's own socket is not used:
//! `journalctl` hides fields such as the error by default, and lines lose their order relative to other output on stderr, such as a panic.
//! Programs can use JSON.

use std::{env, fmt, io};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer, format},
    },
    registry::LookupSpan,
};

pub(super) struct Journal(Format<Full, ()>);

/// Whether stderr is connected to the journal.
pub(super) fn is_stderr() -> bool {
    let stream = env::var("JOURNAL_STREAM").unwrap_or_default();
    // A process started by a service inherits the variable, but its stderr may be another file.
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

fn priority(level: &Level) -> u8 {
    // The numbers of syslog(3).
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

// === impl Journal ===

impl Journal {
    pub(super) fn new() -> Self {
        Self(format().without_time().with_level(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        let priority = priority(event.metadata().level());
        // The journal stores each line as an entry of its own.
        text.lines().try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{super::written::Written, *};

    #[test]
    fn each_line_has_its_priority_and_all_fields() {
        let written = Written::default();
        let to = written.clone();
        let lines =
            tracing_subscriber::fmt::layer().event_format(Journal::new()).with_writer(move || to.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::error!(target: "target", error = "refused", "It failed.");
            tracing::warn!(target: "target", "Two\nlines.");
            tracing::info!(target: "target", pods = 3, "Listed.");
            tracing::debug!(target: "target", "Read.");
        });
        let written = String::from_utf8(written.0.lock().clone()).unwrap();
        assert_eq!(
            written,
            "<3>target: It failed. error=\"refused\"\n<4>target: Two\n<4>lines.\n<6>target: Listed. pods=3\n<7>target: Read.\n"
        );
    }
}
