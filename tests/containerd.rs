//! plegd's guarantees on real containerd 2.1, 1.7 and 1.6; each test has its own instance (see `lab`).
//!
//! plegd runs in the test's process, except in `clients` and `daemon`. The tests compare its events with the calls of their own
//! client, and its cache with the runtime. Every test also fails on a duplicate event, a wrong order or a hole in the sequence
//! (see `Follower`).
//!
//! | module | content |
//! | --- | --- |
//! | `histories` | complete histories, on either path |
//! | `runtime` | a runtime that is killed, paused, or loses its shim |
//! | `pods` | failed starts, late reasons, several sandboxes, fresh reads |
//! | `faults` | faults of the runtime during churn |
//! | `clients` | the binary: a daemon, and clients that are frozen, killed, or survive its restart |
//! | `recordings` | the history of a pod, recorded and replayed |
//! | `daemon` | the binary: killed during churn, paused, starved of CPU |
//!
//! These tests need root, and Debian's archive the first time. They can run in parallel: `cargo test --test containerd --
//! --ignored`.

mod binary;
#[path = "containerd/clients.rs"]
mod clients;
#[path = "containerd/daemon.rs"]
mod daemon;
#[path = "containerd/faults.rs"]
mod faults;
#[path = "containerd/histories.rs"]
mod histories;
mod lab;
#[path = "containerd/pods.rs"]
mod pods;
#[path = "containerd/recordings.rs"]
mod recordings;
#[path = "containerd/runtime.rs"]
mod runtime;

use std::time::Duration;

use anyhow::{Result, ensure};
use histories::OtherSubscriber::{Absent, Reading};
use lab::{
    Containerd, Follower,
    Version::{V1_6, V1_7, V2_1},
};
use plegd::config::{Config, SharedStream};

/// One test per scenario and version, so that each can be run alone.
macro_rules! on_versions {
    ($($test:ident = $module:ident::$scenario:ident($($argument:expr),*);)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs root and Debian's containerd packages: see docs/testing.md"]
        async fn $test() -> Result<()> {
            $module::$scenario($($argument),*).await
        }
    )*};
}

on_versions! {
    every_history_is_published_from_the_stream_of_2_1 = histories::every_history_is_published_from_the_stream(V2_1, Absent);
    every_history_is_published_with_a_second_subscriber_on_2_1 = histories::every_history_is_published_from_the_stream(V2_1, Reading);
    every_history_is_published_from_the_stream_of_1_7 = histories::every_history_is_published_from_the_stream(V1_7, Absent);
    histories_longer_than_two_relists_are_published_by_polling_1_6 = histories::longer_histories_are_published_by_polling();
    pods_removed_before_the_start_are_not_published_on_2_1 = histories::pods_removed_before_the_start_are_not_published(V2_1);
    pods_removed_before_the_start_are_not_published_on_1_7 = histories::pods_removed_before_the_start_are_not_published(V1_7);
    events_taken_by_another_subscriber_of_1_7_are_counted_as_missed_and_recovered = histories::events_taken_by_another_subscriber_are_recovered();
    another_subscriber_of_1_7_receives_all_events_once_plegd_has_yielded = histories::another_subscriber_receives_all_events();
    a_killed_containerd_2_1_is_followed_again_and_deaths_meanwhile_are_published = runtime::a_killed_containerd_is_followed_again(V2_1);
    a_killed_containerd_1_7_is_followed_again_and_deaths_meanwhile_are_published = runtime::a_killed_containerd_is_followed_again(V1_7);
    a_killed_containerd_1_6_is_followed_again_and_deaths_meanwhile_are_published = runtime::a_killed_containerd_is_followed_again(V1_6);
    a_paused_containerd_2_1_loses_nothing = runtime::a_paused_containerd_loses_nothing(V2_1);
    a_paused_containerd_1_7_loses_nothing = runtime::a_paused_containerd_loses_nothing(V1_7);
    a_paused_containerd_1_6_loses_nothing = runtime::a_paused_containerd_loses_nothing(V1_6);
    a_failed_start_is_published_without_an_event = pods::a_failed_start_is_published();
    a_job_of_24_leaves_no_error_lines_in_the_log_of_2_1 = pods::a_job_leaves_no_error_lines(V2_1);
    a_job_of_24_leaves_no_error_lines_in_the_log_of_1_7 = pods::a_job_leaves_no_error_lines(V1_7);
    an_oom_kill_is_published_with_its_reason_on_2_1 = pods::an_oom_kill_is_published_with_its_reason(V2_1);
    an_oom_kill_is_published_with_its_reason_on_1_6 = pods::an_oom_kill_is_published_with_its_reason(V1_6);
    both_sandboxes_of_a_pod_are_served_on_2_1 = pods::both_sandboxes_of_a_pod_are_served(V2_1);
    both_sandboxes_of_a_pod_are_served_on_1_6 = pods::both_sandboxes_of_a_pod_are_served(V1_6);
    a_churn_is_published_completely_and_leaves_the_cache_empty_on_2_1 = histories::a_churn_is_published_completely(V2_1);
    a_churn_is_published_completely_and_leaves_the_cache_empty_on_1_7 = histories::a_churn_is_published_completely(V1_7);
    a_churn_of_1_6_is_published_in_order_and_leaves_the_cache_empty = histories::a_churn_is_published_completely(V1_6);
    a_crashed_shim_is_published_as_the_end_of_its_pod_on_2_1 = runtime::a_crashed_shim_is_published(V2_1);
    a_crashed_shim_is_published_as_the_end_of_its_pod_on_1_7 = runtime::a_crashed_shim_is_published(V1_7);
    a_crashed_shim_is_published_as_the_end_of_its_pod_on_1_6 = runtime::a_crashed_shim_is_published(V1_6);
    a_read_newer_than_a_call_shows_its_effect_on_2_1 = pods::a_newer_read_shows_the_effect_of_a_call(V2_1);
    a_read_newer_than_a_call_shows_its_effect_on_1_6 = pods::a_newer_read_shows_the_effect_of_a_call(V1_6);
    a_frozen_client_beside_50_others_delays_neither_them_nor_the_runtime = clients::a_frozen_client_delays_nobody();
    a_client_killed_seven_times_receives_each_event_once = clients::a_killed_client_resumes_at_its_position();
    clients_of_a_restarted_daemon_get_what_happened_meanwhile_on_2_1 = clients::a_restarted_daemon_continues(V2_1);
    clients_of_a_restarted_daemon_get_what_happened_meanwhile_on_1_7 = clients::a_restarted_daemon_continues(V1_7);
    clients_find_a_restarted_daemon_without_state_and_get_a_gap = clients::a_daemon_without_state_is_found_again();
    ten_kills_of_containerd_2_1_during_churn_lose_nothing = faults::kills_during_churn_lose_nothing(V2_1);
    ten_kills_of_containerd_1_7_during_churn_lose_nothing = faults::kills_during_churn_lose_nothing(V1_7);
    a_pause_of_containerd_2_1_of_30_s_during_churn_loses_nothing = faults::a_pause_during_churn_loses_nothing(V2_1);
    a_pause_of_containerd_1_7_of_30_s_during_churn_loses_nothing = faults::a_pause_during_churn_loses_nothing(V1_7);
    a_competing_subscriber_of_1_7_during_churn_leaves_the_cache_correct = faults::a_competing_subscriber_during_churn_leaves_the_cache_correct();
    a_flood_of_short_containers_is_published_completely_on_2_1 = faults::a_flood_is_published_completely(V2_1);
    a_flood_of_short_containers_is_published_completely_on_1_7 = faults::a_flood_is_published_completely(V1_7);
    plegd_recovers_from_a_full_disk_of_containerd_2_1 = faults::plegd_recovers_from_a_full_disk(V2_1);
    plegd_recovers_from_a_full_disk_of_containerd_1_7 = faults::plegd_recovers_from_a_full_disk(V1_7);
    twenty_kills_of_plegd_during_churn_lose_nothing_on_2_1 = daemon::kills_during_churn_lose_nothing(V2_1);
    twenty_kills_of_plegd_during_churn_lose_nothing_on_1_7 = daemon::kills_during_churn_lose_nothing(V1_7);
    a_paused_daemon_catches_up_on_2_1 = daemon::a_paused_daemon_catches_up(V2_1);
    a_paused_daemon_catches_up_on_1_7 = daemon::a_paused_daemon_catches_up(V1_7);
    the_kill_of_a_paused_daemon_unblocks_containerd_2_1_at_once = daemon::the_kill_of_a_paused_daemon_unblocks_the_runtime(V2_1);
    a_recorded_history_is_published_again_on_2_1 = recordings::a_recorded_history_is_published_again(V2_1);
    a_starved_daemon_delays_no_call_and_loses_nothing_on_2_1 = daemon::a_starved_daemon_delays_nobody_and_loses_nothing(V2_1);
}

/// Relists only after a new stream, so that changes must come from the stream.
fn without_relists(config: &mut Config) {
    (config.relist.period, config.relist.max_period) = (Duration::from_secs(600), Duration::from_secs(600));
}

/// Keeps the stream of a shared channel, although another client subscribes.
fn compete(config: &mut Config) {
    config.stream.shared = SharedStream::Compete;
}

/// Stops both, and checks that nothing is left behind.
async fn finish(plegd: Follower, containerd: Containerd) -> Result<()> {
    plegd.stop().await?;
    let left = containerd.shutdown().await?;
    ensure!(left == lab::Leftovers::default(), "left behind: {left}");
    Ok(())
}
