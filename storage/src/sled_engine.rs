//! sled 0.34 behind [`Engine`]: the only file that names it.
//!
//! Each setting here answers a measured trap:
//!
//! - the sync that sled lacks is supplied by `sync_repair.rs` and proved at open;
//! - a leftover `snap.*.generating` (the process was killed while sled wrote it) makes every
//!   later open fail, though nothing needs the file: it is removed first;
//! - values are bounded by [`Value`], so that no page grows into a blob file;
//! - flushes go one at a time, blocking; many at once deadlock inside sled;
//! - the first failed write or flush is latched: after it nobody knows what the disk holds.
//!
//! Not here: what the keys mean, and whether an empty database is a fresh one (`data_dir.rs`).

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::{
    Batch, Engine, EngineStats, MAX_KEY_BYTES, Order, Pair, StorageError, Tree, Value, sync_repair,
};

const FLUSH_EVERY_MS: u64 = 500;
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(5);
const PROBE_KEY: &[u8] = b"storage.probe";

/// A sled database with the trees of [`Tree`].
pub(crate) struct SledEngine {
    db: sled::Db,
    trees: [sled::Tree; 3],
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
        let open = |tree: Tree| {
            db.open_tree(tree.name())
                .map_err(|error| failed(&format!("open the tree {}", tree.name()), error))
        };
        let trees = [open(Tree::Log)?, open(Tree::Meta)?, open(Tree::State)?];
        let engine = SledEngine {
            db,
            trees,
            one_flush: Mutex::new(()),
            failure: RwLock::new(None),
            flushes: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        };
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
        // One key needs no batch, and so not the lock that batches share.
        let result = if batch.writes.len() == 1 {
            match batch.writes.pop() {
                Some((key, Some(value))) => {
                    self.tree(tree).insert(key, value.into_bytes()).map(drop)
                }
                Some((key, None)) => self.tree(tree).remove(key).map(drop),
                None => Ok(()),
            }
        } else {
            let mut writes = sled::Batch::default();
            for (key, value) in batch.writes {
                match value {
                    Some(value) => writes.insert(key, value.into_bytes()),
                    None => writes.remove(key),
                }
            }
            self.tree(tree).apply_batch(writes)
        };
        result.map_err(|error| self.latch(&format!("write a batch to {}", tree.name()), error))
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
        let opened = catch_unwind(AssertUnwindSafe(|| config.open())).map_err(|_panic| {
            StorageError::corruption(format!("the database in {} cannot be read", path.display()))
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

fn check_key(key: &[u8]) -> Result<(), StorageError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(StorageError::TooLarge {
            what: "key",
            bytes: key.len(),
            limit_bytes: MAX_KEY_BYTES,
        });
    }
    Ok(())
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
