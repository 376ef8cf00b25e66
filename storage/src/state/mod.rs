//! The replicated state: pairs, how far they were applied, and a digest of them all.
//!
//! ```text
//!   transaction() ─► gets and puts in an overlay ─► commit() ─► ONE atomic engine batch:
//!                                                              data + applied + digest
//!   read(|view| ..) ─► many gets and scans that see one commit
//!   image()         ─► page by page, as of one commit, while commits go on
//!   import()        ─► page by page into the next generation, then one atomic flip
//! ```
//!
//! # Invariants
//! - The applied record and the digest are written in the batch of the data that they speak of.
//! - One writer: a transaction that did not see the last commit cannot be committed.
//! - A commit is not flushed. The log that can rebuild it is durable first (see
//!   [`crate::Log::when_durable`]), and the engine keeps the order of writes.
//! - Each pair lies under a generation; only the live one is ever read. An import fills the
//!   next, and what is left of others is removed bit by bit during later commits.
//!
//! # Locks
//! The image's lock, then the head's, never the other way round. Readers hold the head's lock
//! shared, so they must not read inside a read. A commit holds it only for the engine batch.
//!
//! # Not here
//! What keys and values mean; values above [`crate::MAX_VALUE_BYTES`], which are refused.

mod digest;
mod head;
mod image;
mod import;
mod transaction;

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

pub use self::digest::Digest;
use self::head::{FIRST_GENERATION, Head, LAST_GENERATION, stored_end, stored_key};
pub use self::image::Image;
use self::image::Tracking;
pub use self::import::Import;
pub use self::transaction::Transaction;
use self::transaction::{Overlay, Slot};
use crate::{Batch, Engine, Order, Pair, StorageError, Tree, Value};

/// The largest [`Applied::record`], in bytes.
pub const MAX_APPLIED_RECORD_BYTES: usize = 4 * 1024;

/// Leftover pairs removed with each commit.
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

/// Limits of the state's memory.
#[derive(Debug, Clone)]
pub struct StateOptions {
    /// Most bytes of old values kept while an image is read. Beyond this the image is given up
    /// (its next page is `ImageLost`) rather than commits held up; begin a new one later.
    pub max_image_bytes: usize,
}

impl Default for StateOptions {
    fn default() -> StateOptions {
        StateOptions {
            max_image_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A handle to the state. Clones are cheap and share everything.
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    options: StateOptions,
    /// Held exclusively while the engine batch of a commit is applied.
    live: RwLock<Live>,
    image: Mutex<Option<Tracking>>,
    leftovers: Mutex<Leftovers>,
}

struct Live {
    head: Head,
    /// Grows with each commit and flip; a transaction must have seen the last.
    commits: u64,
}

/// Generations that are not live.
#[derive(Default)]
struct Leftovers {
    dead: BTreeSet<u8>,
    importing: Option<u8>,
}

impl State {
    /// Opens the state in `engine` with the default limits.
    ///
    /// # Errors
    /// `Corruption` when pairs are there but no head; `Io` or `Poisoned` of the engine.
    pub fn open(engine: Arc<dyn Engine>) -> Result<State, StorageError> {
        State::open_with(engine, StateOptions::default())
    }

    /// Opens the state in `engine`.
    ///
    /// # Errors
    /// As [`State::open`].
    pub fn open_with(
        engine: Arc<dyn Engine>,
        options: StateOptions,
    ) -> Result<State, StorageError> {
        let stored = Head::read(engine.as_ref())?;
        let head = stored.clone().unwrap_or_else(Head::fresh);
        let dead = dead_generations(engine.as_ref(), head.generation)?;
        if stored.is_none() && has_pairs(engine.as_ref(), head.generation)? {
            return Err(StorageError::corruption(
                "the state has pairs, but its head is missing",
            ));
        }
        let leftovers = Leftovers {
            dead,
            importing: None,
        };
        Ok(State {
            inner: Arc::new(Inner {
                engine,
                options,
                live: RwLock::new(Live { head, commits: 0 }),
                image: Mutex::new(None),
                leftovers: Mutex::new(leftovers),
            }),
        })
    }

    /// Runs `f` on a view that no commit changes meanwhile. Keep `f` short, since commits wait
    /// for it, and never read inside a read.
    pub fn read<T>(&self, f: impl FnOnce(&View<'_>) -> T) -> T {
        let live = self.inner.live.read();
        f(&View {
            engine: self.inner.engine.as_ref(),
            head: &live.head,
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
        Transaction::new(
            Arc::clone(&self.inner.engine),
            live.head.clone(),
            live.commits,
        )
    }

    /// Makes the changes of `transaction` take effect, together with `applied`, in one atomic
    /// engine batch. Not flushed.
    ///
    /// # Errors
    /// The first storage error that the transaction met; `Misuse` when another commit came in
    /// between or `applied` goes backwards; `TooLarge` for the applied record; `Io`, `Corruption`
    /// or `Poisoned` of the engine, which are final.
    pub fn commit(&self, transaction: Transaction, applied: Applied) -> Result<(), StorageError> {
        let (overlay, base, commits) = transaction.into_parts()?;
        if applied.index < base.applied.index {
            return Err(StorageError::misuse(format!(
                "the applied index would go from {} back to {}",
                base.applied.index, applied.index
            )));
        }
        let (mut batch, digest) = changes(&overlay, &base)?;
        let head = Head {
            generation: base.generation,
            digest,
            applied,
        };
        batch.put(head::KEY, head.encode()?);

        let mut image = self.inner.image.lock();
        let mut live = self.inner.live.write();
        if live.commits != commits {
            return Err(StorageError::misuse("another commit came between"));
        }
        if let Some(image) = image.as_mut() {
            image.save(&overlay, self.inner.options.max_image_bytes);
        }
        self.inner.engine.write(Tree::State, batch)?;
        live.head = head;
        live.commits += 1;
        drop(live);
        drop(image);
        self.remove_leftovers()?;
        Ok(())
    }

    /// Makes all commits so far durable.
    ///
    /// # Errors
    /// `Io` or `Poisoned`; final.
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
    /// Commits do this too; an idle node may call it.
    ///
    /// # Errors
    /// `Io`, `Corruption` or `Poisoned` of the engine; final.
    pub fn remove_leftovers(&self) -> Result<bool, StorageError> {
        let mut leftovers = self.inner.leftovers.lock();
        let Some(generation) = leftovers.dead.first().copied() else {
            return Ok(false);
        };
        let engine = self.inner.engine.as_ref();
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
    head: &'a Head,
}

impl View<'_> {
    /// The value of `key`, if any.
    ///
    /// # Errors
    /// `Io`, `Corruption` or `Poisoned` of the engine.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.engine
            .get(Tree::State, &stored_key(self.head.generation, key))
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
        scan_generation(self.engine, self.head.generation, from, to, order, limit)
    }

    /// How far the state has been applied.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        &self.head.applied
    }

    /// The digest of all pairs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.head.digest
    }
}

/// Reads all live pairs and computes their digest anew: what a checker compares.
///
/// # Errors
/// `Io`, `Corruption` or `Poisoned` of the engine.
pub(crate) fn recompute(engine: &dyn Engine) -> Result<Recomputed, StorageError> {
    let stored = Head::read(engine)?;
    let head = stored.unwrap_or_else(Head::fresh);
    let mut digest = Digest::EMPTY;
    let mut pairs = 0;
    let mut cursor = Vec::new();
    loop {
        let page = scan_generation(
            engine,
            head.generation,
            &cursor,
            &[],
            Order::Ascending,
            1024,
        )?;
        let Some((last, _)) = page.last() else { break };
        cursor = successor(last);
        for (key, value) in page {
            digest.add(&key, &value);
            pairs += 1;
        }
    }
    Ok(Recomputed {
        applied: head.applied,
        stored: head.digest,
        computed: digest,
        pairs,
    })
}

/// What [`recompute`] found.
pub(crate) struct Recomputed {
    pub(crate) applied: Applied,
    pub(crate) stored: Digest,
    pub(crate) computed: Digest,
    pub(crate) pairs: u64,
}

/// The engine writes of an overlay, and the digest after them.
fn changes(overlay: &Overlay, base: &Head) -> Result<(Batch, Digest), StorageError> {
    let mut digest = base.digest;
    let mut batch = Batch::with_capacity(overlay.len() + 1);
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
        if let Some(before) = before {
            digest.subtract(key, before);
        }
        let stored = stored_key(base.generation, key);
        match after {
            Some(after) => {
                digest.add(key, after);
                batch.put(stored, Value::try_from(after.clone())?);
            }
            None => batch.delete(stored),
        }
    }
    Ok((batch, digest))
}

fn scan_generation(
    engine: &dyn Engine,
    generation: u8,
    from: &[u8],
    to: &[u8],
    order: Order,
    limit: usize,
) -> Result<Vec<Pair>, StorageError> {
    let (from, to) = (stored_key(generation, from), stored_end(generation, to));
    let mut pairs = engine.scan(Tree::State, &from, &to, order, limit)?;
    for (key, _) in &mut pairs {
        key.remove(0);
    }
    Ok(pairs)
}

/// The smallest key after `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn has_pairs(engine: &dyn Engine, generation: u8) -> Result<bool, StorageError> {
    Ok(!scan_generation(engine, generation, &[], &[], Order::Ascending, 1)?.is_empty())
}

fn dead_generations(engine: &dyn Engine, live: u8) -> Result<BTreeSet<u8>, StorageError> {
    let mut dead = BTreeSet::new();
    let mut next = FIRST_GENERATION;
    while next <= LAST_GENERATION {
        let found = engine.scan(Tree::State, &[next], &[], Order::Ascending, 1)?;
        let Some(generation) = found.first().and_then(|(key, _)| key.first()) else {
            break;
        };
        if *generation != live {
            dead.insert(*generation);
        }
        next = generation.saturating_add(1);
    }
    Ok(dead)
}
