//! Replacing the whole state: a new generation is filled beside the live one and then becomes
//! the live one in one atomic step.
//!
//! Until the flip nothing of it can be seen, and commits to the live generation go on. After a
//! crash half-way, or when the import is dropped, what was filled is left over and removed
//! bit by bit.

use std::sync::Arc;

use super::head::{self, FIRST_GENERATION, Head, LAST_GENERATION, stored_key};
use super::writer::answer;
use super::{Applied, Digest, Inner};
use crate::engine::MAX_KEY_BYTES;
use crate::{Pair, StorageError, Tree, Value};

/// A generation being filled. One at a time; dropped before [`Import::finish`] it is discarded.
pub struct Import {
    inner: Arc<Inner>,
    generation: u8,
    digest: Digest,
    pairs: u64,
    last_key: Option<Vec<u8>>,
}

impl Drop for Import {
    fn drop(&mut self) {
        let mut leftovers = self.inner.leftovers.lock();
        leftovers.importing = None;
        if self.inner.live.read().head.generation != self.generation {
            leftovers.dead.insert(self.generation);
        }
        drop(leftovers);
        self.inner.notify();
    }
}

impl Import {
    pub(super) fn begin(inner: &Arc<Inner>) -> Result<Import, StorageError> {
        let live = inner.live.read().head.generation;
        let mut leftovers = inner.leftovers.lock();
        if leftovers.importing.is_some() {
            return Err(StorageError::misuse("an import is going on already"));
        }
        let generation = (live + 1..=LAST_GENERATION)
            .chain(FIRST_GENERATION..live)
            .find(|generation| !leftovers.dead.contains(generation))
            .ok_or_else(|| StorageError::misuse("no generation is free; remove leftovers first"))?;
        leftovers.importing = Some(generation);
        drop(leftovers);
        Ok(Import {
            inner: Arc::clone(inner),
            generation,
            digest: Digest::EMPTY,
            pairs: 0,
            last_key: None,
        })
    }

    /// Adds pairs; keys must rise within a page and from page to page.
    ///
    /// # Errors
    /// `Corruption` when keys do not rise; `TooLarge`; `Io` or `Poisoned` of the engine.
    pub fn put_page(&mut self, page: Vec<Pair>) -> Result<(), StorageError> {
        for (key, value) in page {
            if self.last_key.as_ref().is_some_and(|last| *last >= key) {
                return Err(StorageError::corruption(format!(
                    "the imported key {} does not rise",
                    crate::hex(&key)
                )));
            }
            if key.len() >= MAX_KEY_BYTES {
                let (bytes, limit_bytes) = (key.len(), MAX_KEY_BYTES - 1);
                return Err(StorageError::TooLarge {
                    what: "key",
                    bytes,
                    limit_bytes,
                });
            }
            self.digest.add(&key, &value);
            self.pairs += 1;
            // No batch: until the flip nothing of this counts, and rising keys go in fastest.
            let stored = stored_key(self.generation, &key);
            self.inner
                .engine
                .insert(Tree::State, &stored, Value::try_from(value)?)?;
            self.last_key = Some(key);
        }
        Ok(())
    }

    /// The number of pairs so far.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    /// Makes what was imported the live state, atomically and durably; what was not carried of
    /// the old one is forgotten. A living image is lost; a transaction begun before cannot be
    /// committed any more.
    ///
    /// # Errors
    /// `Corruption` when the pairs do not have `digest` (nothing changes then); `TooLarge` for
    /// the applied record; `Io` or `Poisoned` of the engine, which are final.
    pub fn finish(self, applied: Applied, digest: Digest) -> Result<(), StorageError> {
        if self.digest != digest {
            return Err(StorageError::corruption(format!(
                "the {} imported pairs have the digest {}, not {digest}",
                self.pairs, self.digest
            )));
        }
        let head = Head {
            generation: self.generation,
            digest,
            applied,
            redo_pieces: 0,
        };
        let value = head.encode()?;
        let engine = self.inner.engine.as_ref();
        engine.flush()?;
        {
            let mut image = self.inner.image.lock();
            if let Some(image) = image.as_mut() {
                image.give_up(StorageError::image_lost(
                    "the state was replaced by an import",
                ));
            }
            let mut live = self.inner.live.write();
            engine.insert(Tree::State, head::KEY, value)?;
            let dead = live.head.generation;
            live.replace(head);
            drop(live);
            self.inner.leftovers.lock().dead.insert(dead);
        }
        engine.flush()?;
        // Whatever was waited for is part of the past now.
        let waiting = self.inner.waiting.lock().take_all();
        answer(waiting, &Ok(()));
        Ok(())
    }
}
