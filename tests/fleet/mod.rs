//! What lies in `deploy/`, read as those read it who deploy it.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `families` | what `/metrics` prints, as families with labels and their values |
//! | `reference` | the page that says what each means |
//! | `promql` | which metrics and labels an expression reads |
//! | `rules` | the recording and alerting rules |
//! | `dashboard` | the dashboard, and `panels`, what is on it |
//! | `manifests` | Kubernetes objects, as they are written and as tools render them |
//!
//! `UPDATE_DEPLOY=1 cargo test --test deploy` regenerates what is generated in `deploy/`.

// Each user is a crate of its own and uses a part.
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

pub mod dashboard;
pub mod families;
pub mod manifests;
pub mod panels;
pub mod promql;
pub mod reference;
pub mod rules;

use std::{fs, path::PathBuf};

use serde_json::Value;

/// Where a file of the repository is.
pub fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// What is in a file of the repository.
pub fn text(relative: &str) -> String {
    let path = path(relative);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

/// The documents of a YAML text.
pub fn yaml(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("no YAML: {error}\n{text}"))
}

/// Checks a file that `cargo test --test deploy` generates.
pub fn assert_held(relative: &str, expected: &str) {
    assert_generated("deploy", relative, expected);
}

/// Checks that a file has the expected text, or writes it if `UPDATE_<test>` is set.
pub fn assert_generated(test: &str, relative: &str, expected: &str) {
    let path = path(relative);
    let variable = format!("UPDATE_{}", test.to_uppercase());
    let there = fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os(&variable).is_some() && there != expected {
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the folder can be made");
        // At once: another test may be reading it.
        let new = path.with_extension("new");
        fs::write(&new, expected).expect("the file can be written");
        fs::rename(&new, &path).expect("the file can be put in its place");
    }
    assert!(
        text(relative) == expected,
        "{relative} is out of date: regenerate it with {variable}=1 cargo test --test {test}"
    );
}
