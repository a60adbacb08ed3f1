//! The files in `deploy/systemd` as they would be installed, systemd's own tools on them, and what the unit allows put in
//! force on a thread.

#![allow(unreachable_pub, missing_docs)]

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

pub const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/plegd.service");
pub const DROP_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/runtime-group.conf");
pub const SYSUSERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/sysusers.conf");

/// The unit in a folder of its own, with the plegd of this build.
pub struct Installed {
    _folder: tempfile::TempDir,
    unit: PathBuf,
}

/// What one of systemd's tools has to say.
#[derive(Debug)]
pub struct Answer {
    pub success: bool,
    pub said: String,
}

// === impl Installed ===

impl Installed {
    pub fn with(drop_ins: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let unit = folder.path().join("plegd.service");
        std::fs::copy(UNIT, &unit)?;
        let drop_in_folder = folder.path().join("plegd.service.d");
        std::fs::create_dir(&drop_in_folder)?;
        for drop_in in drop_ins {
            let name = PathBuf::from(drop_in);
            std::fs::copy(drop_in, drop_in_folder.join(name.file_name().context("no name")?))?;
        }
        let mut installed = Self { _folder: folder, unit };
        installed.replace("/usr/local/bin/plegd", env!("CARGO_BIN_EXE_plegd"))?;
        Ok(installed)
    }

    pub fn replace(&mut self, what: &str, with: &str) -> Result<()> {
        let unit = std::fs::read_to_string(&self.unit)?;
        ensure!(unit.contains(what), "there is no {what} in the unit");
        Ok(std::fs::write(&self.unit, unit.replace(what, with))?)
    }

    /// systemd-analyze on the unit.
    pub fn analyze(&self, arguments: &[&str]) -> Result<Answer> {
        let unit = self.unit.to_str().context("no text")?;
        run("systemd-analyze", &[arguments, &[unit]].concat())
    }
}

pub fn run(tool: &str, arguments: &[&str]) -> Result<Answer> {
    let output = Command::new(tool).args(arguments).output();
    let output = output.with_context(|| format!("{tool} cannot be run: install it (Debian: systemd)"))?;
    let said = [output.stdout, output.stderr].concat();
    Ok(Answer { success: output.status.success(), said: String::from_utf8(said)? })
}

/// Takes all capabilities from what this thread starts, and leaves the thread itself and what it starts the system calls
/// that the unit leaves to plegd.
pub fn confine_thread() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        for capability in CapabilitySet::all().iter() {
            // Younger than the kernel, perhaps.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    let rules: Vec<String> = allowed()?.iter().map(|name| format!(r#"{{"syscall":"{name}"}}"#)).collect();
    let filter = compile(&rules)?;
    Ok(seccompiler::apply_filter(&filter)?)
}

/// The system calls that the unit's SystemCallFilter lines allow, by name.
fn allowed() -> Result<BTreeSet<String>> {
    let mut allowed = BTreeSet::new();
    let unit = std::fs::read_to_string(UNIT)?;
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (forbids, names) = line.strip_prefix('~').map_or((false, line), |names| (true, names));
        for name in names.split_whitespace() {
            let calls = calls(name)?;
            if forbids {
                allowed.retain(|call| !calls.contains(call));
            } else {
                allowed.extend(calls);
            }
        }
    }
    ensure!(allowed.len() > 100, "the unit allows next to nothing: {allowed:?}");
    // What is always permitted, whatever a unit says.
    allowed.extend(calls("@default")?);
    // Not every name is one on this machine.
    allowed.retain(|name| compile(&[format!(r#"{{"syscall":"{name}"}}"#)]).is_ok());
    Ok(allowed)
}

/// The calls of a set such as `@system-service`, or the call itself.
fn calls(name: &str) -> Result<BTreeSet<String>> {
    if !name.starts_with('@') {
        return Ok([name.to_owned()].into());
    }
    let listed = run("systemd-analyze", &["syscall-filter", "--no-pager", name])?;
    ensure!(listed.success, "{}", listed.said);
    let mut all = BTreeSet::new();
    for line in listed.said.lines().filter_map(|line| line.strip_prefix("    ")) {
        let line = line.trim();
        if !line.starts_with('#') {
            all.extend(calls(line)?);
        }
    }
    Ok(all)
}

fn compile(rules: &[String]) -> Result<seccompiler::BpfProgram> {
    // SystemCallErrorNumber=EPERM
    let json = format!(
        r#"{{"plegd":{{"mismatch_action":{{"errno":1}},"match_action":"allow","filter":[{}]}}}}"#,
        rules.join(",")
    );
    let mut filters = seccompiler::compile_from_json(json.as_bytes(), std::env::consts::ARCH.try_into()?)?;
    filters.remove("plegd").context("no filter")
}
