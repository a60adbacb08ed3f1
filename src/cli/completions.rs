//! `plegd completions`: completion scripts for shells.

use clap::Command;
use clap_complete::Shell;

use crate::print::answer::show;

const EXAMPLES: &str = "\
Examples:
  plegd completions bash > /etc/bash_completion.d/plegd
  plegd completions zsh > /usr/local/share/zsh/site-functions/_plegd
  plegd completions fish > ~/.config/fish/completions/plegd.fish
  source <(plegd completions bash)                   for the current shell only";

/// Flags of `plegd completions`.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

pub(super) fn print(args: Args, command: Command) -> anyhow::Result<()> {
    Ok(show(&script(args.shell, command))?)
}

fn script(shell: Shell, mut command: Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "plegd", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_script_of_every_shell_has_every_verb() {
        for shell in Shell::value_variants() {
            let script = script(*shell, Cli::command());
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell} {}", verb.get_name());
            }
            assert!(script.contains("disconnect"), "{shell}");
        }
    }
}
