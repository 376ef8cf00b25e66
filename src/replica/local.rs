//! A single replica in memory, which applies at once: for tests of the layers above, never for service.
//!
//! It keeps its state in an ordered map, orders commands by a lock, and stamps them with the given clock as a leader
//! would. A [`Fault`] makes it answer as a node in trouble does. It is deliberately not durable.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{ClusterView, Decided, NodeView, ProposeError, ReadError, Replica, Viewed};
use crate::{
    booking::{self, Instant, MemoryStore, Stamp, Store},
    clock::Clock,
};

/// How a [`LocalReplica`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody leads: writes and linearizable reads fail, local reads go on, nothing is applied.
    NoLeader,
    /// Too much is in flight: writes are refused.
    Overloaded,
    /// Writes are applied, but the answer is lost.
    AnswerLost,
    /// Writes are lost, and nobody can tell.
    CommandLost,
    /// The state cannot be read at all.
    Unavailable,
}

/// A single in-memory replica.
#[derive(Debug)]
pub struct LocalReplica {
    state: RwLock<LocalState>,
    applied: watch::Sender<u64>,
    fault: Mutex<Option<Fault>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct LocalState {
    map: MemoryStore,
    index: u64,
    now_ms: u64,
}

impl LocalReplica {
    /// An empty replica that stamps its entries with `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            state: RwLock::new(LocalState::default()),
            applied: watch::Sender::new(0),
            fault: Mutex::new(None),
            clock,
        }
    }

    /// From now on fails in this way, or not any more.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self.fault.lock() = fault;
    }

    /// A digest of all keys and values: equal digests mean equal states.
    #[must_use]
    pub fn digest(&self) -> String {
        let state = self.state.read();
        let mut hasher = blake3::Hasher::new();
        for (key, value) in state.map.iter() {
            hasher.update(&u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(key);
            hasher.update(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(value);
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }

    fn decide(&self, command: &[u8]) -> Result<Decided, ProposeError> {
        let fault = *self.fault.lock();
        match fault {
            Some(Fault::NoLeader | Fault::Unavailable) => return Err(ProposeError::NoLeader),
            Some(Fault::Overloaded) => return Err(ProposeError::Overloaded),
            Some(Fault::CommandLost) => return Err(ProposeError::Unknown),
            Some(Fault::AnswerLost) | None => {}
        }
        let decided = {
            let mut state = self.state.write();
            state.index += 1;
            state.now_ms = state.now_ms.max(self.clock.now_ms());
            let stamp = Stamp {
                index: state.index,
                now: Instant::from_ms(state.now_ms),
            };
            let reply = booking::apply(&mut state.map, stamp, command);
            Decided {
                index: stamp.index,
                reply: Bytes::from(reply),
            }
        };
        self.applied.send_replace(decided.index);
        if fault == Some(Fault::AnswerLost) {
            Err(ProposeError::Unknown)
        } else {
            Ok(decided)
        }
    }

    fn readable(&self, linearizable: bool) -> Result<u64, ReadError> {
        match *self.fault.lock() {
            Some(Fault::Unavailable) => Err(ReadError::Unavailable),
            Some(Fault::NoLeader) if linearizable => Err(ReadError::NoLeader),
            _ => Ok(self.state.read().index),
        }
    }
}

impl Replica for LocalReplica {
    fn propose<'a>(
        &'a self,
        command: Bytes,
        _deadline: Duration,
        _request_id: &'a str,
    ) -> BoxFuture<'a, Result<Decided, ProposeError>> {
        async move { self.decide(&command) }.boxed()
    }

    fn read_barrier(&self, _deadline: Duration) -> BoxFuture<'_, Result<u64, ReadError>> {
        async move { self.readable(true) }.boxed()
    }

    fn wait_applied(&self, index: u64, deadline: Duration) -> BoxFuture<'_, Result<(), ReadError>> {
        async move {
            let mut applied = self.applied.subscribe();
            let reached = applied.wait_for(|applied| *applied >= index);
            match tokio::time::timeout(deadline, reached).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(ReadError::Unavailable),
                Err(_) => Err(ReadError::Timeout),
            }
        }
        .boxed()
    }

    fn view(&self, f: &mut dyn FnMut(&dyn Store, Viewed)) -> Result<(), ReadError> {
        self.readable(false)?;
        let state = self.state.read();
        f(
            &state.map,
            Viewed {
                index: state.index,
                now_ms: state.now_ms,
            },
        );
        Ok(())
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn staleness(&self) -> Option<Duration> {
        self.readable(true).ok().map(|_| Duration::ZERO)
    }

    fn cluster(&self) -> ClusterView {
        let digest = self.digest();
        let up = self.readable(true).is_ok();
        let index = self.state.read().index;
        let state = if up { "leader" } else { "candidate" };
        ClusterView {
            cluster: Some("local".to_owned()),
            node: 1,
            state: state.to_owned(),
            leader: up.then_some(1),
            term: 1,
            last_log: index,
            commit: index,
            applied: index,
            snapshot: None,
            purged: None,
            digest: digest.clone(),
            staleness_ms: up.then_some(0),
            nodes: vec![NodeView {
                id: 1,
                http: "127.0.0.1:0".to_owned(),
                peer: "127.0.0.1:0".to_owned(),
                state: state.to_owned(),
                voter: true,
                up,
                applied: Some(index),
                digest: Some(digest),
                lag: Some(0),
            }],
        }
    }
}
