//! A small disk in memory, which a test can fill.
//!
//! Owns nothing: the mount is below an instance's directory and is removed with it.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};

/// The file that fills the disk.
const BALLAST: &str = "ballast";

pub(super) fn mount(at: &Path, bytes: u64) -> Result<()> {
    let size = format!("size={bytes}");
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status()?;
    ensure!(status.success(), "mounting a tmpfs at {}: {status}", at.display());
    Ok(())
}

pub(super) fn fill(disk: &Path) -> Result<()> {
    let mut ballast = File::create(disk.join(BALLAST))?;
    // Fill the last page too.
    for block in [1 << 20, 1 << 12] {
        let zeros = vec![0; block];
        loop {
            match ballast.write_all(&zeros) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

pub(super) fn free(disk: &Path) -> Result<()> {
    Ok(fs::remove_file(disk.join(BALLAST))?)
}
