//! plegd as it is linked for a release (`deploy/release.toml`), from what `deploy/Containerfile` copies: alone in its file, its
//! code in the order that was meant, and alive.
//!
//! `cargo test --test release -- --ignored`, with the profile of tests: what is tried is how it is linked. Needs `readelf`, which
//! comes with a linker, and glibc's `libc.a`.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod tree;

use std::{fs, path::PathBuf, process::Command};

use tree::root;

/// What a rule of `deploy/release.ld` that matches nothing any more would leave out is more than a fifth.
const ASIDE_AT_LEAST: u64 = 800_000;

#[test]
#[ignore = "builds plegd once more"]
fn what_is_released_is_alone_in_its_file_and_lives() {
    let plegd = linked();

    let segments = printed(Command::new("readelf").arg("-lW").arg(&plegd));
    assert!(!segments.contains("INTERP"), "it needs a loader, and so libraries:\n{segments}");

    let sections = printed(Command::new("readelf").arg("-SW").arg(&plegd));
    assert!(sections.contains(".relr.dyn"), "relocations are not packed:\n{sections}");
    let size = sections.lines().find_map(|line| {
        let mut columns = line.split_once(".text.aside")?.1.split_whitespace();
        u64::from_str_radix(columns.nth(3)?, 16).ok()
    });
    let size = size.expect("code that a daemon does not run is put aside");
    assert!(size >= ASIDE_AT_LEAST, "only {size} bytes are put aside: see deploy/release.ld");

    assert!(printed(Command::new(&plegd).arg("version")).contains(env!("CARGO_PKG_VERSION")));
    // The client's commands, the simulated runtime and the daemon, each in its place.
    let events = printed(Command::new(&plegd).args(["demo", "--duration", "5s", "--http-address", "off"]));
    assert!(events.contains("Started"), "nothing has happened:\n{events}");
}

/// plegd, linked so, in a folder of its own.
fn linked() -> PathBuf {
    let target = printed(Command::new("rustc").args(["--print", "host-tuple"]));
    let (target, folder) = (target.trim(), root().join("target/release-test"));
    let tree = folder.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).expect("an earlier copy goes");
    }
    for (from, to) in tree::of_the_image() {
        tree::copy(&root().join(from), &tree.join(to)).expect("a copy");
    }
    let built = Command::new(env!("CARGO"))
        .current_dir(&tree)
        .args(["build", "--locked", "--bin", "plegd", "--config", "deploy/release.toml", "--target", target])
        .arg("--target-dir")
        .arg(&folder)
        .status();
    assert!(built.expect("cargo").success(), "it could not be linked: see what cargo says above");
    folder.join(target).join("debug/plegd")
}

/// What a command that must succeed has printed.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
