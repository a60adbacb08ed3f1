//! `plegd man`: the manual, one page per verb, generated from the description of the command line.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Command;

use crate::print::answer::show;

const EXAMPLES: &str = "\
Examples:
  plegd man | man -l -                               the page plegd(1)
  plegd man --dir /usr/local/share/man/man1          all pages
  plegd man --dir . && man ./plegd-run.1";

/// Flags of `plegd man`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Directory to write all pages to; created if it does not exist [default: print plegd(1) to stdout]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

struct Page {
    /// The file's name.
    name: String,
    /// The text in roff.
    text: String,
}

/// Prints the first page on stdout, or writes all pages into a directory.
pub(super) fn print(args: &Args, command: Command) -> anyhow::Result<()> {
    let pages = pages(command)?;
    match &args.dir {
        Some(dir) => write(&pages, dir),
        None => Ok(pages.first().map_or(Ok(()), |page| show(&page.text))?),
    }
}

fn write(pages: &[Page], dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create the directory {}", dir.display()))?;
    for page in pages {
        let path = dir.join(&page.name);
        fs::write(&path, &page.text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut out = io::stdout().lock();
    Ok(writeln!(out, "Wrote {} pages to {}", pages.len(), dir.display())?)
}

/// The page of `plegd` and the pages of all its verbs.
fn pages(mut command: Command) -> io::Result<Vec<Page>> {
    command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let mut left = vec![command];
    while let Some(command) = left.pop() {
        let man = clap_mangen::Man::new(command.clone());
        let mut text = Vec::new();
        man.render(&mut text)?;
        let text = keep_lines(&String::from_utf8_lossy(&text));
        pages.push(Page { name: man.get_filename(), text });
        left.extend(command.get_subcommands().cloned());
    }
    Ok(pages)
}

/// Keeps the line breaks of examples, which roff would otherwise fill.
fn keep_lines(page: &str) -> String {
    page.replacen(".SH EXTRA\n", ".SH NOTES\n.nf\n", 1)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_verb_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("man1");
        write(&pages(Cli::command()).unwrap(), &dir).unwrap();
        for verb in Cli::command().get_subcommands() {
            let page = fs::read_to_string(dir.join(format!("plegd-{}.1", verb.get_name()))).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{page}");
        }
        assert!(dir.join("plegd.1").exists());
        assert!(dir.join("plegd-subscribers-disconnect.1").exists());
    }

    #[test]
    fn the_first_page_is_that_of_plegd() {
        let pages = pages(Cli::command()).unwrap();
        assert_eq!(pages[0].name, "plegd.1");
        assert!(pages[0].text.contains("Examples:\n"), "{}", pages[0].text);
    }
}
