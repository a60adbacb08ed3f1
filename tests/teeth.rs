//! Deliberate bugs, and whether the simulation catches them: a proof of plegd is worth as much as the bugs it would find.
//!
//! [`bugs`] lists them as text to be found in the sources and text to put in its place. All of them go into one copy of the
//! tree, each behind a switch, so that one build serves; then the simulation is played with one of them at a time until a
//! seed objects. What is published late is found only where nothing hinders plegd; other such bugs have tests of their own
//! (`a_hung_container_delays_no_sibling` and its like in `reads.rs`), and so has one that none of 6,000 seeds comes to, that a stream is
//! blamed for what was before it (`src/arbiter/tests.rs`).
//!
//! | command | what it does |
//! | --- | --- |
//! | `cargo test --test teeth` | each bug still fits the sources: its text is there, and there once |
//! | `cargo test --test teeth -- --ignored --nocapture` | builds the copy, plays, and prints what was caught by which seed |
//! | the same with `TEETH_ONLY='rule 4'` | only those whose name has these words |

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "teeth/bugs.rs"]
mod bugs;
mod tree;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use bugs::{BUGS, Bug};
use tree::{copy, root};

/// Seeds that a bug may take to be caught.
const SEEDS: u32 = 6000;
/// What the copy is made of.
const TREE: [&str; 6] = ["Cargo.lock", "Cargo.toml", "build.rs", "proto", "src", "tests"];
/// The switch, as a module of the copy.
const SWITCH: &str = r#"
/// Whether the bug with this number bites.
#[doc(hidden)]
pub fn bites(bug: usize) -> bool {
    static BITING: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let biting = BITING.get_or_init(|| std::env::var("PLEGD_BUG").ok().and_then(|bug| bug.parse().ok()));
    *biting == Some(bug)
}
"#;

#[test]
fn every_bug_fits_the_sources() {
    for Bug { name, file, find, replace } in BUGS {
        assert!(replace.contains("BITES"), "{name}: has no switch");
        let source = fs::read_to_string(root().join(file)).expect("the source");
        assert_eq!(source.matches(find).count(), 1, "{name}: in {file}, how often is there:\n{find}");
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it says how long a bug lives, and nothing hangs on it")]
#[ignore = "builds plegd once more and plays for some minutes"]
fn the_simulation_catches_every_bug() {
    let tree = root().join("target/teeth");
    let simulation = build(&tree).expect("the copy");
    let sound = play(&simulation, None, 200);
    assert!(sound.is_none(), "without a bug it objects as well: {sound:?}");
    let mut missed = Vec::new();
    println!("{:<58} caught by", "bug");
    let only = std::env::var("TEETH_ONLY").unwrap_or_default();
    for (n, bug) in BUGS.iter().enumerate().filter(|(_, bug)| bug.name.contains(&only)) {
        let began = Instant::now();
        match play(&simulation, Some(n), SEEDS) {
            Some((seed, what)) => {
                println!("{:<58} seed {seed:>4}, {:>3.0?}: {what}", bug.name, began.elapsed());
            }
            None => {
                println!("{:<58} none of {SEEDS} seeds", bug.name);
                missed.push(bug.name);
            }
        }
    }
    let played = BUGS.iter().filter(|bug| bug.name.contains(&only)).count();
    println!("{} of {played} bugs are caught", played - missed.len());
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// Copies the tree with all bugs in it, and builds the simulation of the copy; says where that is.
fn build(tree: &Path) -> io::Result<PathBuf> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    fs::create_dir_all(tree)?;
    for part in TREE {
        copy(&root().join(part), &tree.join(part))?;
    }
    // Neither the binary nor benches: the simulation needs neither.
    fs::remove_file(tree.join("src/main.rs"))?;
    let manifest = tree.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    // A version of its own: else cargo takes the copy, built into the same folder, for the tree itself, and tests it from then on.
    let version = format!("version = \"{}", env!("CARGO_PKG_VERSION"));
    let text = text.replacen(&version, &format!("{version}-teeth"), 1);
    let tables = text.split_inclusive("\n\n").filter(|table| !table.starts_with("[[bench]]"));
    fs::write(&manifest, tables.collect::<String>() + "\n[workspace]\n")?;
    let mut sources: BTreeMap<&str, String> = BTreeMap::new();
    for (n, bug) in BUGS.iter().enumerate() {
        let source = match sources.entry(bug.file) {
            std::collections::btree_map::Entry::Occupied(source) => source.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                none.insert(fs::read_to_string(tree.join(bug.file))?)
            }
        };
        *source = source.replacen(bug.find, &bug.replace.replace("BITES", &format!("crate::bites({n})")), 1);
    }
    for (file, source) in sources {
        fs::write(tree.join(file), source)?;
    }
    let library = tree.join("src/lib.rs");
    fs::write(&library, fs::read_to_string(&library)? + SWITCH)?;

    let built = Command::new(env!("CARGO"))
        .args(["test", "--test", "simulation", "--no-run", "--message-format=json"])
        .env("CARGO_TARGET_DIR", root().join("target"))
        // Thousands of seeds are played: what this takes longer to build comes back many times.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .current_dir(tree)
        .stderr(Stdio::inherit())
        .output()?;
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once(r#""executable":""#)?;
        rest.split('"').next()
    });
    let simulation = executable.filter(|_| built.status.success());
    simulation.map(PathBuf::from).ok_or_else(|| io::Error::other("the copy does not build"))
}

/// The first seed that objects, and what to.
fn play(simulation: &Path, bug: Option<usize>, seeds: u32) -> Option<(u32, String)> {
    let mut command = Command::new(simulation);
    command.args(["some_seeds", "--nocapture"]).env("SIMULATION_SEEDS", seeds.to_string());
    command.env("SIMULATION_BRIEF", "1").env("RUST_BACKTRACE", "0");
    if let Some(bug) = bug {
        command.env("PLEGD_BUG", bug.to_string());
    }
    let played = command.output().expect("it runs");
    if played.status.success() {
        return None;
    }
    let said =
        String::from_utf8_lossy(&played.stderr).into_owned() + &String::from_utf8_lossy(&played.stdout);
    let mut lines = said.lines().skip_while(|line| !line.starts_with("seed "));
    let seed = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    Some((seed, lines.next().unwrap_or("panicked").chars().take(90).collect()))
}
