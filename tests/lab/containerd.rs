//! One private containerd: its configuration, its process, and what a test does to it.
//!
//! Owns the process it starts and its folder; both are gone when it is dropped. The shims, and with them the containers,
//! outlive a `kill9`, as they do on a node. It never uses a socket, a folder or a configuration of the machine's own.

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
    Client, Leftovers, PATIENCE, disk, eventually,
    fetch::{self, Tools},
    folder::{self, Folder, LOG, SOCKET, Watcher},
    image,
};

/// How long containerd may take from its start, or from a restart, to its first answer.
const READY_DEADLINE: Duration = PATIENCE;

/// What it keeps: images, and what it knows of pods; and what is only for as long as they run.
const DISKS: [&str; 2] = ["root", "state"];

/// The versions that Debian carries, by what CRI's events are like in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// No events: `GetContainerEvents` is unimplemented.
    V1_6,
    /// One channel that all subscribers share.
    V1_7,
    /// Every subscriber gets every event.
    V2_1,
}

/// A running containerd of the lab.
#[derive(Debug)]
pub struct Containerd {
    version: Version,
    tools: Tools,
    /// `None` while it is killed.
    process: Option<Child>,
    runtime_version: String,
    client: Client,
    folder: Folder,
}

// === impl Version ===

impl Version {
    /// Debian's suite with it, and the folder into which it is unpacked.
    pub(super) fn package(self) -> (&'static str, &'static str) {
        match self {
            Version::V1_6 => ("bookworm", "containerd-1.6"),
            Version::V1_7 => ("trixie", "containerd-1.7"),
            Version::V2_1 => ("forky", "containerd-2"),
        }
    }

    /// What the runtime's own version starts with. Debian's forky moves: of 2.x only the 2 is sure.
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
    /// Brings one up: fetched if need be, with the lab's images, and answering on CRI.
    pub async fn start(version: Version) -> Result<Self> {
        Self::start_on(version, None).await
    }

    /// The same on disks of its own, of this size each, which can be filled: all that it keeps is in memory.
    pub async fn start_on_small_disks(version: Version, bytes: u64) -> Result<Self> {
        Self::start_on(version, Some(bytes)).await
    }

    async fn start_on(version: Version, disk_bytes: Option<u64>) -> Result<Self> {
        sweep_once().await?;
        let tools = fetch::fetch(version).await?;
        let folder = Folder::new()?;
        let path = folder.path();
        for name in ["root", "state", "tmp", "cni", "opt"] {
            fs::create_dir(path.join(name))?;
        }
        if let Some(bytes) = disk_bytes {
            DISKS.iter().try_for_each(|disk| disk::mount(&path.join(disk), bytes))?;
        }
        let snapshotter = if overlay_works(&path) { "overlayfs" } else { "native" };
        fs::write(path.join("config.toml"), config(version, &path, &tools, snapshotter))?;
        let client = Client::new(&path.join(SOCKET), &folder.cgroup_parent())?;
        let mut containerd =
            Self { version, tools, process: None, runtime_version: String::new(), client, folder };
        containerd.restart().await?;
        containerd.import_images().await?;
        Ok(containerd)
    }

    /// The socket on which it serves CRI.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// The socket as the daemon's `--runtime-endpoint` takes it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The version that it tells itself, such as `1.7.24~ds1`.
    pub fn runtime_version(&self) -> &str {
        &self.runtime_version
    }

    /// A client with a connection and a history of its own.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.socket(), &self.folder.cgroup_parent())
    }

    /// To look at what is left of it when it is gone.
    pub fn watcher(&self) -> Watcher {
        self.folder.watcher()
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        let log = fs::read(self.folder.path().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("containerd is not running: it was killed")?.id())
    }

    /// User and system time that this process has used since its start.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        // Fields 14 and 15, of which the name in brackets is the second.
        let mut fields = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace().skip(11);
        let mut ticks = || -> Result<u64> { Ok(fields.next().context("stat is too short")?.parse()?) };
        Ok((ticks()? + ticks()?) as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Kills containerd alone, as a crash would; containers go on under their shims. Returns when it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            bail!("containerd is not running: it was killed")
        };
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Starts it again on the same folders and waits until it answers. Kills it first if it runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts it again on the same folders and does not wait.
    pub fn spawn(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.kill9()?;
        }
        let folder = self.folder.path();
        let log = File::options().create(true).append(true).open(folder.join(LOG))?;
        let program = self.tools.containerd_bin.join("containerd");
        let process = Command::new(&program)
            .arg("--config")
            .arg(folder.join("config.toml"))
            .env_clear()
            .env("PATH", self.path_variable())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C at the terminal is the test's to answer.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until CRI answers and says that the runtime is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let client = self.client.clone().with_deadline(Duration::from_secs(2));
        let process = self.process.as_mut().context("containerd is not running: it was killed")?;
        let ready = eventually("containerd's readiness", READY_DEADLINE, || {
            let ended = process.try_wait();
            let client = &client;
            async move {
                if let Some(status) = ended? {
                    bail!("containerd ended by itself: {status}");
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

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        let process = self.process.as_mut().context("containerd is not running: it was killed")?;
        Ok(process.try_wait()?.is_some())
    }

    /// Fills its disks to the last byte. Only for one that has disks of its own.
    pub fn fill_disks(&self) -> Result<()> {
        DISKS.iter().try_for_each(|name| disk::fill(&self.folder.path().join(name)))
    }

    /// Takes away again what filled them.
    pub fn free_disks(&self) -> Result<()> {
        DISKS.iter().try_for_each(|name| disk::free(&self.folder.path().join(name)))
    }

    /// Kills what runs in one container, or a sandbox's own process, behind the runtime's back: a crash. Also while
    /// containerd is down.
    pub fn kill_processes_of(&self, id: &str) -> Result<()> {
        let killed = self.folder.kill_processes_of(id)?;
        ensure!(killed > 0, "nothing runs in {id}");
        Ok(())
    }

    /// Kills the shim of a sandbox, and leaves its containers to themselves.
    pub fn kill_shim_of(&self, sandbox_id: &str) -> Result<()> {
        let killed = self.folder.kill_shim_of(sandbox_id)?;
        ensure!(killed == 1, "{killed} shims of {sandbox_id}");
        Ok(())
    }

    /// Waits until nothing runs any more in one container or sandbox. Also while containerd is down.
    pub async fn until_ended(&self, id: &str) -> Result<()> {
        eventually("the end of a container's processes", PATIENCE, || async {
            Ok(self.folder.processes_of(id).is_empty().then_some(()))
        })
        .await
    }

    /// Stops the process where it is (SIGSTOP): connections stay open, nothing answers. Returns when every thread of it
    /// has stopped; the signal alone does not wait for those that are running.
    pub async fn sigstop(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let tasks = format!("/proc/{}/task", self.pid()?);
        eventually("every thread of containerd to stop", PATIENCE, || async {
            let mut tasks = fs::read_dir(&tasks)?.flatten();
            Ok(tasks.all(|task| folder::state(&task.path()).is_none_or(|state| state == 'T')).then_some(()))
        })
        .await
    }

    /// Lets it go on (SIGCONT).
    pub fn sigcont(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid()?.cast_signed()).context("containerd's pid is 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Stops and removes every pod by CRI where containerd is alive, ends it, and removes all that is left. Returns what
    /// it could not remove: nothing, if all is well.
    pub async fn shutdown(mut self) -> Result<Leftovers> {
        if self.process.is_some() {
            self.sigcont()?;
            self.client.remove_all_pods().await?;
        }
        self.end()?;
        Ok(self.folder.watcher().leftovers())
    }

    fn end(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.kill9()?;
        }
        self.folder.remove()
    }

    /// Imports both images, and waits until CRI knows them: it hears of them a little later than `ctr` is told.
    async fn import_images(&self) -> Result<()> {
        let archive = self.folder.path().join("images.tar");
        image::write_archive(&self.tools.busybox, &archive)?;
        let mut ctr = tokio::process::Command::new(self.tools.containerd_bin.join("ctr"));
        ctr.env_clear().env("PATH", self.path_variable()).arg("--address").arg(self.socket());
        ctr.args(["--namespace", "k8s.io", "images", "import"]).arg(&archive);
        fetch::run(&mut ctr, "importing the lab's images with ctr", PATIENCE).await?;
        fs::remove_file(&archive)?;
        for name in [image::PAUSE, image::BUSYBOX] {
            eventually("CRI to know an imported image", PATIENCE, || async {
                Ok(self.client.has_image(name).await?.then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// The lab's own runc and shims first; then the system's, for `mount` and the like.
    fn path_variable(&self) -> String {
        let runc = self.tools.runc.parent().unwrap_or(Path::new("/"));
        format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", self.tools.containerd_bin.display(), runc.display())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // After a `shutdown` there is nothing left to do; after a panic, here is the last chance.
        if let Some(mut process) = self.process.take() {
            let _ = process.kill().and_then(|()| process.wait());
        }
    }
}

/// What an earlier, killed run left is removed once a process.
async fn sweep_once() -> Result<()> {
    static SWEPT: OnceCell<()> = OnceCell::const_new();
    ensure!(rustix::process::geteuid().is_root(), "the lab needs root: containerd mounts and makes cgroups");
    SWEPT.get_or_try_init(async || tokio::task::spawn_blocking(folder::sweep).await?).await?;
    Ok(())
}

/// Whether the kernel and the file system below `folder` allow overlay mounts: by trying one.
fn overlay_works(folder: &Path) -> bool {
    let trial = folder.join("overlay");
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

/// The configuration, the same in substance for both of containerd's formats.
fn config(version: Version, folder: &Path, tools: &Tools, snapshotter: &str) -> String {
    let folder = folder.display();
    let common = format!(
        r#"root = "{folder}/root"
state = "{folder}/state"
temp = "{folder}/tmp"
[grpc]
  address = "{folder}/{SOCKET}"
[ttrpc]
  address = "{folder}/{SOCKET}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
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
  conf_dir = "{folder}/cni"
  bin_dir = "{folder}/cni"
[plugins."{plugin}".containerd]
  default_runtime_name = "runc"
{more}[plugins."{plugin}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."{plugin}".containerd.runtimes.runc.options]
  BinaryName = "{runc}"
  Root = "{folder}/runc"
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
