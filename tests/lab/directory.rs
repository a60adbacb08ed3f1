//! The directory of one instance, and the removal of everything that an instance leaves.
//!
//! Owns `/tmp/plegd-lab-PID-N` (short, because the path of a UNIX socket ends after 108 bytes) and the cgroups of the same
//! name. A process belongs to the lab by its cgroup, or if its program is containerd's and its command line names the
//! directory. Only such processes are killed, by their pids.

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
/// The directory of the shims' sockets: a constant of containerd, independent of its state directory.
const SHIM_SOCKETS: &str = "/run/containerd/s";
/// Length of an id of containerd: 32 bytes in hexadecimal digits.
const ID_LENGTH: usize = 64;
/// Names of the CRI socket and the log in the directory.
pub(super) const SOCKET: &str = "containerd.sock";
pub(super) const LOG: &str = "containerd.log";
/// Limit for the end of killed processes and their cgroups: hundreds of them on a busy machine.
const DEATH_DEADLINE: Duration = Duration::from_secs(60);

/// A directory of the lab; dropping it removes everything under its name.
#[derive(Debug)]
pub struct LabDirectory {
    name: String,
    removed: bool,
}

/// Finds everything under a directory's name.
#[derive(Clone, Debug)]
pub struct LeftoverScanner {
    name: String,
}

/// Everything under a directory's name: after a clean-up, nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    pub processes: Vec<i32>,
    pub mounts: Vec<PathBuf>,
    pub cgroups: Vec<PathBuf>,
    pub shim_sockets: Vec<PathBuf>,
    pub directory: Option<PathBuf>,
}

// === impl LabDirectory ===

impl LabDirectory {
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let name = format!("{PREFIX}{pid}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = Self { name, removed: false };
        fs::create_dir(directory.path()).with_context(|| format!("making {}", directory.path().display()))?;
        // Distinguishes this process from a later one with the same pid.
        let started = start_time(pid).context("reading the start time of this process")?;
        fs::write(directory.path().join("owner"), started)?;
        Ok(directory)
    }

    pub fn path(&self) -> PathBuf {
        Path::new(PARENT).join(&self.name)
    }

    /// The pods' `cgroup_parent`, by which every process of a container can be found.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.name)
    }

    /// A scanner for everything under this name, also after the removal.
    pub fn leftover_scanner(&self) -> LeftoverScanner {
        LeftoverScanner { name: self.name.clone() }
    }

    /// Kills the processes of one container, or a sandbox's own process, without the runtime. Returns how many it killed.
    pub fn kill_processes_of(&self, id: &str) -> Result<usize> {
        let inside = self.processes_of(id);
        for pid in &inside {
            let pid = Pid::from_raw(*pid).context("pid 0")?;
            kill_process(pid, Signal::KILL).with_context(|| format!("killing a process of {id}"))?;
        }
        Ok(inside.len())
    }

    /// Kills the shim of a sandbox. Returns the number of killed processes, normally one.
    pub fn kill_shim_of(&self, sandbox_id: &str) -> Result<usize> {
        let is_its = |pid: &i32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).any(|word| word == sandbox_id.as_bytes())
        };
        let shims: Vec<i32> = runtime_processes(&self.name).filter(is_its).collect();
        for pid in &shims {
            let pid = Pid::from_raw(*pid).context("pid 0")?;
            kill_process(pid, Signal::KILL).with_context(|| format!("killing the shim of {sandbox_id}"))?;
        }
        Ok(shims.len())
    }

    /// The processes of one container, or a sandbox's own process.
    pub fn processes_of(&self, id: &str) -> BTreeSet<i32> {
        let cgroups = cgroups(&self.name);
        let its = cgroups.iter().filter(|cgroup| cgroup.ends_with(id));
        its.flat_map(|cgroup| processes_in(cgroup)).collect()
    }

    /// Ends the directory's processes and removes its mounts, cgroups, sockets and files.
    pub fn remove(&mut self) -> Result<()> {
        self.removed = true;
        let directory = self.path();
        let sockets = shim_sockets(&directory);
        end_processes(&self.name)?;
        for mount in mounts_below(&directory) {
            // Detached if it is busy: the process that uses it is not ours.
            unmount(&mount, UnmountFlags::empty())
                .or_else(|_| unmount(&mount, UnmountFlags::DETACH))
                .with_context(|| format!("unmounting {}", mount.display()))?;
        }
        remove_cgroups(&self.name)?;
        for socket in sockets {
            remove_if_exists(fs::remove_file(&socket))
                .with_context(|| format!("removing {}", socket.display()))?;
        }
        // Never through a mount: that would delete the mounted files.
        ensure!(mounts_below(&directory).is_empty(), "{} still has mounts", directory.display());
        remove_if_exists(fs::remove_dir_all(&directory))
            .with_context(|| format!("removing {}", directory.display()))?;
        remove_shim_socket_directory();
        Ok(())
    }
}

impl Drop for LabDirectory {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = self.remove()
        {
            eprintln!("lab: cleaning up {}: {error:#}", self.name);
        }
    }
}

// === impl LeftoverScanner ===

impl LeftoverScanner {
    pub fn leftovers(&self) -> Leftovers {
        let directory = Path::new(PARENT).join(&self.name);
        Leftovers {
            processes: processes(&self.name),
            mounts: mounts_below(&directory),
            cgroups: cgroups(&self.name),
            shim_sockets: shim_sockets(&directory),
            directory: directory.exists().then_some(directory),
        }
    }
}

// === impl Leftovers ===

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Removes the remains of killed runs, but not those of living processes.
pub fn sweep() -> Result<()> {
    for entry in fs::read_dir(PARENT)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = owner(&name) else { continue };
        let stamp = fs::read_to_string(entry.path().join("owner")).ok();
        let alive = start_time(pid).is_some_and(|started| stamp.is_none_or(|stamp| stamp == started));
        if alive {
            continue;
        }
        eprintln!("lab: removing {name}, left by an earlier run");
        if let Err(error) = (LabDirectory { name, removed: false }).remove() {
            // Another process may be sweeping the same directory.
            eprintln!("lab: {error:#}");
        }
    }
    Ok(())
}

/// The pid in a directory's name.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

/// The start time in clock ticks since boot: the 22nd field of `/proc/PID/stat`, after the name in brackets.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

/// Kills until no process is left: a shim may create a process at the same time.
fn end_processes(name: &str) -> Result<()> {
    let end = Instant::now() + DEATH_DEADLINE;
    loop {
        let left = processes(name);
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "processes {left:?} of {name} do not end");
        for pid in left {
            // The process may have ended by itself.
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A cgroup is busy until its last process is reaped, a little after its death.
fn remove_cgroups(name: &str) -> Result<()> {
    let end = Instant::now() + DEATH_DEADLINE;
    for cgroup in cgroups(name) {
        loop {
            match remove_if_exists(fs::remove_dir(&cgroup)) {
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

/// Living processes of the lab's directory `name`: first containerd and its shims, then those in the containers.
fn processes(name: &str) -> Vec<i32> {
    let mut found: Vec<i32> = runtime_processes(name).collect();
    for cgroup in cgroups(name) {
        // In cgroup version 1 each hierarchy lists the process.
        let new: Vec<i32> = processes_in(&cgroup).into_iter().filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
    }
    found
}

/// The processes of the directory that run in no container.
fn runtime_processes(name: &str) -> impl Iterator<Item = i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(move |pid| *pid != std::process::id() as i32 && is_runtime_of(*pid, name))
}

fn processes_in(cgroup: &Path) -> Vec<i32> {
    let listed = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|line| line.parse().ok()).filter(|pid| is_living(*pid)).collect()
}

/// Whether a process is containerd, one of its shims or `ctr`, started for the lab's directory `name`.
fn is_runtime_of(pid: i32, name: &str) -> bool {
    let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // The name may end with " (deleted)".
    let is_program = ["containerd", "ctr", "runc"].iter().any(|known| program.starts_with(known));
    let directory = format!("{PARENT}/{name}/");
    is_program
        && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| {
            words.windows(directory.len()).any(|window| window == directory.as_bytes()) && is_living(pid)
        })
}

/// A zombie is dead; only its parent can reap it.
fn is_living(pid: i32) -> bool {
    state(&PathBuf::from(format!("/proc/{pid}"))).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The state of the process or thread of a `/proc` directory: `R`, `S`, `T` and so on; `None` if it is gone.
pub(super) fn state(of: &Path) -> Option<char> {
    let stat = fs::read_to_string(of.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Mounts below `directory`, the deepest first.
fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(directory)).collect();
    // In reverse order of mounting: a later mount may cover a mount point.
    below.reverse();
    below.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    below
}

/// mountinfo encodes space, tab, newline and backslash as three octal digits.
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

/// The cgroups of this name and their children, in every hierarchy, the deepest first.
fn cgroups(name: &str) -> Vec<PathBuf> {
    // Version 2 has one hierarchy, at the top; version 1 has one per controller; hybrid mode has both.
    let mut roots = vec![PathBuf::from(CGROUPS)];
    roots.extend(directories_in(Path::new(CGROUPS)));
    let mut found: Vec<PathBuf> =
        roots.iter().map(|root| root.join(name)).filter(|path| path.is_dir()).collect();
    let mut next = 0;
    while let Some(path) = found.get(next) {
        let below = directories_in(path);
        found.extend(below);
        next += 1;
    }
    found.reverse();
    found
}

fn directories_in(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The sockets of the directory's shims. containerd leaves the socket of a shim that died while containerd was down, and no
/// file names it. But its name is a digest of containerd's address and the sandbox id, and the log has every id.
fn shim_sockets(directory: &Path) -> Vec<PathBuf> {
    let log = fs::read(directory.join(LOG)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let words = log.split(|letter: char| !letter.is_ascii_alphanumeric());
    let ids = words.filter(|word| word.len() == ID_LENGTH).map(str::to_owned);
    // The log may lack a sandbox whose creation a kill of containerd has interrupted.
    let bundles = directories_in(&directory.join("state/io.containerd.runtime.v2.task/k8s.io"));
    let named = bundles.iter().filter_map(|bundle| Some(bundle.file_name()?.to_str()?.to_owned()));
    let socket_of = |id: &String| {
        let digest = Sha256::digest(format!("{}/k8s.io/{id}", directory.join(SOCKET).display()));
        Path::new(SHIM_SOCKETS).join(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let ids: BTreeSet<String> = ids.chain(named).collect();
    ids.iter().map(socket_of).filter(|socket| socket.exists()).collect()
}

/// Removes the directory of the shims' sockets if it is empty and nothing else uses `/run/containerd`: neither another lab nor
/// the machine's containerd. A shim creates it again.
fn remove_shim_socket_directory() {
    let mut others = fs::read_dir(PARENT).into_iter().flatten().flatten();
    if others.any(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        return;
    }
    let sockets = Path::new(SHIM_SOCKETS);
    let Some(parent) = sockets.parent() else { return };
    let mut entries = fs::read_dir(parent).into_iter().flatten().flatten();
    if entries.all(|entry| entry.path() == sockets) {
        // Both calls fail if the directory is missing or not empty, which is intended.
        let _ = fs::remove_dir(sockets);
        let _ = fs::remove_dir(parent);
    }
}

fn remove_if_exists(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
