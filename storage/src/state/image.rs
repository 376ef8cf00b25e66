//! A consistent image of the state, read while commits go on.
//!
//! The image begins by closing the active layer: what it must show is then the engine's pairs
//! with the frozen layers above them, and it holds on to those. It walks the keys upwards with a
//! cursor. When the writer carries a *later* layer, it first saves the engine's value of each key
//! at or ahead of the cursor (or that there was none), unless one of the image's own layers
//! covers the key anyway; behind the cursor nothing needs saving. A page is what the engine
//! holds, corrected by what was saved and by the image's layers. So commits never wait for an
//! image, the writer waits for at most one page, and an unchanged state costs no memory.
//!
//! The alternatives were weighed: an immutable map in memory holds ten million bookings in
//! RAM; blocking commits for the whole walk stalls the service for seconds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::head::{Head, stored_key};
use super::layer::{Frozen, changes_of, cost};
use super::merge::{self, Range, successor};
use super::{Applied, Digest, Inner};
use crate::{Engine, Order, Pair, StorageError, Tree};

/// Pairs fetched under the lock at a time: about a millisecond when none is in memory.
const PAGE_PAIRS: usize = 128;

/// The state's side of a living image.
pub(super) struct Tracking {
    generation: u8,
    /// What was above the engine when the image began, the oldest first.
    layers: Vec<Arc<Frozen>>,
    /// Keys below this were given out.
    cursor: Vec<u8>,
    /// What the image must show instead of what the engine holds, all at or above the cursor.
    saved: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    saved_bytes: usize,
    finished: bool,
    lost: Option<StorageError>,
}

impl Tracking {
    /// Saves what the writer is about to overwrite.
    pub(super) fn save(
        &mut self,
        engine: &dyn Engine,
        key: &[u8],
        max_bytes: usize,
    ) -> Result<(), StorageError> {
        let needed = !self.finished
            && self.lost.is_none()
            && key >= self.cursor.as_slice()
            && !self.layers.iter().any(|frozen| frozen.layer.holds(key))
            && !self.saved.contains_key(key);
        if !needed {
            return Ok(());
        }
        let before = engine.get(Tree::State, &stored_key(self.generation, key))?;
        self.saved_bytes += cost(key, before.as_ref());
        self.saved.insert(key.to_vec(), before);
        if self.saved_bytes > max_bytes {
            self.give_up(StorageError::image_lost(format!(
                "more than {max_bytes} bytes of old values would have to be kept; \
                 writes are faster than the image is read"
            )));
        }
        Ok(())
    }

    pub(super) fn give_up(&mut self, error: StorageError) {
        self.lost = Some(error);
        self.forget();
    }

    fn forget(&mut self) {
        self.layers.clear();
        self.saved.clear();
        self.saved_bytes = 0;
    }

    /// The next pairs from the cursor on.
    fn read(&self, engine: &dyn Engine) -> Result<Vec<Pair>, StorageError> {
        let range = Range {
            from: &self.cursor,
            to: &[],
            order: Order::Ascending,
        };
        let layers = self.layers.iter().rev();
        let mut changes: Vec<_> = layers.map(|frozen| frozen.layer.changes(range)).collect();
        changes.push(changes_of(&self.saved, range));
        merge::scan(engine, self.generation, changes, range, PAGE_PAIRS)
    }

    /// Moves the cursor and forgets what lies behind it.
    fn advance(&mut self, cursor: Vec<u8>) {
        let ahead = self.saved.split_off(&cursor);
        let behind = std::mem::replace(&mut self.saved, ahead);
        for (key, value) in behind {
            self.saved_bytes -= cost(&key, value.as_ref());
        }
        self.cursor = cursor;
    }
}

/// All pairs as of the commit at which it was begun, in key order, page by page. One at a time;
/// dropping it ends it.
pub struct Image {
    inner: Arc<Inner>,
    head: Head,
}

impl Drop for Image {
    fn drop(&mut self) {
        *self.inner.image.lock() = None;
    }
}

impl Image {
    pub(super) fn begin(inner: &Arc<Inner>) -> Result<Image, StorageError> {
        let mut image = inner.image.lock();
        if image.is_some() {
            return Err(StorageError::misuse("an image is being read already"));
        }
        let mut live = inner.live.write();
        live.freeze();
        let head = live.head.clone();
        let layers = live.frozen.iter().cloned().collect();
        drop(live);
        *image = Some(Tracking {
            generation: head.generation,
            layers,
            cursor: Vec::new(),
            saved: BTreeMap::new(),
            saved_bytes: 0,
            finished: false,
            lost: None,
        });
        drop(image);
        inner.notify();
        Ok(Image {
            inner: Arc::clone(inner),
            head,
        })
    }

    /// How far the image was applied.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        &self.head.applied
    }

    /// The digest of all pairs of the image.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.head.digest
    }

    /// Bytes of old values that are kept for this image now, its layers not counted.
    #[must_use]
    pub fn saved_bytes(&self) -> usize {
        self.inner
            .image
            .lock()
            .as_ref()
            .map_or(0, |tracking| tracking.saved_bytes)
    }

    /// The next pairs, at least one and otherwise at most some `max_bytes` of them; `None` after
    /// the last. The writer waits while a page is read, commits do not.
    ///
    /// # Errors
    /// `ImageLost` when too much changed ahead of the cursor or an import replaced the state;
    /// `Io`, `Corruption` or `Poisoned` of the engine.
    pub fn next_page(&mut self, max_bytes: usize) -> Result<Option<Vec<Pair>>, StorageError> {
        let mut guard = self.inner.image.lock();
        let tracking = guard
            .as_mut()
            .expect("the image lives as long as its tracking");
        if let Some(lost) = &tracking.lost {
            return Err(lost.clone());
        }
        if tracking.finished {
            return Ok(None);
        }
        let mut pairs = tracking.read(self.inner.engine.as_ref())?;
        let cut = cut_at(&pairs, max_bytes);
        if cut == pairs.len() && pairs.len() < PAGE_PAIRS {
            tracking.finished = true;
            tracking.forget();
        } else {
            pairs.truncate(cut);
            let last = pairs.last().map(|(key, _)| successor(key));
            tracking.advance(last.expect("a page that is not the last has a pair"));
        }
        Ok((!pairs.is_empty()).then_some(pairs))
    }
}

/// How many of `pairs` fit into `max_bytes`, at least one.
fn cut_at(pairs: &[Pair], max_bytes: usize) -> usize {
    let mut bytes = 0;
    for (count, (key, value)) in pairs.iter().enumerate() {
        bytes += key.len() + value.len();
        if bytes > max_bytes && count > 0 {
            return count;
        }
    }
    pairs.len()
}
