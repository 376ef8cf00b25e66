//! sled 0.34 behind [`Engine`]: the only file that names it.
//!
//! Each setting here answers a measured trap:
//!
//! - the sync that sled lacks is supplied by `sync_repair.rs` and proved at open;
//! - a leftover `snap.*.generating` (the process was killed while sled wrote it) makes every
//!   later open fail, though nothing needs the file: it is removed first;
//! - values are bounded by [`Value`], so that no page grows into a blob file;
//! - sled's own batches cost syncs and stop readers: `undo.rs` makes batches atomic instead;
//! - flushes go one at a time, blocking; many at once deadlock inside sled;
//! - the first failed write or flush is latched: after it nobody knows what the disk holds.
//!
//! Not here: what the keys mean, and whether an empty database is a fresh one (`data_dir.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::engine::check_key;
use crate::panics::catching;
use crate::{
    Batch, Engine, EngineStats, Order, Pair, StorageError, Tree, Value, sync_repair, undo,
};

const FLUSH_EVERY_MS: u64 = 500;
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(5);
const UNDO_TREE: &str = "undo";
const PROBE_KEY: &[u8] = b"storage.probe";

/// A sled database with the trees of [`Tree`].
pub(crate) struct SledEngine {
    db: sled::Db,
    trees: [sled::Tree; 3],
    undo: sled::Tree,
    /// Held while a tree is written; the number of its last batch.
    batches: [Mutex<u64>; 3],
    one_flush: Mutex<()>,
    failure: RwLock<Option<StorageError>>,
    flushes: AtomicU64,
    writes: AtomicU64,
}

impl SledEngine {
    /// Opens or creates the database in `path` and proves that a flush reaches the disk.
    ///
    /// # Errors
    /// `Refused` when flushes do not reach `sync_repair.rs`; `Io` or `Corruption` from sled.
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<SledEngine, StorageError> {
        remove_generating(path)?;
        let db = open_database(path, cache_bytes)?;
        let open = |name: &str| {
            db.open_tree(name)
                .map_err(|error| failed(&format!("open the tree {name}"), error))
        };
        let trees = [
            open(Tree::Log.name())?,
            open(Tree::Meta.name())?,
            open(Tree::State.name())?,
        ];
        let undo = open(UNDO_TREE)?;
        let engine = SledEngine {
            db,
            trees,
            undo,
            batches: std::array::from_fn(|_| Mutex::new(rand::random())),
            one_flush: Mutex::new(()),
            failure: RwLock::new(None),
            flushes: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        };
        engine.undo_unfinished()?;
        engine.prove_sync()?;
        Ok(engine)
    }

    /// Whether `path` holds a database file at all.
    pub(crate) fn exists(path: &Path) -> bool {
        path.join("db").is_file()
    }

    /// Writes a probe and flushes it: the count of real syncs must move.
    fn prove_sync(&self) -> Result<(), StorageError> {
        let before = sync_repair::syncs();
        // The value differs each time, else sled might find nothing to write.
        let previous = self.get(Tree::Meta, PROBE_KEY)?.unwrap_or_default();
        let turn = previous.first().map_or(0, |byte| byte.wrapping_add(1));
        self.insert(Tree::Meta, PROBE_KEY, Value::try_from(vec![turn])?)?;
        self.flush()?;
        if sync_repair::NEEDED && sync_repair::syncs() == before {
            return Err(StorageError::refused(
                "a flush did not reach the disk: this build is linked against the C library's \
                 sync_file_range instead of the repaired one, so a power cut would lose \
                 acknowledged writes",
            ));
        }
        Ok(())
    }

    /// Puts back what a batch replaced that a crash cut off.
    fn undo_unfinished(&self) -> Result<(), StorageError> {
        for tree in Tree::ALL {
            let number = tree_number(tree);
            let pieces: Result<Vec<Pair>, sled::Error> = self
                .undo
                .scan_prefix([number])
                .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
                .collect();
            let pieces = pieces.map_err(|error| failed("read the undo records", error))?;
            let before = undo::decode(&pieces)?;
            if before.is_empty() {
                continue;
            }
            tracing::warn!(
                tree = tree.name(),
                keys = before.len(),
                "undoing an unfinished batch"
            );
            for (key, value) in before {
                self.set(tree, &key, value)
                    .map_err(|error| failed("undo an unfinished batch", error))?;
            }
            self.end_batch(number)
                .map_err(|error| failed("undo an unfinished batch", error))?;
        }
        Ok(())
    }

    fn set(&self, tree: Tree, key: &[u8], value: Option<Vec<u8>>) -> sled::Result<()> {
        match value {
            Some(value) => self.tree(tree).insert(key, value).map(drop),
            None => self.tree(tree).remove(key).map(drop),
        }
    }

    fn end_batch(&self, tree: u8) -> sled::Result<()> {
        self.undo.insert(undo::key(tree, 0), Vec::new()).map(drop)
    }

    /// Several writes that take effect together; see `undo.rs`.
    fn write_batch(
        &self,
        tree: Tree,
        number: u64,
        writes: BTreeMap<Vec<u8>, Option<Value>>,
    ) -> Result<(), StorageError> {
        let doing = |error| self.latch(&format!("write a batch to {}", tree.name()), error);
        let mut before = Vec::with_capacity(writes.len());
        for key in writes.keys() {
            let value = self.tree(tree).get(key).map_err(doing)?;
            before.push((key.clone(), value.map(|value| value.to_vec())));
        }
        for (key, piece) in undo::encode(tree_number(tree), number, &before)? {
            self.undo.insert(key, piece.into_bytes()).map_err(doing)?;
        }
        for (key, value) in writes {
            self.set(tree, &key, value.map(Value::into_bytes))
                .map_err(doing)?;
        }
        self.end_batch(tree_number(tree)).map_err(doing)
    }

    fn tree(&self, tree: Tree) -> &sled::Tree {
        &self.trees[tree.number()]
    }

    fn healthy(&self) -> Result<(), StorageError> {
        match self.failure.read().as_ref() {
            None => Ok(()),
            Some(failure) => Err(failure.clone()),
        }
    }

    /// Latches the first failure of a write or flush.
    fn latch(&self, action: &str, error: sled::Error) -> StorageError {
        let error = failed(action, error);
        let mut failure = self.failure.write();
        if failure.is_none() {
            *failure = Some(error.poison());
        }
        error
    }
}

impl Engine for SledEngine {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.healthy()?;
        let found = self
            .tree(tree)
            .get(key)
            .map_err(|error| reading(tree, key, error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StorageError> {
        self.healthy()?;
        if !to.is_empty() && from >= to {
            return Ok(Vec::new());
        }
        let range = if to.is_empty() {
            self.tree(tree).range(from..)
        } else {
            self.tree(tree).range(from..to)
        };
        let own = |item: sled::Result<(sled::IVec, sled::IVec)>| match item {
            Ok((key, value)) => Ok((key.to_vec(), value.to_vec())),
            Err(error) => Err(reading(tree, from, error)),
        };
        match order {
            Order::Ascending => range.take(limit).map(own).collect(),
            Order::Descending => range.rev().take(limit).map(own).collect(),
        }
    }

    fn insert(&self, tree: Tree, key: &[u8], value: Value) -> Result<(), StorageError> {
        self.healthy()?;
        check_key(key)?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        let _number = self.batches[tree.number()].lock();
        match self.tree(tree).insert(key, value.into_bytes()) {
            Ok(_previous) => Ok(()),
            Err(error) => Err(self.latch(&format!("insert into {}", tree.name()), error)),
        }
    }

    fn write(&self, tree: Tree, mut batch: Batch) -> Result<(), StorageError> {
        self.healthy()?;
        for (key, _) in &batch.writes {
            check_key(key)?;
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut number = self.batches[tree.number()].lock();
        if let [(key, value)] = batch.writes.as_mut_slice() {
            // One key is atomic by itself.
            let value = value.take().map(Value::into_bytes);
            return self
                .set(tree, key, value)
                .map_err(|error| self.latch(&format!("write to {}", tree.name()), error));
        }
        if batch.is_empty() {
            return Ok(());
        }
        *number = number.wrapping_add(1);
        self.write_batch(tree, *number, batch.writes.into_iter().collect())
    }

    fn flush(&self) -> Result<(), StorageError> {
        let _one = self.one_flush.lock();
        self.healthy()?;
        match self.db.flush() {
            Ok(_bytes) => {
                self.flushes.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(self.latch("flush the database", error)),
        }
    }

    fn is_failed(&self) -> bool {
        self.failure.read().is_some()
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            flushes: self.flushes.load(Ordering::Relaxed),
            syncs: sync_repair::syncs(),
            writes: self.writes.load(Ordering::Relaxed),
            bytes_on_disk: self.db.size_on_disk().unwrap_or(0),
        }
    }
}

/// Opens sled. An instance of this process that was just dropped may hold its file for a moment
/// longer, since sled frees memory with a delay; other processes were excluded before.
fn open_database(path: &Path, cache_bytes: u64) -> Result<sled::Db, StorageError> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(cache_bytes)
        .flush_every_ms(Some(FLUSH_EVERY_MS))
        .mode(sled::Mode::LowSpace);
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        // On some damaged files sled panics instead of answering.
        let opened = catching(|| config.open()).map_err(|panic| {
            let place = path.display();
            StorageError::corruption(format!("the database in {place} cannot be read: {panic}"))
        })?;
        match opened {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(error) => {
                return Err(failed(
                    &format!("open the database in {}", path.display()),
                    error,
                ));
            }
        }
    }
}

fn tree_number(tree: Tree) -> u8 {
    u8::try_from(tree.number()).expect("there are three trees")
}

/// Removes what a kill during sled's own checkpoint left behind.
fn remove_generating(path: &Path) -> Result<(), StorageError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StorageError::file("list", path, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| StorageError::file("list", path, error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %name, "removing a half-written checkpoint of the database");
            fs::remove_file(entry.path())
                .map_err(|error| StorageError::file("remove", &entry.path(), error))?;
        }
    }
    Ok(())
}

fn reading(tree: Tree, key: &[u8], error: sled::Error) -> StorageError {
    failed(
        &format!("read {} at key {}", tree.name(), crate::hex(key)),
        error,
    )
}

fn failed(action: &str, error: sled::Error) -> StorageError {
    match error {
        sled::Error::Io(source) => StorageError::io(action, source),
        sled::Error::Corruption { at, .. } => {
            let place = at.map_or_else(String::new, |at| format!(", at {at:?} of the file"));
            StorageError::corruption(format!("could not {action}{place}"))
        }
        other => StorageError::Io {
            action: Arc::from(action),
            source: Arc::new(std::io::Error::other(other.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(byte: u8) -> Value {
        Value::try_from(vec![byte; 30]).expect("a short value")
    }

    fn open(path: &Path) -> SledEngine {
        SledEngine::open(path, 1024 * 1024).expect("the database opens")
    }

    /// Whatever part of a batch was written when the process died, the old values come back,
    /// and once the end is there none does.
    #[test]
    fn an_unfinished_batch_is_undone() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("db");
        for written in 0..4 {
            let engine = open(&path);
            let keys: [&[u8]; 3] = [b"a", b"b", b"c"];
            engine
                .insert(Tree::State, b"a", value(1))
                .expect("an insert succeeds");
            engine
                .insert(Tree::State, b"b", value(2))
                .expect("an insert succeeds");
            engine
                .remove(Tree::State, b"c")
                .expect("a removal succeeds");
            let before: Vec<undo::Before> = keys
                .iter()
                .map(|key| {
                    (
                        key.to_vec(),
                        engine.get(Tree::State, key).expect("a read succeeds"),
                    )
                })
                .collect();
            for (key, piece) in undo::encode(2, 9, &before).expect("a small batch") {
                engine
                    .undo
                    .insert(key, piece.into_bytes())
                    .expect("an insert succeeds");
            }
            let after = [None, Some(vec![7]), Some(vec![8])];
            for (key, value) in keys.iter().zip(after).take(written) {
                engine
                    .set(Tree::State, key, value)
                    .expect("a write succeeds");
            }
            engine.flush().expect("a flush succeeds");
            drop(engine);
            let engine = open(&path);
            let found = |key| engine.get(Tree::State, key).expect("a read succeeds");
            assert_eq!(found(b"a"), Some(vec![1; 30]), "{written} written");
            assert_eq!(found(b"b"), Some(vec![2; 30]), "{written} written");
            assert_eq!(found(b"c"), None, "{written} written");
        }
    }

    /// Only a lock that is held a moment longer is waited for.
    #[test]
    fn what_cannot_be_opened_is_reported_at_once() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(root.path().join("db")).expect("a directory where the file should be");
        let began = Instant::now();
        let opened = SledEngine::open(root.path(), 1024 * 1024);
        assert!(matches!(opened, Err(StorageError::Io { .. })));
        assert!(began.elapsed() < LOCK_PATIENCE);
    }

    #[test]
    fn a_finished_batch_stays() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("db");
        let engine = open(&path);
        engine
            .insert(Tree::State, b"a", value(1))
            .expect("an insert succeeds");
        let mut batch = Batch::default();
        batch.delete(b"a");
        batch.put(b"b", value(3));
        batch.put(b"b", value(4));
        engine
            .write(Tree::State, batch)
            .expect("a batch is written");
        engine
            .write(Tree::State, Batch::default())
            .expect("an empty one is fine");
        drop(engine);
        let engine = open(&path);
        assert_eq!(engine.get(Tree::State, b"a").ok(), Some(None));
        assert_eq!(engine.get(Tree::State, b"b").ok(), Some(Some(vec![4; 30])));
    }
}
