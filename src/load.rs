//! `mesto load`: drives a running cluster, and says how it held.
//!
//! Two ways to send:
//! - **Open loop** (`--rate`): requests start on a schedule, like people who do not know of each
//!   other. Latency counts from the moment a request *should* have started. A server that stalls for
//!   a second therefore shows a second of latency for everything that was due meanwhile; a tool that
//!   waits for an answer before it sends the next would show one slow request and a quiet gap
//!   (Gil Tene's *coordinated omission*).
//! - **Closed loop** (`--clients`): so many clients, each sending its next request when the last was
//!   answered. This finds the throughput; its latencies are those of a saturated system.
//!
//! It works in a space of its own, with users of its own, and makes only requests whose answers it
//! can judge: an unexpected status, or one desk acknowledged to two users for one slot, ends the
//! command with exit code 1. Every write carries an idempotency key, and is sent once more, with the
//! same key to the next node, when a connection breaks or the cluster answers 503.
//!
//! Invariants: bounded in time (`--seconds`), in requests under way (`--max-inflight`), and to
//! loopback addresses unless told otherwise.
//!
//! Deliberately not here: failure injection. This tool sends; something else breaks things.

mod calls;
mod engine;
mod fill;
mod mix;
mod report;
mod schedule;
mod setup;
mod tally;
mod view;
mod work;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};

use crate::cli::ClusterArgs;
use mix::Mix;
use schedule::Arrivals;

/// The longest run.
const MAX_SECONDS: u64 = 24 * 3_600;
/// The most users: each needs its password hashed twice before anything can start.
const MAX_USERS: u64 = 2_000;
/// The most desks of the space under load.
const MAX_DESKS: u64 = 2_000;

/// The options of `mesto load`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How long to send
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS))]
    seconds: u64,
    /// How long to send before anything is counted
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    warmup_s: u64,
    /// Open loop: so many requests start each second, whatever the answers do
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100, conflicts_with = "clients", value_parser = clap::value_parser!(u32).range(1..=200_000))]
    rate: u32,
    /// When requests of the open loop start
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// Closed loop: so many clients, each waiting for its answer before it sends again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: Option<u32>,
    /// How long a client of the closed loop pauses between an answer and its next request, on
    /// average; people read before they click
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    think_ms: u32,
    /// What is sent: weights of availability, book and cancel
    #[arg(
        long,
        value_name = "MIX",
        default_value = "availability=80,book=15,cancel=5"
    )]
    mix: Mix,
    /// Which desks are booked
    #[arg(long, value_enum, default_value_t = Pattern::Spread)]
    pattern: Pattern,
    /// How many users send; they are registered once and used again
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=MAX_USERS))]
    users: u64,
    /// How many desks the space under load has
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=MAX_DESKS))]
    desks: u64,
    /// Instead of sending a mix: import so many bookings, as fast as the cluster takes them
    #[arg(long, value_name = "BOOKINGS", conflicts_with_all = ["rate", "clients"], value_parser = clap::value_parser!(u64).range(1..=20_000_000))]
    fill: Option<u64>,
    /// The most requests under way; the open loop waits (and counts the wait) beyond it
    #[arg(long, value_name = "N", default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    max_inflight: u32,
    /// The seed of every random choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The summary as one JSON object; the live view goes to standard error in any case
    #[arg(long)]
    json: bool,
    /// Do not show progress
    #[arg(long)]
    quiet: bool,
    /// Send to other machines, too; make sure that they are yours
    #[arg(long)]
    allow_remote: bool,
}

/// Which desks are booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Any desk of the space; two users seldom want the same
    Spread,
    /// Each user has a desk of its own: nothing ever conflicts
    Distinct,
    /// Everyone wants the same twenty desks, for a slot that moves on every second
    Hot,
}

/// Runs the load, prints the summary, and answers 1 where something was not as it must be.
pub(crate) fn run(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    let nodes = args.cluster.addresses()?;
    ensure!(!nodes.is_empty(), "there is no node to send to");
    if let Some(remote) = nodes
        .iter()
        .find(|node| !node.is_loopback() && !args.allow_remote)
    {
        anyhow::bail!("{remote} is another machine; say --allow-remote if it is yours to load");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(Box::pin(drive(args)))
}

async fn drive(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    let operator = args.cluster.client()?;
    let stage = setup::prepare(args, &operator).await?;
    let summary = match args.fill {
        Some(bookings) => fill::run(args, &operator, &stage, bookings).await?,
        None => engine::run(args, stage).await?,
    };
    let lines = if args.json {
        vec![summary.to_json().to_string()]
    } else {
        summary.to_lines()
    };
    for line in lines {
        crate::cli::say(&line);
    }
    Ok(if summary.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl LoadArgs {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup_s)
    }
}
