//! Real nodes on real disks that lose power or are damaged: `scripts/power-cuts` runs this.
//!
//! What the operating system does between two steps is not decided by the seed, so a replay makes the same plan and not
//! the same microseconds; a plan that failed once is worth some replays.
//!
//! Without arguments, as `cargo test` calls it, only the checks check themselves: the rest needs a release build, and
//! the cuts need root.

#![expect(
    clippy::print_stdout,
    reason = "what a run does is shown where it is run"
)]

mod cuts;
mod damage;
mod dice;
mod disk;
mod ledger;
mod load;
mod nodes;

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use dice::Dice;
use disk::Disk;

/// The exit code of what could not run here.
const SKIPPED: u8 = 77;

const USAGE: &str = "\
--cuts N      make N power cuts, on file systems of their own (needs root)
--damages N   damage the files of a stopped node N times
--lie         make every sync a lie, and demand that the cuts find it
--seed S      plan another run; otherwise it is drawn
--keep        keep the files of a failed run";

#[derive(Debug, Default)]
struct Options {
    cuts: usize,
    damages: usize,
    lie: bool,
    seed: Option<u64>,
    keep: bool,
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error:#}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    ledger::check_yourself();
    println!("the ledger finds each contradiction that was planted in it");
    if options.cuts == 0 && options.damages == 0 {
        println!("scripts/power-cuts makes power cuts and damages files");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let folder = TempDir::with_prefix("mesto-power-")?;
    let seed = options.seed.unwrap_or_else(drawn_seed);
    println!("seed {seed}");
    let mut skipped = false;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        if options.cuts > 0 {
            match Disk::available(folder.path()) {
                Ok(()) => cuts(options, seed, &folder).await?,
                Err(why) => {
                    println!("SKIPPED: no power can be cut here: {why}");
                    skipped = true;
                }
            }
        }
        if options.damages > 0 {
            damage::run(folder.path(), options.damages, &mut Dice::new(seed)).await?;
        }
        anyhow::Ok(())
    });
    if let Err(error) = result {
        if options.keep {
            println!("the files are kept in {}", folder.keep().display());
        }
        return Err(error.context(format!("replay with: {}", options.replay(seed))));
    }
    Ok(if skipped {
        ExitCode::from(SKIPPED)
    } else {
        ExitCode::SUCCESS
    })
}

async fn cuts(options: &Options, seed: u64, folder: &TempDir) -> anyhow::Result<()> {
    let mut dice = Dice::new(seed);
    if !options.lie {
        return cuts::run(folder.path(), options.cuts, &mut dice, None).await;
    }
    let library = cuts::build_no_sync(folder.path())?;
    match cuts::run(folder.path(), options.cuts, &mut dice, Some(library)).await {
        Ok(()) => bail!(
            "every sync was a lie, and {} cuts did not find it",
            options.cuts
        ),
        Err(error) if error.downcast_ref::<cuts::Finding>().is_some() => {
            println!("every sync was a lie, and the cuts found it: {error:#}");
            Ok(())
        }
        Err(error) => Err(error.context("the cuts could not look")),
    }
}

fn drawn_seed() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::from(since.subsec_nanos()) ^ since.as_secs() << 20
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Options> {
        let mut options = Options::default();
        while let Some(word) = words.next() {
            let mut number = || value(&word, words.next());
            match word.as_str() {
                "--cuts" => options.cuts = usize::try_from(number()?)?,
                "--damages" => options.damages = usize::try_from(number()?)?,
                "--seed" => options.seed = Some(number()?),
                "--lie" => options.lie = true,
                "--keep" => options.keep = true,
                // `cargo test NAME` passes the name to every test binary.
                other if !other.starts_with("--cut") => {}
                other => bail!("{other} is not known"),
            }
        }
        Ok(options)
    }

    fn replay(&self, seed: u64) -> String {
        let mut command = "scripts/power-cuts".to_owned();
        for (name, count) in [("--cuts", self.cuts), ("--damages", self.damages)] {
            if count > 0 {
                command += &format!(" {name} {count}");
            }
        }
        if self.lie {
            command += " --lie";
        }
        format!("{command} --seed {seed}")
    }
}

fn value(name: &str, word: Option<String>) -> anyhow::Result<u64> {
    let word = word.with_context(|| format!("{name} needs a number"))?;
    u64::from_str(&word).with_context(|| format!("{name} needs a number, not {word}"))
}
