//! Configuration reload while plegd runs: live keys change, other keys are reported, and an invalid file changes nothing.
//!
//! | module | content |
//! | --- | --- |
//! | `node` | the binary with its own configuration file, on a simulated runtime |
//! | `file` | SIGHUP, symbolic links, renames and invalid files, with their log lines and metrics |
//! | `api` | keys of the API, on a binary that serves real sockets |
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

/// Each key that can change while plegd runs, and the test for it.
const TESTED: [(&str, &str); 12] = [
    ("runtime.request_timeout", "a_new_request_timeout_applies_to_the_next_call"),
    ("relist.period", "a_new_period_applies_before_the_old_one_ends"),
    ("relist.max_period", "a_new_max_period_applies_while_the_stream_is_trusted"),
    ("relist.jitter", "a_new_jitter_spreads_the_relists"),
    ("relist.parallelism", "a_higher_parallelism_applies_at_once"),
    ("stream.shared", "the_policy_can_change_while_plegd_runs"),
    ("api.allow_watch", "a_client_that_loses_its_right_is_disconnected_and_refused"),
    ("api.allow_introspection", "introspection_has_its_own_allow_list"),
    ("api.subscribers", "a_lower_subscriber_limit_keeps_existing_subscribers"),
    ("api.requests_per_peer", "a_lower_request_limit_applies_to_each_peer"),
    ("api.reads_per_second", "a_lower_read_rate_applies"),
    ("log.level", "a_new_log_level_applies"),
];

#[test]
fn each_key_that_can_change_has_a_test() {
    let live: Vec<String> =
        KEYS.iter().filter(|key| key.change == Change::Live).map(|key| key.path()).collect();
    let mut tested = TESTED.map(|(key, _)| key);
    let mut expected: Vec<&str> = live.iter().map(String::as_str).collect();
    tested.sort_unstable();
    expected.sort_unstable();
    assert_eq!(tested.as_slice(), expected);
    let sources = [
        include_str!("reload/api.rs"),
        include_str!("reload/file.rs"),
        include_str!("reload/relist.rs"),
        include_str!("shared_channel.rs"),
    ];
    for (key, test) in TESTED {
        let defined = format!("async fn {test}()");
        assert!(sources.iter().any(|source| source.contains(&defined)), "{key}: there is no test {test}");
    }
}
