//! The face that an ordered key-value engine shows to the rest of the package.
//!
//! There are two: the real one (`disk_engine.rs`) and the in-memory twin that can lose, tear and
//! fail writes (`memory.rs`). Whatever is built above (log, state, snapshots) sees only this.
//!
//! # Invariants that an engine keeps
//!
//! - **Two orders.** Writes of `Log` and `Meta` become durable in the order in which they were
//!   made, and so do those of `State`: after a power cut the engine holds what was flushed plus
//!   *some prefix* of the rest of each. Between the two nothing is promised but by a flush.
//! - **Batches are atomic**, also across a power cut.
//! - **A failed write or flush is final.** The engine latches it and refuses every later call.

use crate::StorageError;

/// The largest value, in bytes. Above this sled would in time put a page into a file of its
/// own which nothing ever syncs.
pub const MAX_VALUE_BYTES: usize = 7 * 1024;

/// The largest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// The three ordered maps of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// Packed chunks of log records.
    Log,
    /// Small facts: vote, purge mark, storage id.
    Meta,
    /// The replicated state.
    State,
}

impl Tree {
    /// Every tree, in the order of their numbers.
    pub const ALL: [Tree; 3] = [Tree::Log, Tree::Meta, Tree::State];

    /// The tree's name on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tree::Log => "log",
            Tree::Meta => "meta",
            Tree::State => "state",
        }
    }

    pub(crate) fn number(self) -> usize {
        match self {
            Tree::Log => 0,
            Tree::Meta => 1,
            Tree::State => 2,
        }
    }
}

/// Bytes that are known to be at most [`MAX_VALUE_BYTES`] long.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Vec<u8>);

impl Value {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl TryFrom<Vec<u8>> for Value {
    type Error = StorageError;

    fn try_from(bytes: Vec<u8>) -> Result<Value, StorageError> {
        if bytes.len() > MAX_VALUE_BYTES {
            return Err(StorageError::TooLarge {
                what: "value",
                bytes: bytes.len(),
                limit_bytes: MAX_VALUE_BYTES,
            });
        }
        Ok(Value(bytes))
    }
}

/// Values may hold secrets, so only their length is shown.
impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

/// The direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the smallest key up.
    Ascending,
    /// From the largest key down.
    Descending,
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Puts and deletes of one tree that take effect together or not at all. A later entry for the
/// same key replaces an earlier one.
#[derive(Default, Clone)]
pub struct Batch {
    pub(crate) writes: Vec<(Vec<u8>, Option<Value>)>,
}

impl Batch {
    /// An empty batch with room for `count` writes.
    #[must_use]
    pub fn with_capacity(count: usize) -> Batch {
        Batch {
            writes: Vec::with_capacity(count),
        }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: Value) {
        self.writes.push((key.into(), Some(value)));
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), None));
    }

    /// The number of writes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} writes)", self.writes.len())
    }
}

/// What an engine has done so far; for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Calls of [`Engine::flush`] and [`Engine::flush_log`] that succeeded.
    pub flushes: u64,
    /// Syncs that reached the disk (Linux: calls of `fdatasync` in this process).
    pub syncs: u64,
    /// Inserts plus batches.
    pub writes: u64,
    /// Bytes of the database's files.
    pub bytes_on_disk: u64,
}

/// An ordered key-value engine with three trees. Calls block; none may be made from an async
/// task that must not block.
pub trait Engine: Send + Sync + 'static {
    /// The value of `key`, if any.
    ///
    /// # Errors
    /// `Io`, `Corruption` or `Poisoned`.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// At most `limit` pairs whose keys lie in `[from, to)`, in `order`. An empty `to` means no
    /// upper bound.
    ///
    /// # Errors
    /// `Io`, `Corruption` or `Poisoned`.
    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StorageError>;

    /// Sets one key. Fast when keys come in order.
    ///
    /// # Errors
    /// `Io`, `Corruption` or `Poisoned`; any of them is final.
    fn insert(&self, tree: Tree, key: &[u8], value: Value) -> Result<(), StorageError>;

    /// Removes one key, if it is there.
    ///
    /// # Errors
    /// `Io`, `Corruption` or `Poisoned`; any of them is final.
    fn remove(&self, tree: Tree, key: &[u8]) -> Result<(), StorageError> {
        let mut batch = Batch::with_capacity(1);
        batch.delete(key);
        self.write(tree, batch)
    }

    /// Applies a batch atomically, also across a power cut. A reader that takes no lock of its
    /// own may see a part of it meanwhile.
    ///
    /// # Errors
    /// `Io`, `Corruption` or `Poisoned`; any of them is final.
    fn write(&self, tree: Tree, batch: Batch) -> Result<(), StorageError>;

    /// Everything written before the call is durable when this returns `Ok`.
    ///
    /// # Errors
    /// `Io` or `Poisoned`; final, since after a failed sync nobody knows what is on the disk.
    fn flush(&self) -> Result<(), StorageError>;

    /// The same for the trees `Log` and `Meta` only, and cheaper.
    ///
    /// # Errors
    /// As [`Engine::flush`].
    fn flush_log(&self) -> Result<(), StorageError> {
        self.flush()
    }

    /// Whether a write or flush has failed, whoever asked for it. It stays so.
    fn is_failed(&self) -> bool;

    /// Counters.
    fn stats(&self) -> EngineStats;
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), StorageError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(StorageError::TooLarge {
            what: "key",
            bytes: key.len(),
            limit_bytes: MAX_KEY_BYTES,
        });
    }
    Ok(())
}
