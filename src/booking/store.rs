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

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(from: &[u8], to: &[u8], order: Order, limit: usize) -> Vec<u8> {
        let mut store = MemoryStore::new();
        for key in 1..=5 {
            store.put(&[key], vec![key * 10]);
        }
        store.delete(&[3]);
        store.delete(&[3]);
        let pairs = store.scan(from, to, order, limit);
        assert!(pairs.iter().all(|(key, value)| value[0] == key[0] * 10));
        pairs.into_iter().map(|(key, _)| key[0]).collect()
    }

    #[test]
    fn a_scan_is_half_open_ordered_and_bounded() {
        use Order::{Ascending, Descending};
        assert_eq!(keys(&[], &[], Ascending, 9), [1, 2, 4, 5]);
        assert_eq!(keys(&[2], &[5], Ascending, 9), [2, 4]);
        assert_eq!(keys(&[2], &[5], Descending, 1), [4]);
        assert_eq!(keys(&[2], &[], Descending, 2), [5, 4]);
        assert_eq!(keys(&[2], &[], Ascending, 0), [0; 0]);
        // A range that ends where it begins, or before, holds nothing.
        assert_eq!(keys(&[2], &[2], Ascending, 9), [0; 0]);
        assert_eq!(keys(&[4], &[2], Descending, 9), [0; 0]);
    }
}
