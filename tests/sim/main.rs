//! The simulator: whole clusters in one process, on simulated time, network, disks and randomness, and everything that
//! can go wrong with them.
//!
//! A seed stands for one run: a cluster of real nodes (consensus, log, state, domain, service layer and HTTP handlers,
//! all as in production), clients that compete for a few desks, an operator, and a director who breaks things. What a
//! run does follows from its seed alone, to the byte; a seed that fails is replayed with one command.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | what a seed stands for: sizes, tunings, faults |
//! | [`world`] | one run, from founding to judgement |
//! | [`machine`], [`disk`], [`clock`] | a node's machine: process, disk, clocks |
//! | [`net`] | the network, over turmoil |
//! | [`faults`] | what goes wrong, and how it is mended |
//! | [`town`], [`clients`], [`operator`], [`front`] | who uses the cluster, and how |
//! | [`watch`], [`ledger`] | what must hold at every moment |
//! | [`finish`], [`audit`], [`checker`] | what must hold at the end |
//! | [`coverage`] | whether it all really happened |
//! | [`bugs`] | planted bugs, each of which must be caught |
//!
//! What is real and what is not: everything above the store, the sockets and the clocks is the product's own code. The
//! store under log and state is its twin in memory, which loses, tears, fails and fills up; connections are datagrams of
//! any length, so the product's HTTP transport between peers, its server for clients and sled are not in here: the
//! chaos tests and the power cuts have them.
//!
//! `cargo test --test sim` runs a quick set; `scripts/simulate --help` tells the rest.

mod audit;
mod bugs;
#[path = "../checker/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod checker;
mod clients;
mod clock;
mod coverage;
mod dice;
mod disk;
mod faults;
mod finish;
mod front;
mod ledger;
mod machine;
mod net;
mod operator;
mod panics;
mod plan;
mod runs;
mod shared;
mod town;
mod trace;
mod watch;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::bugs::Bug;
use crate::plan::Fault;

/// Simulates clusters and all that can go wrong with them.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// Run this seed.
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long, value_name = "COUNT")]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Run seeds for so long.
    #[arg(long)]
    minutes: Option<u64>,
    /// Only these faults, by name, instead of those that each seed draws. `none` for none.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    faults: Option<Vec<String>>,
    /// Seeds at once, each on a thread of its own; 0 for as many as there are cores.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Run each seed twice and compare the traces.
    #[arg(long)]
    twice: bool,
    /// Write the whole trace of a seed into this file, with what the nodes log.
    #[arg(long, value_name = "FILE", requires = "seed")]
    trace: Option<PathBuf>,
    /// Plant this bug.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Plant each bug, and go on until it is caught.
    #[arg(long)]
    bugs: bool,
    #[command(flatten)]
    harness: Harness,
}

/// What `cargo test` may pass to any test binary.
#[derive(Debug, clap::Args)]
struct Harness {
    #[arg(hide = true)]
    filters: Vec<String>,
    #[arg(long, hide = true)]
    list: bool,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(long, hide = true)]
    ignored: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(long, short, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    #[arg(long, hide = true)]
    format: Option<String>,
    #[arg(long, hide = true)]
    color: Option<String>,
    #[arg(long, hide = true)]
    skip: Vec<String>,
}

impl Arguments {
    fn faults(&self) -> Result<Option<Vec<Fault>>, String> {
        let Some(names) = &self.faults else {
            return Ok(None);
        };
        let known = names.iter().filter(|name| *name != "none").map(|name| {
            Fault::named(name).ok_or_else(|| {
                let all: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
                format!("there is no fault {name}; there are: {}", all.join(" "))
            })
        });
        known.collect::<Result<_, _>>().map(Some)
    }

    fn bug(&self) -> Result<Option<Bug>, String> {
        let Some(name) = &self.bug else {
            return Ok(None);
        };
        Bug::named(name).map(Some).ok_or_else(|| {
            let all: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
            format!("there is no bug {name}; there are: {}", all.join(" "))
        })
    }
}

/// Runs are many small allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let asked_for_others = !arguments.harness.filters.is_empty()
        && !arguments
            .harness
            .filters
            .iter()
            .any(|filter| "sim".contains(filter.as_str()));
    if arguments.harness.list || arguments.harness.ignored || asked_for_others {
        return ExitCode::SUCCESS;
    }
    match carry_out(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            runs::say(&format!("simulate: {error}"));
            ExitCode::from(2)
        }
    }
}

fn carry_out(arguments: &Arguments) -> Result<bool, String> {
    let order = runs::Order {
        faults: arguments.faults()?,
        bug: arguments.bug()?,
        jobs: match arguments.jobs {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs,
        },
        twice: arguments.twice,
        trace: arguments.trace.clone(),
    };
    if arguments.bugs {
        return Ok(runs::all_bugs(&order, Bug::ALL));
    }
    if let Some(seed) = arguments.seed {
        return Ok(runs::seeds(&order, seed..seed + 1, None));
    }
    match (arguments.seeds, arguments.minutes) {
        (None, None) => Ok(runs::quick(&order)),
        (count, minutes) => {
            let count = count.unwrap_or(u64::MAX - arguments.from);
            Ok(runs::seeds(
                &order,
                arguments.from..arguments.from + count,
                minutes,
            ))
        }
    }
}
