//! Checks plegd as it is linked for a release (`deploy/release.toml`), from the files that `deploy/Containerfile` copies:
//! statically linked, code in the intended order, and it starts.
//!
//! `cargo test --test release -- --ignored` builds with the profile of tests, because the subject is the linking. Needs
//! `readelf`, which comes with a linker, and glibc's `libc.a`.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod tree;

use std::{fs, path::PathBuf, process::Command};

use tree::root;

/// Minimum size of `.text.aside` in bytes. If a rule of `deploy/release.ld` no longer matches, more than a fifth of the code is
/// missing from it.
const ASIDE_AT_LEAST: u64 = 800_000;

#[test]
#[ignore = "builds plegd again"]
fn the_release_build_is_statically_linked_and_starts() {
    let plegd = linked();

    let segments = printed(Command::new("readelf").arg("-lW").arg(&plegd));
    assert!(!segments.contains("INTERP"), "the binary needs a dynamic loader:\n{segments}");

    let sections = printed(Command::new("readelf").arg("-SW").arg(&plegd));
    assert!(sections.contains(".relr.dyn"), "relocations are not packed:\n{sections}");
    let size = sections.lines().find_map(|line| {
        let mut columns = line.split_once(".text.aside")?.1.split_whitespace();
        u64::from_str_radix(columns.nth(3)?, 16).ok()
    });
    let size = size.expect("a section .text.aside for code that the daemon does not run");
    assert!(size >= ASIDE_AT_LEAST, ".text.aside has only {size} bytes: see deploy/release.ld");

    assert!(printed(Command::new(&plegd).arg("version")).contains(env!("CARGO_PKG_VERSION")));
    // `demo` runs the client's commands, the simulated runtime and the daemon.
    let events = printed(Command::new(&plegd).args(["demo", "--duration", "5s", "--http-address", "off"]));
    assert!(events.contains("Started"), "demo printed no event:\n{events}");
}

/// Links plegd for a release, in its own target directory.
fn linked() -> PathBuf {
    let target = printed(Command::new("rustc").args(["--print", "host-tuple"]));
    let (target, directory) = (target.trim(), root().join("target/release-test"));
    let tree = directory.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).expect("remove the earlier copy");
    }
    for (from, to) in tree::image_files() {
        tree::copy(&root().join(from), &tree.join(to)).expect("a copy");
    }
    let built = Command::new(env!("CARGO"))
        .current_dir(&tree)
        .args(["build", "--locked", "--bin", "plegd", "--config", "deploy/release.toml", "--target", target])
        .arg("--target-dir")
        .arg(&directory)
        .status();
    assert!(built.expect("cargo").success(), "the release build failed: see cargo's output above");
    directory.join(target).join("debug/plegd")
}

/// The stdout of a command that must succeed.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
