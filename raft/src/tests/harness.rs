//! Nodes in one process: a network in memory whose links can be cut, disks in memory that survive a node, and a small
//! replicated application.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mesto_storage::{LogOptions, MemoryDisk, StateOptions, Transaction};
use parking_lot::Mutex;

use crate::app::{App, Clock, Stamp};
use crate::machine::Blocking;
use crate::node::{Address, Decided, Node, NodeParts, Tuning};
use crate::transport::{Lane, Receive, Transport, TransportError};
use crate::types::{NodeId, StorageId};
use crate::wire::ClusterKey;

/// A register a key: `key=value` writes and answers `old>new@index`. The same command again answers as the first time,
/// which is what an application must do.
pub(crate) struct Register;

impl App for Register {
    fn apply(&self, transaction: &mut Transaction, stamp: Stamp, command: &[u8]) -> Vec<u8> {
        let answered = [b"answer/", blake3::hash(command).as_bytes().as_slice()].concat();
        if let Some(answer) = transaction.get(&answered) {
            return answer;
        }
        let at = command
            .iter()
            .position(|byte| *byte == b'=')
            .unwrap_or(command.len());
        let (key, value) = command.split_at(at);
        let key = [b"key/", key].concat();
        let old = transaction.get(&key).unwrap_or_default();
        let text = String::from_utf8_lossy(&old).into_owned();
        let answer =
            format!("{text}>{}@{}", String::from_utf8_lossy(value), stamp.index).into_bytes();
        transaction.put(&key, value.to_vec());
        transaction.put(&answered, answer.clone());
        answer
    }
}

/// A wall clock that can be set.
#[derive(Default)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A network in memory. Frames take two milliseconds each way; a link that is cut swallows them.
#[derive(Default)]
pub(crate) struct Wires {
    receivers: Mutex<BTreeMap<String, Arc<dyn Receive>>>,
    cut: Mutex<BTreeSet<(NodeId, String)>>,
    pub(crate) frames: AtomicU64,
}

/// One node's end of the network.
pub(crate) struct End {
    wires: Arc<Wires>,
    from: NodeId,
}

impl Transport for End {
    fn call<'a>(
        &'a self,
        _lane: Lane,
        address: &'a str,
        frame: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes, TransportError>> {
        Box::pin(async move {
            self.wires.frames.fetch_add(1, Ordering::SeqCst);
            let lost = || TransportError::Lost(address.to_owned());
            let travel = async {
                tokio::time::sleep(Duration::from_millis(2)).await;
                if self
                    .wires
                    .cut
                    .lock()
                    .contains(&(self.from, address.to_owned()))
                {
                    std::future::pending::<()>().await;
                }
                let receiver = self.wires.receivers.lock().get(address).cloned();
                let receiver =
                    receiver.ok_or_else(|| TransportError::Unreachable(address.to_owned()))?;
                let answer = receiver.receive(frame).await.ok_or_else(lost)?;
                tokio::time::sleep(Duration::from_millis(2)).await;
                Ok(answer)
            };
            tokio::time::timeout(timeout, travel)
                .await
                .unwrap_or_else(|_| Err(lost()))
        })
    }
}

/// A cluster in one process.
pub(crate) struct Cluster {
    pub(crate) wires: Arc<Wires>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) disks: BTreeMap<NodeId, (MemoryDisk, StorageId)>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) tuning: Tuning,
    pub(crate) layers: StateOptions,
    pub(crate) secret: &'static [u8],
}

pub(crate) fn address(id: NodeId) -> String {
    format!("node-{id}")
}

pub(crate) fn place(id: NodeId) -> Address {
    Address {
        peer: address(id),
        http: format!("http-{id}"),
    }
}

impl Cluster {
    /// No node yet.
    pub(crate) fn empty(tuning: Tuning) -> Self {
        Self {
            wires: Arc::default(),
            clock: Arc::default(),
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            tuning,
            layers: StateOptions::default(),
            secret: b"secret",
        }
    }

    /// A cluster of nodes 1 to `size`, bootstrapped, with a leader.
    pub(crate) async fn new(size: u64, tuning: Tuning) -> Self {
        Self::with_layers(size, tuning, StateOptions::default()).await
    }

    /// The same, with other limits of the state.
    pub(crate) async fn with_layers(size: u64, tuning: Tuning, layers: StateOptions) -> Self {
        let mut cluster = Self::empty(tuning);
        cluster.layers = layers;
        for id in 1..=size {
            cluster.start(id).await;
        }
        let founders = (1..=size).map(|id| (id, place(id))).collect();
        cluster.nodes[&1]
            .initialize(founders)
            .await
            .expect("a first bootstrap");
        cluster.leader().await;
        cluster
    }

    /// Starts node `id` on its disk, a new one where it has none.
    pub(crate) async fn start(&mut self, id: NodeId) -> &Node {
        let (disk, storage_id) = self
            .disks
            .entry(id)
            .or_insert_with(|| (MemoryDisk::new(), StorageId(crate::runtime::random_u128())))
            .clone();
        let parts = NodeParts {
            id,
            storage_id,
            engine: disk.engine(),
            snapshots: disk.snapshots(),
            blocking: Blocking::Inline,
            log_options: LogOptions::default(),
            state_options: self.layers.clone(),
            transport: Arc::new(End {
                wires: Arc::clone(&self.wires),
                from: id,
            }),
            key: ClusterKey::from_secret(self.secret),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            app: Arc::new(Register),
            tuning: self.tuning.clone(),
        };
        let node = Node::start(parts)
            .await
            .expect("a node starts on its own disk");
        self.wires
            .receivers
            .lock()
            .insert(address(id), node.receiver());
        self.nodes.insert(id, node);
        &self.nodes[&id]
    }

    /// Kills node `id`: its tasks end, what it had not flushed stays written, nothing is handed over.
    pub(crate) async fn kill(&mut self, id: NodeId) {
        self.end(id, MemoryDisk::process_crash).await;
    }

    /// Cuts node `id`'s power: of what it had not flushed, only a part that follows from `seed` is there afterwards.
    pub(crate) async fn lose_power(&mut self, id: NodeId, seed: u64) {
        self.end(id, |disk| {
            disk.power_cut(seed);
        })
        .await;
    }

    async fn end(&mut self, id: NodeId, how: impl FnOnce(&MemoryDisk)) {
        self.wires.receivers.lock().remove(&address(id));
        self.cut(id, true);
        let node = self.nodes.remove(&id).expect("it runs");
        how(&self.disks[&id].0);
        node.stop().await;
        self.cut(id, false);
    }

    /// Cuts node `id` off from all others, both ways, or mends that.
    pub(crate) fn cut(&self, id: NodeId, cut: bool) {
        let mut links = self.wires.cut.lock();
        for other in self.disks.keys().filter(|other| **other != id) {
            for link in [(id, address(*other)), (*other, address(id))] {
                if cut {
                    links.insert(link)
                } else {
                    links.remove(&link)
                };
            }
        }
    }

    /// The id of a node that leads and whose leadership a quorum confirms.
    pub(crate) async fn leader(&self) -> NodeId {
        let found = async {
            loop {
                for (id, node) in &self.nodes {
                    let leads = node.status().state == "leader";
                    if leads && node.read_barrier(Duration::from_millis(300)).await.is_ok() {
                        return *id;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found)
            .await
            .expect("a leader is found")
    }

    pub(crate) fn any_but(&self, id: NodeId) -> NodeId {
        *self
            .nodes
            .keys()
            .find(|other| **other != id)
            .expect("another node runs")
    }

    /// Has `command` decided through node `id`.
    pub(crate) async fn propose(&self, id: NodeId, command: &str) -> Decided {
        let command = Bytes::copy_from_slice(command.as_bytes());
        self.nodes[&id]
            .propose(command, Duration::from_secs(10), "test")
            .await
            .expect("it is decided")
    }

    /// The same, owning its command.
    pub(crate) async fn propose_owned(&self, id: NodeId, command: String) -> Decided {
        self.propose(id, &command).await
    }

    /// Waits until all running nodes have applied the same index, and gives their digests.
    pub(crate) async fn converge(&self) -> Vec<(u64, String)> {
        let converged = async {
            loop {
                let seen: Vec<_> = self
                    .nodes
                    .values()
                    .map(super::super::node::Node::status)
                    .map(|status| (status.applied, status.digest))
                    .collect();
                let target = self.nodes.values().map(|node| node.status().last_log).max();
                if seen.iter().all(|(applied, _)| Some(*applied) == target) {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), converged)
            .await
            .expect("the nodes converge")
    }

    /// What node `id` holds under `key`.
    pub(crate) fn value(&self, id: NodeId, key: &str) -> Option<String> {
        let key = format!("key/{key}");
        let stored = self.nodes[&id]
            .state()
            .read(|view| view.get(key.as_bytes()));
        stored
            .expect("the store reads")
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}
