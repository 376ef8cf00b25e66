//! The store as the domain sees it, over the store as it is.
//!
//! The domain's store cannot fail; a real one can. What fails here is latched: a transaction refuses to commit after it,
//! so nothing that was decided on a failed read ever becomes state, and a view reports it to whoever reads.

use std::cell::Cell;

use mesto_raft::{App, Stamp};
use mesto_storage::{StorageError, Transaction, View};

use crate::booking::{self, Instant, Order, Pair, Store, StoreMut};

/// Booking, as consensus applies it.
#[derive(Clone, Copy, Debug)]
pub struct BookingApp;

impl App for BookingApp {
    fn apply(&self, transaction: &mut Transaction, stamp: Stamp, command: &[u8]) -> Vec<u8> {
        let stamp = booking::Stamp {
            index: stamp.index,
            now: Instant::from_ms(stamp.now_ms),
        };
        booking::apply(&mut Writing(transaction), stamp, command)
    }
}

fn order(order: Order) -> mesto_storage::Order {
    match order {
        Order::Ascending => mesto_storage::Order::Ascending,
        Order::Descending => mesto_storage::Order::Descending,
    }
}

/// A transaction latches its own failures.
struct Writing<'a>(&'a mut Transaction);

impl Store for Writing<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], by: Order, limit: usize) -> Vec<Pair> {
        self.0.scan(from, to, order(by), limit)
    }
}

impl StoreMut for Writing<'_> {
    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.0.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.0.delete(key);
    }
}

/// A view that remembers whether a read of it failed.
pub(super) struct Reading<'a, 'v> {
    view: &'a View<'v>,
    failed: Cell<bool>,
}

impl<'a, 'v> Reading<'a, 'v> {
    pub(super) fn new(view: &'a View<'v>) -> Self {
        Self {
            view,
            failed: Cell::new(false),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    fn kept<T: Default>(&self, read: Result<T, StorageError>) -> T {
        read.unwrap_or_else(|error| {
            tracing::error!(%error, "the state could not be read");
            self.failed.set(true);
            T::default()
        })
    }
}

impl Store for Reading<'_, '_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept(self.view.get(key))
    }

    fn scan(&self, from: &[u8], to: &[u8], by: Order, limit: usize) -> Vec<Pair> {
        self.kept(self.view.scan(from, to, order(by), limit))
    }
}
