//! The files of the page: written by hand, compiled into the binary, and without external resources.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! file {
    ($name:literal, $kind:expr) => {
        File { path: concat!("/page/", $name), kind: $kind, text: include_str!($name) }
    };
}

/// The document at `/`.
pub(super) const DOCUMENT: File = file!("index.html", "text/html; charset=utf-8");

/// The files that the document loads.
pub(super) const ALL: &[File] = &[
    file!("page.css", "text/css; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("app.js", SCRIPT),
    file!("source.js", SCRIPT),
    file!("words.js", SCRIPT),
    file!("charts.js", SCRIPT),
    file!("paths.js", SCRIPT),
    file!("pods.js", SCRIPT),
    file!("events.js", SCRIPT),
];

impl IntoResponse for File {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, self.kind)], self.text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size limit of all files together, in bytes. It keeps their share of the binary small.
    const MAX_BYTES: usize = 96 * 1024;

    #[test]
    fn the_page_is_small_and_complete_and_loads_nothing_from_elsewhere() {
        let files = || ALL.iter().chain([&DOCUMENT]);
        let bytes: usize = files().map(|file| file.text.len()).sum();
        assert!(bytes < MAX_BYTES, "{bytes} bytes");
        for file in files() {
            let elsewhere = file.text.replace("http://www.w3.org/", "");
            assert!(!elsewhere.contains("//cdn") && !elsewhere.contains("https://"), "{}", file.path);
            // The content security policy blocks these without a visible error.
            for forbidden in [" style=\"", " onclick=", "innerHTML", "eval(", "<style"] {
                assert!(!file.text.contains(forbidden), "{} has {forbidden:?}", file.path);
            }
        }
        // The document or a script refers to each file.
        for file in ALL {
            let name = file.path.trim_start_matches("/page/");
            let by = |by: &File| by.path != file.path && by.text.contains(name);
            assert!(files().any(by), "no file loads {name}");
        }
        for script in ALL.iter().filter(|file| file.kind == SCRIPT) {
            for import in script.text.split("from \"./").skip(1) {
                let name = import.split('"').next().unwrap();
                assert!(ALL.iter().any(|file| file.path == format!("/page/{name}")), "{name} does not exist");
            }
        }
    }
}
