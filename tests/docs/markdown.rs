//! The pages of the documentation: all Markdown files of the repository.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// One file.
#[derive(Debug)]
pub(crate) struct Page {
    /// Path in the repository.
    pub(crate) path: PathBuf,
    /// Targets of its links and images.
    pub(crate) links: Vec<String>,
    /// Anchors of its headings, as GitHub forms them.
    pub(crate) anchors: BTreeSet<String>,
    /// Fenced blocks.
    pub(crate) blocks: Vec<Block>,
    /// Inline code.
    pub(crate) inline: Vec<String>,
}

/// A fenced block of code.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

/// All pages.
pub(crate) fn pages() -> Vec<Page> {
    let mut paths = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), &mut paths);
    paths.sort();
    let relative = |path: &PathBuf| {
        path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("a path in the repository").to_owned()
    };
    paths
        .iter()
        .map(|path| Page::parse(relative(path), &fs::read_to_string(path).expect("a page can be read")))
        .collect()
}

/// Directories with build output or installed tools, which may contain other projects' pages.
const EXCLUDED: [&str; 4] = ["target", ".git", "corpus", "artifacts"];

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !EXCLUDED.contains(&name.as_str()) {
                collect(&path, paths);
            }
        } else if name.ends_with(".md") {
            paths.push(path);
        }
    }
}

// === impl Page ===

impl Page {
    pub(crate) fn parse(path: PathBuf, text: &str) -> Self {
        let mut page = Self { path, links: vec![], anchors: BTreeSet::new(), blocks: vec![], inline: vec![] };
        let mut headings: BTreeMap<String, usize> = BTreeMap::new();
        let mut block: Option<Block> = None;
        for line in text.lines() {
            if let Some(rest) = line.trim_start().strip_prefix("```") {
                match block.take() {
                    Some(done) => page.blocks.push(done),
                    None => block = Some(Block { language: rest.trim().to_owned(), text: String::new() }),
                }
                continue;
            }
            if let Some(block) = &mut block {
                block.text.push_str(line);
                block.text.push('\n');
                continue;
            }
            let title = line.trim_start_matches('#');
            if title.len() < line.len() && title.starts_with(' ') {
                let anchor = slug(title.trim());
                let times = headings.entry(anchor.clone()).or_insert(0);
                let suffix = if *times == 0 { String::new() } else { format!("-{times}") };
                page.anchors.insert(anchor + &suffix);
                *times += 1;
            }
            page.read_text(line);
        }
        assert!(block.is_none(), "{}: a code block is not closed", page.path.display());
        page
    }

    /// Collects links and inline code of a line. A link in code is not a link.
    fn read_text(&mut self, line: &str) {
        let mut text = String::new();
        for (index, part) in line.split('`').enumerate() {
            if index % 2 == 1 {
                self.inline.push(part.to_owned());
            } else {
                text.push_str(part);
            }
        }
        for part in text.split("](").skip(1) {
            self.links.push(part.split([')', ' ']).next().unwrap_or_default().to_owned());
        }
    }

    /// All code, line by line: console blocks and inline code.
    pub(crate) fn code(&self) -> Vec<String> {
        let blocks = self.blocks.iter().filter(|block| block.language == "console");
        let lines = blocks.flat_map(|block| {
            let joined = block.text.replace("\\\n", " ");
            joined.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        lines.chain(self.inline.iter().cloned()).collect()
    }
}

/// The anchor that GitHub gives a heading.
fn slug(title: &str) -> String {
    let visible: String = match title.split_once("](") {
        // The text of a link counts, but not its target.
        Some((text, rest)) => format!("{text}{}", rest.split_once(')').map_or("", |(_, rest)| rest)),
        None => title.to_owned(),
    };
    let lower = visible.to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
