//! A node's directory, from the lock to the proof that what it holds is what was left there.
//!
//! ```text
//! DIR/lock           held for as long as the directory is open
//! DIR/mesto.marker   says that the database was made, and with which storage id
//! DIR/db/journal/    the log and small facts
//! DIR/db/state/      the state, in sled
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
//! A damaged sled directory can also open *cut off*: sled takes the first page that it cannot
//! read for the end of what was written. So the store is *sealed* now and then and when it is
//! closed: a count in the database is raised and flushed, and only then written into the marker.
//! The database keeps the order of writes; if its count is behind the marker's, something that
//! was durable before the last seal is missing, and the open is refused. What came after the
//! last seal (of a process that was killed) is not covered.
//!
//! Not here: whether the storage belongs to the right node and cluster; the layers above store
//! that as facts of their own.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk_engine::DiskEngine;
use crate::frame::{frame, unframe};
use crate::journal::SEGMENT_BYTES;
use crate::snapshot::{DirSnapshots, SnapshotFiles, sync_directory};
use crate::{Engine, Order, StorageError, Tree};

const LOCK_FILE: &str = "lock";
const MARKER_FILE: &str = "mesto.marker";
const DATABASE: &str = "db";
const SNAPSHOTS: &str = "snapshots";
const ID_KEY: &[u8] = b"storage.id";
const SEAL_KEY: &[u8] = b"storage.seal";
const MARKER_TITLE: &str = "mesto storage 1";

/// What the marker file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) storage_id: u128,
    /// How often the store was sealed.
    pub(crate) seals: u64,
}

/// How a data directory is opened.
#[derive(Debug, Clone)]
pub struct DataDirOptions {
    /// The database's page cache, in bytes.
    pub cache_bytes: u64,
    /// The size of the log's segments, in bytes. For tests, in which segments are to end soon; segments of several
    /// sizes may stand side by side.
    #[doc(hidden)]
    pub segment_bytes: u32,
}

impl Default for DataDirOptions {
    fn default() -> DataDirOptions {
        DataDirOptions {
            cache_bytes: 64 * 1024 * 1024,
            segment_bytes: SEGMENT_BYTES,
        }
    }
}

/// An open data directory. It stays locked until this and every engine from it are dropped.
pub struct DataDir {
    path: PathBuf,
    marker: Mutex<Marker>,
    created: bool,
    engine: Arc<DiskEngine>,
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
        if let Some(part) = marker.and_then(|_| DiskEngine::missing(&database)) {
            return Err(StorageError::refused(format!(
                "{} says that a database was made, but {} is missing; restore it, or replace \
                 this node under a new id",
                path.join(MARKER_FILE).display(),
                database.join(part).display()
            )));
        }
        let engine = DiskEngine::open(&database, options.cache_bytes, options.segment_bytes)?;
        // The database renames files of its own when it opens.
        sync_directories(&database)?;
        let created = marker.is_none();
        let marker = match marker {
            Some(marker) => {
                check_belongs(&engine, marker)?;
                marker
            }
            None => initialise(path, &engine)?,
        };
        let snapshots = Arc::new(DirSnapshots::open(&path.join(SNAPSHOTS))?);
        sync_directory(path)?;
        Ok(DataDir {
            path: path.to_owned(),
            marker: Mutex::new(marker),
            created,
            engine: Arc::new(engine),
            snapshots,
            _lock: lock,
        })
    }

    /// Makes everything so far durable and notes so in the marker, so that a later open notices
    /// if any of it is missing. Closing does this too; a node that may be killed should do it
    /// every few seconds. Costs two or three syncs.
    ///
    /// # Errors
    /// `Io` or `Poisoned`.
    pub fn seal(&self) -> Result<(), StorageError> {
        let mut marker = self.marker.lock();
        let next = Marker {
            seals: marker.seals + 1,
            ..*marker
        };
        let fact = frame(SEAL_KEY, &next.seals.to_be_bytes())?;
        self.engine.stamp(SEAL_KEY, &fact)?;
        self.engine.flush()?;
        write_marker(&self.path, next)?;
        *marker = next;
        Ok(())
    }

    /// A number drawn when the store was made; the same for ever.
    #[must_use]
    pub fn storage_id(&self) -> u128 {
        self.marker.lock().storage_id
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

impl Drop for DataDir {
    fn drop(&mut self) {
        if let Err(error) = self.seal() {
            tracing::warn!(%error, "could not seal the store while closing it");
        }
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

/// Whether the database is the one that the marker speaks of, and whole up to the last seal.
///
/// # Errors
/// `Refused` when it is not; `Corruption`, `Io`.
pub(crate) fn check_belongs(engine: &DiskEngine, marker: Marker) -> Result<(), StorageError> {
    let ids = stored_numbers::<16>(engine, ID_KEY)?;
    let seals = stored_numbers::<8>(engine, SEAL_KEY)?;
    for (id, seals) in ids.into_iter().zip(seals) {
        check_part(
            id.map(u128::from_be_bytes),
            seals.map_or(0, u64::from_be_bytes),
            marker,
        )?;
    }
    Ok(())
}

/// The same for one of the database's parts.
fn check_part(id: Option<u128>, seals: u64, marker: Marker) -> Result<(), StorageError> {
    match id {
        None => Err(StorageError::refused(
            "the marker says that a database was made, but it opened as an empty one: it is \
             damaged; replace this node under a new id",
        )),
        Some(stored) if stored != marker.storage_id => Err(StorageError::refused(
            "the marker and the database carry different storage ids; they do not belong together",
        )),
        Some(_) if seals < marker.seals => Err(StorageError::refused(format!(
            "the end of the database is missing: it was sealed {} times, but what can be read of \
             it only {seals} times: it is damaged; replace this node under a new id",
            marker.seals
        ))),
        Some(_) => Ok(()),
    }
}

/// A stamped number, as the journal and the state have it.
fn stored_numbers<const BYTES: usize>(
    engine: &DiskEngine,
    key: &[u8],
) -> Result<[Option<[u8; BYTES]>; 2], StorageError> {
    let [journal, state] = engine.stamped(key)?;
    Ok([stored_number(key, journal)?, stored_number(key, state)?])
}

fn stored_number<const BYTES: usize>(
    key: &[u8],
    stored: Option<Vec<u8>>,
) -> Result<Option<[u8; BYTES]>, StorageError> {
    let Some(value) = stored else {
        return Ok(None);
    };
    let content = unframe(Tree::Meta, key, &value)?;
    match <[u8; BYTES]>::try_from(content.as_slice()) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(StorageError::corruption(format!(
            "the fact {} in the database is malformed",
            String::from_utf8_lossy(key)
        ))),
    }
}

/// What the marker file says, `None` when there is no marker.
pub(crate) fn read_marker(path: &Path) -> Result<Option<Marker>, StorageError> {
    let marker = path.join(MARKER_FILE);
    let bytes = match fs::read(&marker) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::file("read", &marker, error)),
    };
    match std::str::from_utf8(&bytes).ok().and_then(parse_marker) {
        Some(marker) => Ok(Some(marker)),
        None => Err(StorageError::corruption(format!(
            "{} is malformed",
            marker.display()
        ))),
    }
}

fn parse_marker(text: &str) -> Option<Marker> {
    let mut lines = text.lines().skip(1);
    let storage_id = u128::from_str_radix(lines.next()?, 16).ok()?;
    let seals = lines.next()?.strip_prefix("sealed ")?.parse().ok()?;
    let marker = Marker { storage_id, seals };
    // Title and checksum are right if writing the same facts gives the same text.
    (text == marker_text(marker)).then_some(marker)
}

/// The marker: a title, the id, the count of seals, and a checksum of these, each on a line.
fn marker_text(marker: Marker) -> String {
    let Marker { storage_id, seals } = marker;
    let body = format!("{MARKER_TITLE}\n{storage_id:032x}\nsealed {seals}\n");
    let sum = crc32c::crc32c(body.as_bytes());
    format!("{body}{sum:08x}\n")
}

/// Stamps a new database and then, once that is durable, writes the marker.
fn initialise(path: &Path, engine: &DiskEngine) -> Result<Marker, StorageError> {
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
    let storage_id = match stored_numbers(engine, ID_KEY)? {
        [Some(stored), _] | [None, Some(stored)] => u128::from_be_bytes(stored),
        [None, None] => rand::random::<u128>(),
    };
    engine.stamp(ID_KEY, &frame(ID_KEY, &storage_id.to_be_bytes())?)?;
    engine.flush()?;
    sync_directories(&path.join(DATABASE))?;
    sync_directory(path)?;
    let marker = Marker {
        storage_id,
        seals: 0,
    };
    write_marker(path, marker)?;
    Ok(marker)
}

fn write_marker(path: &Path, marker: Marker) -> Result<(), StorageError> {
    let aside = path.join(format!("{MARKER_FILE}.aside"));
    let failed = |error| StorageError::file("write", &aside, error);
    let mut file = File::create(&aside).map_err(failed)?;
    file.write_all(marker_text(marker).as_bytes())
        .map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&aside, path.join(MARKER_FILE)).map_err(failed)?;
    sync_directory(path)
}

/// Syncs everything in `directory` and below, since sled never syncs its `conf`, nor the names of its files.
fn sync_directories(directory: &Path) -> Result<(), StorageError> {
    let failed = |error| StorageError::file("sync the files in", directory, error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            sync_directories(&path)?;
        } else {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(failed)?;
        }
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
