//! Chaos on real processes: real nodes, a real store, real sockets, and whatever can go wrong with them.
//!
//! ```text
//! scripts/chaos --seed S --minutes M [--faults kill-leader,lossy,…] [--plant stale-reads]
//! scripts/chaos --check artifacts/chaos/seed-7/history-0.txt
//! ```
//!
//! A run goes through epochs of two minutes. In each, clients book on a day of its own while one fault after
//! another is injected and healed ([`faults`]); at its end everything is healed and read once more through every
//! node, replicas are compared, and the epoch's history is checked while the next epoch runs ([`judge`]). The seed decides
//! the schedule of faults and what clients ask; how these meet is up to real time, so a replay is alike but not the same.
//!
//! A run fails if a history is not linearizable (or not checked to its end), if an acknowledged booking is lost, if a
//! minority acknowledges or answers, if replicas differ, if a node ends or is let in when it must not, if the cluster
//! does not recover in time, if an answer is none of the documented ones, if too little was served in time or some kind of
//! operation hardly ever succeeded, or if a chosen fault never came. It leaves the history, the logs of the nodes and a report.
//!
//! Without arguments, as `cargo test` runs it, it takes some twenty seconds with faults that need nothing special.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report is what this is for"
)]

mod api;
#[path = "../checker/mod.rs"]
mod checker;
mod faults;
mod judge;
mod load;
mod nodes;
mod plant;
mod probe;
mod proxy;
mod random;
mod recorder;
mod report;
mod run;
mod stalls;
mod stats;
mod svg;
mod timeline;
mod tools;
mod who;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum as _};

use faults::Fault;
use plant::Plant;

#[derive(Debug, Parser)]
#[command(
    name = "chaos",
    about = "Breaks a real cluster in every way and checks what its clients saw"
)]
pub(crate) struct Options {
    /// Decides the schedule of faults and what clients ask
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long; without it some twenty seconds, with faults that need nothing special
    #[arg(long)]
    minutes: Option<f64>,
    /// Only these faults; all of them if left out
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=7))]
    nodes: u64,
    /// How many clients
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(2..=500))]
    clients: u64,
    /// The mean pause of a client between two operations
    #[arg(long, default_value_t = 100)]
    think_ms: u64,
    /// Plant a bug, which must be found
    #[arg(long)]
    plant: Option<Plant>,
    /// Fail if fewer operations than this, in percent, are served within 2 s while one node at a time fails
    #[arg(long, default_value_t = 95.0)]
    least_available: f64,
    /// Where reports, and what is left of a failure, are kept
    #[arg(long, default_value = "artifacts/chaos")]
    out: PathBuf,
    /// Check a history that was kept, and do nothing else
    #[arg(long)]
    check: Option<PathBuf>,
    /// Fail if a fault cannot be had here, instead of leaving it out
    #[arg(long)]
    strict: bool,
}

impl Options {
    /// The command that does this again.
    fn replay(&self) -> String {
        let mut words = format!("scripts/chaos --seed {}", self.seed);
        if let Some(minutes) = self.minutes {
            words += &format!(" --minutes {minutes}");
        }
        if !self.faults.is_empty() {
            let names: Vec<String> = self.faults.iter().map(|fault| fault.name()).collect();
            words += &format!(" --faults {}", names.join(","));
        }
        if let Some(plant) = self.plant {
            words += &format!(
                " --plant {}",
                plant
                    .to_possible_value()
                    .expect("none is hidden")
                    .get_name()
            );
        }
        words
            + &format!(
                " --nodes {} --clients {} --think-ms {}",
                self.nodes, self.clients, self.think_ms
            )
    }
}

fn main() -> ExitCode {
    // `cargo test` may pass words that are meant for the usual harness; a name that this is not means: not this.
    let words: Vec<String> = std::env::args().collect();
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse_from(words.into_iter().filter(|word| word != "--nocapture"));
    let outcome = match &options.check {
        Some(file) => check(file),
        None => run::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(file: &std::path::Path) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(file)?;
    let history = checker::text::read(&text).map_err(anyhow::Error::msg)?;
    let verdict = checker::check(&history, checker::BUDGET);
    println!("{verdict}");
    Ok(verdict.is_linearizable())
}
