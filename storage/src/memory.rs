//! A disk in memory that can lose, tear and fail: the faulty twin of the real one.
//!
//! It keeps the live content and, for log and facts and for the state, a journal of how to undo
//! each write since the last flush. A power cut undoes a random suffix of each, which is exactly
//! what the contract of [`Engine`] allows: what was flushed stays, of the rest a prefix of either
//! order, batches whole. Nothing here
//! has a thread, a clock or randomness of its own: equal calls and seeds give equal content.
//!
//! A cut or crash also kills every handle given out before it: a "dead" node that still holds
//! one cannot write into its own future.
//!
//! Snapshot files appear whole or not at all, as the real ones do (written aside, synced,
//! renamed); an uncommitted one is lost in a cut.
//!
//! Not modelled: writes that become durable out of order. The real engine turns those into a
//! prefix when it recovers; its own power-cut test shows so.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::snapshot::{SnapshotFiles, SnapshotReader, SnapshotWriter, check_name};
use crate::{Batch, Engine, EngineStats, MAX_KEY_BYTES, Order, Pair, StorageError, Tree, Value};

/// A disk in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    inner: Arc<Mutex<Disk>>,
}

/// What the disk has done so far; also what a fault's position is counted in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Inserts and batches that took effect.
    pub writes: u64,
    /// Flushes that made something durable.
    pub flushes: u64,
    /// Snapshot files committed.
    pub files: u64,
    /// Power cuts and process crashes.
    pub crashes: u64,
    /// Writes that power cuts took away.
    pub lost_writes: u64,
    /// Injected failures that fired.
    pub faults: u64,
}

/// What a power cut took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PowerLoss {
    /// Of the log and the facts.
    pub log: TailLoss,
    /// Of the state.
    pub state: TailLoss,
}

/// What a power cut took of one order of writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TailLoss {
    /// Writes that were not flushed.
    pub unflushed: usize,
    /// Those of them that are gone; the others stayed.
    pub lost: usize,
    /// Pairs that lost writes had added, where there was none before.
    pub lost_pairs: usize,
}

impl TailLoss {
    /// Whether a part of what was not flushed is gone, and a part is there.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        0 < self.lost && self.lost < self.unflushed
    }
}

#[derive(Default)]
struct Disk {
    trees: [BTreeMap<Vec<u8>, Vec<u8>>; 3],
    /// One entry per insert or batch since the last flush: the values that it replaced. First of
    /// the log and the facts, then of the state.
    journals: [Vec<Vec<Undo>>; 2],
    files: BTreeMap<String, Arc<Vec<u8>>>,
    /// Handles of an earlier life are dead.
    life: u64,
    /// Whether somebody has opened the database in this life.
    opened: bool,
    failure: Option<StorageError>,
    fail_flush_after: Option<u64>,
    fail_write_after: Option<u64>,
    full: bool,
    lying: bool,
    counts: DiskCounts,
}

struct Undo {
    tree: Tree,
    key: Vec<u8>,
    previous: Option<Vec<u8>>,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// The database on this disk. Dead after the next cut or crash; ask again then. The first to ask after a crash
    /// opens it, which makes durable what it finds, as the real engine's proof that flushes reach the disk does.
    #[must_use]
    pub fn engine(&self) -> Arc<dyn Engine> {
        let mut disk = self.inner.lock();
        if !disk.opened && !disk.lying {
            disk.forget_undo();
        }
        disk.opened = true;
        Arc::new(Handle {
            inner: Arc::clone(&self.inner),
            life: disk.life,
        })
    }

    /// The snapshot files on this disk. Dead after the next cut or crash.
    #[must_use]
    pub fn snapshots(&self) -> Arc<dyn SnapshotFiles> {
        Arc::new(Handle {
            inner: Arc::clone(&self.inner),
            life: self.inner.lock().life,
        })
    }

    /// Cuts the power: what was flushed stays, and of the writes since then a prefix that
    /// `seed` chooses, of either order its own. Returns what was lost.
    pub fn power_cut(&self, seed: u64) -> PowerLoss {
        let mut disk = self.inner.lock();
        let [log, state] = [0, 1].map(|order| disk.lose_tail(order, seed));
        let lost = log.lost + state.lost;
        disk.counts.lost_writes += u64::try_from(lost).expect("a length fits 64 bits");
        disk.next_life();
        PowerLoss { log, state }
    }

    /// Kills the process that uses the disk (kill -9): all that was written stays, since the
    /// kernel still holds it, but a power cut before the next open may still take it.
    pub fn process_crash(&self) {
        self.inner.lock().next_life();
    }

    /// The next flush fails, for good.
    pub fn fail_next_flush(&self) {
        self.fail_flush_after(0);
    }

    /// The flush after `count` more fails, for good.
    pub fn fail_flush_after(&self, count: u64) {
        self.inner.lock().fail_flush_after = Some(count);
    }

    /// The write after `count` more fails, for good.
    pub fn fail_write_after(&self, count: u64) {
        self.inner.lock().fail_write_after = Some(count);
    }

    /// While set every write fails as if the disk were full. Survives a crash, as a full disk
    /// does.
    pub fn fail_writes(&self, fail: bool) {
        self.inner.lock().full = fail;
    }

    /// While set flushes answer `Ok` without making anything durable: a planted bug, for tests
    /// that show that a check can fail.
    pub fn lie_about_flushes(&self, lie: bool) {
        self.inner.lock().lying = lie;
    }

    /// Flips one bit of a stored value that `seed` chooses; returns the key of the pair.
    pub fn corrupt_value(&self, tree: Tree, seed: u64) -> Option<Vec<u8>> {
        let mut disk = self.inner.lock();
        let map = &mut disk.trees[tree.number()];
        let candidates: Vec<&Vec<u8>> = map
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, _)| key)
            .collect();
        let key = (*pick(&candidates, scramble(seed))?).clone();
        let value = map.get_mut(&key)?;
        flip_bit(value, scramble(seed ^ 1));
        Some(key)
    }

    /// Flips one bit of a snapshot file that `seed` chooses; returns the file's name.
    pub fn corrupt_file(&self, seed: u64) -> Option<String> {
        let mut disk = self.inner.lock();
        let names: Vec<String> = disk.files.keys().cloned().collect();
        let name = pick(&names, scramble(seed))?.clone();
        let mut bytes = disk.files.get(&name)?.to_vec();
        flip_bit(&mut bytes, scramble(seed ^ 1));
        disk.files.insert(name.clone(), Arc::new(bytes));
        Some(name)
    }

    /// Counters.
    #[must_use]
    pub fn counts(&self) -> DiskCounts {
        self.inner.lock().counts
    }
}

/// Which of the two orders of writes a tree belongs to.
fn order_of(tree: Tree) -> usize {
    match tree {
        Tree::Log | Tree::Meta => 0,
        Tree::State => 1,
    }
}

impl Disk {
    fn forget_undo(&mut self) {
        self.journals.iter_mut().for_each(Vec::clear);
    }

    fn lose_tail(&mut self, order: u8, seed: u64) -> TailLoss {
        let order_seed = scramble(seed ^ u64::from(order));
        let mut journal = std::mem::take(&mut self.journals[usize::from(order)]);
        let unflushed = journal.len();
        let choices = u64::try_from(unflushed).expect("a length fits 64 bits") + 1;
        let keep = usize::try_from(order_seed % choices).expect("at most the journal's length");
        let mut loss = TailLoss {
            unflushed,
            lost: unflushed - keep,
            lost_pairs: 0,
        };
        let gone = journal.drain(keep..).rev();
        for undo in gone.flat_map(|undos| undos.into_iter().rev()) {
            loss.lost_pairs += usize::from(undo.previous.is_none());
            self.restore(undo);
        }
        loss
    }

    fn next_life(&mut self) {
        self.life += 1;
        self.opened = false;
        self.failure = None;
        self.fail_flush_after = None;
        self.fail_write_after = None;
        self.counts.crashes += 1;
    }

    fn bytes(&self) -> u64 {
        let pairs = self
            .trees
            .iter()
            .flatten()
            .map(|(key, value)| key.len() + value.len());
        let total = pairs
            .chain(self.files.values().map(|file| file.len()))
            .sum::<usize>();
        u64::try_from(total).expect("a length fits 64 bits")
    }

    fn restore(&mut self, undo: Undo) {
        let map = &mut self.trees[undo.tree.number()];
        match undo.previous {
            Some(previous) => map.insert(undo.key, previous),
            None => map.remove(&undo.key),
        };
    }

    fn change(&mut self, tree: Tree, key: Vec<u8>, value: Option<Value>) -> Undo {
        let map = &mut self.trees[tree.number()];
        let previous = match value {
            Some(value) => map.insert(key.clone(), value.into_bytes()),
            None => map.remove(&key),
        };
        Undo {
            tree,
            key,
            previous,
        }
    }

    fn write(&mut self, tree: Tree, batch: Batch) -> Result<(), StorageError> {
        for (key, _) in &batch.writes {
            if key.len() > MAX_KEY_BYTES {
                let bytes = key.len();
                return Err(StorageError::TooLarge {
                    what: "key",
                    bytes,
                    limit_bytes: MAX_KEY_BYTES,
                });
            }
        }
        if self.full {
            return Err(self.fail("write to the memory disk", io::ErrorKind::StorageFull));
        }
        if due(&mut self.fail_write_after) {
            return Err(self.fail("write to the memory disk", io::ErrorKind::Other));
        }
        let undos = batch
            .writes
            .into_iter()
            .map(|(key, value)| self.change(tree, key, value))
            .collect();
        self.journals[order_of(tree)].push(undos);
        self.counts.writes += 1;
        Ok(())
    }

    fn flush(&mut self, trees: &[Tree]) -> Result<(), StorageError> {
        if due(&mut self.fail_flush_after) {
            return Err(self.fail("flush the memory disk", io::ErrorKind::Other));
        }
        if !self.lying {
            for tree in trees {
                self.journals[order_of(*tree)].clear();
            }
        }
        self.counts.flushes += 1;
        Ok(())
    }

    fn fail(&mut self, action: &str, kind: io::ErrorKind) -> StorageError {
        let error = StorageError::io(action, io::Error::new(kind, "injected fault"));
        self.failure = Some(error.poison());
        self.counts.faults += 1;
        error
    }
}

/// Counts a fault's distance down; `true` when it is reached.
fn due(after: &mut Option<u64>) -> bool {
    match after {
        Some(0) => {
            *after = None;
            true
        }
        Some(count) => {
            *count -= 1;
            false
        }
        None => false,
    }
}

#[derive(Clone)]
struct Handle {
    inner: Arc<Mutex<Disk>>,
    life: u64,
}

impl Handle {
    fn disk(&self) -> Result<parking_lot::MutexGuard<'_, Disk>, StorageError> {
        let disk = self.inner.lock();
        if disk.life != self.life {
            return Err(StorageError::Poisoned {
                reason: Arc::from("this handle belongs to a life before a crash"),
            });
        }
        match &disk.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(disk),
        }
    }
}

impl Engine for Handle {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.disk()?.trees[tree.number()].get(key).cloned())
    }

    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StorageError> {
        let disk = self.disk()?;
        if !to.is_empty() && from >= to {
            return Ok(Vec::new());
        }
        let upper = if to.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(to)
        };
        let range = disk.trees[tree.number()].range::<[u8], _>((Bound::Included(from), upper));
        let own = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match order {
            Order::Ascending => range.take(limit).map(own).collect(),
            Order::Descending => range.rev().take(limit).map(own).collect(),
        })
    }

    fn insert(&self, tree: Tree, key: &[u8], value: Value) -> Result<(), StorageError> {
        let mut batch = Batch::with_capacity(1);
        batch.put(key, value);
        self.disk()?.write(tree, batch)
    }

    fn write(&self, tree: Tree, batch: Batch) -> Result<(), StorageError> {
        self.disk()?.write(tree, batch)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.disk()?.flush(&Tree::ALL)
    }

    fn flush_log(&self) -> Result<(), StorageError> {
        self.disk()?.flush(&[Tree::Log, Tree::Meta])
    }

    fn is_failed(&self) -> bool {
        self.disk().is_err()
    }

    fn stats(&self) -> EngineStats {
        let disk = self.inner.lock();
        EngineStats {
            flushes: disk.counts.flushes,
            syncs: disk.counts.flushes,
            writes: disk.counts.writes,
            bytes_on_disk: disk.bytes(),
        }
    }
}

impl SnapshotFiles for Handle {
    fn create(&self, name: &str) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        check_name(name)?;
        drop(self.disk()?);
        Ok(Box::new(FileWriter {
            handle: self.clone(),
            name: name.to_owned(),
            bytes: Vec::new(),
        }))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn SnapshotReader>, StorageError> {
        check_name(name)?;
        let disk = self.disk()?;
        match disk.files.get(name) {
            Some(bytes) => Ok(Arc::new(FileReader {
                bytes: Arc::clone(bytes),
            })),
            None => Err(StorageError::io(
                format!("open the snapshot {name}"),
                io::Error::from(io::ErrorKind::NotFound),
            )),
        }
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        Ok(self.disk()?.files.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        check_name(name)?;
        self.disk()?.files.remove(name);
        Ok(())
    }
}

struct FileWriter {
    handle: Handle,
    name: String,
    bytes: Vec<u8>,
}

impl SnapshotWriter for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let mut disk = self.handle.disk()?;
        if disk.full {
            disk.counts.faults += 1;
            return Err(StorageError::io(
                format!("write the snapshot {}", self.name),
                io::Error::from(io::ErrorKind::StorageFull),
            ));
        }
        drop(disk);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        let FileWriter {
            handle,
            name,
            bytes,
        } = *self;
        let mut disk = handle.disk()?;
        disk.counts.files += 1;
        disk.files.insert(name, Arc::new(bytes));
        Ok(())
    }
}

struct FileReader {
    bytes: Arc<Vec<u8>>,
}

impl SnapshotReader for FileReader {
    fn len(&self) -> u64 {
        u64::try_from(self.bytes.len()).expect("a length fits 64 bits")
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(buffer.len()));
        match start
            .zip(end)
            .and_then(|(start, end)| self.bytes.get(start..end))
        {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(StorageError::io(
                format!("read a snapshot at byte {offset}"),
                io::Error::from(io::ErrorKind::UnexpectedEof),
            )),
        }
    }
}

/// One step of `SplitMix64` (Steele, Lea, Flood, 2014): spreads near seeds far apart.
fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn pick<T>(items: &[T], number: u64) -> Option<&T> {
    let count = u64::try_from(items.len()).expect("a length fits 64 bits");
    let place = number.checked_rem(count)?;
    items.get(usize::try_from(place).expect("less than a length"))
}

fn flip_bit(bytes: &mut [u8], number: u64) {
    let bits = u64::try_from(bytes.len()).expect("a length fits 64 bits") * 8;
    if let Some(bit) = number.checked_rem(bits) {
        let place = usize::try_from(bit / 8).expect("less than a length");
        bytes[place] ^= 1 << (bit % 8);
    }
}
