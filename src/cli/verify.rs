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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mesto_storage::{DataDir, DataDirOptions};

    use super::*;

    fn verify(directory: &Path) -> anyhow::Result<String> {
        let directory = directory.to_owned();
        run(&VerifyArgs { directory }).map(|code| format!("{code:?}"))
    }

    #[test]
    fn soundness_and_damage_differ_by_the_exit_code() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("node-1");
        assert!(verify(&data).is_err(), "there is nothing to check");
        drop(DataDir::open(&data, &DataDirOptions::default()).expect("a new store"));
        let verdict = verify(&data).expect("it can be checked");
        assert_eq!(verdict, format!("{:?}", ExitCode::SUCCESS));
        damage(&data);
        let verdict = verify(&data).map_err(|error| format!("{error:#}"));
        assert_ne!(verdict, Ok(format!("{:?}", ExitCode::SUCCESS)));
    }

    /// Takes away what the database wrote, and leaves everything else.
    fn damage(data: &Path) {
        for entry in std::fs::read_dir(data).expect("it is readable").flatten() {
            if entry.path().is_dir() {
                std::fs::remove_dir_all(entry.path()).expect("it can be removed");
            }
        }
    }
}
