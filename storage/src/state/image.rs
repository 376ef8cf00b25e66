//! A consistent image of the state, read while commits go on.
//!
//! The image walks the keys upwards with a cursor. A commit that changes a key at or ahead of
//! the cursor first saves the value that the image must still show (or that there was none);
//! behind the cursor nothing needs saving. A page is what the engine holds, corrected by what
//! was saved. So a commit waits for at most one page, and an unchanged state costs no memory.
//!
//! The alternatives were weighed: an immutable map in memory holds ten million bookings in
//! RAM; blocking commits for the whole walk stalls the service for seconds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::head::Head;
use super::transaction::Overlay;
use super::{Applied, Digest, Inner, scan_generation, successor};
use crate::{Order, Pair, StorageError};

/// Pairs fetched under the lock at a time: about a millisecond when none is in memory.
const PAGE_PAIRS: usize = 128;

/// The state's side of a living image.
pub(super) struct Tracking {
    /// Keys below this were given out.
    cursor: Vec<u8>,
    /// What the image must show instead of what the engine holds, all at or above the cursor.
    saved: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    saved_bytes: usize,
    finished: bool,
    lost: Option<StorageError>,
}

impl Tracking {
    /// Saves what a commit is about to overwrite.
    pub(super) fn save(&mut self, overlay: &Overlay, max_bytes: usize) {
        if self.finished || self.lost.is_some() {
            return;
        }
        for (key, slot) in overlay.range(self.cursor.clone()..) {
            if slot.after.is_none() || self.saved.contains_key(key) {
                continue;
            }
            self.saved_bytes += cost(key, slot.before.as_ref());
            self.saved.insert(key.clone(), slot.before.clone());
        }
        if self.saved_bytes > max_bytes {
            self.give_up(StorageError::image_lost(format!(
                "more than {max_bytes} bytes of old values would have to be kept; \
                 writes are faster than the image is read"
            )));
        }
    }

    pub(super) fn give_up(&mut self, error: StorageError) {
        self.lost = Some(error);
        self.saved.clear();
        self.saved_bytes = 0;
    }

    /// Corrects `stored`, the engine's pairs from the cursor up to `end` (`None`: all).
    fn correct(&self, stored: Vec<Pair>, end: Option<&[u8]>) -> Vec<Pair> {
        if self.saved.is_empty() {
            return stored;
        }
        let mut pairs: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for (key, value) in &self.saved {
            if end.is_some_and(|end| key.as_slice() > end) {
                break;
            }
            match value {
                Some(value) => pairs.insert(key.clone(), value.clone()),
                None => pairs.remove(key),
            };
        }
        pairs.into_iter().collect()
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

fn cost(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    const ENTRY_OVERHEAD_BYTES: usize = 96;
    ENTRY_OVERHEAD_BYTES + key.len() + value.map_or(0, Vec::len)
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
        let head = inner.live.read().head.clone();
        *image = Some(Tracking {
            cursor: Vec::new(),
            saved: BTreeMap::new(),
            saved_bytes: 0,
            finished: false,
            lost: None,
        });
        drop(image);
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

    /// Bytes of old values that are kept for this image now.
    #[must_use]
    pub fn saved_bytes(&self) -> usize {
        self.inner
            .image
            .lock()
            .as_ref()
            .map_or(0, |tracking| tracking.saved_bytes)
    }

    /// The next pairs, at least one and otherwise at most some `max_bytes` of them; `None` after
    /// the last. Commits wait while a page is read.
    ///
    /// # Errors
    /// `ImageLost` when too much changed ahead of the cursor or an import replaced the state;
    /// `Io`, `Corruption` or `Poisoned` of the engine.
    pub fn next_page(&mut self, max_bytes: usize) -> Result<Option<Vec<Pair>>, StorageError> {
        let mut guard = self.inner.image.lock();
        let tracking = guard
            .as_mut()
            .expect("the image lives as long as its tracking");
        loop {
            if let Some(lost) = &tracking.lost {
                return Err(lost.clone());
            }
            if tracking.finished {
                return Ok(None);
            }
            let stored = scan_generation(
                self.inner.engine.as_ref(),
                self.head.generation,
                &tracking.cursor,
                &[],
                Order::Ascending,
                PAGE_PAIRS,
            )?;
            let end = match stored.last() {
                Some((key, _)) if stored.len() == PAGE_PAIRS => Some(key.clone()),
                _ => None,
            };
            let mut pairs = tracking.correct(stored, end.as_deref());
            let cut = cut_at(&pairs, max_bytes);
            if cut < pairs.len() {
                pairs.truncate(cut);
                let last = pairs.last().map(|(key, _)| successor(key));
                tracking.advance(last.expect("a cut leaves at least one pair"));
            } else if let Some(end) = end {
                tracking.advance(successor(&end));
            } else {
                tracking.finished = true;
                tracking.saved.clear();
                tracking.saved_bytes = 0;
            }
            if !pairs.is_empty() {
                return Ok(Some(pairs));
            }
        }
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
