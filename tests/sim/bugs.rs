//! Planted bugs: what a check is worth is what it catches.
//!
//! Each bug is planted from outside, where the simulation hands a node its disk, its application or its replica; only
//! two are switches in the product, since nothing outside can make a leader restore itself, or the log's writer do
//! things in another order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mesto::booking::command::{Command, DedupKey, Envelope};
use mesto::booking::{self, Instant, Order, Pair, Store, StoreMut};
use mesto::replica::{ClusterView, Decided, ProposeError, ReadError, Replica, Viewed};
use mesto_raft::{App, Clock, NodeId, Stamp};
use mesto_storage::{
    Batch, Engine, EngineStats, MemoryDisk, StorageError, Transaction, Tree, Value,
};

use crate::clock::WallClock;
use crate::front::Request;
use crate::plan::Fault;

macro_rules! bugs {
    ($($name:ident = $text:literal, $seeds:literal, [$($fault:ident),*], $what:literal;)*) => {
        /// A bug that a run is to catch.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Bug { $($name,)* }

        impl Bug {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name on the command line.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What is wrong.
            pub(crate) fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }

            /// Within how many seeds it must be caught.
            pub(crate) fn seeds(self) -> u64 {
                match self { $(Self::$name => $seeds,)* }
            }

            /// The faults that bring it out.
            pub(crate) fn faults(self) -> &'static [Fault] {
                match self { $(Self::$name => &[$(Fault::$fault,)*],)* }
            }
        }
    };
}

bugs! {
    FlushSkipped = "flush-skipped", 20, [PowerCut, PowerCutAll, Crash], "flushes answer without making anything durable";
    AnsweredBeforeFlush = "answered-before-flush", 40, [PowerCut, PowerCutAll, Crash], "the log answers before it flushes";
    VoteForgotten = "vote-forgotten", 20, [Crash, CrashAll, PowerCut, PartitionLeader], "a vote is never written to the disk";
    LeaderRestore = "leader-restore", 300, [PowerCut, PowerCutAll, SlowLink, Hold, PartitionOneWay], "a restarted leader goes on leading its term";
    PurgeTooFar = "purge-too-far", 20, [Crash, CrashAll, PowerCut, LongOutage], "a purge of the log removes one chunk more than it may";
    SnapshotWithoutSessions = "snapshot-without-sessions", 40, [LongOutage, Crash, PowerCut, PartitionMinority], "an image of the state leaves the sessions out";
    DedupForgotten = "dedup-forgotten", 20, [Loss, Crash, PartitionLeader, PauseLeader], "a command that comes again is decided again";
    OwnClock = "own-clock", 10, [ClockSkew, ClockJump], "apply reads the clock of its own node";
    EntrySkipped = "entry-skipped", 10, [Crash, Transfer], "node 2 leaves an entry out now and then";
    ConflictCheckOff = "conflict-check-off", 10, [Crash], "one desk can be booked twice";
    StaleRead = "stale-read", 20, [PartitionOne, PartitionLeader, PauseLeader, SlowLink], "linearizable reads are answered without a barrier";
    MinIndexIgnored = "min-index-ignored", 20, [PartitionOne, SlowLink, Pause], "a node does not wait for the index that it is asked for";
    StalenessDenied = "staleness-denied", 20, [PartitionOne, PartitionOneWay, LongOutage], "a node says that its state is fresh, whatever it is";
    AcknowledgedEarly = "acknowledged-early", 10, [Crash, PartitionLeader], "a write is answered before it is committed";
    UnknownDenied = "unknown-denied", 40, [Crash, PowerCut, PartitionLeader, PauseLeader, Loss], "an unknown outcome is called not applied";
}

impl Bug {
    /// The bug of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }

    /// Plants it in a disk.
    pub(crate) fn prepare(self, disk: &MemoryDisk) {
        if self == Self::FlushSkipped {
            disk.lie_about_flushes(true);
        }
    }

    /// Plants it between a node and its disk.
    pub(crate) fn engine(self, engine: Arc<dyn Engine>) -> Arc<dyn Engine> {
        match self {
            Self::VoteForgotten | Self::PurgeTooFar | Self::SnapshotWithoutSessions => {
                Arc::new(BadEngine { engine, bug: self })
            }
            _ => engine,
        }
    }

    /// Plants it in the application.
    pub(crate) fn app(self, app: Arc<dyn App>, node: NodeId, clock: WallClock) -> Arc<dyn App> {
        match self {
            Self::DedupForgotten | Self::OwnClock | Self::EntrySkipped | Self::ConflictCheckOff => {
                Arc::new(BadApp {
                    app,
                    bug: self,
                    node,
                    clock,
                })
            }
            _ => app,
        }
    }

    /// Plants it between a client and a node.
    pub(crate) fn request(self, request: Arc<Request>) -> Arc<Request> {
        if self != Self::MinIndexIgnored {
            return request;
        }
        Arc::new(Request {
            min_index: None,
            ..(*request).clone()
        })
    }

    /// Plants it between a node and the service on it.
    pub(crate) fn replica(self, replica: Arc<dyn Replica>) -> Arc<dyn Replica> {
        match self {
            Self::StaleRead
            | Self::StalenessDenied
            | Self::AcknowledgedEarly
            | Self::UnknownDenied => Arc::new(BadReplica { replica, bug: self }),
            _ => replica,
        }
    }
}

struct BadEngine {
    engine: Arc<dyn Engine>,
    bug: Bug,
}

impl Engine for BadEngine {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.engine.get(tree, key)
    }

    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        order: mesto_storage::Order,
        limit: usize,
    ) -> Result<Vec<mesto_storage::Pair>, StorageError> {
        let mut pairs = self.engine.scan(tree, from, to, order, limit)?;
        if self.bug == Bug::SnapshotWithoutSessions && tree == Tree::State {
            // A session's key: the generation, then its kind.
            pairs.retain(|(key, _)| key.get(1) != Some(&0x04));
        }
        Ok(pairs)
    }

    fn insert(&self, tree: Tree, key: &[u8], value: Value) -> Result<(), StorageError> {
        if self.bug == Bug::VoteForgotten && tree == Tree::Meta && key == b"user.vote" {
            return Ok(());
        }
        self.engine.insert(tree, key, value)
    }

    fn remove(&self, tree: Tree, key: &[u8]) -> Result<(), StorageError> {
        self.engine.remove(tree, key)?;
        if self.bug == Bug::PurgeTooFar && tree == Tree::Log {
            let next = self
                .engine
                .scan(tree, key, &[], mesto_storage::Order::Ascending, 1)?;
            if let Some((next, _)) = next.first() {
                self.engine.remove(tree, next)?;
            }
        }
        Ok(())
    }

    fn write(&self, tree: Tree, batch: Batch) -> Result<(), StorageError> {
        self.engine.write(tree, batch)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.engine.flush()
    }

    fn flush_log(&self) -> Result<(), StorageError> {
        self.engine.flush_log()
    }

    fn is_failed(&self) -> bool {
        self.engine.is_failed()
    }

    fn stats(&self) -> EngineStats {
        self.engine.stats()
    }
}

struct BadApp {
    app: Arc<dyn App>,
    bug: Bug,
    node: NodeId,
    clock: WallClock,
}

impl App for BadApp {
    fn apply(&self, transaction: &mut Transaction, stamp: Stamp, command: &[u8]) -> Vec<u8> {
        match self.bug {
            Bug::OwnClock => {
                let now_ms = self.clock.now_ms();
                self.app
                    .apply(transaction, Stamp { now_ms, ..stamp }, command)
            }
            Bug::DedupForgotten => {
                let forgotten = Envelope::decode(command).map(|envelope| {
                    let mut key = [0; 16];
                    key[..8].copy_from_slice(&stamp.index.to_be_bytes());
                    let dedup = DedupKey::Node(key);
                    Envelope { dedup, ..envelope }.encode()
                });
                let command = forgotten.unwrap_or_else(|_| command.to_vec());
                self.app.apply(transaction, stamp, &command)
            }
            Bug::EntrySkipped if self.node == 2 && stamp.index.is_multiple_of(17) => {
                let noop = Envelope::decode(command).map(|envelope| {
                    let command = Command::Noop;
                    Envelope {
                        command,
                        ..envelope
                    }
                    .encode()
                });
                self.app
                    .apply(transaction, stamp, &noop.unwrap_or_default())
            }
            Bug::ConflictCheckOff => {
                hide_first_desk(transaction);
                self.app.apply(transaction, stamp, command)
            }
            _ => self.app.apply(transaction, stamp, command),
        }
    }
}

/// Forgets all that stands on the sheets of the first desk, so that the desk seems free.
fn hide_first_desk(transaction: &mut Transaction) {
    let desks = transaction.scan(&[0x14], &[0x15], mesto_storage::Order::Ascending, 1);
    let Some((desk, _)) = desks.first() else {
        return;
    };
    let sheets = transaction.scan(
        &[0x22],
        &[0x23],
        mesto_storage::Order::Ascending,
        usize::MAX,
    );
    for (key, _) in sheets {
        if key.ends_with(&desk[1..]) {
            transaction.delete(&key);
        }
    }
}

#[derive(Clone)]
struct BadReplica {
    replica: Arc<dyn Replica>,
    bug: Bug,
}

impl BadReplica {
    /// What a booking would come to on this node's state, as if it were the next in the log.
    fn guess(&self, command: &[u8]) -> Option<Decided> {
        let booking = Envelope::decode(command).is_ok_and(|envelope| {
            matches!(
                envelope.command,
                Command::CreateBooking { .. } | Command::CancelBooking { .. }
            )
        });
        if !booking {
            return None;
        }
        let mut guessed = None;
        let read = self.replica.view(&mut |store, viewed| {
            let mut overlay = Overlay {
                store,
                changed: BTreeMap::new(),
            };
            let index = viewed.index + 1;
            let stamp = booking::Stamp {
                index,
                now: Instant::from_ms(viewed.now_ms),
            };
            let reply = Bytes::from(booking::apply(&mut overlay, stamp, command));
            guessed = Some(Decided { index, reply });
        });
        read.ok().and(guessed)
    }
}

impl Replica for BadReplica {
    fn propose<'a>(
        &'a self,
        command: Bytes,
        deadline: Duration,
        request_id: &'a str,
    ) -> BoxFuture<'a, Result<Decided, ProposeError>> {
        async move {
            if self.bug == Bug::AcknowledgedEarly
                && let Some(decided) = self.guess(&command)
            {
                let (replica, request_id) = (Arc::clone(&self.replica), request_id.to_owned());
                tokio::spawn(async move { replica.propose(command, deadline, &request_id).await });
                return Ok(decided);
            }
            match self.replica.propose(command, deadline, request_id).await {
                Err(ProposeError::Unknown) if self.bug == Bug::UnknownDenied => {
                    Err(ProposeError::NoLeader)
                }
                other => other,
            }
        }
        .boxed()
    }

    fn read_barrier(&self, deadline: Duration) -> BoxFuture<'_, Result<u64, ReadError>> {
        if self.bug == Bug::StaleRead {
            let applied = *self.replica.applied().borrow();
            return async move { Ok(applied) }.boxed();
        }
        self.replica.read_barrier(deadline)
    }

    fn wait_applied(&self, index: u64, deadline: Duration) -> BoxFuture<'_, Result<(), ReadError>> {
        self.replica.wait_applied(index, deadline)
    }

    fn view(&self, f: &mut dyn FnMut(&dyn Store, Viewed)) -> Result<(), ReadError> {
        self.replica.view(f)
    }

    fn applied(&self) -> tokio::sync::watch::Receiver<u64> {
        self.replica.applied()
    }

    fn staleness(&self) -> Option<Duration> {
        if self.bug == Bug::StalenessDenied {
            return Some(Duration::ZERO);
        }
        self.replica.staleness()
    }

    fn cluster(&self) -> ClusterView {
        self.replica.cluster()
    }
}

/// A store and what was changed on top of it.
struct Overlay<'a> {
    store: &'a dyn Store,
    changed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Store for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.changed.get(key) {
            Some(changed) => changed.clone(),
            None => self.store.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Vec<Pair> {
        let all = self.store.scan(from, to, Order::Ascending, usize::MAX);
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = all.into_iter().collect();
        for (key, value) in &self.changed {
            if key.as_slice() >= from && (to.is_empty() || key.as_slice() < to) {
                match value {
                    Some(value) => merged.insert(key.clone(), value.clone()),
                    None => merged.remove(key),
                };
            }
        }
        match order {
            Order::Ascending => merged.into_iter().take(limit).collect(),
            Order::Descending => merged.into_iter().rev().take(limit).collect(),
        }
    }
}

impl StoreMut for Overlay<'_> {
    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.changed.insert(key.to_vec(), Some(value));
    }

    fn delete(&mut self, key: &[u8]) {
        self.changed.insert(key.to_vec(), None);
    }
}
