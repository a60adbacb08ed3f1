//! plegd's promises, on real containerd: 2.1, 1.7 and 1.6, each test on one of its own (see `lab`).
//!
//! plegd runs in the test's process (but in `clients` and `ordeals`); what it tells is held against what the test's own calls did, what it serves against
//! what the runtime says. Whatever a test is about, it also fails on anything told twice, out of order or with a hole in the
//! numbers (see `Follower`).
//!
//! | room | what lives there |
//! | --- | --- |
//! | `lives` | lives as a whole, by whichever path |
//! | `trouble` | what goes wrong with the runtime |
//! | `pods` | failed starts, late reasons, several sandboxes, fresh reads |
//! | `faults` | the runtime at its worst, in the middle of pods that come and go |
//! | `clients` | the binary itself: a daemon, and clients that are frozen, killed, or outlive it |
//! | `recordings` | a pod's life, recorded and replayed |
//! | `ordeals` | the binary again: killed in the middle of churn, stopped, starved |
//!
//! These tests need root, and Debian's archive the first time. They run in parallel as they are:
//! `cargo test --test containerd -- --ignored`.

mod binary;
#[path = "containerd/clients.rs"]
mod clients;
#[path = "containerd/faults.rs"]
mod faults;
mod lab;
#[path = "containerd/lives.rs"]
mod lives;
#[path = "containerd/ordeals.rs"]
mod ordeals;
#[path = "containerd/pods.rs"]
mod pods;
#[path = "containerd/recordings.rs"]
mod recordings;
#[path = "containerd/trouble.rs"]
mod trouble;

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{
    Containerd, Follower,
    Version::{V1_6, V1_7, V2_1},
};
use lives::Company::{Alone, Subscriber};
use plegd::config::{Config, SharedStream};

/// One test of each scenario and version, so that each can be run and fails on its own.
macro_rules! on_versions {
    ($($test:ident = $room:ident::$scenario:ident($($argument:expr),*);)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs root and Debian's containerd packages: see docs/testing.md"]
        async fn $test() -> Result<()> {
            $room::$scenario($($argument),*).await
        }
    )*};
}

on_versions! {
    every_life_however_short_is_told_from_the_stream_of_2_1 = lives::every_life_is_told_from_the_stream(V2_1, Alone);
    every_life_however_short_is_told_with_a_second_subscriber_on_2_1 = lives::every_life_is_told_from_the_stream(V2_1, Subscriber);
    every_life_however_short_is_told_from_the_stream_of_1_7 = lives::every_life_is_told_from_the_stream(V1_7, Alone);
    lives_longer_than_two_relists_are_told_by_polling_1_6 = lives::longer_lives_are_told_by_polling();
    what_came_and_went_before_is_not_told_on_2_1 = lives::what_came_and_went_before_is_not_told(V2_1);
    what_came_and_went_before_is_not_told_on_1_7 = lives::what_came_and_went_before_is_not_told(V1_7);
    stolen_events_of_1_7_are_missed_counted_and_made_good = lives::stolen_events_are_made_good();
    another_subscriber_of_1_7_receives_all_events_once_plegd_has_yielded = lives::another_subscriber_receives_all_events();
    a_killed_containerd_2_1_is_followed_again_and_what_died_meanwhile_is_told = trouble::a_killed_containerd_is_followed_again(V2_1);
    a_killed_containerd_1_7_is_followed_again_and_what_died_meanwhile_is_told = trouble::a_killed_containerd_is_followed_again(V1_7);
    a_killed_containerd_1_6_is_followed_again_and_what_died_meanwhile_is_told = trouble::a_killed_containerd_is_followed_again(V1_6);
    a_stopped_containerd_2_1_costs_nothing_once_it_goes_on = trouble::a_stopped_containerd_costs_nothing(V2_1);
    a_stopped_containerd_1_7_costs_nothing_once_it_goes_on = trouble::a_stopped_containerd_costs_nothing(V1_7);
    a_stopped_containerd_1_6_costs_nothing_once_it_goes_on = trouble::a_stopped_containerd_costs_nothing(V1_6);
    a_failed_start_is_told_although_no_event_tells_it = pods::a_failed_start_is_told();
    a_job_of_24_leaves_no_error_lines_in_the_log_of_2_1 = pods::a_job_leaves_no_error_lines(V2_1);
    a_job_of_24_leaves_no_error_lines_in_the_log_of_1_7 = pods::a_job_leaves_no_error_lines(V1_7);
    an_oom_kill_is_told_as_one_on_2_1 = pods::an_oom_kill_is_told_as_one(V2_1);
    an_oom_kill_is_told_as_one_on_1_6 = pods::an_oom_kill_is_told_as_one(V1_6);
    both_sandboxes_of_a_pod_are_seen_on_2_1 = pods::both_sandboxes_of_a_pod_are_seen(V2_1);
    both_sandboxes_of_a_pod_are_seen_on_1_6 = pods::both_sandboxes_of_a_pod_are_seen(V1_6);
    a_churn_is_told_whole_and_leaves_nothing_in_the_cache_on_2_1 = lives::a_churn_is_told_whole(V2_1);
    a_churn_is_told_whole_and_leaves_nothing_in_the_cache_on_1_7 = lives::a_churn_is_told_whole(V1_7);
    a_churn_of_1_6_is_told_in_order_and_leaves_nothing_in_the_cache = lives::a_churn_is_told_whole(V1_6);
    a_crashed_shim_is_told_as_the_end_of_all_in_its_pod_on_2_1 = trouble::a_crashed_shim_is_told(V2_1);
    a_crashed_shim_is_told_as_the_end_of_all_in_its_pod_on_1_7 = trouble::a_crashed_shim_is_told(V1_7);
    a_crashed_shim_is_told_as_the_end_of_all_in_its_pod_on_1_6 = trouble::a_crashed_shim_is_told(V1_6);
    a_read_newer_than_a_call_shows_what_the_call_did_on_2_1 = pods::a_newer_read_shows_what_was_done(V2_1);
    a_read_newer_than_a_call_shows_what_the_call_did_on_1_6 = pods::a_newer_read_shows_what_was_done(V1_6);
    a_frozen_client_beside_50_others_delays_neither_them_nor_the_runtime = clients::a_frozen_client_delays_nobody();
    a_client_killed_again_and_again_is_told_each_event_once = clients::a_killed_client_goes_on_where_it_was();
    a_restarted_daemon_is_found_again_and_tells_of_the_gap = clients::a_restarted_daemon_is_found_again();
    ten_kills_of_containerd_2_1_in_the_middle_of_churn_lose_nothing = faults::kills_in_the_middle_of_churn_lose_nothing(V2_1);
    ten_kills_of_containerd_1_7_in_the_middle_of_churn_lose_nothing = faults::kills_in_the_middle_of_churn_lose_nothing(V1_7);
    half_a_minute_of_a_stopped_containerd_2_1_loses_nothing = faults::a_pause_in_the_middle_of_churn_loses_nothing(V2_1);
    half_a_minute_of_a_stopped_containerd_1_7_loses_nothing = faults::a_pause_in_the_middle_of_churn_loses_nothing(V1_7);
    a_thief_of_the_events_of_1_7_leaves_nothing_wrong = faults::a_thief_in_the_middle_of_churn_leaves_nothing_wrong();
    a_flood_of_short_lives_is_told_whole_on_2_1 = faults::a_flood_is_told_whole(V2_1);
    a_flood_of_short_lives_is_told_whole_on_1_7 = faults::a_flood_is_told_whole(V1_7);
    a_full_disk_of_containerd_2_1_is_survived = faults::a_full_disk_is_survived(V2_1);
    a_full_disk_of_containerd_1_7_is_survived = faults::a_full_disk_is_survived(V1_7);
    a_daemon_killed_in_the_middle_of_churn_tells_of_the_gap_and_then_the_truth = ordeals::a_daemon_killed_in_the_middle_of_churn_is_made_good();
    a_stopped_daemon_catches_up_once_it_goes_on_2_1 = ordeals::a_stopped_daemon_catches_up(V2_1);
    a_stopped_daemon_catches_up_once_it_goes_on_1_7 = ordeals::a_stopped_daemon_catches_up(V1_7);
    the_end_of_a_stopped_daemon_frees_containerd_2_1_at_once = ordeals::the_end_of_a_stopped_daemon_frees_the_runtime(V2_1);
    a_recorded_life_is_published_again_on_2_1 = recordings::a_recorded_life_is_published_again(V2_1);
    a_starved_daemon_delays_no_call_and_loses_nothing_on_2_1 = ordeals::a_starved_daemon_delays_nobody_and_loses_nothing(V2_1);
}

/// What the stream tells it should tell by itself: but for those that a new stream calls for, relists stay out of it.
fn without_relists(config: &mut Config) {
    (config.relist.period, config.relist.max_period) = (Duration::from_secs(600), Duration::from_secs(600));
}

/// Keeps the stream of a shared channel, although another client subscribes.
fn compete(config: &mut Config) {
    config.stream.shared = SharedStream::Compete;
}

/// Ends both as a test should, and sees that nothing is left.
async fn finish(plegd: Follower, containerd: Containerd) -> Result<()> {
    plegd.stop().await?;
    let left = containerd.shutdown().await?;
    ensure!(left == lab::Leftovers::default(), "left behind: {left}");
    Ok(())
}
