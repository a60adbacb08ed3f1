//! Log levels: a warning informs, an error needs an action by the operator and names it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use plegd::sim::{CallFault, Dose, Method, Profile, Target};
use support::Harness;
use tonic::Code;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Written {
    /// The lines of this level since the last call.
    fn take(&self, level: &str) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().expect("no panic"));
        let text = String::from_utf8(bytes).expect("text");
        text.lines().filter(|line| line.contains(level)).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_runtime_is_a_warning_and_an_outage_of_minutes_one_error() {
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(written.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    for _ in 0..3 {
        harness.sim.crash();
        harness.pass(Duration::from_secs(30)).await;
        harness.sim.recover().unwrap();
        harness.pass(Duration::from_secs(30)).await;
    }
    assert_eq!(written.take("ERROR"), [""; 0]);
    // Relists that fail for a few seconds are no error either.
    harness.sim.faults().calls(Method::ListContainers, CallFault::fail(Code::Internal), Dose::Next(3));
    harness.pass(Duration::from_secs(90)).await;
    let failed = written.take("");
    assert!(
        failed.iter().any(|line| line.contains("WARN") && line.contains("The relist failed")),
        "{failed:?}"
    );
    assert!(!failed.iter().any(|line| line.contains("ERROR")), "{failed:?}");

    harness.sim.crash();
    harness.pass(Duration::from_secs(3600)).await;
    let errors = written.take("ERROR");
    assert!(errors.len() == 1 && errors[0].contains("`plegd check`"), "{errors:?}");
    harness.sim.recover().unwrap();
    harness.pass(Duration::from_secs(30)).await;
    harness.sim.crash();
    harness.pass(Duration::from_secs(90)).await;
    assert_eq!(written.take("ERROR").len(), 1, "another outage");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_hangs_is_a_warning_and_after_a_minute_of_failed_relists_an_error() {
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(written.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let mut harness = Harness::new(Profile::CONTAINERD_2_1);
    harness.until_evented().await;
    written.take("");
    harness.sim.faults().hang(Target::Process);
    let failures = |harness: &Harness| harness.metric("plegd_relist_consecutive_failures");
    harness.until("two failures", |harness| failures(harness) >= 2.0).await;
    let lines = written.take("");
    assert!(
        lines.iter().any(|line| line.contains("WARN") && line.contains("The relist failed")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("The mode has changed") && line.contains("probing")),
        "{lines:?}"
    );
    harness.pass(Duration::from_secs(75)).await;
    let errors = written.take("ERROR");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("Listing the runtime has failed for a minute"), "{errors:?}");
    assert!(errors[0].contains("failures=1") && errors[0].contains("since="), "{errors:?}");
    harness.sim.faults().release(&Target::Process);
    harness.pass(Duration::from_secs(10)).await;
    let back = written.take("The runtime answers again");
    assert!(
        back.len() == 1 && back[0].contains("after_failures=") && back[0].contains("lasted="),
        "{back:?}"
    );
    assert_eq!(failures(&harness), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_yielded_stream_is_a_warning_with_cause_remedy_and_time_of_the_next_try() {
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(written.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let mut harness = Harness::new(Profile::CONTAINERD_1_7);
    harness.until_evented().await;
    let mut other = harness.sim.queue().subscribe();
    let task = tokio::spawn(async move { while other.next().await.is_some() {} });
    written.take("");
    harness.churn(1, 100).await;
    let warnings = written.take("WARN");
    let yielded: Vec<_> = warnings.iter().filter(|line| line.contains("Yielding the shared")).collect();
    assert_eq!(yielded.len(), 1, "{warnings:?}");
    for part in [
        "another subscriber; polling.",
        "EventedPLEG",
        "next_try_in=10m",
        "next_try_at=2027-",
        "relist_every=1s",
        "missed=",
    ] {
        assert!(yielded[0].contains(part), "{part}: {yielded:?}");
    }
    assert!(!warnings.iter().any(|line| line.contains("stream is lost")), "{warnings:?}");
    harness.pass(Duration::from_secs(600)).await;
    let tried = written.take("Opening the shared event stream again");
    assert!(tried.len() == 1 && tried[0].contains("INFO"), "{tried:?}");
    task.abort();
}

#[test]
fn every_error_names_an_action() {
    const ACTIONS: [&str; 4] = ["please report it", "Look at", "Correct", "restart plegd"];
    let mut errors = 0;
    for file in sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let text = fs::read_to_string(&file).unwrap();
        // Tests may log anything.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for error in text.split("tracing::error!(").skip(1) {
            let error = error.split(");\n").next().unwrap_or_default();
            let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
            // A count of repeated errors, each of which names an action.
            if error.contains("similar events in the last minute") {
                continue;
            }
            errors += 1;
            assert!(ACTIONS.iter().any(|action| error.contains(action)), "{}: {error}", file.display());
        }
    }
    assert!(errors >= 5, "too few errors found: {errors}");
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let deeper = dirs.iter().flat_map(|dir| sources(dir));
    deeper.chain(files.into_iter().filter(|file| file.extension().is_some_and(|it| it == "rs"))).collect()
}
