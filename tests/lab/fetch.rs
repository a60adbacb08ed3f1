//! Debian's packages of the runtimes, unpacked below `target/containerd-lab/`.
//!
//! Owns that directory: a private apt root (`apt/`), and one directory for each unpacked package, renamed when it is complete.
//! The archive's address and key come from the machine's apt sources. No version is pinned, because Debian's testing moves. It
//! installs nothing and writes below `target/` only.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use tokio::process::Command;

use super::Version;

/// Limit for one call of apt, for busy mirrors and slow networks.
const APT_DEADLINE: Duration = Duration::from_secs(240);
const APT_TRIES: u32 = 3;

/// Environment variable that disables Debian's signatures, for a machine without the key of a newer suite.
const UNSIGNED: &str = "PLEGD_LAB_UNSIGNED";

/// One version of containerd and its tools.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Holds `containerd`, `ctr` and the shims.
    pub containerd_bin: PathBuf,
    pub runc: PathBuf,
    /// The static busybox of the images.
    pub busybox: PathBuf,
}

/// The machine's Debian archive.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Archive {
    uri: String,
    /// The value of `Signed-By`: a path, or a key over several lines.
    signed_by: Option<String>,
}

struct Package {
    name: &'static str,
    suite: &'static str,
    directory: &'static str,
}

// Debian 12's runc works with every containerd here; later ones need a newer libc.
const RUNC: Package = Package { name: "runc", suite: "bookworm", directory: "runc" };
const BUSYBOX: Package = Package { name: "busybox-static", suite: "bookworm", directory: "busybox" };

/// Fetches missing packages. Safe when several processes do it at once: one fetches, the others wait.
pub async fn fetch(version: Version) -> Result<Tools> {
    let lab = lab_directory()?;
    fs::create_dir_all(&lab).with_context(|| format!("creating {}", lab.display()))?;
    let _lock = lock(&lab).await?;

    let (suite, directory) = version.package();
    let containerd = unpacked(&lab, &Package { name: "containerd", suite, directory }).await?;
    let runc = unpacked(&lab, &RUNC).await?;
    let busybox = unpacked(&lab, &BUSYBOX).await?;
    Ok(Tools {
        containerd_bin: parent(&first_of(&containerd, &["usr/bin/containerd"])?),
        runc: first_of(&runc, &["usr/sbin/runc", "usr/bin/runc"])?,
        busybox: first_of(&busybox, &["bin/busybox", "usr/bin/busybox"])?,
    })
}

fn lab_directory() -> Result<PathBuf> {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target directory has no parent")?;
    Ok(target.join("containerd-lab"))
}

/// Takes the lock. It ends with the file, also when this process dies.
async fn lock(lab: &Path) -> Result<File> {
    let file = File::create(lab.join("lock"))?;
    let file =
        tokio::task::spawn_blocking(move || flock(&file, FlockOperation::LockExclusive).map(|()| file));
    Ok(report("waiting for another fetch", file).await??)
}

async fn unpacked(lab: &Path, package: &Package) -> Result<PathBuf> {
    let complete = lab.join(package.directory);
    if complete.is_dir() {
        return Ok(complete);
    }
    let apt = AptRoot::prepare(lab).await?;
    let deb = apt.download(package).await?;
    let partial = lab.join(format!("{}.partial", package.directory));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    run(Command::new("dpkg").arg("-x").arg(&deb).arg(&partial), "unpacking with dpkg -x", APT_DEADLINE)
        .await?;
    fs::rename(&partial, &complete)?;
    fs::remove_file(&deb)?;
    Ok(complete)
}

/// A private apt root: its lists, cache and sources are below `target/`.
struct AptRoot {
    directory: PathBuf,
}

impl AptRoot {
    /// Writes the sources.
    async fn prepare(lab: &Path) -> Result<Self> {
        let root = Self { directory: lab.join("apt") };
        for directory in ["parts", "lists/partial", "cache/archives/partial", "debs"] {
            fs::create_dir_all(root.directory.join(directory))?;
        }
        let archive = machine_archive()?;
        fs::write(
            root.directory.join("parts/lab.sources"),
            archive.sources(std::env::var_os(UNSIGNED).is_some()),
        )?;
        Ok(root)
    }

    /// Downloads with the present lists. If they are missing or outdated, updates them and tries again.
    async fn download(&self, package: &Package) -> Result<PathBuf> {
        let debs = self.directory.join("debs");
        let mut last = None;
        for attempt in 0..APT_TRIES {
            if attempt > 0 || !self.has_lists()? {
                let updated = self.apt(&["update"], "updating apt's lists").await;
                if let Err(error) = updated {
                    last = Some(error);
                    continue;
                }
            }
            let wanted = format!("{}/{}", package.name, package.suite);
            match self.apt(&["download", &wanted], &format!("fetching {wanted}")).await {
                Ok(()) => return newest_deb(&debs, package.name),
                Err(error) => last = Some(error),
            }
        }
        let error = last.context("apt was never called")?;
        Err(error.context(format!(
            "fetching {}/{} from Debian's archive. Is it reachable? If a key is missing, update the package \
             debian-archive-keyring, or set {UNSIGNED}=1 to disable signatures",
            package.name, package.suite
        )))
    }

    fn has_lists(&self) -> Result<bool> {
        let lists = fs::read_dir(self.directory.join("lists"))?;
        Ok(lists.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
    }

    async fn apt(&self, verb: &[&str], what: &str) -> Result<()> {
        let below = |path: &str| self.directory.join(path).display().to_string();
        let mut apt = Command::new("apt-get");
        for option in [
            format!("Dir::State::Lists={}", below("lists")),
            format!("Dir::Etc::sourceparts={}", below("parts")),
            format!("Dir::Cache={}", below("cache")),
            "Dir::Etc::sourcelist=/dev/null".into(),
            // The machine's pins concern its installed packages.
            "Dir::Etc::preferences=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            // apt's own user may have no access to the target directory.
            "APT::Sandbox::User=root".into(),
            // Otherwise a failed update of a suite is only a warning.
            "APT::Update::Error-Mode=any".into(),
            "Acquire::Retries=2".into(),
            "Acquire::http::Timeout=30".into(),
        ] {
            apt.arg("-o").arg(option);
        }
        run(apt.args(verb).current_dir(self.directory.join("debs")), what, APT_DEADLINE).await
    }
}

impl Archive {
    /// The sources of the private root, in deb822.
    fn sources(&self, unsigned: bool) -> String {
        let mut sources = format!(
            "Types: deb\nURIs: {}\nSuites: bookworm trixie forky\nComponents: main\nTargets: Packages\n",
            self.uri
        );
        if let Some(key) = &self.signed_by {
            sources += &format!("Signed-By: {key}\n");
        }
        if unsigned {
            // The operator's decision, for this private root only: the machine's apt is not affected.
            sources += "Trusted: yes\n";
        }
        sources
    }
}

/// Debian's archive in the machine's apt sources.
fn machine_archive() -> Result<Archive> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(parts) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(parts.flatten().map(|part| part.path()));
    }
    files.sort();
    let mut archives = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => archives.extend(deb822_archives(&text)),
            Some("list") => archives.extend(text.lines().filter_map(one_line_archive)),
            _ => {}
        }
    }
    // Other archives have Debian's suites too, but not in a directory `debian`.
    archives.sort_by_key(|archive| !is_called_debian(&archive.uri));
    archives.into_iter().next().context(
        "no apt source of this machine is Debian's archive (a suite such as bookworm with the component main)",
    )
}

fn is_called_debian(uri: &str) -> bool {
    let last = uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    last == "debian" || last == "debian.list"
}

fn is_debian_suite(suite: &str) -> bool {
    ["oldstable", "stable", "testing", "bookworm", "trixie", "forky"].contains(&suite)
}

fn deb822_archives(text: &str) -> Vec<Archive> {
    let without_comments: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanzas = without_comments.split(|line| line.trim().is_empty());
    stanzas
        .filter_map(|stanza| {
            let field = |name: &str| deb822_field(stanza, name);
            let has =
                |name: &str, word: fn(&str) -> bool| field(name)?.split_whitespace().any(word).then_some(());
            if field("Enabled").is_some_and(|enabled| enabled.trim() == "no") {
                return None;
            }
            has("Types", |kind| kind == "deb")?;
            has("Suites", is_debian_suite)?;
            has("Components", |component| component == "main")?;
            let uri = field("URIs")?.split_whitespace().next()?.to_owned();
            Some(Archive { uri, signed_by: field("Signed-By") })
        })
        .collect()
}

/// A field with its continuation lines.
fn deb822_field(stanza: &[&str], name: &str) -> Option<String> {
    let is_field = |line: &&str| {
        line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
            && !line.starts_with([' ', '\t'])
    };
    let start = stanza.iter().position(is_field)?;
    let mut value = stanza[start].split_once(':')?.1.trim().to_owned();
    for line in stanza[start + 1..].iter().take_while(|line| line.starts_with([' ', '\t'])) {
        value.push('\n');
        value += line;
    }
    Some(value)
}

/// `deb [signed-by=KEY] URI SUITE COMPONENT…`
fn one_line_archive(line: &str) -> Option<Archive> {
    let rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    (is_debian_suite(suite) && words.any(|component| component == "main")).then(|| Archive {
        uri: uri.to_owned(),
        signed_by: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(Into::into),
    })
}

fn newest_deb(debs: &Path, package: &str) -> Result<PathBuf> {
    let prefix = format!("{package}_");
    let named =
        fs::read_dir(debs)?.flatten().filter(|deb| deb.file_name().to_string_lossy().starts_with(&prefix));
    let newest = named.max_by_key(|deb| deb.metadata().and_then(|about| about.modified()).ok());
    Ok(newest.with_context(|| format!("apt left no package {package} in {}", debs.display()))?.path())
}

fn first_of(directory: &Path, paths: &[&str]) -> Result<PathBuf> {
    let found = paths.iter().map(|path| directory.join(path)).find(|path| path.is_file());
    found.with_context(|| format!("none of {paths:?} is in {}; delete it to fetch anew", directory.display()))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Runs a command, with a deadline; prints its output only when it fails.
pub(super) async fn run(command: &mut Command, what: &str, deadline: Duration) -> Result<()> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let Ok(output) = report(what, tokio::time::timeout(deadline, output)).await else {
        bail!("{what}: not done after {deadline:?}");
    };
    let output =
        output.with_context(|| format!("{what}: cannot run {:?}", command.as_std().get_program()))?;
    let text = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{what}: {}\n{}", output.status, String::from_utf8_lossy(&text).trim());
    Ok(())
}

/// Prints `what` on stderr if the work takes longer than 2 s, and then every 10 s.
pub async fn report<F: Future>(what: &str, work: F) -> F::Output {
    tokio::pin!(work);
    let mut waited = Duration::ZERO;
    loop {
        let interval = Duration::from_secs(if waited.is_zero() { 2 } else { 10 });
        match tokio::time::timeout(interval, &mut work).await {
            Ok(output) => return output,
            Err(_) => waited += interval,
        }
        eprintln!("lab: {what} ({} s)", waited.as_secs());
    }
}

/// The unit tests of the parsers are here, because this module is no library.
mod tests {
    use super::{Archive, deb822_archives, is_called_debian, one_line_archive};

    #[test]
    fn both_formats_of_apt_sources_have_the_archive_and_its_key() {
        let key = Some("/usr/share/keyrings/debian.gpg".to_owned());
        let deb822 = "Types: deb\n# why\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\
                      Signed-By: /usr/share/keyrings/debian.gpg\n\nTypes: deb\nURIs: http://mirror/debian-security\n\
                      Suites: bookworm-security\nComponents: main\n";
        let archive = Archive { uri: "http://mirror/debian".into(), signed_by: key.clone() };
        assert_eq!(deb822_archives(deb822), [archive]);
        let line = "deb [arch=amd64 signed-by=/usr/share/keyrings/debian.gpg] http://mirror/debian/ trixie main contrib";
        let archive = Archive { uri: "http://mirror/debian/".into(), signed_by: key };
        assert_eq!(one_line_archive(line), Some(archive));
        assert_eq!(one_line_archive("deb-src http://mirror/debian trixie main"), None);
        assert!(is_called_debian("http://mirror/debian/") && !is_called_debian("http://mirror/docker"));
    }
}
