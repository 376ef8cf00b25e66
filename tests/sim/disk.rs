//! Damage to a disk that its twin in memory does not know: places that cannot be read any more.
//!
//! The log checks itself what it reads, so there a flipped bit will do ([`MemoryDisk::corrupt_value`]). Pages of the state
//! are checked by the store under it, which answers a damaged one with an error; that is what happens here.
//!
//! [`MemoryDisk::corrupt_value`]: mesto_storage::MemoryDisk::corrupt_value

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mesto_storage::{Batch, Engine, EngineStats, Order, Pair, StorageError, Tree, Value};
use parking_lot::Mutex;

/// What cannot be read on a disk. Stays with the disk, whatever process runs.
#[derive(Clone, Default)]
pub(crate) struct Sickness {
    unreadable: Arc<Mutex<Option<Vec<u8>>>>,
    met: Arc<AtomicBool>,
}

impl Sickness {
    /// From now on the pair under this key of the state cannot be read.
    pub(crate) fn spoil(&self, key: Vec<u8>) {
        *self.unreadable.lock() = Some(key);
    }

    /// Whether anything tried to read it.
    pub(crate) fn was_met(&self) -> bool {
        self.met.load(Ordering::Relaxed)
    }

    /// The engine as it is on a sick disk.
    pub(crate) fn infect(&self, engine: Arc<dyn Engine>) -> Arc<dyn Engine> {
        Arc::new(Sick {
            engine,
            sickness: self.clone(),
        })
    }

    fn check(&self, tree: Tree, hit: impl FnOnce(&[u8]) -> bool) -> Result<(), StorageError> {
        let unreadable = self.unreadable.lock();
        match unreadable.as_deref() {
            Some(key) if tree == Tree::State && hit(key) => {
                self.met.store(true, Ordering::Relaxed);
                Err(StorageError::Corruption {
                    what: Arc::from("a pair of the state, by a fault of the simulation"),
                })
            }
            _ => Ok(()),
        }
    }
}

struct Sick {
    engine: Arc<dyn Engine>,
    sickness: Sickness,
}

impl Engine for Sick {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.sickness.check(tree, |bad| bad == key)?;
        self.engine.get(tree, key)
    }

    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StorageError> {
        let pairs = self.engine.scan(tree, from, to, order, limit)?;
        self.sickness
            .check(tree, |bad| pairs.iter().any(|(key, _)| key == bad))?;
        Ok(pairs)
    }

    fn insert(&self, tree: Tree, key: &[u8], value: Value) -> Result<(), StorageError> {
        self.engine.insert(tree, key, value)
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
