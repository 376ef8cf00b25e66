//! `mesto serve`: from the command line to a running node.
//!
//! Only what belongs to the process is here: arguments, configuration, logging, the runtime. What a
//! node is made of is in `node.rs`.

use std::io::IsTerminal as _;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat, LogSettings};

/// How long what blocks may take to end when the process stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The configuration of the whole cluster
    #[arg(
        long,
        value_name = "FILE",
        env = "MESTO_CONFIG",
        default_value = "cluster.toml"
    )]
    pub(super) config: PathBuf,
    /// Which of its nodes this is
    #[arg(long, value_name = "N", env = "MESTO_NODE")]
    pub(super) node: u64,
}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    anyhow::ensure!(
        config.node(args.node).is_some(),
        "{} names no node {}; it has {}",
        args.config.display(),
        args.node,
        ids(&config)
    );
    start_log(&config.log)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let clients = client_runtime()?;
    let consensus = ConsensusThread::start()?;
    let serving = crate::node::serve(config, args.node, &consensus.handle);
    let ended = clients.block_on(Box::pin(serving));
    // What still blocks then, a snapshot that is being built for instance, is given up.
    clients.shutdown_timeout(SHUTDOWN_TIMEOUT);
    consensus.stop();
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// One core is left to consensus. A thread more than there are cores costs more in wake-ups than it brings: a lone
/// client's booking on three nodes and two cores, p50 0.84 ms with two threads for clients and 0.75 ms with one.
fn client_runtime() -> anyhow::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(cores.saturating_sub(1).max(1));
    let built = builder.enable_all().thread_name("clients").build();
    built.context("cannot start the runtime for clients")
}

/// The one thread that consensus and the peers' server run on.
///
/// Consensus is one sequence of small steps, each of which wakes the next: on one thread that is a push to a queue, on
/// several it is a sleeping thread to wake, some tens of microseconds each. What blocks on the disk has threads of its
/// own.
struct ConsensusThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: std::thread::JoinHandle<()>,
}

impl ConsensusThread {
    fn start() -> anyhow::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder
            .enable_all()
            .thread_name("consensus-blocking")
            .build();
        let runtime = runtime.context("cannot start the runtime for consensus")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("consensus".to_owned())
            .spawn(move || {
                // Told to stop, or abandoned: both end it.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
            });
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: thread.context("cannot start the thread for consensus")?,
        })
    }

    fn stop(mut self) {
        drop(self.stop.take());
        if self.thread.join().is_err() {
            tracing::error!("the thread of consensus panicked");
        }
    }
}

fn ids(config: &Config) -> String {
    let ids: Vec<String> = config
        .nodes
        .iter()
        .map(|node| node.id.to_string())
        .collect();
    ids.join(", ")
}

fn start_log(settings: &LogSettings) -> anyhow::Result<()> {
    // Consensus reports each failed heartbeat to a dead peer; the node itself says once that the peer is down.
    let level = if settings.level.contains("openraft") {
        settings.level.clone()
    } else {
        format!("{},openraft=error", settings.level)
    };
    let filter = EnvFilter::try_new(level).context("log.level cannot be understood")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let started = match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder
            .with_ansi(std::io::stdout().is_terminal())
            .try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}
