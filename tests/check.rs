//! `plegd check` on each simulated runtime: whether it has events is found out without harm to it, and where it must be told
//! to send them, the lines to write and the file to write them to are named.

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

/// CRI-O 1.34 as it comes.
const CRI_O_1_34_EVENTS_OFF: Profile =
    Profile { events: Events::EndAtOnce, status_timestamp: StatusTimestamp::Absent, ..Profile::CRI_O_1_34 };

/// What it says, and whether it has subscribed.
async fn check(profile: Profile, pods: u32) -> Result<(String, bool)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("runtime.sock");
    let sim = SimRuntime::new(profile, Clock::system(), 1);
    let _serving = sim.serve_uds(&path)?;
    for pod in 0..pods {
        let spec = SandboxSpec::of_pod("shop", &format!("web-{pod}"), &format!("uid-{pod}"));
        ensure!(sim.change(|truth| truth.run_sandbox(spec)).is_ok());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
    command.args(["check", "--config", "/dev/null", "--runtime-endpoint"]).arg(&path).env_clear();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let subscribed = sim.calls().contains_key(&Method::GetContainerEvents);
    Ok((said, subscribed))
}

#[tokio::test]
async fn crio_without_events_is_told_what_to_write_and_where() -> Result<()> {
    for (profile, pods, subscribed, events) in [
        (CRI_O_1_34_EVENTS_OFF, 0, true, "events    off: the runtime ends the stream at once\n"),
        // Whether 1.31 sends events cannot be tried without harm.
        (
            Profile::CRI_O_1_31_EVENTS_OFF,
            1,
            false,
            "events    off: the statuses of sandboxes have no time stamp\n",
        ),
        (Profile::CRI_O_1_31_EVENTS_OFF, 0, false, "events    not known before there is a pod: "),
    ] {
        let (said, has_subscribed) = check(profile, pods).await?;
        ensure!(said.contains(events) && said.ends_with(LINES), "{} of {pods} pods:\n{said}", profile.name);
        ensure!(said.contains("\nmode      polling, a relist every 1s"), "{said}");
        ensure!(has_subscribed == subscribed, "{} of {pods} pods", profile.name);
    }
    Ok(())
}

#[tokio::test]
async fn whoever_sends_events_is_told_to_write_nothing() -> Result<()> {
    let with_events = Profile::ALL
        .into_iter()
        .filter(|profile| !matches!(profile.events, Events::EndAtOnce | Events::Unimplemented));
    for profile in with_events {
        let (said, subscribed) = check(profile, 1).await?;
        ensure!(
            !said.contains("advice") && !said.contains("enable_pod_events = true\n"),
            "{}:\n{said}",
            profile.name
        );
        ensure!(said.contains("evented once the stream is trusted"), "{}:\n{said}", profile.name);
        // Those that share a channel, and those that a client's leaving can crash, are left alone.
        let harmless = match profile.events {
            Events::Blocking { .. } => true,
            Events::Broadcast { departure, .. } => departure == plegd::sim::profile::Departure::Harmless,
            _ => false,
        };
        ensure!(subscribed == harmless, "{}:\n{said}", profile.name);
    }
    Ok(())
}
