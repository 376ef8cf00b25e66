//! A node's directory, from the lock to the proof that what it holds is what was left there.
//!
//! ```text
//! DIR/lock           held for as long as the directory is open
//! DIR/mesto.marker   says that the database was made, and with which storage id
//! DIR/db/            the database
//! DIR/snapshots/     snapshot files
//! ```
//!
//! A damaged sled directory can open as an *empty* database. A node that then starts as if it
//! were new has forgotten entries that it acknowledged, and with it a quorum may split. So the
//! first open makes a random storage id, stores it in the database, flushes, and only then
//! writes the same id into the marker. Whenever the marker is there, the database must hold the
//! same id, or the open is refused. The reverse, a database with content but without a marker,
//! is refused as well.
//!
//! Not here: whether the storage belongs to the right node and cluster; the layers above store
//! that as facts of their own.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::frame::{frame, unframe};
use crate::sled_engine::SledEngine;
use crate::snapshot::{DirSnapshots, SnapshotFiles, sync_directory};
use crate::{Engine, Order, StorageError, Tree, hex};

const LOCK_FILE: &str = "lock";
const MARKER_FILE: &str = "mesto.marker";
const DATABASE: &str = "db";
const SNAPSHOTS: &str = "snapshots";
const ID_KEY: &[u8] = b"storage.id";
const MARKER_TITLE: &str = "mesto storage 1";

/// How a data directory is opened.
#[derive(Debug, Clone)]
pub struct DataDirOptions {
    /// The database's page cache, in bytes.
    pub cache_bytes: u64,
}

impl Default for DataDirOptions {
    fn default() -> DataDirOptions {
        DataDirOptions {
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// An open data directory. It stays locked until this and every engine from it are dropped.
pub struct DataDir {
    storage_id: u128,
    created: bool,
    engine: Arc<SledEngine>,
    snapshots: Arc<DirSnapshots>,
    _lock: File,
}

impl DataDir {
    /// Opens `path`, or makes a new store there when nothing is.
    ///
    /// # Errors
    /// `Locked` while another process has it open; `Refused` when what is there is not what was
    /// left, or flushes do not reach the disk; `Corruption` or `Io`.
    pub fn open(path: &Path, options: &DataDirOptions) -> Result<DataDir, StorageError> {
        make_directory(path)?;
        let lock = lock(path)?;
        let database = path.join(DATABASE);
        let marker = read_marker(path)?;
        if marker.is_some() && !SledEngine::exists(&database) {
            return Err(StorageError::refused(format!(
                "{} says that a database was made, but {} is missing; restore it, or replace \
                 this node under a new id",
                path.join(MARKER_FILE).display(),
                database.display()
            )));
        }
        let engine = SledEngine::open(&database, options.cache_bytes)?;
        // The database renames files of its own when it opens.
        sync_directory(&database)?;
        let stored = stored_id(&engine)?;
        let (storage_id, created) = match (marker, stored) {
            (Some(marker), Some(stored)) if marker == stored => (stored, false),
            (Some(_), Some(_)) => {
                return Err(StorageError::refused(
                    "the marker and the database carry different storage ids; they do not \
                     belong together",
                ));
            }
            (Some(_), None) => {
                return Err(StorageError::refused(
                    "the marker says that a database was made, but it opened as an empty one: \
                     it is damaged; replace this node under a new id",
                ));
            }
            (None, stored) => (initialise(path, &engine, stored)?, true),
        };
        let snapshots = Arc::new(DirSnapshots::open(&path.join(SNAPSHOTS))?);
        sync_directory(path)?;
        Ok(DataDir {
            storage_id,
            created,
            engine: Arc::new(engine),
            snapshots,
            _lock: lock,
        })
    }

    /// A number drawn when the store was made; the same for ever.
    #[must_use]
    pub fn storage_id(&self) -> u128 {
        self.storage_id
    }

    /// Whether this open made the store.
    #[must_use]
    pub fn created(&self) -> bool {
        self.created
    }

    /// The database.
    #[must_use]
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine) as Arc<dyn Engine>
    }

    /// The snapshot files.
    #[must_use]
    pub fn snapshots(&self) -> Arc<dyn SnapshotFiles> {
        Arc::clone(&self.snapshots) as Arc<dyn SnapshotFiles>
    }
}

/// The paths of a data directory's parts, for the checker.
pub(crate) fn database_path(path: &Path) -> PathBuf {
    path.join(DATABASE)
}

pub(crate) fn snapshots_path(path: &Path) -> PathBuf {
    path.join(SNAPSHOTS)
}

/// Locks the directory against every other process.
pub(crate) fn lock(path: &Path) -> Result<File, StorageError> {
    let lock_path = path.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|error| StorageError::file("open", &lock_path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked {
            path: Arc::from(path.display().to_string()),
        }),
        Err(TryLockError::Error(error)) => Err(StorageError::file("lock", &lock_path, error)),
    }
}

/// The storage id in the database.
pub(crate) fn stored_id(engine: &dyn Engine) -> Result<Option<u128>, StorageError> {
    let Some(value) = engine.get(Tree::Meta, ID_KEY)? else {
        return Ok(None);
    };
    let content = unframe(Tree::Meta, ID_KEY, &value)?;
    match <[u8; 16]>::try_from(content.as_slice()) {
        Ok(bytes) => Ok(Some(u128::from_be_bytes(bytes))),
        Err(_) => Err(StorageError::corruption(
            "the storage id in the database is malformed",
        )),
    }
}

/// The storage id in the marker file, `None` when there is no marker.
pub(crate) fn read_marker(path: &Path) -> Result<Option<u128>, StorageError> {
    let marker = path.join(MARKER_FILE);
    let bytes = match fs::read(&marker) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::file("read", &marker, error)),
    };
    let id = std::str::from_utf8(&bytes).ok().and_then(parse_marker);
    match id {
        Some(id) => Ok(Some(id)),
        None => Err(StorageError::corruption(format!(
            "{} is malformed",
            marker.display()
        ))),
    }
}

fn parse_marker(text: &str) -> Option<u128> {
    let [title, id, sum] = text.lines().collect::<Vec<_>>().try_into().ok()?;
    let number = u128::from_str_radix(id, 16).ok()?;
    (title == MARKER_TITLE && text == marker_text(number) && !sum.is_empty()).then_some(number)
}

/// The marker: a title, the id, and a checksum of both, each on a line.
fn marker_text(id: u128) -> String {
    let body = format!("{MARKER_TITLE}\n{}\n", hex(&id.to_be_bytes()));
    let sum = crc32c::crc32c(body.as_bytes());
    format!("{body}{sum:08x}\n")
}

/// Stamps a new database and then, once that is durable, writes the marker.
fn initialise(
    path: &Path,
    engine: &SledEngine,
    stored: Option<u128>,
) -> Result<u128, StorageError> {
    for tree in [Tree::Log, Tree::State] {
        if !engine.scan(tree, &[], &[], Order::Ascending, 1)?.is_empty() {
            return Err(StorageError::refused(format!(
                "the database holds data, but {} is missing; it was copied incompletely or \
                 damaged",
                path.join(MARKER_FILE).display()
            )));
        }
    }
    // A crash between stamp and marker leaves a stamp, which is as good as a new one.
    let id = match stored {
        Some(id) => id,
        None => rand::random::<u128>(),
    };
    engine.insert(Tree::Meta, ID_KEY, frame(ID_KEY, &id.to_be_bytes())?)?;
    engine.flush()?;
    sync_files(&path.join(DATABASE))?;
    sync_directory(path)?;
    write_marker(path, id)?;
    Ok(id)
}

fn write_marker(path: &Path, id: u128) -> Result<(), StorageError> {
    let aside = path.join(format!("{MARKER_FILE}.aside"));
    let failed = |error| StorageError::file("write", &aside, error);
    let mut file = File::create(&aside).map_err(failed)?;
    file.write_all(marker_text(id).as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&aside, path.join(MARKER_FILE)).map_err(failed)?;
    sync_directory(path)
}

/// Syncs every file of the database once, since sled never syncs its `conf`.
fn sync_files(directory: &Path) -> Result<(), StorageError> {
    let failed = |error| StorageError::file("sync the files in", directory, error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(failed)?;
    }
    sync_directory(directory)
}

fn make_directory(path: &Path) -> Result<(), StorageError> {
    fs::create_dir_all(path).map_err(|error| StorageError::file("create", path, error))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}
