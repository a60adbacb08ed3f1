//! Every scenario file in `tests/scenarios/` is played in paused time, and all its checks hold.
//!
//! `SCENARIO=name cargo test --test scenarios` plays the files alone whose name contains that.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers are tests")]

use std::{fs, path::PathBuf, time::Duration};

use plegd::cli::scenario::{play, read};

fn files() -> Vec<PathBuf> {
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.ends_with(".json") && name.contains(&wanted)
    };
    let mut files: Vec<_> = entries.filter(is_wanted).collect();
    files.sort();
    files
}

#[test]
fn every_scenario_holds() {
    let files = files();
    assert!(!files.is_empty(), "there are scenario files");
    let mut failures = Vec::new();
    for path in &files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let scenario = match read(path) {
            Ok(scenario) => scenario,
            Err(error) => {
                failures.push(format!("{error:#}"));
                continue;
            }
        };
        let right = scenario.right.clone();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        // The same dice for each, whichever files are played.
        fastrand::seed(1);
        match runtime.block_on(play(scenario, Duration::ZERO, &mut ())) {
            Ok(outcome) if outcome.failures.is_empty() => {}
            Ok(outcome) => {
                let problems: Vec<String> = outcome.failures.iter().map(ToString::to_string).collect();
                failures.push(format!("{name}: {right}\n    {}", problems.join("\n    ")));
            }
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), files.len(), failures.join("\n"));
}
