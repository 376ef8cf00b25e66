//! What the domain needs of a store: ordered keys and values, read and written.
//!
//! Both traits are infallible. A real store can fail to read, but nothing sensible can be decided
//! then: its adapter remembers the failure, answers with nothing, and refuses to commit.

use std::collections::BTreeMap;
use std::ops::Bound;

/// In which order a scan gives keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the lowest key.
    Ascending,
    /// From the highest key.
    Descending,
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A store that can be read.
pub trait Store {
    /// The value under a key.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;

    /// At most `limit` pairs with keys in `[from, to)`; an empty `to` is no bound.
    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Vec<Pair>;
}

/// A store that can be written. Reads see what was written.
pub trait StoreMut: Store {
    /// Sets the value under a key.
    fn put(&mut self, key: &[u8], value: Vec<u8>);

    /// Removes a key; fine if it isn't there.
    fn delete(&mut self, key: &[u8]);
}

/// A store in memory, for tests, benches and a node without a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// All pairs in order of key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.map
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.map.get(key).cloned()
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Vec<Pair> {
        if !to.is_empty() && to <= from {
            return Vec::new();
        }
        let end = if to.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(to)
        };
        let range = self.map.range::<[u8], _>((Bound::Included(from), end));
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        match order {
            Order::Ascending => range.take(limit).map(owned).collect(),
            Order::Descending => range.rev().take(limit).map(owned).collect(),
        }
    }
}

impl StoreMut for MemoryStore {
    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.map.insert(key.to_vec(), value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.map.remove(key);
    }
}
