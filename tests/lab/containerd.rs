//! One private containerd: its configuration, its process, and the operations of tests on it.
//!
//! Owns its process and its directory, and removes both when it is dropped. The shims, and with them the containers, survive a
//! `kill9`, as on a node. It never uses a socket, a directory or a configuration of the machine.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::OnceCell;

use super::{
    Client, Leftovers, TIMEOUT,
    directory::{self, LOG, LabDirectory, LeftoverScanner, SOCKET},
    disk, eventually,
    fetch::{self, Tools},
    image,
};

/// Limit from a start or restart of containerd to its first response.
const READY_DEADLINE: Duration = TIMEOUT;

/// The directories of persistent and of run-time state.
const DISKS: [&str; 2] = ["root", "state"];

/// The versions that Debian packages, which differ in their CRI events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// No events: `GetContainerEvents` is unimplemented.
    V1_6,
    /// All subscribers share one channel.
    V1_7,
    /// Every subscriber gets every event.
    V2_1,
}

/// A running containerd of the lab.
#[derive(Debug)]
pub struct Containerd {
    version: Version,
    tools: Tools,
    /// `None` after a kill.
    process: Option<Child>,
    runtime_version: String,
    client: Client,
    directory: LabDirectory,
}

// === impl Version ===

impl Version {
    /// The Debian suite of the package, and the directory into which it is unpacked.
    pub(super) fn package(self) -> (&'static str, &'static str) {
        match self {
            Version::V1_6 => ("bookworm", "containerd-1.6"),
            Version::V1_7 => ("trixie", "containerd-1.7"),
            Version::V2_1 => ("forky", "containerd-2"),
        }
    }

    /// The prefix of the runtime's version. Debian's forky moves, so of 2.x only the 2 is certain.
    pub fn prefix(self) -> &'static str {
        match self {
            Version::V1_6 => "1.6.",
            Version::V1_7 => "1.7.",
            Version::V2_1 => "2.",
        }
    }
}

// === impl Containerd ===

impl Containerd {
    /// Starts one: fetches it if necessary, imports the lab's images and waits for CRI.
    pub async fn start(version: Version) -> Result<Self> {
        Self::start_on(version, None).await
    }

    /// The same on private in-memory disks of this size each, which a test can fill.
    pub async fn start_on_small_disks(version: Version, bytes: u64) -> Result<Self> {
        Self::start_on(version, Some(bytes)).await
    }

    async fn start_on(version: Version, disk_bytes: Option<u64>) -> Result<Self> {
        sweep_once().await?;
        let tools = fetch::fetch(version).await?;
        let directory = LabDirectory::new()?;
        let path = directory.path();
        for name in ["root", "state", "tmp", "cni", "opt"] {
            fs::create_dir(path.join(name))?;
        }
        if let Some(bytes) = disk_bytes {
            DISKS.iter().try_for_each(|disk| disk::mount(&path.join(disk), bytes))?;
        }
        let snapshotter = if overlay_works(&path) { "overlayfs" } else { "native" };
        fs::write(path.join("config.toml"), config(version, &path, &tools, snapshotter))?;
        let client = Client::new(&path.join(SOCKET), &directory.cgroup_parent())?;
        let mut containerd =
            Self { version, tools, process: None, runtime_version: String::new(), client, directory };
        containerd.restart().await?;
        containerd.import_images().await?;
        Ok(containerd)
    }

    /// The CRI socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }

    /// The socket in the format of `--runtime-endpoint`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The version that it reports, such as `1.7.24~ds1`.
    pub fn runtime_version(&self) -> &str {
        &self.runtime_version
    }

    /// A client with a new connection and a new history.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.socket(), &self.directory.cgroup_parent())
    }

    /// A scanner for what is left after the removal.
    pub fn leftover_scanner(&self) -> LeftoverScanner {
        self.directory.leftover_scanner()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        let log = fs::read(self.directory.path().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("containerd is not running: it was killed")?.id())
    }

    /// User and system time of this process since its start.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        // Fields 14 and 15; the name in brackets is field 2.
        let mut fields = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace().skip(11);
        let mut ticks = || -> Result<u64> { Ok(fields.next().context("stat is too short")?.parse()?) };
        Ok((ticks()? + ticks()?) as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Kills containerd only, like a crash; containers continue under their shims. Returns when it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            bail!("containerd is not running: it was killed")
        };
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Starts it again on the same directories and waits until it is ready. Kills it first if it runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts it again on the same directories and does not wait.
    pub fn spawn(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.kill9()?;
        }
        let directory = self.directory.path();
        let log = File::options().create(true).append(true).open(directory.join(LOG))?;
        let program = self.tools.containerd_bin.join("containerd");
        let process = Command::new(&program)
            .arg("--config")
            .arg(directory.join("config.toml"))
            .env_clear()
            .env("PATH", self.path_variable())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // The test, not containerd, handles a Ctrl-C at the terminal.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until the runtime is ready by its CRI status.
    pub async fn ready(&mut self) -> Result<()> {
        let client = self.client.clone().with_deadline(Duration::from_secs(2));
        let process = self.process.as_mut().context("containerd is not running: it was killed")?;
        let ready = eventually("containerd's readiness", READY_DEADLINE, || {
            let ended = process.try_wait();
            let client = &client;
            async move {
                if let Some(status) = ended? {
                    bail!("containerd exited: {status}");
                }
                let Ok(version) = client.version().await else { return Ok(None) };
                Ok(client.runtime_is_ready().await.unwrap_or(false).then_some(version.runtime_version))
            }
        });
        match ready.await {
            Ok(version) => self.runtime_version = version.trim_start_matches('v').to_owned(),
            Err(error) => return Err(error.context(format!("the end of its log:\n{}", tail(&self.log())))),
        }
        Ok(())
    }

    /// Whether it has exited by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        let process = self.process.as_mut().context("containerd is not running: it was killed")?;
        Ok(process.try_wait()?.is_some())
    }

    /// Fills its disks to the last byte. Requires private disks.
    pub fn fill_disks(&self) -> Result<()> {
        DISKS.iter().try_for_each(|name| disk::fill(&self.directory.path().join(name)))
    }

    /// Frees the disks again.
    pub fn free_disks(&self) -> Result<()> {
        DISKS.iter().try_for_each(|name| disk::free(&self.directory.path().join(name)))
    }

    /// Kills the processes of one container, or a sandbox's own process, without the runtime: a crash. Works also while
    /// containerd is down.
    pub fn kill_processes_of(&self, id: &str) -> Result<()> {
        let killed = self.directory.kill_processes_of(id)?;
        ensure!(killed > 0, "no process in {id}");
        Ok(())
    }

    /// Kills the shim of a sandbox, and not its containers.
    pub fn kill_shim_of(&self, sandbox_id: &str) -> Result<()> {
        let killed = self.directory.kill_shim_of(sandbox_id)?;
        ensure!(killed == 1, "{killed} shims of {sandbox_id}");
        Ok(())
    }

    /// Waits until no process is left in one container or sandbox. Works also while containerd is down.
    pub async fn until_ended(&self, id: &str) -> Result<()> {
        eventually("the end of a container's processes", TIMEOUT, || async {
            Ok(self.directory.processes_of(id).is_empty().then_some(()))
        })
        .await
    }

    /// Pauses the process (SIGSTOP): connections stay open, and nothing answers. Returns when every thread has stopped, because
    /// the signal does not wait for running threads.
    pub async fn sigstop(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let tasks = format!("/proc/{}/task", self.pid()?);
        eventually("every thread of containerd to stop", TIMEOUT, || async {
            let mut tasks = fs::read_dir(&tasks)?.flatten();
            Ok(tasks
                .all(|task| directory::state(&task.path()).is_none_or(|state| state == 'T'))
                .then_some(()))
        })
        .await
    }

    /// Continues the process (SIGCONT).
    pub fn sigcont(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid()?.cast_signed()).context("containerd's pid is 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Removes every pod through CRI if containerd runs, kills it, and removes the rest. Returns what it could not remove:
    /// normally nothing.
    pub async fn shutdown(mut self) -> Result<Leftovers> {
        if self.process.is_some() {
            self.sigcont()?;
            self.client.remove_all_pods().await?;
        }
        self.end()?;
        Ok(self.directory.leftover_scanner().leftovers())
    }

    fn end(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.kill9()?;
        }
        self.directory.remove()
    }

    /// Imports both images, and waits until CRI knows them, a little later than `ctr` returns.
    async fn import_images(&self) -> Result<()> {
        let archive = self.directory.path().join("images.tar");
        image::write_archive(&self.tools.busybox, &archive)?;
        let mut ctr = tokio::process::Command::new(self.tools.containerd_bin.join("ctr"));
        ctr.env_clear().env("PATH", self.path_variable()).arg("--address").arg(self.socket());
        ctr.args(["--namespace", "k8s.io", "images", "import"]).arg(&archive);
        fetch::run(&mut ctr, "importing the lab's images with ctr", TIMEOUT).await?;
        fs::remove_file(&archive)?;
        for name in [image::PAUSE, image::BUSYBOX] {
            eventually("CRI to know an imported image", TIMEOUT, || async {
                Ok(self.client.has_image(name).await?.then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// The lab's runc and shims first; then the system's directories, for `mount` and others.
    fn path_variable(&self) -> String {
        let runc = self.tools.runc.parent().unwrap_or(Path::new("/"));
        format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", self.tools.containerd_bin.display(), runc.display())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // After a `shutdown` nothing is left to do; after a panic this is the last chance.
        if let Some(mut process) = self.process.take() {
            let _ = process.kill().and_then(|()| process.wait());
        }
    }
}

/// Removes the remains of earlier, killed runs, once per process.
async fn sweep_once() -> Result<()> {
    static SWEPT: OnceCell<()> = OnceCell::const_new();
    ensure!(
        rustix::process::geteuid().is_root(),
        "the lab needs root: containerd mounts and creates cgroups"
    );
    SWEPT.get_or_try_init(async || tokio::task::spawn_blocking(directory::sweep).await?).await?;
    Ok(())
}

/// Whether the kernel and the file system of `directory` support overlay mounts: tries one.
fn overlay_works(directory: &Path) -> bool {
    let trial = directory.join("overlay");
    let paths = ["lower", "upper", "work", "merged"].map(|name| trial.join(name));
    if !paths.iter().all(|path| fs::create_dir_all(path).is_ok()) {
        return false;
    }
    let [lower, upper, work, merged] = paths;
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mount = Command::new("mount")
        .args(["-t", "overlay", "-o", &options, "overlay"])
        .arg(&merged)
        .stderr(Stdio::null())
        .status();
    mount.is_ok_and(|status| status.success())
        && rustix::mount::unmount(&merged, rustix::mount::UnmountFlags::empty()).is_ok()
}

/// The configuration, equivalent in both of containerd's formats.
fn config(version: Version, directory: &Path, tools: &Tools, snapshotter: &str) -> String {
    let directory = directory.display();
    let common = format!(
        r#"root = "{directory}/root"
state = "{directory}/state"
temp = "{directory}/tmp"
[grpc]
  address = "{directory}/{SOCKET}"
[ttrpc]
  address = "{directory}/{SOCKET}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
"#
    );
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE, RunPodSandbox would fail with "can't get final child's PID".
    let cri = "  restrict_oom_score_adj = true\n  disable_apparmor = true\n";
    let pause = image::PAUSE;
    let runtime = |plugin: &str, more: &str| {
        format!(
            r#"[plugins."{plugin}".cni]
  conf_dir = "{directory}/cni"
  bin_dir = "{directory}/cni"
[plugins."{plugin}".containerd]
  default_runtime_name = "runc"
{more}[plugins."{plugin}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."{plugin}".containerd.runtimes.runc.options]
  BinaryName = "{runc}"
  Root = "{directory}/runc"
  SystemdCgroup = false
"#,
            runc = tools.runc.display()
        )
    };
    match version {
        Version::V1_6 | Version::V1_7 => {
            let plugin = "io.containerd.grpc.v1.cri";
            let runtime = runtime(plugin, &format!("  snapshotter = \"{snapshotter}\"\n"));
            format!(
                "version = 2\n{common}[plugins.\"{plugin}\"]\n  sandbox_image = \"{pause}\"\n{cri}{runtime}"
            )
        }
        Version::V2_1 => {
            let (images, plugin) = ("io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime");
            let runtime = runtime(plugin, "");
            format!(
                "version = 3\n{common}[plugins.\"{images}\"]\n  snapshotter = \"{snapshotter}\"\n\
                 [plugins.\"{images}\".pinned_images]\n  sandbox = \"{pause}\"\n\
                 [plugins.\"{plugin}\"]\n{cri}{runtime}"
            )
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
