//! The journal: where log records and small facts are written, one after the other, and synced.
//!
//! Every acknowledged write waits for a sync of this file, so nothing stands between the two: a
//! write is appended to a buffer, a flush is one `pwrite` and one `fdatasync` on the caller's
//! thread. An index in memory says where the live values are; the log is short (what snapshots do
//! not cover), so the index is small.
//!
//! Why not in sled beside the state: a flush of sled's goes through its pool of threads and wakes
//! eight of them for one write, and it shares its segments with the state, so that short-lived log
//! records keep it busy collecting garbage. Measured before on three nodes and two cores, a lone
//! booking: 90 context switches, about forty of them from sled's pool.
//!
//! ```text
//! DIR/0000000000000003.seg   oldest segment that holds something live
//! DIR/0000000000000004.seg   the active one, zeroed ahead of its end
//! DIR/retired                a segment whose turn is over, to be used again
//! ```
//!
//! # What holds
//!
//! - **One order.** After a power cut there is what was flushed, and some prefix of the rest. The
//!   first record that is not valid ends what is read; a new segment begins there, and notes where
//!   its predecessor ended.
//! - **Damage is told from a torn end.** Each record carries how much was synced when it was
//!   written. If a record is invalid and a later one says that it had been synced, the file is
//!   damaged, and the open is refused.
//! - **Syncing is cheap.** A segment is extended with zeros some way ahead, and a retired one is
//!   used again as it is, so that a sync rarely has to write the file's length and extents.
//! - **Space is bounded.** The oldest segment goes as soon as nothing in it is live; facts that
//!   still stand in it are written again first.
//!
//! Not here: what the keys mean; batches across more than one record; the last group that was
//! synced before a kill, when just that part of the file is damaged afterwards (nothing later
//! vouches for it; the seals of `data_dir.rs` do after a few seconds).

pub(crate) mod fuzzing;
mod recovery;
mod segment;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::segment::{Draft, HEADER_BYTES, Header};
use crate::snapshot::sync_directory;
use crate::{Order, Pair, StorageError, Tree, Value, sync_repair};

/// The size of a segment, in bytes.
pub(crate) const SEGMENT_BYTES: u32 = 16 << 20;
/// How far ahead of its end a segment is filled with zeros, in bytes.
const ZEROS_AHEAD_BYTES: u32 = 512 << 10;
/// Writes are handed to the kernel when this many bytes wait, even without a flush.
const BUFFER_BYTES: usize = 256 << 10;
const RETIRED: &str = "retired";

/// Where a live value of the log is.
#[derive(Debug, Clone, Copy)]
struct Place {
    sequence: u64,
    at: u32,
    length: u32,
}

struct Segment {
    file: Arc<File>,
    path: PathBuf,
    /// Values of the log tree in it that are live.
    live: u64,
}

/// A fact and the segment that its last record stands in.
struct Fact {
    sequence: u64,
    value: Vec<u8>,
}

struct Inner {
    directory: PathBuf,
    segment_bytes: u32,
    log: BTreeMap<Box<[u8]>, Place>,
    facts: BTreeMap<Box<[u8]>, Fact>,
    segments: BTreeMap<u64, Segment>,
    /// The sequence number of the segment that is written to.
    active: u64,
    /// What was not handed to the kernel yet, from `buffer_at` on.
    buffer: Vec<u8>,
    buffer_at: u32,
    /// How far the active segment is filled with zeros, or with what an earlier use left.
    filled_to: u32,
    synced_to: u32,
    /// Something was written since the last sync.
    dirty: bool,
    retired: Option<PathBuf>,
    /// The first failure of the disk. Final: the kernel tells of a failed sync once, so whoever
    /// comes next and finds nothing left to sync must not take that for success.
    failed: Option<StorageError>,
}

/// An append-only store of the trees `Log` and `Meta`.
pub(crate) struct Journal {
    inner: Mutex<Inner>,
    one_flush: Mutex<()>,
}

impl Journal {
    /// Opens or creates the journal in `directory`. New segments get this size; those that are
    /// there may have another.
    ///
    /// # Errors
    /// `Corruption` where something that was synced is missing or damaged; `Io`.
    pub(crate) fn open_with(directory: &Path, segment_bytes: u32) -> Result<Journal, StorageError> {
        fs::create_dir_all(directory)
            .map_err(|error| StorageError::file("create", directory, error))?;
        let found = recovery::read(directory)?;
        let mut inner = Inner {
            directory: directory.to_owned(),
            segment_bytes,
            log: found.log,
            facts: found.facts,
            segments: found.segments,
            active: found.last_sequence,
            buffer: Vec::new(),
            buffer_at: found.last_end,
            filled_to: 0,
            synced_to: 0,
            dirty: false,
            retired: None,
            failed: None,
        };
        inner.begin_segment()?;
        Ok(Journal {
            inner: Mutex::new(inner),
            one_flush: Mutex::new(()),
        })
    }

    /// Whether `directory` holds a journal at all.
    pub(crate) fn exists(directory: &Path) -> bool {
        recovery::list(directory).is_ok_and(|segments| !segments.is_empty())
    }

    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let inner = self.inner.lock();
        if tree == Tree::Meta {
            return Ok(inner.facts.get(key).map(|fact| fact.value.clone()));
        }
        let Some(place) = inner.log.get(key).copied() else {
            return Ok(None);
        };
        let source = inner.source(place);
        drop(inner);
        source.read().map(Some)
    }

    pub(crate) fn scan(
        &self,
        tree: Tree,
        (from, to): (&[u8], &[u8]),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StorageError> {
        if !to.is_empty() && from >= to {
            return Ok(Vec::new());
        }
        let upper = if to.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(to)
        };
        let range = (Bound::Included(from), upper);
        let inner = self.inner.lock();
        if tree == Tree::Meta {
            let pairs = inner.facts.range::<[u8], _>(range);
            let pairs = pairs.map(|(key, fact)| (key.to_vec(), fact.value.clone()));
            return Ok(match order {
                Order::Ascending => pairs.take(limit).collect(),
                Order::Descending => pairs.rev().take(limit).collect(),
            });
        }
        let places = inner.log.range::<[u8], _>(range);
        let places = places.map(|(key, place)| (key.to_vec(), inner.source(*place)));
        let sources: Vec<_> = match order {
            Order::Ascending => places.take(limit).collect(),
            Order::Descending => places.rev().take(limit).collect(),
        };
        drop(inner);
        sources
            .into_iter()
            .map(|(key, source)| Ok((key, source.read()?)))
            .collect()
    }

    /// Writes in one record: all of them are there after a crash, or none.
    pub(crate) fn write(
        &self,
        tree: Tree,
        writes: &[(Vec<u8>, Option<Value>)],
    ) -> Result<(), StorageError> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut inner = self.inner.lock();
        inner.healthy()?;
        let outcome = inner.write(tree, writes);
        inner.latched(outcome)
    }

    /// Makes everything so far durable.
    ///
    /// # Errors
    /// `Io`, or `TooLarge` for a record that fits no segment; after an `Io` nothing succeeds.
    pub(crate) fn flush(&self) -> Result<(), StorageError> {
        let _one = self.one_flush.lock();
        let mut inner = self.inner.lock();
        inner.healthy()?;
        let prepared = inner.prepare_trim();
        let doomed = inner.latched(prepared)?;
        let written = inner.write_out();
        inner.latched(written)?;
        if !inner.dirty {
            return Ok(());
        }
        inner.dirty = false;
        let (sequence, end) = (inner.active, inner.buffer_at);
        let (file, path) = inner.active_file();
        drop(inner);
        // Nobody waits for the disk who only reads, or who writes what a later flush covers.
        let synced = sync(&file, &path);
        let mut inner = self.inner.lock();
        // Before anybody else may flush.
        inner.latched(synced)?;
        if inner.active == sequence {
            inner.synced_to = end;
        }
        inner.remove(doomed);
        Ok(())
    }

    pub(crate) fn bytes_on_disk(&self) -> u64 {
        let inner = self.inner.lock();
        let length = |segment: &Segment| segment.file.metadata().map_or(0, |data| data.len());
        inner.segments.values().map(length).sum()
    }
}

/// Where the bytes of a value are to be had.
enum Source {
    Bytes(Vec<u8>),
    File(Arc<File>, PathBuf, Place),
}

impl Source {
    fn read(self) -> Result<Vec<u8>, StorageError> {
        match self {
            Source::Bytes(bytes) => Ok(bytes),
            Source::File(file, path, place) => {
                let mut bytes = vec![0; usize::try_from(place.length).unwrap_or(usize::MAX)];
                file.read_exact_at(&mut bytes, place.at.into())
                    .map_err(|error| StorageError::file("read", &path, error))?;
                Ok(bytes)
            }
        }
    }
}

impl Inner {
    fn healthy(&self) -> Result<(), StorageError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn latched<T>(&mut self, outcome: Result<T, StorageError>) -> Result<T, StorageError> {
        // A record that is too long is refused before anything is written.
        if let Err(error) = &outcome
            && !matches!(error, StorageError::TooLarge { .. })
        {
            self.failed.get_or_insert_with(|| error.poison());
        }
        outcome
    }

    fn source(&self, place: Place) -> Source {
        if place.sequence == self.active && place.at >= self.buffer_at {
            let start = usize::try_from(place.at - self.buffer_at).unwrap_or(usize::MAX);
            let end = start + usize::try_from(place.length).unwrap_or(usize::MAX);
            return Source::Bytes(self.buffer[start..end].to_vec());
        }
        let segment = &self.segments[&place.sequence];
        Source::File(Arc::clone(&segment.file), segment.path.clone(), place)
    }

    fn active_file(&self) -> (Arc<File>, PathBuf) {
        let segment = &self.segments[&self.active];
        (Arc::clone(&segment.file), segment.path.clone())
    }

    /// Where the next record goes.
    fn end(&self) -> u32 {
        self.buffer_at + u32::try_from(self.buffer.len()).expect("the buffer is bounded")
    }

    fn write(
        &mut self,
        tree: Tree,
        writes: &[(Vec<u8>, Option<Value>)],
    ) -> Result<(), StorageError> {
        let mut draft = Draft::new();
        let mut values_at = Vec::with_capacity(writes.len());
        for (key, value) in writes {
            let value = value.as_ref().map(Value::as_bytes);
            values_at.push(draft.write(tree, key, value));
        }
        let at = self.append(draft)?;
        for ((key, value), value_at) in writes.iter().zip(values_at) {
            let Some(value) = value else {
                self.forget(tree, key);
                continue;
            };
            let length = u32::try_from(value.as_bytes().len()).expect("values are short");
            let place = Place {
                sequence: self.active,
                at: at + u32::try_from(value_at).expect("a record fits a segment"),
                length,
            };
            self.learn(tree, key, place, value.as_bytes());
        }
        Ok(())
    }

    fn learn(&mut self, tree: Tree, key: &[u8], place: Place, value: &[u8]) {
        if tree == Tree::Meta {
            let fact = Fact {
                sequence: place.sequence,
                value: value.to_vec(),
            };
            self.facts.insert(key.into(), fact);
            return;
        }
        self.forget(tree, key);
        self.log.insert(key.into(), place);
        self.count(place.sequence, 1);
    }

    fn forget(&mut self, tree: Tree, key: &[u8]) {
        if tree == Tree::Meta {
            self.facts.remove(key);
        } else if let Some(place) = self.log.remove(key) {
            self.count(place.sequence, -1);
        }
    }

    fn count(&mut self, sequence: u64, change: i64) {
        if let Some(segment) = self.segments.get_mut(&sequence) {
            segment.live = segment
                .live
                .checked_add_signed(change)
                .expect("what is removed was counted");
        }
    }

    /// Puts a record at the end and returns its place in the active segment.
    fn append(&mut self, draft: Draft) -> Result<u32, StorageError> {
        let room = self.segment_bytes - HEADER_BYTES;
        let length = u32::try_from(draft.len()).unwrap_or(u32::MAX);
        if length > room {
            return Err(StorageError::TooLarge {
                what: "journal record",
                bytes: draft.len(),
                limit_bytes: usize::try_from(room).unwrap_or(usize::MAX),
            });
        }
        if self.end() + length > self.segment_bytes {
            self.finish_segment()?;
            self.begin_segment()?;
        }
        let at = self.end();
        draft.finish(&mut self.buffer, self.active, at, self.synced_to);
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_out()?;
        }
        Ok(at)
    }

    /// Hands the buffer to the kernel.
    fn write_out(&mut self) -> Result<(), StorageError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let (file, path) = self.active_file();
        let failed = |error| StorageError::file("write", &path, error);
        let end = self.end();
        if end > self.filled_to {
            let ahead = end
                .saturating_add(ZEROS_AHEAD_BYTES)
                .min(self.segment_bytes);
            let zeros = vec![0; usize::try_from(ahead - end).unwrap_or_default()];
            file.write_all_at(&zeros, end.into()).map_err(failed)?;
            self.filled_to = ahead;
        }
        file.write_all_at(&self.buffer, self.buffer_at.into())
            .map_err(failed)?;
        self.buffer.clear();
        self.buffer_at = end;
        self.dirty = true;
        Ok(())
    }

    /// Makes the active segment durable to its end: all but the last one always are.
    fn finish_segment(&mut self) -> Result<(), StorageError> {
        self.write_out()?;
        let (file, path) = self.active_file();
        sync(&file, &path)?;
        self.dirty = false;
        Ok(())
    }

    /// Begins the segment after the active one. Its header is durable before its name is there.
    fn begin_segment(&mut self) -> Result<(), StorageError> {
        let sequence = self.active + 1;
        let path = self.directory.join(recovery::file_name(sequence));
        let (aside, reused) = match self.retired.take() {
            Some(retired) => {
                // It must have lost its old name for good before it says that it is another.
                sync_directory(&self.directory)?;
                (retired, true)
            }
            None => (self.directory.join(recovery::ASIDE), false),
        };
        let failed = |error| StorageError::file("begin", &path, error);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(!reused)
            .open(&aside)
            .map_err(failed)?;
        let header = Header {
            sequence,
            previous_end: self.buffer_at,
        };
        file.write_all_at(&header.encode(), 0).map_err(failed)?;
        self.filled_to = if reused {
            self.segment_bytes
        } else {
            HEADER_BYTES
        };
        sync(&file, &aside)?;
        fs::rename(&aside, &path).map_err(failed)?;
        sync_directory(&self.directory)?;
        let segment = Segment {
            file: Arc::new(file),
            path,
            live: 0,
        };
        self.segments.insert(sequence, segment);
        self.active = sequence;
        self.buffer_at = HEADER_BYTES;
        self.synced_to = HEADER_BYTES;
        Ok(())
    }

    /// If the oldest segments hold nothing live, writes what makes them dispensable, and returns
    /// the oldest that stays: once that is synced, the older ones may go.
    fn prepare_trim(&mut self) -> Result<Option<u64>, StorageError> {
        let active = self.active;
        let needed = |(sequence, segment): (&u64, &Segment)| {
            (segment.live > 0 || *sequence == active).then_some(*sequence)
        };
        let Some(oldest) = self.segments.iter().find_map(needed) else {
            return Ok(None);
        };
        if self
            .segments
            .first_key_value()
            .is_none_or(|(first, _)| *first == oldest)
        {
            return Ok(None);
        }
        let standing: Vec<(Box<[u8]>, Vec<u8>)> = self
            .facts
            .iter()
            .filter(|(_, fact)| fact.sequence < oldest)
            .map(|(key, fact)| (key.clone(), fact.value.clone()))
            .collect();
        let mut draft = Draft::new();
        for (key, value) in &standing {
            draft.write(Tree::Meta, key, Some(value));
        }
        draft.trim(oldest);
        self.append(draft)?;
        let active = self.active;
        for (key, _) in standing {
            if let Some(fact) = self.facts.get_mut(&key) {
                fact.sequence = active;
            }
        }
        Ok(Some(oldest))
    }

    /// Removes the segments before `oldest`, and keeps one of them for the next turn. A file that
    /// cannot be removed is only in the way: the next open removes it.
    fn remove(&mut self, oldest: Option<u64>) {
        let Some(oldest) = oldest else { return };
        let kept = self.segments.split_off(&oldest);
        for segment in std::mem::replace(&mut self.segments, kept).into_values() {
            let whole = u64::from(self.segment_bytes);
            let whole = segment
                .file
                .metadata()
                .is_ok_and(|data| data.len() == whole);
            let retired = self.directory.join(RETIRED);
            let outcome = if whole && self.retired.is_none() {
                let renamed = fs::rename(&segment.path, &retired);
                self.retired = renamed.is_ok().then_some(retired);
                renamed
            } else {
                fs::remove_file(&segment.path)
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, file = %segment.path.display(), "cannot remove a segment of the journal");
            }
        }
    }
}

fn sync(file: &File, path: &Path) -> Result<(), StorageError> {
    sync_repair::sync_data(file).map_err(|error| StorageError::file("sync", path, error))
}

#[cfg(test)]
mod tests;
