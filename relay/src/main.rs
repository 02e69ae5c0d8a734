//! The program `postern-relay`.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_relay::cli::main()
}
