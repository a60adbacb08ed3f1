//! The folder of one instance, and the removal of all that an instance leaves behind.
//!
//! Owns `/tmp/plegd-lab-PID-N` (short, because the path of a UNIX socket ends after 108 bytes), the cgroups of the same
//! name, and the rule by which a process is the lab's: its cgroup, or its program being containerd's and its command line
//! naming the folder. It ends processes by their ids only, and never one for which that rule does not hold.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fmt, fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};
use sha2::{Digest, Sha256};

const PARENT: &str = "/tmp";
const PREFIX: &str = "plegd-lab-";
const CGROUPS: &str = "/sys/fs/cgroup";
/// Where shims have their sockets, whatever the state folder: a constant of containerd.
const SHIM_SOCKETS: &str = "/run/containerd/s";
/// An id of containerd: 32 bytes in hexadecimal digits.
const ID_LENGTH: usize = 64;
/// Below the folder: where containerd serves CRI, and what it says.
pub(super) const SOCKET: &str = "containerd.sock";
pub(super) const LOG: &str = "containerd.log";
/// How long killed processes may take to be gone, and their cgroups to be empty: hundreds of them on a busy machine.
const DEATH_DEADLINE: Duration = Duration::from_secs(60);

/// A folder of the lab; dropping it removes everything that is in its name.
#[derive(Debug)]
pub struct Folder {
    name: String,
    removed: bool,
}

/// Looks at what is in a folder's name.
#[derive(Clone, Debug)]
pub struct Watcher {
    name: String,
}

/// What is in a folder's name: after a clean-up, nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    pub processes: Vec<i32>,
    pub mounts: Vec<PathBuf>,
    pub cgroups: Vec<PathBuf>,
    pub shim_sockets: Vec<PathBuf>,
    pub folder: Option<PathBuf>,
}

// === impl Folder ===

impl Folder {
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let name = format!("{PREFIX}{pid}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Self { name, removed: false };
        fs::create_dir(folder.path()).with_context(|| format!("making {}", folder.path().display()))?;
        // Tells this process from a later one with the same id.
        let started = start_time(pid).context("reading this process' own start time")?;
        fs::write(folder.path().join("owner"), started)?;
        Ok(folder)
    }

    pub fn path(&self) -> PathBuf {
        Path::new(PARENT).join(&self.name)
    }

    /// For the pods' `cgroup_parent`: by it every process of a container is found again.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.name)
    }

    /// To look at what is in this folder's name, also when the folder is gone.
    pub fn watcher(&self) -> Watcher {
        Watcher { name: self.name.clone() }
    }

    /// Kills what runs in one container, or a sandbox's own process, behind the runtime's back. Returns how many it killed.
    pub fn kill_processes_of(&self, id: &str) -> Result<usize> {
        let inside = self.processes_of(id);
        for pid in &inside {
            let pid = Pid::from_raw(*pid).context("a process with the id 0")?;
            kill_process(pid, Signal::KILL).with_context(|| format!("killing a process of {id}"))?;
        }
        Ok(inside.len())
    }

    /// Kills the shim of a sandbox. Returns how many processes that were: one.
    pub fn kill_shim_of(&self, sandbox_id: &str) -> Result<usize> {
        let is_its = |pid: &i32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).any(|word| word == sandbox_id.as_bytes())
        };
        let shims: Vec<i32> = runtime_processes(&self.name).filter(is_its).collect();
        for pid in &shims {
            let pid = Pid::from_raw(*pid).context("a process with the id 0")?;
            kill_process(pid, Signal::KILL).with_context(|| format!("killing the shim of {sandbox_id}"))?;
        }
        Ok(shims.len())
    }

    /// What runs in one container, or a sandbox's own process.
    pub fn processes_of(&self, id: &str) -> BTreeSet<i32> {
        let cgroups = cgroups(&self.name);
        let its = cgroups.iter().filter(|cgroup| cgroup.ends_with(id));
        its.flat_map(|cgroup| processes_in(cgroup)).collect()
    }

    /// Ends the folder's processes and removes its mounts, cgroups, sockets and files.
    pub fn remove(&mut self) -> Result<()> {
        self.removed = true;
        let folder = self.path();
        let sockets = shim_sockets(&folder);
        end_processes(&self.name)?;
        for mount in mounts_below(&folder) {
            // Detached where it is busy: the process that holds it is no longer ours to wait for.
            unmount(&mount, UnmountFlags::empty())
                .or_else(|_| unmount(&mount, UnmountFlags::DETACH))
                .with_context(|| format!("unmounting {}", mount.display()))?;
        }
        remove_cgroups(&self.name)?;
        for socket in sockets {
            remove_if_there(fs::remove_file(&socket))
                .with_context(|| format!("removing {}", socket.display()))?;
        }
        // Never through a mount: that would delete what is mounted.
        ensure!(mounts_below(&folder).is_empty(), "{} still has mounts", folder.display());
        remove_if_there(fs::remove_dir_all(&folder))
            .with_context(|| format!("removing {}", folder.display()))?;
        remove_shim_socket_folder();
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = self.remove()
        {
            eprintln!("lab: cleaning up {}: {error:#}", self.name);
        }
    }
}

// === impl Watcher ===

impl Watcher {
    pub fn leftovers(&self) -> Leftovers {
        let folder = Path::new(PARENT).join(&self.name);
        Leftovers {
            processes: processes(&self.name),
            mounts: mounts_below(&folder),
            cgroups: cgroups(&self.name),
            shim_sockets: shim_sockets(&folder),
            folder: folder.exists().then_some(folder),
        }
    }
}

// === impl Leftovers ===

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Removes what earlier runs left that were killed before they could. Those of living processes are left alone.
pub fn sweep() -> Result<()> {
    for entry in fs::read_dir(PARENT)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = owner(&name) else { continue };
        let stamp = fs::read_to_string(entry.path().join("owner")).ok();
        let alive = start_time(pid).is_some_and(|started| stamp.is_none_or(|stamp| stamp == started));
        if alive {
            continue;
        }
        eprintln!("lab: removing {name}, which an earlier run left");
        if let Err(error) = (Folder { name, removed: false }).remove() {
            // Another process may be sweeping the same folder.
            eprintln!("lab: {error:#}");
        }
    }
    Ok(())
}

/// The process that a folder's name says it belongs to.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

/// In clock ticks since boot: the 22nd field of `/proc/PID/stat`, the name before it being in brackets.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

/// Kills until none is left: a shim may be making a new process while it is looked at.
fn end_processes(name: &str) -> Result<()> {
    let end = Instant::now() + DEATH_DEADLINE;
    loop {
        let left = processes(name);
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "processes {left:?} of {name} do not end");
        for pid in left {
            // It may have ended by itself.
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A cgroup is busy until the last of its processes is wholly gone, which is a little after its death.
fn remove_cgroups(name: &str) -> Result<()> {
    let end = Instant::now() + DEATH_DEADLINE;
    for cgroup in cgroups(name) {
        loop {
            match remove_if_there(fs::remove_dir(&cgroup)) {
                Ok(()) => break,
                Err(error) if Instant::now() >= end => {
                    return Err(error).with_context(|| format!("removing the cgroup {}", cgroup.display()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
    Ok(())
}

/// Living processes of the lab's folder `name`: first containerd and its shims, then what runs in the containers.
fn processes(name: &str) -> Vec<i32> {
    let mut found: Vec<i32> = runtime_processes(name).collect();
    for cgroup in cgroups(name) {
        // In version 1 each hierarchy lists it.
        let new: Vec<i32> = processes_in(&cgroup).into_iter().filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
    }
    found
}

/// Those of them that run in no container.
fn runtime_processes(name: &str) -> impl Iterator<Item = i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(move |pid| *pid != std::process::id() as i32 && is_runtime_of(*pid, name))
}

fn processes_in(cgroup: &Path) -> Vec<i32> {
    let listed = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|line| line.parse().ok()).filter(|pid| is_living(*pid)).collect()
}

/// Whether it is containerd, one of its shims or `ctr`, started for the lab's folder `name`.
fn is_runtime_of(pid: i32, name: &str) -> bool {
    let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // "(deleted)" may follow.
    let is_program = ["containerd", "ctr", "runc"].iter().any(|known| program.starts_with(known));
    let folder = format!("{PARENT}/{name}/");
    is_program
        && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| {
            words.windows(folder.len()).any(|window| window == folder.as_bytes()) && is_living(pid)
        })
}

/// A zombie is dead; only its parent can remove it.
fn is_living(pid: i32) -> bool {
    state(&PathBuf::from(format!("/proc/{pid}"))).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The state of the process or thread that a folder of `/proc` is about: `R`, `S`, `T` and so on; `None` if it is gone.
pub(super) fn state(of: &Path) -> Option<char> {
    let stat = fs::read_to_string(of.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Mounts below `folder`, the deepest first.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    // The last mounted first: what lies over a mount point comes after it.
    below.reverse();
    below.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    below
}

/// Space, tab, newline and backslash stand as three octal digits in mountinfo.
fn unescape(point: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), point.as_bytes());
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => (bytes.push(byte), rest = &tail[3..]).1,
            _ => (bytes.push(*first), rest = tail).1,
        }
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// The cgroups of that name and those below them, in every hierarchy, the deepest first.
fn cgroups(name: &str) -> Vec<PathBuf> {
    // Version 2 has one hierarchy, at the top; version 1 has one a controller; hybrid has both.
    let mut roots = vec![PathBuf::from(CGROUPS)];
    roots.extend(folders_in(Path::new(CGROUPS)));
    let mut found: Vec<PathBuf> =
        roots.iter().map(|root| root.join(name)).filter(|path| path.is_dir()).collect();
    let mut next = 0;
    while let Some(path) = found.get(next) {
        let below = folders_in(path);
        found.extend(below);
        next += 1;
    }
    found.reverse();
    found
}

fn folders_in(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The sockets of the folder's shims. containerd leaves that of a shim that died while containerd was down, and no file
/// names it any more; but its name is a digest of containerd's address and the sandbox's id, and the log has every id.
fn shim_sockets(folder: &Path) -> Vec<PathBuf> {
    let log = fs::read(folder.join(LOG)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let words = log.split(|letter: char| !letter.is_ascii_alphanumeric());
    let ids = words.filter(|word| word.len() == ID_LENGTH).map(str::to_owned);
    // A sandbox that was being made when containerd was killed may be in no log line yet.
    let bundles = folders_in(&folder.join("state/io.containerd.runtime.v2.task/k8s.io"));
    let named = bundles.iter().filter_map(|bundle| Some(bundle.file_name()?.to_str()?.to_owned()));
    let socket_of = |id: &String| {
        let digest = Sha256::digest(format!("{}/k8s.io/{id}", folder.join(SOCKET).display()));
        Path::new(SHIM_SOCKETS).join(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let ids: BTreeSet<String> = ids.chain(named).collect();
    ids.iter().map(socket_of).filter(|socket| socket.exists()).collect()
}

/// The folder of the shims' sockets is made anew when it is needed; it goes when it is empty and nothing else uses
/// `/run/containerd`: neither another lab nor a containerd of the machine's own.
fn remove_shim_socket_folder() {
    let mut others = fs::read_dir(PARENT).into_iter().flatten().flatten();
    if others.any(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        return;
    }
    let sockets = Path::new(SHIM_SOCKETS);
    let Some(parent) = sockets.parent() else { return };
    let mut entries = fs::read_dir(parent).into_iter().flatten().flatten();
    if entries.all(|entry| entry.path() == sockets) {
        // Both fail where they are not there or not empty, which is as it should be.
        let _ = fs::remove_dir(sockets);
        let _ = fs::remove_dir(parent);
    }
}

fn remove_if_there(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
