//! `plegd log-level`: the log level of a running plegd.

use super::{connection::Connection, introspect::Introspect};
use crate::config::{Filter, Value};
use crate::print::answer::show;

const EXAMPLES: &str = "\
Examples:
  plegd log-level                                    show the configured level
  plegd log-level debug
  plegd log-level info,plegd::relister=trace
  plegd log-level info                               restore the default

A change applies until the next change, until a reload of the configuration with another
log.level, or until plegd stops. At the start, plegd uses the key log.level.";

/// Flags of `plegd log-level`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The connection to the running plegd.
    #[command(flatten)]
    pub connection: Connection,
    /// Log level: off, error, warn, info, debug or trace, for all or by module: info,plegd::relister=debug
    #[arg(value_name = "LEVEL", value_parser = <Filter as Value>::parse)]
    pub level: Option<Filter>,
}

/// Changes the log level, or prints the configured one.
///
/// # Errors
///
/// If plegd cannot be reached or does not answer.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let introspect = Introspect::over(&args.connection.client().await?);
    let answer = match args.level {
        Some(level) => {
            let level = level.text();
            let previous = introspect.set_log_level(&level).await?;
            format!("{level} (was {previous})\n")
        }
        None => format!("{}\n", configured(&introspect.config().await?.toml)),
    };
    Ok(show(&answer)?)
}

/// The level in a configuration file; plegd's default if the file has none.
fn configured(file: &str) -> String {
    let level = file.parse::<toml::Table>().ok().and_then(|file| {
        let level = file.get("log")?.get("level")?.as_str()?;
        Some(level.to_owned())
    });
    level.unwrap_or_else(|| Filter::info().text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_found_in_the_configuration() {
        assert_eq!(
            configured("[log]\nlevel = \"info,plegd::relister=debug\"\n"),
            "info,plegd::relister=debug"
        );
        for without in ["", "[log]\nformat = \"json\"\n", "no configuration"] {
            assert_eq!(configured(without), "info", "{without}");
        }
    }
}
