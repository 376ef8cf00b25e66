//! Changes that are not in the engine yet: sorted, in memory, newest first when read.
//!
//! ```text
//!   commit ──► active ──(full, or asked for)──► frozen, frozen ──► engine
//!   get:       active, then frozen from the newest to the oldest, then the engine
//! ```
//!
//! Only the active layer changes. A frozen one never does, so that a writer and an image share
//! it. A key that a frozen layer holds is never looked up in the engine, which is why readers
//! need not wait while the writer is half-way through carrying it there.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::head::{Head, stored_key};
use super::merge::{Changes, Range};
use crate::{Engine, Order, StorageError, Tree};

/// What a pair in a sorted map costs besides its bytes: its place in a node that is two thirds
/// full, and what two allocations are rounded up by.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// The most layers that wait for the writer before commits wait, too.
const MAX_FROZEN: usize = 4;

/// A key and its value; `None`: removed.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

/// What a pair costs in memory.
pub(super) fn cost(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    ENTRY_OVERHEAD_BYTES + key.len() + value.map_or(0, Vec::capacity)
}

/// The changes of `pairs` in `range`, which must not be empty.
pub(super) fn changes_of<'a>(
    pairs: &'a BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    range: Range<'_>,
) -> Changes<'a> {
    let upper = if range.to.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Excluded(range.to)
    };
    let found = pairs
        .range::<[u8], _>((Bound::Included(range.from), upper))
        .map(|(key, value)| (key.as_slice(), value.as_deref()));
    match range.order {
        Order::Ascending => Box::new(found),
        Order::Descending => Box::new(found.rev()),
    }
}

/// Keys with their values; `None`: removed.
#[derive(Default)]
pub(super) struct Layer {
    pairs: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl Layer {
    pub(super) fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += cost(&key, value.as_ref());
        match self.pairs.entry(key) {
            Entry::Vacant(place) => {
                place.insert(value);
            }
            Entry::Occupied(mut place) => {
                self.bytes -= cost(place.key(), place.get().as_ref());
                place.insert(value);
            }
        }
    }

    /// `Some(None)`: removed here.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.pairs.get(key).map(Option::as_deref)
    }

    pub(super) fn holds(&self, key: &[u8]) -> bool {
        self.pairs.contains_key(key)
    }

    /// The changes in `range`, which must not be empty.
    pub(super) fn changes<'a>(&'a self, range: Range<'_>) -> Changes<'a> {
        changes_of(&self.pairs, range)
    }

    /// The changes after `key` (`None`: all), upwards.
    pub(super) fn after<'a>(
        &'a self,
        key: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.pairs
            .range::<[u8], _>((from, Bound::Unbounded))
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }
}

/// A layer that no longer changes, and what is true of the state once it is carried.
pub(super) struct Frozen {
    pub(super) layer: Layer,
    pub(super) head: Head,
}

/// The live generation: its head, and what of it is not in the engine yet.
pub(super) struct Live {
    pub(super) head: Head,
    /// Whether anything was ever applied.
    pub(super) begun: bool,
    /// Grows with each commit and flip; a transaction must have seen the last.
    pub(super) commits: u64,
    /// What the engine would come back with: the index of its head.
    pub(super) persisted: Option<u64>,
    pub(super) active: Layer,
    /// The oldest first.
    pub(super) frozen: VecDeque<Arc<Frozen>>,
    /// The failure that ended the writer.
    pub(super) failed: Option<StorageError>,
}

impl Live {
    /// The value of `key`, if any.
    pub(super) fn get(
        &self,
        engine: &dyn Engine,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StorageError> {
        match self.layers().find_map(|layer| layer.get(key)) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => engine.get(Tree::State, &stored_key(self.head.generation, key)),
        }
    }

    /// Every layer, the newest first.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Layer> {
        let frozen = self.frozen.iter().rev().map(|frozen| &frozen.layer);
        std::iter::once(&self.active).chain(frozen)
    }

    /// Closes the active layer, if anything was committed since the last one was closed.
    pub(super) fn freeze(&mut self) {
        let newest = self.frozen.back().map(|frozen| frozen.head.applied.index);
        let closed = newest.or(self.persisted);
        if !self.begun || closed == Some(self.head.applied.index) {
            return;
        }
        self.frozen.push_back(Arc::new(Frozen {
            layer: std::mem::take(&mut self.active),
            head: self.head.clone(),
        }));
    }

    /// Closes the active layer if it is full and nothing waits for the writer.
    pub(super) fn freeze_if_full(&mut self, max_layer_bytes: usize) -> bool {
        let full = self.active.bytes >= max_layer_bytes && self.frozen.is_empty();
        if full {
            self.freeze();
        }
        full
    }

    /// Whether commits may go on.
    pub(super) fn has_room(&self, max_layer_bytes: usize) -> bool {
        self.frozen.len() < MAX_FROZEN && self.bytes() < 2 * max_layer_bytes
    }

    pub(super) fn bytes(&self) -> usize {
        self.layers().map(|layer| layer.bytes).sum()
    }

    /// Forgets every layer, because another generation takes over.
    pub(super) fn replace(&mut self, head: Head) {
        self.persisted = Some(head.applied.index);
        self.head = head;
        self.begun = true;
        self.commits += 1;
        self.active = Layer::default();
        self.frozen.clear();
    }
}
