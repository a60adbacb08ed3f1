//! The files in `deploy/`, parsed like the tools that use them do.
//!
//! | module | contents |
//! | --- | --- |
//! | `families` | the output of `/metrics`, as families with labels and values |
//! | `reference` | the metrics reference |
//! | `promql` | which metrics and labels an expression reads |
//! | `rules` | the recording and alerting rules |
//! | `dashboard` | the dashboard; its panels are in `panels` |
//! | `manifests` | Kubernetes objects, from the files and from the output of tools |
//!
//! `UPDATE_DEPLOY=1 cargo test --test deploy` writes the generated files in `deploy/`.

// Each program that includes this module uses a part of it.
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

/// The path of a file in the repository.
pub fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The text of a file in the repository.
pub fn text(relative: &str) -> String {
    let path = path(relative);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

/// The documents of a YAML text.
pub fn yaml(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("invalid YAML: {error}\n{text}"))
}

/// Checks a file that `cargo test --test deploy` generates.
pub fn assert_current(relative: &str, expected: &str) {
    assert_generated("deploy", relative, expected);
}

/// Checks that a file has the expected text, or writes it if `UPDATE_<test>` is set.
pub fn assert_generated(test: &str, relative: &str, expected: &str) {
    let path = path(relative);
    let variable = format!("UPDATE_{}", test.to_uppercase());
    let current = fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os(&variable).is_some() && current != expected {
        fs::create_dir_all(path.parent().expect("a parent directory")).expect("the directory is created");
        // Atomically, since another test may read it.
        let new = path.with_extension("new");
        fs::write(&new, expected).expect("the file is written");
        fs::rename(&new, &path).expect("the file is renamed");
    }
    assert!(
        text(relative) == expected,
        "{relative} is out of date: regenerate it with {variable}=1 cargo test --test {test}"
    );
}
