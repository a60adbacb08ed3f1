//! The files in `deploy/systemd` as installed, systemd's own tools on them, and the unit's restrictions applied to a thread.

#![allow(unreachable_pub, missing_docs)]

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

pub const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/plegd.service");
pub const DROP_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/runtime-group.conf");
pub const SYSUSERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/sysusers.conf");

/// The unit in its own directory, with the plegd of this build.
pub struct Installed {
    _directory: tempfile::TempDir,
    unit: PathBuf,
}

/// The result of one of systemd's tools.
#[derive(Debug)]
pub struct ToolResult {
    pub success: bool,
    pub output: String,
}

// === impl Installed ===

impl Installed {
    pub fn with(drop_ins: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let unit = directory.path().join("plegd.service");
        std::fs::copy(UNIT, &unit)?;
        let drop_in_directory = directory.path().join("plegd.service.d");
        std::fs::create_dir(&drop_in_directory)?;
        for drop_in in drop_ins {
            let name = PathBuf::from(drop_in);
            std::fs::copy(drop_in, drop_in_directory.join(name.file_name().context("no name")?))?;
        }
        let mut installed = Self { _directory: directory, unit };
        installed.replace("/usr/local/bin/plegd", env!("CARGO_BIN_EXE_plegd"))?;
        Ok(installed)
    }

    pub fn replace(&mut self, what: &str, with: &str) -> Result<()> {
        let unit = std::fs::read_to_string(&self.unit)?;
        ensure!(unit.contains(what), "there is no {what} in the unit");
        Ok(std::fs::write(&self.unit, unit.replace(what, with))?)
    }

    /// Runs systemd-analyze on the unit.
    pub fn analyze(&self, arguments: &[&str]) -> Result<ToolResult> {
        let unit = self.unit.to_str().context("a path that is not UTF-8")?;
        run("systemd-analyze", &[arguments, &[unit]].concat())
    }
}

pub fn run(tool: &str, arguments: &[&str]) -> Result<ToolResult> {
    let output = Command::new(tool).args(arguments).output();
    let result = output.with_context(|| format!("{tool} cannot be run: install it (Debian: systemd)"))?;
    let output = [result.stdout, result.stderr].concat();
    Ok(ToolResult { success: result.status.success(), output: String::from_utf8(output)? })
}

/// Drops all capabilities of the programs that this thread starts, and restricts the thread and these programs to the unit's
/// system calls.
pub fn confine_thread() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        for capability in CapabilitySet::all().iter() {
            // The kernel may not know the capability.
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
    ensure!(allowed.len() > 100, "the unit allows too few calls: {allowed:?}");
    // systemd always permits these.
    allowed.extend(calls("@default")?);
    // Some calls do not exist on this architecture.
    allowed.retain(|name| compile(&[format!(r#"{{"syscall":"{name}"}}"#)]).is_ok());
    Ok(allowed)
}

/// The calls of a set such as `@system-service`, or the call itself.
fn calls(name: &str) -> Result<BTreeSet<String>> {
    if !name.starts_with('@') {
        return Ok([name.to_owned()].into());
    }
    let listed = run("systemd-analyze", &["syscall-filter", "--no-pager", name])?;
    ensure!(listed.success, "{}", listed.output);
    let mut all = BTreeSet::new();
    for line in listed.output.lines().filter_map(|line| line.strip_prefix("    ")) {
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
