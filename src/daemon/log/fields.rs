//! Escapes the texts of a log line: errors and names come from the runtime and may have control characters.
//!
//! The message keeps its line feeds. Those in the values of fields are escaped, so that a runtime cannot forge a log line.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    field::MakeExt as _,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Writer, debug_fn},
    },
    registry::LookupSpan,
};

use crate::printable::{safe_json, visible, visible_lines};

/// Writes the message, then the fields as `name=value`, all with unsafe characters escaped.
pub(super) fn safe() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    let field = debug_fn(|writer, field, value| {
        let text = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", visible_lines(&text)),
            name => write!(writer, "{}={}", name.trim_start_matches("r#"), visible(&text)),
        }
    });
    field.delimited(" ")
}

/// A format of JSON lines, with unsafe characters escaped as JSON escapes them.
pub(super) struct SafeJson<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for SafeJson<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        writer.write_str(&safe_json(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{super::written::Written, *};
    use crate::{
        daemon::log::journal::Journal,
        printable::tests::{assert_safe, hostile},
    };

    /// The output of `log` in three formats: text, journal, JSON.
    fn written(log: impl Fn()) -> [String; 3] {
        [0, 1, 2].map(|format| {
            let written = Written::default();
            let to = written.clone();
            let lines = || {
                let to = to.clone();
                tracing_subscriber::fmt::layer()
                    .fmt_fields(safe())
                    .without_time()
                    .with_ansi(false)
                    .with_writer(move || to.clone())
            };
            let registry = tracing_subscriber::registry;
            match format {
                0 => tracing::subscriber::with_default(registry().with(lines()), &log),
                1 => tracing::subscriber::with_default(
                    registry().with(lines().event_format(Journal::new())),
                    &log,
                ),
                _ => {
                    let json = lines().json().flatten_event(true).map_event_format(SafeJson);
                    tracing::subscriber::with_default(registry().with(json), &log);
                }
            }
            let written = written.0.lock().clone();
            String::from_utf8(written).unwrap()
        })
    }

    #[test]
    fn a_line_has_the_usual_form_and_no_control_characters() {
        let [text, journal, json] = written(|| {
            let error = "NotFound\n<3>plegd: forged\u{1b}[2J\u{202e}";
            tracing::warn!(target: "plegd", %error, pods = 3, name = "a\u{2066}b", "It failed.\nTwice.");
        });
        let fields = r#"error=NotFound\n<3>plegd: forged\u{1b}[2J\u{202e} pods=3 name="a\u{2066}b""#;
        assert_eq!(text, format!(" WARN plegd: It failed.\nTwice. {fields}\n"));
        assert_eq!(journal, format!("<4>plegd: It failed.\n<4>Twice. {fields}\n"));
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["error"], "NotFound\n<3>plegd: forged\u{1b}[2J\u{202e}");
        assert!(json.contains("\\u202e") && json.lines().count() == 1, "{json}");
    }

    proptest! {
        #[test]
        fn no_format_of_the_log_writes_an_unsafe_character(text in hostile(), message in hostile()) {
            let [plain, journal, json] = written(|| tracing::error!(error = %text, name = ?text, text, "{message}"));
            for line in [&plain, &journal, &json] {
                assert_safe(line);
            }
            let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&parsed["error"], text.as_str());
            prop_assert_eq!(&parsed["message"], message.as_str());
            prop_assert_eq!(plain.lines().count(), 1 + message.matches('\n').count());
        }
    }
}
