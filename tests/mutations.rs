//! Mutation tests: applies deliberate bugs, one at a time, and checks that the simulation detects each.
//!
//! [`bugs`] lists each bug as a source text and its replacement. All bugs are applied to one copy of the tree, each behind a
//! switch, so that one build is enough. Then the simulation runs with one bug at a time, until a seed fails. Where another rule makes
//! up for a bug, or too few seeds reach it, its unit test runs instead ([`bugs::UNIT_TEST_BUGS`]). The simulation detects late
//! publications only where no fault delays plegd, so bugs of that kind have their own tests (such as
//! `a_hung_container_delays_no_sibling` in `reads.rs`). So has a bug that none of 6,000 seeds detects: a stream is blamed for a
//! change before it (`src/arbiter/tests.rs`).
//!
//! | command | what runs |
//! | --- | --- |
//! | `cargo test --test mutations` | checks that each bug still fits the sources: its text occurs exactly once |
//! | `cargo test --test mutations -- --ignored --nocapture` | builds the copy, runs the simulation and the unit tests, and prints what detects each bug |
//! | the same with `MUTATIONS_ONLY='rule 4'` | only the bugs whose name contains this text |

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "mutations/bugs.rs"]
mod bugs;
mod tree;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use bugs::{BUGS, Bug, UNIT_TEST_BUGS, UnitTestBug};
use tree::{copy, root};

/// The most seeds until a bug must be detected.
const SEEDS: u32 = 6000;
/// The files in the copy.
const TREE: [&str; 6] = ["Cargo.lock", "Cargo.toml", "build.rs", "proto", "src", "tests"];
/// The switch, as a module of the copy.
const SWITCH: &str = r#"
/// Whether the bug with this number is active.
#[doc(hidden)]
pub fn is_bug(bug: usize) -> bool {
    static ACTIVE: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let active = ACTIVE.get_or_init(|| std::env::var("PLEGD_MUTATION").ok().and_then(|bug| bug.parse().ok()));
    *active == Some(bug)
}
"#;

/// The executables of the copy.
struct Copy {
    simulation: PathBuf,
    unit_tests: PathBuf,
}

/// All bugs, in the order of their switches.
fn all_bugs() -> impl Iterator<Item = &'static Bug> {
    BUGS.iter().chain(UNIT_TEST_BUGS.iter().map(|it| &it.bug))
}

#[test]
fn every_bug_fits_the_sources() {
    for Bug { name, file, find, replace } in all_bugs() {
        assert!(replace.contains("MUTATED"), "{name}: has no switch");
        let source = fs::read_to_string(root().join(file)).expect("the source");
        assert_eq!(source.matches(find).count(), 1, "{name}: this text must occur once in {file}:\n{find}");
    }
}

#[test]
fn every_unit_test_of_a_bug_exists() {
    for UnitTestBug { test, bug } in UNIT_TEST_BUGS {
        let (modules, name) = test.rsplit_once("::").expect("a module");
        let ends = modules.match_indices("::").map(|(at, _)| at).chain([modules.len()]);
        let files =
            ends.map(|end| root().join("src").join(modules[..end].replace("::", "/")).with_extension("rs"));
        let mut sources = files.filter_map(|file| fs::read_to_string(file).ok());
        assert!(
            sources.any(|source| source.contains(&format!("fn {name}("))),
            "{}: {test} is missing",
            bug.name
        );
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "prints the duration; no result depends on it")]
#[ignore = "builds plegd again and runs for some minutes"]
fn every_bug_is_detected() {
    let tree = root().join("target/mutations");
    let Copy { simulation, unit_tests } = build(&tree).expect("the copy");
    let unmutated = run(&simulation, None, 200);
    assert!(unmutated.is_none(), "the simulation fails without a bug: {unmutated:?}");
    let mut missed = Vec::new();
    println!("{:<58} detected by", "bug");
    let only = std::env::var("MUTATIONS_ONLY").unwrap_or_default();
    for (n, bug) in BUGS.iter().enumerate().filter(|(_, bug)| bug.name.contains(&only)) {
        let began = Instant::now();
        match run(&simulation, Some(n), SEEDS) {
            Some((seed, what)) => {
                println!("{:<58} seed {seed:>4}, {:>3.0?}: {what}", bug.name, began.elapsed());
            }
            None => {
                println!("{:<58} none of {SEEDS} seeds", bug.name);
                missed.push(bug.name);
            }
        }
    }
    for (n, UnitTestBug { test, bug }) in (BUGS.len()..).zip(UNIT_TEST_BUGS) {
        if !bug.name.contains(&only) {
            continue;
        }
        assert!(passes(&unit_tests, test, None), "{test} fails without a bug");
        if passes(&unit_tests, test, Some(n)) {
            println!("{:<58} passes {test}", bug.name);
            missed.push(bug.name);
        } else {
            println!("{:<58} {test}", bug.name);
        }
    }
    let total = all_bugs().filter(|bug| bug.name.contains(&only)).count();
    println!("{} of {total} bugs are detected", total - missed.len());
    assert!(missed.is_empty(), "not detected: {missed:?}");
}

/// Copies the tree with all bugs applied, and builds the simulation and the unit tests of the copy.
fn build(tree: &Path) -> io::Result<Copy> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    fs::create_dir_all(tree)?;
    for part in TREE {
        copy(&root().join(part), &tree.join(part))?;
    }
    // The simulation needs neither the binary nor the benchmarks.
    fs::remove_file(tree.join("src/main.rs"))?;
    let manifest = tree.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    // Another version: otherwise cargo takes the copy, built into the same directory, for the tree itself, and tests it from
    // then on.
    let version = format!("version = \"{}", env!("CARGO_PKG_VERSION"));
    let text = text.replacen(&version, &format!("{version}-mutations"), 1);
    let is_used = |table: &&str| !table.starts_with("[[bench]]") && !table.starts_with("[[bin]]");
    let tables = text.split_inclusive("\n\n").filter(is_used);
    fs::write(&manifest, tables.collect::<String>() + "\n[workspace]\n")?;
    let mut sources: BTreeMap<&str, String> = BTreeMap::new();
    for (n, bug) in all_bugs().enumerate() {
        let source = match sources.entry(bug.file) {
            std::collections::btree_map::Entry::Occupied(source) => source.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                none.insert(fs::read_to_string(tree.join(bug.file))?)
            }
        };
        *source =
            source.replacen(bug.find, &bug.replace.replace("MUTATED", &format!("crate::is_bug({n})")), 1);
    }
    for (file, source) in sources {
        fs::write(tree.join(file), source)?;
    }
    let library = tree.join("src/lib.rs");
    fs::write(&library, fs::read_to_string(&library)? + SWITCH)?;

    let built = Command::new(env!("CARGO"))
        .args(["test", "--test", "simulation", "--lib", "--no-run", "--message-format=json"])
        .env("CARGO_TARGET_DIR", root().join("target"))
        // Thousands of seeds run, so optimization saves more time than it costs.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .current_dir(tree)
        .stderr(Stdio::inherit())
        .output()?;
    let messages = String::from_utf8_lossy(&built.stdout);
    let executables = messages.lines().filter_map(|line| {
        let (_, rest) = line.split_once(r#""executable":""#)?;
        rest.split('"').next()
    });
    let (simulation, unit_tests): (Vec<_>, Vec<_>) =
        executables.map(PathBuf::from).partition(|path| path.to_string_lossy().contains("/simulation-"));
    match (&simulation[..], &unit_tests[..]) {
        ([simulation], [unit_tests]) if built.status.success() => {
            Ok(Copy { simulation: simulation.clone(), unit_tests: unit_tests.clone() })
        }
        _ => Err(io::Error::other("the copy does not build")),
    }
}

/// Whether a unit test passes.
fn passes(unit_tests: &Path, test: &str, bug: Option<usize>) -> bool {
    let mut command = Command::new(unit_tests);
    command.args(["--exact", test]).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(bug) = bug {
        command.env("PLEGD_MUTATION", bug.to_string());
    }
    let output = command.output().expect("the unit tests");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("running 1 test"), "{test} is no unit test");
    output.status.success()
}

/// The first failing seed, and its violation.
fn run(simulation: &Path, bug: Option<usize>, seeds: u32) -> Option<(u32, String)> {
    let mut command = Command::new(simulation);
    command.args(["some_seeds", "--nocapture"]).env("SIMULATION_SEEDS", seeds.to_string());
    command.env("SIMULATION_BRIEF", "1").env("RUST_BACKTRACE", "0");
    if let Some(bug) = bug {
        command.env("PLEGD_MUTATION", bug.to_string());
    }
    let output = command.output().expect("the simulation");
    if output.status.success() {
        return None;
    }
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().skip_while(|line| !line.starts_with("seed "));
    let seed = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    Some((seed, lines.next().unwrap_or("panicked").chars().take(90).collect()))
}
