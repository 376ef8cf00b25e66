//! The engine of a real node: the journal for the log and the small facts, sled for the state.
//!
//! They are different in what they are asked for. The log is appended, synced before anybody is
//! answered, read from its end and soon purged; the state is large, read at random, and need not
//! be synced before the log that can rebuild it is purged. So each has files of its own, and an
//! order of writes of its own; [`Engine::flush`] makes both durable, [`Engine::flush_log`] the
//! log and the facts only.
//!
//! Both stores carry the storage id and the count of seals, so that each is noticed when it is
//! missing, exchanged or cut off.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::engine::check_key;
use crate::journal::Journal;
use crate::sled_engine::SledEngine;
use crate::{Batch, Engine, EngineStats, Order, Pair, StorageError, Tree, Value, sync_repair};

const STATE: &str = "state";
const JOURNAL: &str = "journal";

/// A journal and a sled database under one directory.
pub(crate) struct DiskEngine {
    journal: Journal,
    state: SledEngine,
    /// How many writes to the state have taken effect.
    state_writes: AtomicU64,
    /// How many of them are durable. Held while the state is flushed, since whoever finds nothing
    /// left to flush must wait for the flush that is under way.
    state_durable: Mutex<u64>,
    failure: RwLock<Option<StorageError>>,
    flushes: AtomicU64,
    writes: AtomicU64,
}

impl DiskEngine {
    /// Opens or creates both stores in `path`.
    ///
    /// # Errors
    /// `Refused` when flushes do not reach the disk; `Corruption` or `Io`.
    pub(crate) fn open(
        path: &Path,
        cache_bytes: u64,
        segment_bytes: u32,
    ) -> Result<DiskEngine, StorageError> {
        Ok(DiskEngine {
            journal: Journal::open_with(&path.join(JOURNAL), segment_bytes)?,
            state: SledEngine::open(&path.join(STATE), cache_bytes)?,
            state_writes: AtomicU64::new(0),
            state_durable: Mutex::new(0),
            failure: RwLock::new(None),
            flushes: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        })
    }

    /// Which of the two stores `path` lacks.
    pub(crate) fn missing(path: &Path) -> Option<&'static str> {
        if !SledEngine::exists(&path.join(STATE)) {
            Some(STATE)
        } else if !Journal::exists(&path.join(JOURNAL)) {
            Some(JOURNAL)
        } else {
            None
        }
    }

    /// Writes a fact about the store itself into both of its parts.
    pub(crate) fn stamp(&self, key: &[u8], fact: &Value) -> Result<(), StorageError> {
        self.insert(Tree::Meta, key, fact.clone())?;
        self.write_state(|state| state.insert(Tree::Meta, key, fact.clone()))
    }

    /// What [`DiskEngine::stamp`] wrote, in the journal and beside the state.
    pub(crate) fn stamped(&self, key: &[u8]) -> Result<[Option<Vec<u8>>; 2], StorageError> {
        Ok([self.get(Tree::Meta, key)?, self.state.get(Tree::Meta, key)?])
    }

    fn healthy(&self) -> Result<(), StorageError> {
        match self.failure.read().as_ref() {
            None => Ok(()),
            Some(failure) => Err(failure.clone()),
        }
    }

    /// Latches the first failure of a write or flush.
    fn latched<T>(&self, outcome: Result<T, StorageError>) -> Result<T, StorageError> {
        // A record that is too long is refused before anything is written.
        if let Err(error) = &outcome
            && !matches!(error, StorageError::TooLarge { .. })
        {
            self.failure.write().get_or_insert_with(|| error.poison());
        }
        outcome
    }

    fn write_journal(
        &self,
        tree: Tree,
        writes: &[(Vec<u8>, Option<Value>)],
    ) -> Result<(), StorageError> {
        self.healthy()?;
        for (key, _) in writes {
            check_key(key)?;
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.latched(self.journal.write(tree, writes))
    }

    /// Counts the write once it has taken effect: a flush between the two must not take it for
    /// done.
    fn write_state(
        &self,
        write: impl FnOnce(&SledEngine) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.healthy()?;
        let outcome = self.latched(write(&self.state));
        self.state_writes.fetch_add(1, Ordering::SeqCst);
        outcome
    }
}

impl Engine for DiskEngine {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.healthy()?;
        match tree {
            Tree::State => self.state.get(tree, key),
            Tree::Log | Tree::Meta => self.journal.get(tree, key),
        }
    }

    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StorageError> {
        self.healthy()?;
        match tree {
            Tree::State => self.state.scan(tree, from, to, order, limit),
            Tree::Log | Tree::Meta => self.journal.scan(tree, (from, to), order, limit),
        }
    }

    fn insert(&self, tree: Tree, key: &[u8], value: Value) -> Result<(), StorageError> {
        if tree != Tree::State {
            return self.write_journal(tree, &[(key.to_vec(), Some(value))]);
        }
        self.write_state(|state| state.insert(tree, key, value))
    }

    fn write(&self, tree: Tree, batch: Batch) -> Result<(), StorageError> {
        if tree != Tree::State {
            return self.write_journal(tree, &batch.writes);
        }
        self.write_state(|state| state.write(tree, batch))
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.flush_log()?;
        let mut durable = self.state_durable.lock();
        // The flush that was waited for may have failed; the kernel would not say so again.
        self.healthy()?;
        let written = self.state_writes.load(Ordering::SeqCst);
        if *durable != written {
            self.latched(self.state.flush())?;
            *durable = written;
        }
        Ok(())
    }

    fn flush_log(&self) -> Result<(), StorageError> {
        self.healthy()?;
        self.latched(self.journal.flush())?;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_failed(&self) -> bool {
        self.failure.read().is_some()
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            flushes: self.flushes.load(Ordering::Relaxed),
            syncs: sync_repair::syncs(),
            writes: self.writes.load(Ordering::Relaxed) + self.state.stats().writes,
            bytes_on_disk: self.journal.bytes_on_disk() + self.state.stats().bytes_on_disk,
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::journal::SEGMENT_BYTES;

    /// The two parts are one store: when one has failed, nothing is believed of the other either.
    #[test]
    fn what_failed_in_the_journal_closes_the_state_too() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let engine =
            DiskEngine::open(root.path(), 1 << 20, SEGMENT_BYTES).expect("the engine opens");
        let value = || Value::try_from(vec![1; crate::MAX_VALUE_BYTES]).expect("a value");
        engine
            .insert(Tree::State, b"a", value())
            .expect("an insert succeeds");
        assert!(!engine.is_failed());
        // The next segment has no place to be.
        fs::remove_dir_all(root.path().join(JOURNAL)).expect("the journal is removed");
        let failure = (0..3_000_u32)
            .find_map(|key| engine.insert(Tree::Log, &key.to_be_bytes(), value()).err());
        assert!(
            matches!(failure, Some(StorageError::Io { .. })),
            "{failure:?}"
        );
        assert!(engine.is_failed());
        let poisoned = |outcome| matches!(outcome, Err(StorageError::Poisoned { .. }));
        assert!(poisoned(engine.get(Tree::State, b"a").map(drop)));
        assert!(poisoned(engine.insert(Tree::State, b"b", value())));
        assert!(poisoned(engine.flush()));
    }

    /// Whoever finds that another flush covers all that it wrote is not done before that one is.
    #[test]
    fn a_flush_waits_for_the_one_that_is_under_way() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let engine =
            DiskEngine::open(root.path(), 1 << 20, SEGMENT_BYTES).expect("the engine opens");
        let value = Value::try_from(vec![1; 30]).expect("a short value");
        engine
            .insert(Tree::State, b"a", value)
            .expect("an insert succeeds");

        let (entered, syncing) = channel();
        let (release, gate) = channel::<()>();
        let (gate, state) = (Mutex::new(gate), root.path().join(STATE));
        sync_repair::observe_syncs_for_tests(Some(Arc::new(move |fd| {
            let file = fs::read_link(format!("/proc/self/fd/{fd}"));
            if file.is_ok_and(|file| file.starts_with(&state)) {
                // Both ends may be gone already.
                let _ = entered.send(());
                let _ = gate.lock().recv();
            }
        })));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| engine.flush());
            syncing.recv().expect("the state is synced");
            let (ended, second) = channel();
            let later = &engine;
            scope.spawn(move || ended.send(later.flush()).expect("it is waited for"));
            let early = second.recv_timeout(Duration::from_millis(200));
            assert!(early.is_err(), "it answered while the sync was under way");
            drop(release);
            let answer = second.recv().expect("it ends");
            answer.expect("it succeeds");
            first.join().expect("it ends").expect("it succeeds");
        });
        sync_repair::observe_syncs_for_tests(None);
    }
}
