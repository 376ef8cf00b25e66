//! A process: from a configuration to a serving node, and to a quiet end.
//!
//! The end has an order. First leadership is handed over, while everything else goes on; then no more connections are
//! accepted and the requests in flight end; then consensus stops. A client that is told to try again finds the new
//! leader at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mesto_raft::{
    Address, Blocking, ClusterKey, HttpTransport, Node, NodeParts, StorageId, Tuning, serve_peers,
};
use mesto_storage::{DataDir, DataDirOptions, LogOptions, StateOptions};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::metrics::NodeMetrics;
use super::{BookingApp, ClusterReplica};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, NodeSettings, RaftSettings};
use crate::http;
use crate::service::{Parts, Service, entropy::SystemEntropy, passwords::PasswordCost};

/// How long consensus may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the node's data is sealed.
const SEAL_INTERVAL: Duration = Duration::from_secs(5);

/// Runs node `id` of `config` until it is told to stop, or fails.
///
/// Consensus and peers run on a runtime of their own: a client that asks for much makes other clients wait, but never a
/// heartbeat.
///
/// # Errors
/// What keeps it from starting, or the failure that ended it: a store that can no longer be written is final.
pub async fn serve(config: Config, id: u64, consensus: &Handle) -> anyhow::Result<()> {
    let settings = config
        .node(id)
        .with_context(|| format!("no node {id} is configured"))?
        .clone();
    let folder = config.data_dir(&settings);
    let options = DataDirOptions {
        cache_bytes: config.storage.cache_mb << 20,
        ..DataDirOptions::default()
    };
    let data = DataDir::open(&folder, &options).context("cannot open the node's data")?;
    let data = Arc::new(data);
    let clock = Arc::new(SystemClock);
    let starting = Node::start(parts(&config, id, &data, Arc::clone(&clock))?);
    let node = consensus
        .spawn(starting)
        .await
        .context("starting consensus ended badly")?;
    let node = node.context("cannot start consensus")?;

    let peer_address = settings.peer_listen().clone();
    let peer_listener = consensus.spawn(async move { listen(&peer_address).await });
    let peer_listener = peer_listener
        .await
        .context("listening for peers ended badly")??;
    let client_listener = listen(settings.http_listen()).await?;
    let (stop_peers, peers_stopped) = watch::channel(false);
    let peers = consensus.spawn(serve_peers(
        peer_listener,
        node.receiver(),
        told(peers_stopped),
    ));

    let replica = Arc::new(ClusterReplica::new(node.clone(), founders(&config)));
    let service = Service::new(Parts {
        replica: Arc::clone(&replica) as _,
        clock: clock as _,
        entropy: Arc::new(SystemEntropy),
        limits: config.limits(),
        password_cost: PasswordCost::RECOMMENDED,
        operator_token: Some(config.operator_token()?.expose().to_owned()),
    });
    let mut registry = Registry::default();
    registry.register_collector(Box::new(NodeMetrics::new(node.clone(), data.engine())));
    let router = http::router(Arc::clone(&service), Some(replica), registry);
    let grace = Duration::from_millis(config.http.shutdown_grace_ms);
    let (stop_clients, clients_stopped) = watch::channel(false);
    let clients = tokio::spawn(http::serve(
        client_listener,
        router,
        service,
        told(clients_stopped),
        grace,
    ));
    tracing::info!(node = id, http = %settings.http, peer = %settings.peer, data = %folder.display(), "serving");

    let sealing = tokio::spawn(keep_sealed(Arc::clone(&data)));
    let ended = tokio::select! {
        name = told_by_signal() => { tracing::info!(signal = name?, "stopping"); Ok(()) }
        why = node.failed() => Err(anyhow::anyhow!("consensus has failed and will not go on: {why}")),
    };
    if ended.is_ok() {
        node.step_down().await;
    }
    stop_clients.send_replace(true);
    clients.await.context("the HTTP server ended badly")?;
    if tokio::time::timeout(STOP_TIMEOUT, node.stop())
        .await
        .is_err()
    {
        tracing::warn!("consensus did not stop in time");
    }
    stop_peers.send_replace(true);
    sealing.abort();
    // Peers keep their connections open; there is nothing more to say to them.
    peers.abort();
    tracing::info!(node = id, "stopped");
    ended
}

fn parts(
    config: &Config,
    id: u64,
    data: &DataDir,
    clock: Arc<SystemClock>,
) -> anyhow::Result<NodeParts> {
    let secret = config.cluster_secret()?;
    Ok(NodeParts {
        id,
        storage_id: StorageId(data.storage_id()),
        engine: data.engine(),
        snapshots: data.snapshots(),
        blocking: Blocking::Threads,
        log_options: LogOptions {
            cache_bytes: mib(config.storage.log_cache_mb),
            ..LogOptions::default()
        },
        state_options: StateOptions::default(),
        transport: Arc::new(
            HttpTransport::new().context("cannot set up the HTTP client for peers")?,
        ),
        key: ClusterKey::from_secret(secret.expose().as_bytes()),
        clock: Arc::new(LeaderClock(clock)),
        app: Arc::new(BookingApp),
        tuning: tuning(&config.cluster.name, &config.raft),
    })
}

fn tuning(cluster_name: &str, raft: &RaftSettings) -> Tuning {
    Tuning {
        cluster_name: cluster_name.to_owned(),
        heartbeat_ms: raft.heartbeat_ms,
        election_min_ms: raft.election_min_ms,
        election_max_ms: raft.election_max_ms,
        quorum_loss_probe_ms: raft.quorum_loss_probe_ms,
        append_timeout_ms: raft.append_timeout_ms,
        snapshot_timeout_ms: raft.install_snapshot_timeout_ms,
        max_append_entries: raft.max_append_entries,
        max_append_bytes: usize::try_from(raft.max_append_kb << 10).unwrap_or(usize::MAX),
        snapshot_every_entries: raft.snapshot_every_entries,
        keep_log_entries: raft.keep_log_entries,
        max_waiting_commands: raft.max_inflight_proposals,
        ..Tuning::default()
    }
}

fn founders(config: &Config) -> BTreeMap<u64, Address> {
    let address = |node: &NodeSettings| Address {
        peer: node.peer.to_string(),
        http: node.http.to_string(),
    };
    config
        .nodes
        .iter()
        .map(|node| (node.id, address(node)))
        .collect()
}

fn mib(count: u64) -> usize {
    usize::try_from(count << 20).unwrap_or(usize::MAX)
}

async fn listen(address: &crate::config::Address) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind((address.host(), address.port())).await;
    bound.with_context(|| format!("cannot listen on {address}"))
}

async fn told(mut stop: watch::Receiver<bool>) {
    // A sender that is gone has nothing left to wait for either.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Seals the data again and again, so that a start after a crash can tell a damaged tail from none.
async fn keep_sealed(data: Arc<DataDir>) {
    loop {
        tokio::time::sleep(SEAL_INTERVAL).await;
        let sealed = Arc::clone(&data);
        match tokio::task::spawn_blocking(move || sealed.seal()).await {
            Ok(Ok(())) => {}
            // A store that can no longer be written ends the process; see `Node::failed`. A marker that could not be
            // written, on a full disk for instance, is older than it could be, and is written the next time.
            Ok(Err(error)) => tracing::error!(%error, "the data could not be sealed"),
            Err(error) => tracing::error!(%error, "sealing the data ended badly"),
        }
    }
}

/// Ends with the name of the signal that asks this process to stop.
async fn told_by_signal() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

/// The clock that a leader stamps with.
struct LeaderClock(Arc<SystemClock>);

impl mesto_raft::Clock for LeaderClock {
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }
}
