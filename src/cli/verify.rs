//! `mesto verify`: is the data of a stopped node whole?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::say;

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The data directory of the node, such as data/node-1
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let directory = &args.directory;
    let report = mesto_storage::verify(directory)
        .with_context(|| format!("cannot check {}", directory.display()))?;
    say(&report.to_string());
    if report.is_sound() {
        Ok(ExitCode::SUCCESS)
    } else {
        say("do not start this node: replace it with a new one");
        Ok(ExitCode::FAILURE)
    }
}
