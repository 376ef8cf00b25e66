//! The `mesto` command: what operators type.
//!
//! `serve` is a node. `verify` reads the directory of a stopped node. Every other command is a client
//! that speaks the public HTTP API to a running cluster, authenticated by the operator token, so it
//! can do nothing that the API does not offer, and works from any machine that has the token.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed,
//! 2 wrong usage.
//!
//! Deliberately not here: `backup`, `restore` and `recover`. They do not exist yet, and a command
//! that pretends is worse than none.

mod admin;
mod client;
mod cluster;
mod output;
mod serve;
mod status;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

pub(crate) use admin::role_path;
pub use client::{Answer, Client, ClientError, Method};
pub use output::say;

use crate::config::{Address, Config, OPERATOR_TOKEN_VARIABLE, Secret};

/// How long a client command tries, unless told otherwise.
const DEFAULT_TIMEOUT_S: u64 = 15;

/// The command line, parsed.
#[derive(Debug, Parser)]
#[command(
    name = "mesto",
    version,
    about = "Books desks in coworking spaces on a replicated cluster",
    long_about = "Books desks in coworking spaces on a replicated cluster: three or more equal nodes \
                  that agree on every booking, so that a desk is never booked twice, and that keep \
                  serving while one of them is down.",
    after_help = "A cluster on this machine:  scripts/cluster up\n\
                  A node by hand:             mesto serve --config cluster.toml --node 1\n\
                  The first time:             mesto cluster secrets; (start the nodes); mesto cluster init"
)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node until Ctrl-C or SIGTERM
    ///
    /// On a signal the node hands leadership over, finishes the requests in flight, and stops.
    Serve(serve::ServeArgs),
    /// See and change the cluster
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Manage accounts
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Fill an example space and example accounts; doing it twice changes nothing
    ///
    /// Creates the space `nevsky` with two halls and 44 desks, and the accounts admin@example.com
    /// and member@example.com with well-known passwords. Never do this in a cluster that others can
    /// reach.
    Demo(DemoArgs),
    /// Check the data directory of a stopped node
    ///
    /// Reads every record of the log and of the state, compares checksums and the state's digest,
    /// and changes nothing. Exit code 1 where something is wrong.
    Verify(verify::VerifyArgs),
    /// Drive a running cluster with load and report latencies
    ///
    /// Open loop by default: requests start on a schedule, whatever the answers do, and latency is
    /// measured from the moment a request should have started.
    Load(Box<crate::load::LoadArgs>),
}

/// How a client command finds the cluster.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// The configuration that names the nodes and the operator token
    #[arg(
        long,
        value_name = "FILE",
        env = "MESTO_CONFIG",
        default_value = "cluster.toml"
    )]
    pub config: PathBuf,
    /// Ask this node instead of those in the configuration; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Vec<Address>,
    /// How long to try before giving up
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIMEOUT_S, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub timeout_s: u64,
}

impl ClusterArgs {
    /// Reads the configuration.
    pub fn load_config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.config)?)
    }

    /// Where the nodes are: those given by hand, or else those of the configuration.
    pub fn addresses(&self) -> anyhow::Result<Vec<Address>> {
        if self.server.is_empty() {
            Ok(self
                .load_config()?
                .nodes
                .into_iter()
                .map(|node| node.http)
                .collect())
        } else {
            Ok(self.server.clone())
        }
    }

    /// The operator token: from the environment, so that no configuration is needed on a machine
    /// that is none of the nodes, or from the file that the configuration names.
    pub fn operator_token(&self) -> anyhow::Result<Secret> {
        let token = match Secret::from_environment(OPERATOR_TOKEN_VARIABLE)? {
            Some(token) => token,
            None => self
                .load_config()?
                .operator_token()
                .context("operators' commands need the operator token")?,
        };
        Ok(token)
    }

    /// A client that presents the operator token.
    pub fn client(&self) -> anyhow::Result<Client> {
        let client = Client::new(self.addresses()?, Duration::from_secs(self.timeout_s))?;
        Ok(client.with_token(self.operator_token()?.expose()))
    }
}

#[derive(Debug, Args)]
struct DemoArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Parses the arguments of the process, does what they say, and answers the exit code.
pub fn run() -> ExitCode {
    hush_caught_panics();
    let line = CommandLine::parse();
    match execute(line.command) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {}", output::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// A panic over damaged files becomes an error, which tells of it in words; the panic itself is not worth a backtrace.
fn hush_caught_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !mesto_storage::panic_is_caught() {
            usual(panic);
        }
    }));
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Cluster(command) => client_runtime()?.block_on(Box::pin(cluster::run(command))),
        Command::Admin(command) => client_runtime()?.block_on(Box::pin(admin::run(command))),
        Command::Demo(args) => client_runtime()?.block_on(Box::pin(demo(&args))),
        Command::Load(args) => crate::load::run(&args),
    }
}

async fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let client = args.cluster.client()?;
    for line in crate::demo::fill(&client).await? {
        say(&line);
    }
    Ok(ExitCode::SUCCESS)
}

/// One thread is enough for a command that waits for a few answers.
fn client_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
