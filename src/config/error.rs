//! Errors in a configuration. All errors are reported together, with suggestions.

use std::{fmt, path::PathBuf};

/// The errors in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfigError(pub Vec<Problem>);

/// One error in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place of the error.
    pub place: Place,
    /// The error and a hint for its correction: a sentence without the final full stop.
    pub message: String,
}

/// The place at which a value is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The default: no layer sets the key.
    Default,
    /// A file, and the line if it is known.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
    /// The program that embeds plegd.
    Program,
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// The candidate most similar to `word`, if one is similar enough.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stop = if self.message.ends_with('?') { "" } else { "." };
        write!(f, "{}: {}{stop}", self.place, self.message)
    }
}

// === impl Place ===

impl Place {
    /// A sort key: the order of the layers; within a file by line, and within the environment, which has no order, by name.
    pub(super) fn order(&self) -> (u8, usize, &str) {
        match self {
            Place::Default => (0, 0, ""),
            Place::File(_, line) => (1, line.unwrap_or_default(), ""),
            Place::Variable(name) => (2, 0, name),
            Place::Flag(name) => (3, 0, name),
            Place::Program => (4, 0, ""),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Default => f.write_str("default"),
            Place::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Place::File(path, None) => write!(f, "{}", path.display()),
            Place::Variable(name) => write!(f, "environment variable {name}"),
            Place::Flag(name) => write!(f, "flag {name}"),
            Place::Program => f.write_str("program"),
        }
    }
}
