//! Notices a change of the configuration file: written in place, replaced by a rename, or, as Kubernetes does with a ConfigMap, by swapping
//! a symbolic link in its path.
//!
//! It checks the metadata at the path every few seconds. Kernel notifications do not suffice: they cover one directory of the path, miss
//! files on remote file systems, and stop when a directory is replaced. One check costs one system call. This module never reads the file.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use crate::config::Inputs;

/// Time between two checks. Each check wakes the process, and Kubernetes itself takes up to a minute for a ConfigMap.
const PERIOD: Duration = Duration::from_secs(10);

/// A changed file must stay the same for this time before the change counts: it may be half written.
const SETTLED: Duration = Duration::from_secs(1);

/// Watches one path.
#[derive(Debug)]
pub struct FileWatch {
    path: Option<PathBuf>,
    /// Whether plegd starts only if the file exists.
    needed: bool,
    known: Look,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Missing,
    /// The metadata cannot be read.
    Barred,
    There {
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
        let mut it = Self { path: inputs.path(), needed: inputs.needs_file(), known: Look::Missing };
        it.seen();
        it
    }

    /// Call this before the file is read: only later changes count.
    pub fn seen(&mut self) {
        self.known = self.look();
    }

    /// Waits until the file has changed and is stable again. Drop the future to stop waiting: no change is missed.
    pub async fn changed(&mut self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let mut now = self.look();
            while now != self.known {
                tokio::time::sleep(SETTLED).await;
                let before = std::mem::replace(&mut now, self.look());
                if now == before {
                    self.known = now;
                    if now != Look::Missing || self.needed {
                        return;
                    }
                    // A file that is deleted may be replaced in a moment. Defaults are not adopted, because no user chose them.
                    tracing::warn!(
                        file = %self.path.clone().unwrap_or_default().display(),
                        "The configuration's file is gone; what it said is kept. To go by the defaults, send SIGHUP."
                    );
                }
            }
        }
    }

    fn look(&self) -> Look {
        let Some(path) = &self.path else { return Look::Missing };
        match fs::metadata(path) {
            Ok(found) => Look::There {
                device: found.dev(),
                inode: found.ino(),
                bytes: found.len(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Look::Missing,
            Err(_) => Look::Barred,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::Path};

    use futures::FutureExt as _;

    use super::*;

    /// Longer than a change takes to be noticed, and more than one check.
    const WHILE: Duration = Duration::from_secs(30);

    async fn is_noticed(watch: &mut FileWatch) -> bool {
        tokio::time::timeout(WHILE, watch.changed()).await.is_ok()
    }

    fn named(path: &Path) -> FileWatch {
        FileWatch::new(&Inputs { file: Some(path.into()), ..Inputs::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_written_replaced_or_removed_is_another_one_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("plegd.toml"), folder.path().join("new"));
        fs::write(&path, "a").unwrap();
        let mut watch = named(&path);
        assert!(!is_noticed(&mut watch).await, "nothing has happened");
        fs::write(&path, "ab").unwrap();
        assert!(is_noticed(&mut watch).await, "written in place");
        fs::write(&other, "ab").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(is_noticed(&mut watch).await, "replaced by a rename");
        assert!(!is_noticed(&mut watch).await, "once is enough");
        fs::remove_file(&path).unwrap();
        assert!(is_noticed(&mut watch).await, "plegd would not start without it");
        fs::create_dir(&path).unwrap();
        assert!(is_noticed(&mut watch).await, "a folder in its place");
    }

    #[tokio::test(start_paused = true)]
    async fn a_swapped_symbolic_link_on_the_way_to_it_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["..1", "..2"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("plegd.toml"), "same").unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/plegd.toml", at("plegd.toml")).unwrap();
        let mut watch = named(&at("plegd.toml"));
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(is_noticed(&mut watch).await);
        fs::remove_dir_all(at("..1")).unwrap();
        assert!(!is_noticed(&mut watch).await, "the old one is of no interest");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plegd.toml");
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
        assert!(is_noticed(&mut watch).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_default_file_may_come_and_is_not_missed_when_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plegd.toml");
        let mut watch = FileWatch::new(&Inputs { default_file: Some(path.clone()), ..Inputs::default() });
        assert!(!is_noticed(&mut watch).await);
        fs::write(&path, "").unwrap();
        assert!(is_noticed(&mut watch).await);
        fs::remove_file(&path).unwrap();
        assert!(!is_noticed(&mut watch).await);
        fs::write(&path, "").unwrap();
        assert!(is_noticed(&mut watch).await);
        // A read for another reason counts as having seen the change.
        fs::write(&path, "a").unwrap();
        watch.seen();
        assert!(!is_noticed(&mut watch).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_file_nothing_ever_changes() {
        assert!(!is_noticed(&mut FileWatch::new(&Inputs::default())).await);
    }
}
