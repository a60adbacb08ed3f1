//! `plegd version`: version and build information.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::version::{REVISION, RUSTC, TARGET, VERSION};

/// Flags of `plegd version`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
    revision: Option<&'static str>,
    rustc: &'static str,
    target: &'static str,
}

pub(super) fn print(args: &Args) -> anyhow::Result<()> {
    let version =
        Version { name: "plegd", version: VERSION, revision: REVISION, rustc: RUSTC, target: TARGET };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&version)?)?;
    } else {
        writeln!(out, "{} {}", version.name, version.version)?;
        writeln!(out, "revision  {}", version.revision.unwrap_or("unknown"))?;
        writeln!(out, "rustc     {}", version.rustc)?;
        writeln!(out, "target    {}", version.target)?;
    }
    Ok(())
}
