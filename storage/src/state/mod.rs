//! The replicated state.
use std::sync::Arc;

use crate::{Engine, Order, Pair, StorageError};

/// Options.
#[derive(Debug, Clone)]
pub struct StateOptions {
    /// Most bytes of old values kept for an image.
    pub max_image_bytes: usize,
}
impl Default for StateOptions {
    fn default() -> Self {
        StateOptions {
            max_image_bytes: 64 << 20,
        }
    }
}

/// How far the state has been applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The log index of the last entry in the state; 0 with an empty record: nothing yet.
    pub index: u64,
    /// The replicated clock.
    pub now_ms: u64,
    /// The caller's bytes, at most [`MAX_APPLIED_RECORD_BYTES`].
    pub record: Vec<u8>,
}
/// The largest [`Applied::record`], in bytes.
pub const MAX_APPLIED_RECORD_BYTES: usize = 4 * 1024;

/// A digest of all pairs.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest([u8; 16]);

/// A handle.
#[derive(Clone)]
pub struct State {}
/// A consistent view.
pub struct View<'a>(std::marker::PhantomData<&'a ()>);
/// An overlay.
pub struct Transaction {}
/// An image.
pub struct Image {}
/// An import.
pub struct Import {}

#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl State {
    pub fn open(engine: Arc<dyn Engine>) -> Result<State, StorageError> {
        todo!()
    }
    pub fn open_with(
        engine: Arc<dyn Engine>,
        options: StateOptions,
    ) -> Result<State, StorageError> {
        todo!()
    }
    pub fn read<T>(&self, f: impl FnOnce(&View<'_>) -> T) -> T {
        todo!()
    }
    pub fn applied(&self) -> Applied {
        todo!()
    }
    pub fn digest(&self) -> Digest {
        todo!()
    }
    pub fn transaction(&self) -> Transaction {
        todo!()
    }
    pub fn commit(&self, tx: Transaction, applied: Applied) -> Result<(), StorageError> {
        todo!()
    }
    pub fn image(&self) -> Result<Image, StorageError> {
        todo!()
    }
    pub fn import(&self) -> Result<Import, StorageError> {
        todo!()
    }
    pub fn flush(&self) -> Result<(), StorageError> {
        todo!()
    }
}
#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl View<'_> {
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        todo!()
    }
    pub fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StorageError> {
        todo!()
    }
    pub fn applied(&self) -> &Applied {
        todo!()
    }
    pub fn digest(&self) -> Digest {
        todo!()
    }
}
#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl Transaction {
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        todo!()
    }
    pub fn scan(&self, from: &[u8], to: &[u8], order: Order, limit: usize) -> Vec<Pair> {
        todo!()
    }
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) {
        todo!()
    }
    pub fn delete(&mut self, key: &[u8]) {
        todo!()
    }
    pub fn error(&self) -> Option<StorageError> {
        todo!()
    }
    pub fn applied(&self) -> &Applied {
        todo!()
    }
}
#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl Image {
    pub fn applied(&self) -> &Applied {
        todo!()
    }
    pub fn digest(&self) -> Digest {
        todo!()
    }
    pub fn next_page(&mut self, max_bytes: usize) -> Result<Option<Vec<Pair>>, StorageError> {
        todo!()
    }
}
#[expect(
    unused_variables,
    clippy::todo,
    missing_docs,
    reason = "signatures first"
)]
impl Import {
    pub fn put_page(&mut self, page: Vec<Pair>) -> Result<(), StorageError> {
        todo!()
    }
    pub fn finish(self, applied: Applied, digest: Digest) -> Result<(), StorageError> {
        todo!()
    }
}
#[expect(clippy::todo, missing_docs, reason = "signatures first")]
impl Digest {
    pub fn to_bytes(self) -> [u8; 16] {
        todo!()
    }
    pub fn from_bytes(bytes: [u8; 16]) -> Digest {
        Digest(bytes)
    }
}
