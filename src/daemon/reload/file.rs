//! Detects a change of the configuration file: a write in place, a replacement by a rename, or a change of a symbolic link in its path, as
//! Kubernetes updates a ConfigMap.
//!
//! It checks the metadata at the path every few seconds. Kernel notifications do not suffice: they cover one directory of the path, miss
//! files on remote file systems, and stop when a directory is replaced. One check costs one system call. This module never reads the file.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use crate::config::Inputs;

/// Interval between checks. Each check wakes the process. Kubernetes itself takes up to a minute to update a ConfigMap.
const PERIOD: Duration = Duration::from_secs(10);

/// A changed file must stay unchanged for this time before the change counts, because it may be incomplete.
const STABLE_FOR: Duration = Duration::from_secs(1);

/// Watches one path for changes.
#[derive(Debug)]
pub struct FileWatch {
    path: Option<PathBuf>,
    /// Whether plegd starts only if the file exists.
    needed: bool,
    known: FileState,
}

/// The state of the file at a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    Missing,
    /// The metadata cannot be read.
    Unreadable,
    Present {
        device: u64,
        inode: u64,
        bytes: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
}

// === impl FileWatch ===

impl FileWatch {
    /// Watches the file of these inputs. Read the file after this call, so that no change in between is missed.
    pub fn new(inputs: &Inputs) -> Self {
        let mut it = Self { path: inputs.path(), needed: inputs.needs_file(), known: FileState::Missing };
        it.mark_read();
        it
    }

    /// Call this before the file is read: only later changes count.
    pub fn mark_read(&mut self) {
        self.known = self.state();
    }

    /// Waits until the file has changed and is stable again. Drop the future to stop waiting: no change is missed.
    pub async fn changed(&mut self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let mut now = self.state();
            while now != self.known {
                tokio::time::sleep(STABLE_FOR).await;
                let before = std::mem::replace(&mut now, self.state());
                if now == before {
                    self.known = now;
                    if now != FileState::Missing || self.needed {
                        return;
                    }
                    // A deleted file may be replaced soon. plegd does not apply the defaults, because no user chose them.
                    tracing::warn!(
                        file = %self.path.clone().unwrap_or_default().display(),
                        "The configuration file was deleted; its values stay effective. Send SIGHUP to apply the defaults."
                    );
                }
            }
        }
    }

    fn state(&self) -> FileState {
        let Some(path) = &self.path else { return FileState::Missing };
        match fs::metadata(path) {
            Ok(found) => FileState::Present {
                device: found.dev(),
                inode: found.ino(),
                bytes: found.len(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => FileState::Missing,
            Err(_) => FileState::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::Path};

    use futures::FutureExt as _;

    use super::*;

    /// Longer than the detection of a change takes.
    const DETECTION_TIME: Duration = Duration::from_secs(30);

    async fn detects_change(watch: &mut FileWatch) -> bool {
        tokio::time::timeout(DETECTION_TIME, watch.changed()).await.is_ok()
    }

    fn named(path: &Path) -> FileWatch {
        FileWatch::new(&Inputs { file: Some(path.into()), ..Inputs::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_a_replacement_and_a_removal_are_each_detected_once() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("plegd.toml"), directory.path().join("new"));
        fs::write(&path, "a").unwrap();
        let mut watch = named(&path);
        assert!(!detects_change(&mut watch).await, "no change");
        fs::write(&path, "ab").unwrap();
        assert!(detects_change(&mut watch).await, "written in place");
        fs::write(&other, "ab").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(detects_change(&mut watch).await, "replaced by a rename");
        assert!(!detects_change(&mut watch).await, "detected only once");
        fs::remove_file(&path).unwrap();
        assert!(detects_change(&mut watch).await, "plegd requires the file");
        fs::create_dir(&path).unwrap();
        assert!(detects_change(&mut watch).await, "a directory in its place");
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_symbolic_link_in_the_path_is_detected() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["..1", "..2"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("plegd.toml"), "same").unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/plegd.toml", at("plegd.toml")).unwrap();
        let mut watch = named(&at("plegd.toml"));
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(detects_change(&mut watch).await);
        fs::remove_dir_all(at("..1")).unwrap();
        assert!(!detects_change(&mut watch).await, "the old directory is not in the path");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_only_when_the_file_is_stable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plegd.toml");
        fs::write(&path, "").unwrap();
        let mut watch = named(&path);
        let mut text = String::new();
        {
            let changed = watch.changed();
            tokio::pin!(changed);
            for _ in 0..100 {
                text.push('a');
                fs::write(&path, &text).unwrap();
                tokio::time::advance(Duration::from_millis(900)).await;
                assert!(changed.as_mut().now_or_never().is_none(), "it has {} bytes so far", text.len());
            }
        }
        assert!(detects_change(&mut watch).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_creation_of_the_default_file_is_detected_and_its_deletion_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plegd.toml");
        let mut watch = FileWatch::new(&Inputs { default_file: Some(path.clone()), ..Inputs::default() });
        assert!(!detects_change(&mut watch).await);
        fs::write(&path, "").unwrap();
        assert!(detects_change(&mut watch).await);
        fs::remove_file(&path).unwrap();
        assert!(!detects_change(&mut watch).await);
        fs::write(&path, "").unwrap();
        assert!(detects_change(&mut watch).await);
        // After a read for another reason, the change is not detected again.
        fs::write(&path, "a").unwrap();
        watch.mark_read();
        assert!(!detects_change(&mut watch).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_file_no_change_is_detected() {
        assert!(!detects_change(&mut FileWatch::new(&Inputs::default())).await);
    }
}
