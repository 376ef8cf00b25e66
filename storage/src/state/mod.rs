//! The replicated state: pairs, how far they were applied, and a digest of them all.
//!
//! ```text
//!   transaction() ─► gets and puts in an overlay ─► commit() ─► a layer in memory
//!                                                                │ when it is full, or asked
//!   StateWriter (one thread) ◄───────────────────────────────────┘ for by persist_to()
//!     └─► engine: the layer as pieces, the head that names them, then pair by pair
//!   read(|view| ..) ─► many gets and scans that see one commit: layers, then the engine
//!   image()         ─► page by page, as of one commit, while commits go on
//!   import()        ─► page by page into the next generation, then one atomic flip
//! ```
//!
//! The log makes everything durable that is applied, so the state is *written behind*: a commit
//! is memory only, and a key that changes often is carried into the engine once for many
//! commits. After a crash the state is what the engine has, an earlier commit, and whoever
//! applies the log goes on from [`State::applied`].
//!
//! # Invariants
//! - In memory, each commit is one step: pairs, applied record and digest. In the engine each
//!   layer is one step (`redo.rs`), so what a crash leaves is a commit that was.
//! - The engine is never given what the log has not made durable: the writer waits for
//!   [`crate::Log::when_durable`]. Records may be purged only as far as the state is persisted
//!   ([`State::persist_to`]), and a purge flushes the state first.
//! - One writer of commits: a transaction that did not see the last cannot be committed.
//! - Each pair lies under a generation; only the live one is ever read. An import fills the
//!   next, and what is left of others is removed bit by bit.
//!
//! # Bounds
//! Layers hold some [`StateOptions::max_layer_bytes`] twice; whoever commits waits for
//! [`State::when_room`] first. Replay after a crash is bounded by the same.
//!
//! # Locks
//! `image`, then `live`, then `waiting`, never the other way round. Readers hold `live` shared,
//! so they must not read inside a read. A commit holds it for a moment, the writer only to
//! exchange layers. `image` is held while the live generation's pairs change in the engine.
//!
//! # Not here
//! What keys and values mean; values above [`crate::MAX_VALUE_BYTES`], which are refused.

mod digest;
pub(crate) mod fuzzing;
mod head;
mod image;
mod import;

mod layer;
mod merge;
mod redo;
mod stored;
mod transaction;
mod writer;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, RwLock};

pub use self::digest::Digest;
use self::head::{stored_end, stored_key};
pub use self::image::Image;
use self::image::Tracking;
pub use self::import::Import;
use self::layer::{Change, Layer, Live};
use self::merge::Range;
pub(crate) use self::stored::recompute;
pub use self::transaction::Transaction;
use self::transaction::{Overlay, Slot};
pub use self::writer::StateWriter;
use self::writer::{Counts, Waiting};
use crate::{Done, Engine, Log, Order, Pair, StorageError, Tree};

/// The largest [`Applied::record`], in bytes.
pub const MAX_APPLIED_RECORD_BYTES: usize = 4 * 1024;

/// Leftover pairs removed in one go.
const REMOVE_PAIRS: usize = 128;

/// How far the state has been applied.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The log index of the last entry that the state contains. 0 with an empty `record`:
    /// nothing was applied yet.
    pub index: u64,
    /// The replicated clock at that entry, in milliseconds.
    pub now_ms: u64,
    /// The caller's bytes (log id, membership), at most [`MAX_APPLIED_RECORD_BYTES`].
    pub record: Vec<u8>,
}

/// The record is the caller's; only its length is shown.
impl std::fmt::Debug for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applied")
            .field("index", &self.index)
            .field("now_ms", &self.now_ms)
            .field("record_bytes", &self.record.len())
            .finish()
    }
}

/// Limits of the state's memory, and of one step of its writer.
#[derive(Debug, Clone)]
pub struct StateOptions {
    /// Most bytes of old values kept while an image is read. Beyond this the image is given up
    /// (its next page is `ImageLost`) rather than the writer held up; begin a new one later.
    pub max_image_bytes: usize,
    /// Bytes of changes after which they are carried into the engine. Twice as much may be in
    /// memory, and is to be applied again from the log after a crash.
    pub max_layer_bytes: usize,
    /// Pairs that the writer handles in one step.
    pub portion_pairs: usize,
}

impl Default for StateOptions {
    fn default() -> StateOptions {
        StateOptions {
            max_image_bytes: 64 * 1024 * 1024,
            max_layer_bytes: 8 * 1024 * 1024,
            portion_pairs: 128,
        }
    }
}

/// What the state holds in memory and what its writer has done; for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateStats {
    /// Layers of changes in memory.
    pub layers: usize,
    /// Their bytes, the map's own included.
    pub layer_bytes: usize,
    /// The index that a crash would come back with.
    pub persisted_index: u64,
    /// Layers carried into the engine.
    pub carried_layers: u64,
    /// Pairs carried into the engine.
    pub carried_pairs: u64,
    /// Microseconds that the writer has worked.
    pub carry_us: u64,
    /// Whether a failure has ended the writer.
    pub failed: bool,
}

/// A handle to the state. Clones are cheap and share everything; the writer ends when the last
/// is gone.
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
    _alive: Arc<Alive>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    options: StateOptions,
    /// Held while the live generation's pairs change in the engine, and for a page of an image.
    image: Mutex<Option<Tracking>>,
    live: RwLock<Live>,
    waiting: Mutex<Waiting>,
    work: Condvar,
    wake: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    counts: Counts,
    leftovers: Mutex<Leftovers>,
}

/// Dropped with the last handle.
struct Alive(Arc<Inner>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Generations that are not live.
#[derive(Default)]
struct Leftovers {
    dead: BTreeSet<u8>,
    importing: Option<u8>,
}

impl State {
    /// Opens the state in `engine`, and gives a handle and the writer. `log` is the one that the
    /// state is applied from, in the same engine.
    ///
    /// # Errors
    /// `Corruption` when pairs are there but no head, or a piece of a layer is damaged; `Io` or
    /// `Poisoned` of the engine.
    pub fn open(
        engine: Arc<dyn Engine>,
        log: &Log,
        options: StateOptions,
    ) -> Result<(State, StateWriter), StorageError> {
        let stored = stored::open(engine.as_ref())?;
        let unfinished = stored.unfinished.map(Arc::new);
        let live = Live {
            persisted: stored.begun.then_some(stored.head.applied.index),
            head: stored.head,
            begun: stored.begun,
            commits: 0,
            active: Layer::default(),
            frozen: VecDeque::from_iter(unfinished.clone()),
            failed: None,
        };
        let leftovers = Leftovers {
            dead: stored.dead,
            importing: None,
        };
        let inner = Arc::new(Inner {
            engine,
            options,
            image: Mutex::new(None),
            live: RwLock::new(live),
            waiting: Mutex::default(),
            work: Condvar::new(),
            wake: Mutex::new(None),
            counts: Counts::default(),
            leftovers: Mutex::new(leftovers),
        });
        let writer = StateWriter::new(Arc::clone(&inner), log.clone(), unfinished);
        let alive = Arc::new(Alive(Arc::clone(&inner)));
        let state = State {
            inner,
            _alive: alive,
        };
        Ok((state, writer))
    }

    /// Runs `f` on a view that no commit changes meanwhile. Keep `f` short, since commits wait
    /// for it, and never read inside a read.
    pub fn read<T>(&self, f: impl FnOnce(&View<'_>) -> T) -> T {
        let live = self.inner.live.read();
        f(&View {
            engine: self.inner.engine.as_ref(),
            live: &live,
        })
    }

    /// How far the state has been applied.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.inner.live.read().head.applied.clone()
    }

    /// The digest of all pairs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.inner.live.read().head.digest
    }

    /// How far the state has been applied and the digest of it, as of one moment.
    #[must_use]
    pub fn applied_and_digest(&self) -> (Applied, Digest) {
        let live = self.inner.live.read();
        (live.head.applied.clone(), live.head.digest)
    }

    /// Begins a group of changes on top of the last commit. Take one at a time.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        let live = self.inner.live.read();
        Transaction::new(Arc::clone(&self.inner), live.head.clone(), live.commits)
    }

    /// Makes the changes of `transaction` take effect, together with `applied`, in one step and
    /// in memory. Never blocks; wait for [`State::when_room`] before.
    ///
    /// # Errors
    /// The first storage error that the transaction met; `Misuse` when another commit came in
    /// between or `applied` does not advance; `TooLarge` for the applied record; the failure that
    /// ended the writer.
    pub fn commit(&self, transaction: Transaction, applied: Applied) -> Result<(), StorageError> {
        let (overlay, base, commits) = transaction.into_parts()?;
        head::check_record(&applied)?;
        let (changed, digest) = changes(overlay, base.digest);
        let mut live = self.inner.live.write();
        if let Some(failed) = &live.failed {
            return Err(failed.clone());
        }
        if live.commits != commits {
            return Err(StorageError::misuse("another commit came between"));
        }
        if live.begun && applied.index <= base.applied.index {
            return Err(StorageError::misuse(format!(
                "the applied index would go from {} to {}",
                base.applied.index, applied.index
            )));
        }
        for (key, value) in changed {
            live.active.set(key, value);
        }
        live.head.digest = digest;
        live.head.applied = applied;
        live.begun = true;
        live.commits += 1;
        let frozen = live.freeze_if_full(self.inner.options.max_layer_bytes);
        drop(live);
        if frozen {
            self.inner.notify();
        }
        Ok(())
    }

    /// Calls `done` once there is room in memory for a commit: at once, unless the writer is
    /// behind by a whole layer.
    ///
    /// `done` gets the failure that ended the writer.
    pub fn when_room(&self, done: Done) {
        let live = self.inner.live.read();
        let outcome = match &live.failed {
            Some(failed) => Err(failed.clone()),
            None if live.has_room(self.inner.options.max_layer_bytes) => Ok(()),
            None => {
                self.inner.waiting.lock().for_room(done);
                return;
            }
        };
        drop(live);
        done(outcome);
    }

    /// Calls `done` once the engine has, though not necessarily flushed, everything that was
    /// committed by now up to `index`. Records up to there may be purged after it, since a purge
    /// flushes before it removes anything.
    ///
    /// `done` gets the failure that ended the writer.
    pub fn persist_to(&self, index: u64, done: Done) {
        let mut live = self.inner.live.write();
        let index = index.min(live.head.applied.index);
        let persisted = live.persisted.is_some_and(|persisted| index <= persisted);
        let outcome = match &live.failed {
            Some(failed) => Err(failed.clone()),
            None if persisted || !live.begun => Ok(()),
            None => {
                let newest = live.frozen.back();
                if newest.is_none_or(|newest| newest.head.applied.index < index) {
                    live.freeze();
                }
                self.inner.waiting.lock().for_index(index, done);
                drop(live);
                self.inner.notify();
                return;
            }
        };
        drop(live);
        done(outcome);
    }

    /// [`State::persist_to`] for all that was committed by now.
    pub fn persist(&self, done: Done) {
        self.persist_to(u64::MAX, done);
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> StateStats {
        self.inner.stats()
    }

    /// Makes what was persisted so far durable. Blocks.
    ///
    /// # Errors
    /// As [`crate::Engine::flush`].
    pub fn flush(&self) -> Result<(), StorageError> {
        self.inner.engine.flush()
    }

    /// An image of the state as it is now, to be read page by page while commits go on.
    ///
    /// # Errors
    /// `Misuse` while another image is alive.
    pub fn image(&self) -> Result<Image, StorageError> {
        Image::begin(&self.inner)
    }

    /// Begins to fill the next generation beside the live one.
    ///
    /// # Errors
    /// `Misuse` while another import is alive.
    pub fn import(&self) -> Result<Import, StorageError> {
        Import::begin(&self.inner)
    }

    /// Removes some pairs of generations that are not live. `true` while there may be more.
    /// The writer does this too, when it has nothing else to do.
    ///
    /// # Errors
    /// `Io`, `Corruption` or `Poisoned` of the engine; final.
    pub fn remove_leftovers(&self) -> Result<bool, StorageError> {
        self.inner.remove_leftovers()
    }
}

impl Inner {
    fn remove_leftovers(&self) -> Result<bool, StorageError> {
        let mut leftovers = self.leftovers.lock();
        let Some(generation) = leftovers.dead.first().copied() else {
            return Ok(false);
        };
        let engine = self.engine.as_ref();
        let (from, to) = (stored_key(generation, &[]), stored_end(generation, &[]));
        let pairs = engine.scan(Tree::State, &from, &to, Order::Ascending, REMOVE_PAIRS)?;
        if pairs.len() < REMOVE_PAIRS {
            leftovers.dead.remove(&generation);
        }
        for (key, _) in pairs {
            engine.remove(Tree::State, &key)?;
        }
        Ok(!leftovers.dead.is_empty())
    }
}

/// One consistent view of the state.
pub struct View<'a> {
    engine: &'a dyn Engine,
    live: &'a Live,
}

impl View<'_> {
    /// The value of `key`, if any.
    ///
    /// # Errors
    /// `Io`, `Corruption` or `Poisoned` of the engine.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.live.get(self.engine, key)
    }

    /// At most `limit` pairs with keys in `[from, to)`, in `order`; an empty `to` means no bound.
    ///
    /// # Errors
    /// `Io`, `Corruption` or `Poisoned` of the engine.
    pub fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StorageError> {
        let range = Range { from, to, order };
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let layers = self.live.layers();
        let changes = layers.map(|layer| layer.changes(range)).collect();
        merge::scan(
            self.engine,
            self.live.head.generation,
            changes,
            range,
            limit,
        )
    }

    /// How far the state has been applied.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        &self.live.head.applied
    }

    /// The digest of all pairs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.live.head.digest
    }
}

/// The pairs that an overlay changes, and the digest after them.
fn changes(overlay: Overlay, mut digest: Digest) -> (Vec<Change>, Digest) {
    let mut changed = Vec::with_capacity(overlay.len());
    for (key, slot) in overlay {
        let Slot {
            before,
            after: Some(after),
        } = slot
        else {
            continue;
        };
        if before == after {
            continue;
        }
        if let Some(before) = &before {
            digest.subtract(&key, before);
        }
        if let Some(after) = &after {
            digest.add(&key, after);
        }
        changed.push((key, after));
    }
    (changed, digest)
}
