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
        .with_context(|| format!("{} is damaged or cannot be read", directory.display()))?;
    say(&format!("{report}"));
    Ok(ExitCode::SUCCESS)
}
