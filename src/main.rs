//! The `mesto` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesto::cli::run()
}
