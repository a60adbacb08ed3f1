//! The files of the repository: its root, copies of parts of it, and the files from which the image is built.

#![allow(dead_code, reason = "each test uses what it needs")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Copies a file, or a directory with its contents.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The sources and targets that `deploy/Containerfile` copies from the repository.
pub(crate) fn image_files() -> Vec<(PathBuf, PathBuf)> {
    let file = fs::read_to_string(root().join("deploy/Containerfile")).expect("the Containerfile");
    let copied = file.lines().filter_map(|line| line.strip_prefix("COPY "));
    let mut all = Vec::new();
    for line in copied.filter(|line| !line.starts_with("--from=")) {
        let (sources, to) = line.rsplit_once(' ').expect("from and to");
        for source in sources.split(' ').map(Path::new) {
            let into = if to.ends_with('/') { source.file_name().unwrap_or_default() } else { "".as_ref() };
            all.push((source.into(), Path::new(to).join(into)));
        }
    }
    all
}
