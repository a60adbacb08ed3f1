//! The unit in `deploy/systemd` is one that systemd takes, locks plegd up well, and lets it do all that it does; and plegd
//! tells systemd what it is to be told. systemd-analyze and systemd-sysusers must be installed (Debian: systemd); systemd
//! itself need not run.

mod binary;
#[path = "systemd/units.rs"]
mod units;

use std::{
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use binary::{DEADLINE, Daemon, Plegd};
use plegd::{
    clock::Clock,
    sim::{Profile, SimRuntime, truth::SandboxSpec},
};
use rustix::process::Signal;
use tokio::{process::Command, time::timeout};
use units::{DROP_IN, Installed, SYSUSERS, UNIT};

#[test]
fn systemd_takes_the_unit_with_and_without_its_drop_in() -> Result<()> {
    for drop_ins in [&[][..], &[DROP_IN]] {
        let installed = Installed::with(drop_ins)?;
        let verified = installed.analyze(&["verify"])?;
        ensure!(verified.success && verified.said.is_empty(), "{drop_ins:?}: {}", verified.said);
    }
    Ok(())
}

#[test]
fn what_systemd_would_not_take_is_noticed() -> Result<()> {
    let mut installed = Installed::with(&[])?;
    installed.replace("Type=notify", "Type=notifies")?;
    let verified = installed.analyze(&["verify"])?;
    ensure!(verified.said.contains("notifies"), "{verified:?}");
    Ok(())
}

#[test]
fn the_unit_is_exposed_at_most_by_one_and_a_half() -> Result<()> {
    for drop_ins in [&[][..], &[DROP_IN]] {
        // In tenths.
        let installed = Installed::with(drop_ins)?;
        let rated = installed.analyze(&["security", "--offline=true", "--threshold=15", "--no-pager"])?;
        let exposure = rated.said.lines().find(|line| line.contains("Overall exposure level"));
        ensure!(rated.success && exposure.is_some(), "{drop_ins:?}: {}", rated.said);
    }
    let mut open = Installed::with(&[])?;
    open.replace("ProtectSystem=strict", "ProtectSystem=no")?;
    open.replace("CapabilityBoundingSet=", "#")?;
    let rated = open.analyze(&["security", "--offline=true", "--threshold=15", "--no-pager"])?;
    ensure!(!rated.success, "a unit that is open passes: {}", rated.said);
    Ok(())
}

#[test]
fn the_group_and_the_user_of_the_unit_are_made() -> Result<()> {
    let made = units::run("systemd-sysusers", &["--dry-run", SYSUSERS])?;
    ensure!(made.success, "{}", made.said);
    for line in ["Creating group 'plegd'", "Creating user 'plegd'"] {
        ensure!(made.said.contains(line), "no {line:?} in {}", made.said);
    }
    let unit = std::fs::read_to_string(UNIT)?;
    ensure!(unit.contains("\nGroup=plegd\n") && unit.contains("\nRuntimeDirectory=plegd\n"));
    Ok(())
}

/// What systemd allows of system calls and capabilities, on this process' thread and on the plegd that is started by it.
#[test]
fn what_the_unit_allows_is_all_that_plegd_needs() -> Result<()> {
    std::thread::spawn(|| {
        units::confine_thread()?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            ensure!(
                rustix::process::chroot("/").is_err()
                    && std::os::unix::fs::chown("/tmp", None, Some(0)).is_err(),
                "it is not confined"
            );
            let (sim, _serving, endpoint) = runtime()?;
            let mut daemon = Daemon::start(&endpoint).await?;
            let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()?))?;
            for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
                ensure!(status.contains(line), "{line} is not so: {status}");
            }
            let spec = SandboxSpec::of_pod("shop", "web", "uid-1");
            ensure!(sim.change(|truth| truth.run_sandbox(spec)).is_ok());
            let told = async {
                while daemon.head().await? == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                anyhow::Ok(())
            };
            timeout(DEADLINE, told).await.context("nothing is told")??;
            ensure!(daemon.subscribers().await?.is_empty());
            let [started, files] = daemon.metrics(["process_start_time_seconds", "process_open_fds"]).await?;
            ensure!(started > 1e9 && files > 0.0, "{started} {files}");
            // A socket that was left behind is replaced.
            daemon.kill9().await?;
            daemon.restart().await?;
            let log = daemon.log_text();
            ensure!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
            daemon.stop().await
        })
    })
    .join()
    .map_err(|_| anyhow::anyhow!("it panicked"))?
}

#[tokio::test]
async fn systemd_is_told_that_plegd_serves_what_it_is_at_that_it_lives_and_that_it_ends() -> Result<()> {
    let (_sim, _serving, endpoint) = runtime()?;
    let manager = Manager::listening()?;
    let (plegd, _) = manager.start(&endpoint, Some(Duration::from_millis(200)))?;
    manager.hear("READY=1").await?;
    manager.hear("0 pods, 0 containers, 0 subscribers").await?;
    for _ in 0..3 {
        manager.hear("WATCHDOG=1").await?;
    }
    // What is stopped makes no progress, and says nothing until it goes on.
    plegd.signal(Signal::STOP)?;
    until_stopped(plegd.pid()?).await?;
    manager.drain()?;
    ensure!(timeout(Duration::from_secs(1), manager.hear("")).await.is_err(), "it is stopped, and fed");
    plegd.signal(Signal::CONT)?;
    manager.hear("WATCHDOG=1").await?;
    // As ExecReload does.
    plegd.signal(Signal::HUP)?;
    manager.hear("RELOADING=1\nMONOTONIC_USEC=").await?;
    manager.hear("READY=1").await?;
    plegd.signal(Signal::TERM)?;
    manager.hear("STOPPING=1").await?;
    plegd.stop().await
}

#[tokio::test]
async fn plegd_has_started_where_no_runtime_is_and_says_what_it_waits_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nowhere = folder.path().join("none.sock").display().to_string();
    let manager = Manager::listening()?;
    // Nobody asks for the watchdog, so none is fed.
    let (plegd, _) = manager.start(&nowhere, None)?;
    manager.hear("READY=1").await?;
    let status = manager.hear(&nowhere).await?;
    ensure!(status.starts_with("STATUS=Not ready: the first relist is not yet complete: "), "{status}");
    plegd.signal(Signal::TERM)?;
    loop {
        let said = manager.hear("").await?;
        ensure!(!said.contains("WATCHDOG"), "{said}");
        if said.contains("STOPPING=1") {
            return plegd.stop().await;
        }
    }
}

#[tokio::test]
async fn a_log_that_goes_to_the_journal_has_priorities_and_no_times() -> Result<()> {
    let (_sim, _serving, endpoint) = runtime()?;
    // The journal is known by the device and inode of what stderr is.
    for (format, journal, line) in [
        (None, true, "<6>plegd::daemon: Serving the pod lifecycle API over gRPC. socket="),
        (None, false, " INFO plegd::daemon: Serving the pod lifecycle API over gRPC. socket="),
        (Some("text"), true, " INFO plegd::daemon: Serving the pod lifecycle API over gRPC. socket="),
        (Some("journald"), false, "<6>plegd::daemon: Serving the pod lifecycle API over gRPC. socket="),
        (Some("json"), true, "\"message\":\"Serving the pod lifecycle API over gRPC.\""),
    ] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("stderr");
        let file = std::fs::File::create(&path)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
        command.env_clear().args(["run", "--config", "/dev/null", "--http-address", "off"]);
        command
            .args(["--runtime-endpoint", &endpoint])
            .args(format.map(|format| format!("--log-format={format}")));
        command.env("PLEGD_API_SOCKET", folder.path().join("plegd.sock"));
        if journal {
            command.env("JOURNAL_STREAM", journal_stream(&file)?);
        } else {
            // Inherited from somebody whose stderr it was.
            command.env("JOURNAL_STREAM", "1:2");
        }
        let mut plegd = command.stderr(file).stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let logged = async {
            loop {
                let log = std::fs::read_to_string(&path)?;
                if let Some(found) = log.lines().find(|line| line.contains("over gRPC.")) {
                    return anyhow::Ok(found.to_owned());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let logged = timeout(DEADLINE, logged).await.context("nothing is logged")??;
        let as_wanted = if line.starts_with('<') { logged.starts_with(line) } else { logged.contains(line) };
        ensure!(as_wanted, "{format:?} {journal}: {logged}");
        plegd.kill().await?;
    }
    Ok(())
}

fn journal_stream(file: &std::fs::File) -> Result<String> {
    use std::os::unix::fs::MetadataExt;
    let file = file.metadata()?;
    Ok(format!("{}:{}", file.dev(), file.ino()))
}

/// A simulated runtime, what serves it, and where.
fn runtime() -> Result<(SimRuntime, impl Sized, String)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("runtime.sock");
    let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
    let serving = sim.serve_uds(&path)?;
    Ok((sim, (serving, folder), path.display().to_string()))
}

async fn until_stopped(pid: u32) -> Result<()> {
    let stopped = async {
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, stopped).await.context("it does not stop")?
}

/// Listens where systemd would, in the abstract name space as it does in containers.
struct Manager {
    name: String,
    socket: tokio::net::UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn listening() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let name = folder.path().file_name().context("no name")?.to_string_lossy().into_owned();
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self { name: format!("@{name}"), socket: tokio::net::UnixDatagram::from_std(socket)?, folder })
    }

    fn start(
        &self,
        endpoint: &str,
        watchdog: Option<Duration>,
    ) -> Result<(Plegd, tokio::process::ChildStdout)> {
        let mut environment = vec![
            ("NOTIFY_SOCKET", OsString::from(&self.name)),
            ("PLEGD_API_SOCKET", self.folder.path().join("plegd.sock").into()),
        ];
        if let Some(watchdog) = watchdog {
            environment.push(("WATCHDOG_USEC", watchdog.as_micros().to_string().into()));
        }
        let arguments =
            ["run", "--config", "/dev/null", "--http-address", "off", "--runtime-endpoint", endpoint];
        Plegd::spawn(arguments, environment)
    }

    /// Waits for a message that contains this.
    async fn hear(&self, words: &str) -> Result<String> {
        let heard = async {
            let mut buffer = [0; 4096];
            loop {
                let length = self.socket.recv(&mut buffer).await?;
                let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if said.contains(words) {
                    return anyhow::Ok(said);
                }
            }
        };
        timeout(DEADLINE, heard).await.with_context(|| format!("systemd is not told {words:?}"))?
    }

    /// Forgets what was said until now.
    fn drain(&self) -> Result<()> {
        let mut buffer = [0; 4096];
        while self.socket.try_recv(&mut buffer).is_ok() {}
        Ok(())
    }
}
