//! The unit in `deploy/systemd`: systemd accepts it, it is restrictive, and plegd works under it and notifies systemd. Needs
//! systemd-analyze and systemd-sysusers (Debian: systemd); systemd itself need not run.

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
fn systemd_accepts_the_unit_with_and_without_its_drop_in() -> Result<()> {
    for drop_ins in [&[][..], &[DROP_IN]] {
        let installed = Installed::with(drop_ins)?;
        let verified = installed.analyze(&["verify"])?;
        ensure!(verified.success && verified.output.is_empty(), "{drop_ins:?}: {}", verified.output);
    }
    Ok(())
}

#[test]
fn an_invalid_unit_fails_verification() -> Result<()> {
    let mut installed = Installed::with(&[])?;
    installed.replace("Type=notify", "Type=notifies")?;
    let verified = installed.analyze(&["verify"])?;
    ensure!(verified.output.contains("notifies"), "{verified:?}");
    Ok(())
}

#[test]
fn the_exposure_level_of_the_unit_is_at_most_1_5() -> Result<()> {
    for drop_ins in [&[][..], &[DROP_IN]] {
        // The threshold is in tenths.
        let installed = Installed::with(drop_ins)?;
        let rated = installed.analyze(&["security", "--offline=true", "--threshold=15", "--no-pager"])?;
        let exposure = rated.output.lines().find(|line| line.contains("Overall exposure level"));
        ensure!(rated.success && exposure.is_some(), "{drop_ins:?}: {}", rated.output);
    }
    let mut open = Installed::with(&[])?;
    open.replace("ProtectSystem=strict", "ProtectSystem=no")?;
    open.replace("CapabilityBoundingSet=", "#")?;
    let rated = open.analyze(&["security", "--offline=true", "--threshold=15", "--no-pager"])?;
    ensure!(!rated.success, "an unrestricted unit passes: {}", rated.output);
    Ok(())
}

#[test]
fn systemd_sysusers_creates_the_user_and_group_of_the_unit() -> Result<()> {
    let created = units::run("systemd-sysusers", &["--dry-run", SYSUSERS])?;
    ensure!(created.success, "{}", created.output);
    for line in ["Creating group 'plegd'", "Creating user 'plegd'"] {
        ensure!(created.output.contains(line), "no {line:?} in {}", created.output);
    }
    let unit = std::fs::read_to_string(UNIT)?;
    ensure!(unit.contains("\nGroup=plegd\n") && unit.contains("\nRuntimeDirectory=plegd\n"));
    Ok(())
}

/// Applies the unit's system call filter and capabilities to this thread, and so to the plegd that it starts.
#[test]
fn plegd_works_with_the_system_calls_and_capabilities_of_the_unit() -> Result<()> {
    std::thread::spawn(|| {
        units::confine_thread()?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            ensure!(
                rustix::process::chroot("/").is_err()
                    && std::os::unix::fs::chown("/tmp", None, Some(0)).is_err(),
                "the thread is not confined"
            );
            let (sim, _serving, endpoint) = runtime()?;
            let mut daemon = Daemon::start(&endpoint).await?;
            let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()?))?;
            for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
                ensure!(status.contains(line), "no {line} in {status}");
            }
            let spec = SandboxSpec::of_pod("shop", "web", "uid-1");
            ensure!(sim.change(|truth| truth.run_sandbox(spec)).is_ok());
            let published = async {
                while daemon.head().await? == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                anyhow::Ok(())
            };
            timeout(DEADLINE, published).await.context("no event is published")??;
            ensure!(daemon.subscribers().await?.is_empty());
            let [started, files] = daemon.metrics(["process_start_time_seconds", "process_open_fds"]).await?;
            ensure!(started > 1e9 && files > 0.0, "{started} {files}");
            // A killed daemon leaves its socket, and the next one replaces it.
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
async fn plegd_notifies_systemd_of_readiness_status_watchdog_reload_and_stop() -> Result<()> {
    let (_sim, _serving, endpoint) = runtime()?;
    let manager = Manager::listening()?;
    let (plegd, _) = manager.start(&endpoint, Some(Duration::from_millis(200)))?;
    manager.receive("READY=1").await?;
    manager.receive("0 pods, 0 containers, 0 subscribers").await?;
    for _ in 0..3 {
        manager.receive("WATCHDOG=1").await?;
    }
    // A stopped process makes no progress and sends no notification until it continues.
    plegd.signal(Signal::STOP)?;
    until_stopped(plegd.pid()?).await?;
    manager.drain()?;
    ensure!(
        timeout(Duration::from_secs(1), manager.receive("")).await.is_err(),
        "a stopped plegd feeds the watchdog"
    );
    plegd.signal(Signal::CONT)?;
    manager.receive("WATCHDOG=1").await?;
    // ExecReload sends this signal.
    plegd.signal(Signal::HUP)?;
    manager.receive("RELOADING=1\nMONOTONIC_USEC=").await?;
    manager.receive("READY=1").await?;
    plegd.signal(Signal::TERM)?;
    manager.receive("STOPPING=1").await?;
    plegd.stop().await
}

#[tokio::test]
async fn without_a_runtime_plegd_is_started_and_its_status_names_the_reason() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let nowhere = directory.path().join("none.sock").display().to_string();
    let manager = Manager::listening()?;
    // The unit sets no watchdog, so plegd sends no keep-alive.
    let (plegd, _) = manager.start(&nowhere, None)?;
    manager.receive("READY=1").await?;
    let status = manager.receive(&nowhere).await?;
    ensure!(status.starts_with("STATUS=Not ready: the first relist is not yet complete: "), "{status}");
    plegd.signal(Signal::TERM)?;
    loop {
        let message = manager.receive("").await?;
        ensure!(!message.contains("WATCHDOG"), "{message}");
        if message.contains("STOPPING=1") {
            return plegd.stop().await;
        }
    }
}

#[tokio::test]
async fn a_log_to_the_journal_has_priorities_and_no_timestamps() -> Result<()> {
    let (_sim, _serving, endpoint) = runtime()?;
    // JOURNAL_STREAM has the device and inode of stderr if stderr is the journal.
    for (format, journal, line) in [
        (None, true, "<6>plegd::daemon: Serving the pod lifecycle API over gRPC. socket="),
        (None, false, " INFO plegd::daemon: Serving the pod lifecycle API over gRPC. socket="),
        (Some("text"), true, " INFO plegd::daemon: Serving the pod lifecycle API over gRPC. socket="),
        (Some("journald"), false, "<6>plegd::daemon: Serving the pod lifecycle API over gRPC. socket="),
        (Some("json"), true, "\"message\":\"Serving the pod lifecycle API over gRPC.\""),
    ] {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("stderr");
        let file = std::fs::File::create(&path)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_plegd"));
        command.env_clear().args(["run", "--config", "/dev/null", "--http-address", "off"]);
        command
            .args(["--runtime-endpoint", &endpoint])
            .args(format.map(|format| format!("--log-format={format}")));
        command.env("PLEGD_API_SOCKET", directory.path().join("plegd.sock"));
        if journal {
            command.env("JOURNAL_STREAM", journal_stream(&file)?);
        } else {
            // Inherited from a process with another stderr.
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
        let logged = timeout(DEADLINE, logged).await.context("no log line")??;
        let matches = if line.starts_with('<') { logged.starts_with(line) } else { logged.contains(line) };
        ensure!(matches, "{format:?} {journal}: {logged}");
        plegd.kill().await?;
    }
    Ok(())
}

fn journal_stream(file: &std::fs::File) -> Result<String> {
    use std::os::unix::fs::MetadataExt;
    let file = file.metadata()?;
    Ok(format!("{}:{}", file.dev(), file.ino()))
}

/// A simulated runtime, the handle of its server, and its endpoint.
fn runtime() -> Result<(SimRuntime, impl Sized, String)> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("runtime.sock");
    let sim = SimRuntime::new(Profile::CONTAINERD_2_1, Clock::system(), 1);
    let serving = sim.serve_uds(&path)?;
    Ok((sim, (serving, directory), path.display().to_string()))
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
    timeout(DEADLINE, stopped).await.context("the process does not stop")?
}

/// Receives notifications in place of systemd, in the abstract namespace, as in containers.
struct Manager {
    name: String,
    socket: tokio::net::UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    fn listening() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let name = directory.path().file_name().context("no name")?.to_string_lossy().into_owned();
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self { name: format!("@{name}"), socket: tokio::net::UnixDatagram::from_std(socket)?, directory })
    }

    fn start(
        &self,
        endpoint: &str,
        watchdog: Option<Duration>,
    ) -> Result<(Plegd, tokio::process::ChildStdout)> {
        let mut environment = vec![
            ("NOTIFY_SOCKET", OsString::from(&self.name)),
            ("PLEGD_API_SOCKET", self.directory.path().join("plegd.sock").into()),
        ];
        if let Some(watchdog) = watchdog {
            environment.push(("WATCHDOG_USEC", watchdog.as_micros().to_string().into()));
        }
        let arguments =
            ["run", "--config", "/dev/null", "--http-address", "off", "--runtime-endpoint", endpoint];
        Plegd::spawn(arguments, environment)
    }

    /// Waits for a message that contains `text`.
    async fn receive(&self, text: &str) -> Result<String> {
        let received = async {
            let mut buffer = [0; 4096];
            loop {
                let length = self.socket.recv(&mut buffer).await?;
                let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if message.contains(text) {
                    return anyhow::Ok(message);
                }
            }
        };
        timeout(DEADLINE, received).await.with_context(|| format!("no notification contains {text:?}"))?
    }

    /// Discards the messages received so far.
    fn drain(&self) -> Result<()> {
        let mut buffer = [0; 4096];
        while self.socket.try_recv(&mut buffer).is_ok() {}
        Ok(())
    }
}
