//! The binary `postern`: CLI and background agent.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_agent::cli::main()
}
