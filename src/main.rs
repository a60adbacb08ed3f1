//! The `plegd` program. All of it is in the library; see `plegd::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    plegd::cli::main(std::env::args_os())
}
