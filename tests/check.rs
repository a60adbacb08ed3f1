//! `plegd check` on each simulated runtime: it detects event support without harm to the runtime. Where events must be enabled, it prints
//! the lines and their file.

use std::process::Stdio;

use anyhow::{Result, ensure};
use plegd::{
    clock::Clock,
    sim::{
        Method, Profile, SimRuntime,
        profile::{Events, StatusTimestamp},
        truth::SandboxSpec,
    },
};
use tokio::process::Command;

const LINES: &str = "
            [crio.runtime]
            enable_pod_events = true
          to /etc/crio/crio.conf.d/10-plegd.conf, then: systemctl restart crio
";

/// CRI-O 1.34 with its default configuration.
const CRI_O_1_34_EVENTS_OFF: Profile =
    Profile { events: Events::EndAtOnce, status_timestamp: StatusTimestamp::Absent, ..Profile::CRI_O_1_34 };

/// The output of `plegd check`, and whether it has subscribed.
async fn check(profile: Profile, pods: u32) -> Result<(String, bool)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("runtime.sock");
    let sim = SimRuntime::new(profile, Clock::system(), 1);
    let _serving = sim.serve_uds(&path)?;
    for pod in 0..pods {
        let spec = SandboxSpec::of_pod("shop", &format!("web-{pod}"), &format!("uid-{pod}"));
        ensure!(sim.change(|truth| truth.run_sandbox(spec)).is_ok());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
    command.args(["check", "--config", "/dev/null", "--runtime-endpoint"]).arg(&path).env_clear();
    let process = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let output = String::from_utf8(process.stdout)?;
    ensure!(process.status.success(), "{output}{}", String::from_utf8_lossy(&process.stderr));
    let subscribed = sim.calls().contains_key(&Method::GetContainerEvents);
    Ok((output, subscribed))
}

#[tokio::test]
async fn for_crio_without_events_the_lines_to_add_and_their_file_are_printed() -> Result<()> {
    for (profile, pods, subscribed, events) in [
        (CRI_O_1_34_EVENTS_OFF, 0, true, "events    off: the runtime ends the stream at once\n"),
        // plegd cannot test harmlessly whether 1.31 sends events.
        (
            Profile::CRI_O_1_31_EVENTS_OFF,
            1,
            false,
            "events    off: the statuses of sandboxes have no timestamp\n",
        ),
        (Profile::CRI_O_1_31_EVENTS_OFF, 0, false, "events    unknown until a pod exists; "),
    ] {
        let (output, has_subscribed) = check(profile, pods).await?;
        ensure!(
            output.contains(events) && output.ends_with(LINES),
            "{} of {pods} pods:\n{output}",
            profile.name
        );
        ensure!(output.contains("\nmode      polling, a relist every 1s"), "{output}");
        ensure!(has_subscribed == subscribed, "{} of {pods} pods", profile.name);
    }
    Ok(())
}

#[tokio::test]
async fn for_a_runtime_with_events_there_is_no_advice() -> Result<()> {
    let with_events = Profile::ALL
        .into_iter()
        .filter(|profile| !matches!(profile.events, Events::EndAtOnce | Events::Unimplemented));
    for profile in with_events {
        let (output, subscribed) = check(profile, 1).await?;
        ensure!(
            !output.contains("advice") && !output.contains("enable_pod_events = true\n"),
            "{}:\n{output}",
            profile.name
        );
        ensure!(output.contains("evented once the stream is trusted"), "{}:\n{output}", profile.name);
        // plegd does not subscribe where subscribers share a channel, or where a disconnect can crash the runtime.
        let harmless = match profile.events {
            Events::Blocking { .. } => true,
            Events::Broadcast { departure, .. } => departure == plegd::sim::profile::Departure::Harmless,
            _ => false,
        };
        ensure!(subscribed == harmless, "{}:\n{output}", profile.name);
    }
    Ok(())
}
