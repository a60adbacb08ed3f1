//! The `plegd` program. All of it is in the library; see its module `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    plegd::main(std::env::args_os())
}
