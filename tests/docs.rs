//! The documentation matches the program: generated pages are current, links and anchors exist, code is that of the examples,
//! and what a page names (commands, flags, keys, metrics, tests) exists.
//!
//! | module | content |
//! | --- | --- |
//! | `api` | the API reference, from the protos |
//! | `cli` | the command line reference, from the program's own help |
//! | `configuration` | the configuration reference, from the table of keys |
//! | `markdown` | the pages: headings, links, code |
//!
//! `UPDATE_DOCS=1 cargo test --test docs` writes the generated pages.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "docs/api.rs"]
mod api;
#[path = "docs/cli.rs"]
mod cli;
#[path = "docs/configuration.rs"]
mod configuration;
mod fleet;
#[path = "docs/markdown.rs"]
mod markdown;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use fleet::{families, reference};
use markdown::Page;

fn assert_generated(relative: &str, expected: &str) {
    fleet::assert_generated("docs", relative, expected);
}

#[test]
fn the_api_reference_is_generated_from_the_protos() {
    assert_generated("docs/api-reference.md", &api::page());
}

#[test]
fn the_command_line_reference_is_generated_from_the_help() {
    assert_generated("docs/cli-reference.md", &cli::page(&cli::commands()));
}

#[test]
fn the_configuration_reference_is_generated_from_the_keys() {
    assert_generated("docs/configuration.md", &configuration::page());
}

#[test]
fn the_metrics_reference_is_generated_from_the_metrics() {
    let text = plegd::metrics::Metrics::new().scrape().expect("metrics");
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_generated("docs/metrics.md", &reference::page(&families::parse(&text), series));
}

/// The problem of a link, if it has one.
fn broken(page: &Page, link: &str, pages: &BTreeMap<PathBuf, Page>) -> Option<String> {
    if link.starts_with("https://") {
        return None;
    }
    if link.contains("://") {
        return Some("is neither https nor relative".into());
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() { page.path.clone() } else { resolve(&page.path, file) };
    if !fleet::path(&target.display().to_string()).exists() {
        return Some(format!("leads to {}, which does not exist", target.display()));
    }
    let anchor = anchor?;
    match pages.get(&target) {
        None => Some("has an anchor in a file that is not a page".into()),
        Some(page) if page.anchors.contains(anchor) => None,
        Some(_) => Some(format!("names the anchor {anchor}, which {} does not have", target.display())),
    }
}

/// The file that a relative link of `page` names.
fn resolve(page: &Path, file: &str) -> PathBuf {
    let mut target = PathBuf::new();
    for component in page.parent().into_iter().flat_map(Path::components).chain(Path::new(file).components())
    {
        match component {
            Component::ParentDir => {
                target.pop();
            }
            Component::Normal(name) => target.push(name),
            _ => {}
        }
    }
    target
}

fn by_path() -> BTreeMap<PathBuf, Page> {
    markdown::pages().into_iter().map(|page| (page.path.clone(), page)).collect()
}

#[test]
fn every_link_and_anchor_exists() {
    let pages = by_path();
    assert!(pages.len() > 20, "{} pages", pages.len());
    let mut wrong = Vec::new();
    for page in pages.values() {
        for link in &page.links {
            if let Some(problem) = broken(page, link, &pages) {
                wrong.push(format!("{}: {link} {problem}", page.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn broken_links_are_found() {
    let pages: BTreeMap<PathBuf, Page> =
        [("docs/a.md", "# A b\n## C `d`, e\n## C d e\n"), ("b.md", "[x](docs/a.md)")]
            .into_iter()
            .map(|(path, text)| (path.into(), Page::parse(path.into(), text)))
            .collect();
    let page = &pages[Path::new("b.md")];
    assert_eq!(page.links, ["docs/a.md"]);
    for link in ["README.md", "#nothing", "http://example.org", "README.md#x", "docs/a.md#a-b", "nowhere.md"]
    {
        let expected = ["README.md", "docs/a.md#a-b"].contains(&link);
        // `docs/a.md` does not exist in the repository.
        let found =
            broken(page, link, &pages).filter(|problem| !problem.contains("docs/a.md, which does not"));
        assert_eq!(found.is_none(), expected, "{link}: {found:?}");
    }
    let anchors = &pages[Path::new("docs/a.md")].anchors;
    assert_eq!(anchors.iter().map(String::as_str).collect::<Vec<_>>(), ["a-b", "c-d-e", "c-d-e-1"]);
}

#[test]
fn the_readme_links_to_every_page_of_the_documentation() {
    let pages = by_path();
    let readme = &pages[Path::new("README.md")];
    let linked: BTreeSet<PathBuf> =
        readme.links.iter().map(|link| link.split('#').next().unwrap_or_default().into()).collect();
    let missing: Vec<_> =
        pages.keys().filter(|path| path.starts_with("docs") && !linked.contains(*path)).collect();
    assert!(missing.is_empty(), "not linked from README.md: {missing:?}");
}

#[test]
fn the_readme_is_short_and_has_the_first_commands() {
    let readme = fleet::text("README.md");
    let lines = readme.lines().count();
    assert!(lines <= 160, "README.md has {lines} lines: move details to docs/");
    for command in ["$ cargo run --release -- demo", "$ cargo test"] {
        assert!(readme.lines().any(|line| line == command), "README.md has no line {command}");
    }
}

#[test]
fn code_of_agents_is_that_of_the_examples() {
    let examples: BTreeMap<&str, String> =
        [("rust", "first_agent.rs"), ("python", "python/first_agent.py"), ("go", "go/main.go")]
            .into_iter()
            .map(|(language, file)| (language, fleet::text(&format!("examples/{file}"))))
            .collect();
    let pages = by_path();
    let blocks = |path: &str, language: &str| -> Vec<String> {
        let of_language = pages[Path::new(path)].blocks.iter().filter(|block| block.language == language);
        of_language.map(|block| block.text.clone()).collect()
    };
    for (language, example) in &examples {
        assert!(
            blocks("docs/agents.md", language).contains(example),
            "docs/agents.md does not have the whole example in {language}"
        );
        let example = unindented(example);
        let excerpts = blocks("README.md", language);
        assert!(!excerpts.is_empty(), "README.md has no {language}");
        for excerpt in excerpts {
            let excerpt = unindented(&excerpt);
            assert!(
                example.contains(&excerpt),
                "the {language} code of README.md is not in the example:\n{excerpt}"
            );
        }
    }
}

/// The lines without their indentation.
fn unindented(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_start())).collect()
}

#[test]
fn commands_and_flags_in_the_documentation_exist() {
    let commands = cli::commands();
    let mut checked = 0;
    let mut wrong = Vec::new();
    for page in markdown::pages() {
        for line in page.code() {
            for words in cli::invocations(&line) {
                checked += 1;
                if let Some(problem) = cli::problem(&commands, &words) {
                    wrong.push(format!("{}: `{line}`: {problem}", page.path.display()));
                }
            }
        }
    }
    assert!(checked > 50, "only {checked} commands");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn commands_that_do_not_exist_are_found() {
    let commands = cli::commands();
    for (line, right) in [
        ("$ plegd watch --types all -o json | jq .", true),
        ("# plegd run --print table", true),
        ("$ plegd config check --config FILE && true", true),
        ("$ plegd wach", false),
        ("$ plegd watch --tipes all", false),
        ("$ cargo run --release -- demo --speed 2", false),
    ] {
        let invocations = cli::invocations(line);
        assert_eq!(invocations.len(), 1, "{line}");
        assert_eq!(cli::problem(&commands, &invocations[0]).is_none(), right, "{line}");
    }
}

#[test]
fn tests_benches_and_examples_in_the_documentation_exist() {
    let mut checked = 0;
    for page in markdown::pages() {
        for line in page.code() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                let directory = match pair[0] {
                    "--test" => "tests",
                    "--bench" => "benches",
                    "--example" => "examples",
                    _ => continue,
                };
                let name = pair[1];
                if !name.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit()) {
                    continue;
                }
                // The fuzz crate has its own examples.
                let exists = ["", "fuzz/"].iter().any(|root| {
                    let path = |end: &str| fleet::path(&format!("{root}{directory}/{name}{end}"));
                    path(".rs").exists() || path("/main.rs").exists()
                });
                assert!(exists, "{}: {line}: no {name} in {directory}", page.path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "only {checked} names");
}

#[test]
fn files_in_the_documentation_exist() {
    let mut checked = 0;
    for page in markdown::pages() {
        let directory = page.path.parent().unwrap_or(Path::new(""));
        for code in &page.inline {
            let roots =
                ["src/", "tests/", "benches/", "deploy/", "docs/", "proto/", "examples/", "fuzz/", ".ci/"];
            let is_path = roots.iter().any(|start| code.starts_with(start));
            if !is_path || code.contains([' ', '*', '<', '…']) {
                continue;
            }
            let path = code.split('#').next().unwrap_or_default();
            // Directories that fuzzing creates.
            let is_generated = path.starts_with("fuzz/corpus") || path.starts_with("fuzz/artifacts");
            let exists = [Path::new(""), directory]
                .iter()
                .any(|base| fleet::path(&base.join(path).display().to_string()).exists());
            assert!(exists || is_generated, "{}: there is no {path}", page.path.display());
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} paths");
}

#[test]
fn keys_and_metrics_in_the_documentation_exist() {
    let keys: BTreeSet<String> = plegd::config::KEYS.iter().map(plegd::config::Key::path).collect();
    let families = families::of_the_program();
    let (mut found_keys, mut found_metrics) = (0, 0);
    for page in markdown::pages() {
        for code in &page.inline {
            let path = page.path.display();
            let name = code.split([' ', '=', '{']).next().unwrap_or_default();
            let is_key = name
                .split_once('.')
                .is_some_and(|(section, _)| plegd::config::SECTIONS.iter().any(|it| it.name == section));
            if is_key && !name.contains('/') && !name.contains(['*', ':', '(']) && !name.ends_with(".rs") {
                assert!(keys.contains(name), "{path}: unknown key {name}");
                found_keys += 1;
            }
            if name.starts_with("plegd_") {
                assert!(families::family_of(&families, name).is_some(), "{path}: there is no metric {name}");
                found_metrics += 1;
            }
        }
    }
    assert!(found_keys > 30 && found_metrics > 30, "{found_keys} keys, {found_metrics} metrics");
}

#[test]
fn the_compatibility_table_has_every_quirk() {
    let source = fleet::text("src/cri/quirks.rs");
    let quirks: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Quirk::")?.split_once(" => \"")?.1.strip_suffix("\","))
        .filter(|name| name.chars().all(|c| c == '-' || c.is_ascii_lowercase()))
        .collect();
    assert!(quirks.len() > 10, "{quirks:?}");
    let page = fleet::text("docs/compatibility.md");
    let rows: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let missing: Vec<_> = quirks.difference(&rows).collect();
    assert!(missing.is_empty(), "docs/compatibility.md lacks {missing:?}");
}
