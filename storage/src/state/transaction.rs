//! Changes on top of the last commit, kept in memory until they are committed.
//!
//! Each key is fetched from the state at most once: the overlay remembers what was before (also
//! that nothing was), which the digest needs anyway. A commit moves what changed, and copies
//! nothing.
//!
//! The face is infallible on purpose: the domain's decision cannot handle a failed disk. The
//! first storage error is latched, every later `get` answers `None`, and the commit refuses.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::head::Head;
use super::layer::Live;
use super::merge::{self, Changes, Range};
use super::{Applied, Inner};
use crate::engine::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::{Order, Pair, StorageError};

/// A key's value at the last commit, and what this transaction makes of it.
pub(super) struct Slot {
    pub(super) before: Option<Vec<u8>>,
    /// `None`: unchanged; `Some(None)`: deleted.
    pub(super) after: Option<Option<Vec<u8>>>,
}

impl Slot {
    fn now(&self) -> Option<&Vec<u8>> {
        self.after.as_ref().unwrap_or(&self.before).as_ref()
    }
}

pub(super) type Overlay = BTreeMap<Vec<u8>, Slot>;

/// A group of changes. Sees its own writes. Dropped without a commit it leaves no trace.
pub struct Transaction {
    inner: Arc<Inner>,
    base: Head,
    commits: u64,
    overlay: RefCell<Overlay>,
    error: RefCell<Option<StorageError>>,
}

impl Transaction {
    pub(super) fn new(inner: Arc<Inner>, base: Head, commits: u64) -> Transaction {
        Transaction {
            inner,
            base,
            commits,
            overlay: RefCell::new(Overlay::new()),
            error: RefCell::new(None),
        }
    }

    pub(super) fn into_parts(self) -> Result<(Overlay, Head, u64), StorageError> {
        match self.error.into_inner() {
            Some(error) => Err(error),
            None => Ok((self.overlay.into_inner(), self.base, self.commits)),
        }
    }

    /// How far the state under this transaction was applied.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        &self.base.applied
    }

    /// The value of `key`, if any. `None` also after a storage error.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(slot) = self.overlay.borrow().get(key) {
            return slot.now().cloned();
        }
        let before = self.fetch(key);
        let slot = Slot {
            before: before.clone(),
            after: None,
        };
        self.overlay.borrow_mut().insert(key.to_vec(), slot);
        before
    }

    /// At most `limit` pairs with keys in `[from, to)`, in `order`; an empty `to` means no
    /// bound. Nothing after a storage error.
    #[must_use]
    pub fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Vec<Pair> {
        if (!to.is_empty() && from >= to) || limit == 0 || self.error.borrow().is_some() {
            return Vec::new();
        }
        let overlay = self.overlay.borrow();
        let upper = if to.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(to)
        };
        let range = Range { from, to, order };
        let found = self.below(|live| {
            let changed = overlay
                .range::<[u8], _>((Bound::Included(from), upper))
                .filter(|(_, slot)| slot.after.is_some())
                .map(|(key, slot)| (key.as_slice(), slot.now().map(Vec::as_slice)));
            let own: Changes<'_> = match order {
                Order::Ascending => Box::new(changed),
                Order::Descending => Box::new(changed.rev()),
            };
            let layers = live.layers().map(|layer| layer.changes(range));
            let changes = std::iter::once(own).chain(layers).collect();
            let engine = self.inner.engine.as_ref();
            merge::scan(engine, self.base.generation, changes, range, limit)
        });
        found.unwrap_or_default()
    }

    /// Sets `key` to `value`. A key or value above its limit is a storage error.
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) {
        if value.len() > MAX_VALUE_BYTES {
            let bytes = value.len();
            self.latch(StorageError::TooLarge {
                what: "value",
                bytes,
                limit_bytes: MAX_VALUE_BYTES,
            });
            return;
        }
        self.change(key, Some(value));
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, key: &[u8]) {
        self.change(key, None);
    }

    /// The first storage error, if there was one: then the commit will refuse.
    #[must_use]
    pub fn error(&self) -> Option<StorageError> {
        self.error.borrow().clone()
    }

    fn change(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        // The generation byte stands in front of the key.
        if key.len() >= MAX_KEY_BYTES {
            let (bytes, limit_bytes) = (key.len(), MAX_KEY_BYTES - 1);
            self.latch(StorageError::TooLarge {
                what: "key",
                bytes,
                limit_bytes,
            });
            return;
        }
        if let Some(slot) = self.overlay.get_mut().get_mut(key) {
            slot.after = Some(value);
            return;
        }
        let before = self.fetch(key);
        let slot = Slot {
            before,
            after: Some(value),
        };
        self.overlay.get_mut().insert(key.to_vec(), slot);
    }

    fn fetch(&self, key: &[u8]) -> Option<Vec<u8>> {
        if self.error.borrow().is_some() {
            return None;
        }
        self.below(|live| live.get(self.inner.engine.as_ref(), key))
            .flatten()
    }

    /// Reads the last commit; its failure is latched.
    fn below<T>(&self, read: impl FnOnce(&Live) -> Result<T, StorageError>) -> Option<T> {
        let live = self.inner.live.read();
        let outcome = if live.commits == self.commits {
            read(&live)
        } else {
            Err(StorageError::misuse("another commit came between"))
        };
        drop(live);
        match outcome {
            Ok(found) => Some(found),
            Err(error) => {
                self.latch(error);
                None
            }
        }
    }

    fn latch(&self, error: StorageError) {
        self.error.borrow_mut().get_or_insert(error);
    }
}
