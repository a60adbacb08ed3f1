//! The configuration is read again while plegd runs: what can change does, what cannot is said, and what is wrong changes
//! nothing.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `node` | the binary with a file of its own, on a simulated runtime |
//! | `file` | SIGHUP, symbolic links, renames, bad files: what becomes of them, in the log and in the metrics |
//! | `api` | keys of the API, of a binary that serves real sockets |
//! | `relist` | keys of the relist and of CRI calls, in paused time |
//!
//! `stream.shared` is in `shared_channel.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod binary;
mod support;

#[path = "reload/api.rs"]
mod api;
#[path = "reload/file.rs"]
mod file;
#[path = "reload/node.rs"]
mod node;
#[path = "reload/relist.rs"]
mod relist;

use plegd::config::{Change, KEYS};

/// Each key that can change while plegd runs, and the test that shows that it does.
const SHOWN: [(&str, &str); 12] = [
    ("runtime.request_timeout", "another_timeout_holds_for_the_next_call"),
    ("relist.period", "another_period_holds_before_the_old_one_is_over"),
    ("relist.max_period", "another_longest_period_holds_while_the_stream_is_trusted"),
    ("relist.jitter", "another_jitter_spreads_the_relists"),
    ("relist.parallelism", "more_lanes_are_used_at_once"),
    ("stream.shared", "the_policy_can_change_while_plegd_runs"),
    ("api.allow_watch", "whoever_is_no_longer_admitted_is_cut_off_and_refused"),
    ("api.allow_introspection", "introspection_has_its_own_list"),
    ("api.subscribers", "fewer_subscribers_are_allowed_and_those_there_stay"),
    ("api.requests_per_peer", "fewer_requests_are_allowed_to_a_peer"),
    ("api.reads_per_second", "fewer_reads_are_allowed"),
    ("log.level", "the_log_says_more_when_it_is_told_to"),
];

#[test]
fn each_key_that_can_change_is_shown_to_change() {
    let live: Vec<String> =
        KEYS.iter().filter(|key| key.change == Change::Live).map(|key| key.path()).collect();
    let mut shown = SHOWN.map(|(key, _)| key);
    let mut expected: Vec<&str> = live.iter().map(String::as_str).collect();
    shown.sort_unstable();
    expected.sort_unstable();
    assert_eq!(shown.as_slice(), expected);
    let sources = [
        include_str!("reload/api.rs"),
        include_str!("reload/file.rs"),
        include_str!("reload/relist.rs"),
        include_str!("shared_channel.rs"),
    ];
    for (key, test) in SHOWN {
        let defined = format!("async fn {test}()");
        assert!(sources.iter().any(|source| source.contains(&defined)), "{key}: there is no test {test}");
    }
}
