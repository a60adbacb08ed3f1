//! Compares the tables in `tests/README.md` with the tests in the sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The words between backquotes that look like the name of a test: lower case, with at least four parts.
fn named(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let like_a_test = |word: &&str| {
        word.split('_').count() > 3
            && word.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    quoted.filter(like_a_test).map(str::to_owned).collect()
}

/// The tests of a file: the functions after an attribute `test`.
fn tests_of(source: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut attributed = false;
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            attributed = true;
        } else if attributed && let Some((_, rest)) = line.split_once("fn ") {
            tests.insert(rest.split(['(', '<']).next().unwrap_or_default().to_owned());
            attributed = false;
        }
    }
    tests
}

fn sources(dir: &Path, found: &mut BTreeMap<String, BTreeSet<String>>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            found.insert(path.display().to_string(), tests_of(&text));
        }
    }
}

fn all_tests() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    for dir in ["src", "tests"] {
        sources(&root.join(dir), &mut found);
    }
    found
}

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md")).expect("the README")
}

#[test]
fn every_test_that_the_tables_name_exists() {
    let tests: BTreeSet<String> = all_tests().into_values().flatten().collect();
    let named = named(&readme());
    assert!(named.len() > 100, "the tables name {} tests", named.len());
    let missing: Vec<_> = named.difference(&tests).collect();
    assert!(missing.is_empty(), "in the tables, but in no source: {missing:#?}");
}

#[test]
fn every_test_of_an_upstream_case_is_in_the_tables() {
    let named = named(&readme());
    let owned = |path: &str| path.contains("tests/conformance/") || path.contains("tests/known_failures/");
    let of_owned = all_tests().into_iter().filter(|(path, _)| owned(path) && !path.ends_with("written.rs"));
    let unnamed: Vec<_> =
        of_owned.flat_map(|(_, tests)| tests).filter(|test| !named.contains(test)).collect();
    assert!(unnamed.is_empty(), "in the sources, but in no table: {unnamed:#?}");
}

#[test]
fn every_file_of_tests_is_in_the_readme() {
    let dir = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).expect("a directory");
    let names = dir.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let readme = readme();
    let is_in = |name: &str| ["", ".rs", "/"].iter().any(|end| readme.contains(&format!("`{name}{end}`")));
    let missing: Vec<String> = names.filter(|name| name != "README.md" && !is_in(name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn only_functions_with_the_attribute_are_tests() {
    let source =
        "#[test]\nfn it_is_a_test() {}\nfn it_is_a_helper() {}\n#[tokio::test]\nasync fn so_is_this_one() {}";
    assert_eq!(tests_of(source), BTreeSet::from(["it_is_a_test".to_owned(), "so_is_this_one".to_owned()]));
    assert_eq!(
        named("`a_name_of_four` and `Harness` and `not_long` and `NOT_A_LONG_NAME`"),
        BTreeSet::from(["a_name_of_four".to_owned()])
    );
}
