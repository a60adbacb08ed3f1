//! The `plegd` program; see `plegd::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    plegd::main(std::env::args_os())
}
