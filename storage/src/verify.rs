//! Checks a stopped node's directory and changes nothing in it.
//!
//! Opening sled repairs, cuts off and rewrites files. So the check works on a copy of the
//! database beside it (`DIR/verify.aside`, removed afterwards), and needs as much free space as
//! the database takes. The directory is locked meanwhile: a running node is refused.
//!
//! What is checked: the marker against the database, every log record's checksum and
//! continuity, that the log reaches as far as the state, every pair of the state against its
//! digest, every snapshot file.
//!
//! What is not: entries that were written after the last seal and are gone altogether. A node that
//! was stopped has sealed last of all; nothing on disk tells whether one was killed, so the report
//! always says how far it vouches.
//!
//! Sled may panic on damaged files. Such a panic is damage, too, and is reported as such.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use crate::data_dir::{Marker, check_belongs, database_path, lock, read_marker, snapshots_path};
use crate::disk_engine::DiskEngine;
use crate::journal::SEGMENT_BYTES;
use crate::log::inspect;
use crate::panics::catching;
use crate::snapshot::{self, DirSnapshots, SnapshotFiles, SnapshotSummary};
use crate::{Digest, StorageError, state};

const ASIDE: &str = "verify.aside";
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// What was found in a data directory.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The storage id of marker and database.
    pub storage_id: Option<u128>,
    /// How often the store was sealed. Only what came before the last seal is sure to be noticed
    /// when it is missing.
    pub seals: Option<u64>,
    /// The first and last index of the log.
    pub log: Option<(u64, u64)>,
    /// The last index that was purged from the log.
    pub purged_index: Option<u64>,
    /// The last index that the state contains.
    pub applied_index: u64,
    /// The number of pairs in the state.
    pub pairs: u64,
    /// The state's digest, computed anew.
    pub digest: Digest,
    /// Each sound snapshot file, with its name.
    pub snapshots: Vec<(String, SnapshotSummary)>,
    /// Everything that is wrong, each named. Empty: the directory is sound.
    pub damages: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty()
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.storage_id {
            writeln!(f, "storage   {id:032x}")?;
        }
        if let Some(seals) = self.seals {
            writeln!(
                f,
                "sealed    {seals} times; if the node was killed and not stopped, the loss of what \
                 it wrote after the last seal cannot be noticed here"
            )?;
        }
        match self.log {
            Some((first, last)) => writeln!(f, "log       records {first} to {last}")?,
            None => writeln!(f, "log       no records")?,
        }
        if let Some(index) = self.purged_index {
            writeln!(f, "purged    up to {index}")?;
        }
        writeln!(
            f,
            "state     {} pairs at index {}",
            self.pairs, self.applied_index
        )?;
        writeln!(f, "digest    {}", self.digest)?;
        for (name, summary) in &self.snapshots {
            let index = summary.header.applied.index;
            writeln!(
                f,
                "snapshot  {name}: {} pairs at index {index}",
                summary.pairs
            )?;
        }
        for damage in &self.damages {
            writeln!(f, "DAMAGED   {damage}")?;
        }
        write!(f, "{}", if self.is_sound() { "sound" } else { "damaged" })
    }
}

/// Checks the data directory `path` of a stopped node. Damage is reported, not returned as an
/// error.
///
/// # Errors
/// `Locked` while a node runs on it; `Refused` when it is no data directory; `Io` when the copy
/// cannot be made.
pub fn verify(path: &Path) -> Result<VerifyReport, StorageError> {
    let database = database_path(path);
    if !path.is_dir()
        || (!database.exists() && read_marker(path).is_ok_and(|marker| marker.is_none()))
    {
        return Err(StorageError::refused(format!(
            "{} is no data directory",
            path.display()
        )));
    }
    let _lock = lock(path)?;
    let mut report = VerifyReport::default();
    let marker = match read_marker(path) {
        Ok(marker) => {
            report.seals = marker.map(|marker| marker.seals);
            marker
        }
        Err(error) => {
            report.damages.push(error.to_string());
            None
        }
    };
    if let Some(part) = DiskEngine::missing(&database) {
        report
            .damages
            .push(format!("{} is missing", database.join(part).display()));
    } else {
        let aside = path.join(ASIDE);
        remove_directory(&aside)?;
        copy_directory(&database, &aside)?;
        check_database(&aside, marker, &mut report);
        remove_directory(&aside)?;
    }
    check_snapshots(&snapshots_path(path), &mut report)?;
    Ok(report)
}

fn check_database(copy: &Path, marker: Option<Marker>, report: &mut VerifyReport) {
    let engine = match catching(|| DiskEngine::open(copy, CACHE_BYTES, SEGMENT_BYTES)) {
        Ok(Ok(engine)) => engine,
        Ok(Err(error)) => {
            report
                .damages
                .push(format!("the database does not open: {error}"));
            return;
        }
        Err(panic) => {
            report
                .damages
                .push(format!("the database does not open: {panic}"));
            return;
        }
    };
    if let Err(panic) = catching(|| check_contents(&engine, marker, report)) {
        report
            .damages
            .push(format!("the database cannot be read: {panic}"));
    }
    // Closing writes to the copy, and may trip over the same damage.
    if let Err(panic) = catching(|| drop(engine)) {
        report
            .damages
            .push(format!("the database does not close: {panic}"));
    }
}

fn check_contents(engine: &DiskEngine, marker: Option<Marker>, report: &mut VerifyReport) {
    match marker {
        Some(marker) => match check_belongs(engine, marker) {
            Ok(()) => report.storage_id = Some(marker.storage_id),
            Err(error) => report.damages.push(error.to_string()),
        },
        None => report
            .damages
            .push("there is no readable marker".to_owned()),
    }
    check_log(engine, report);
    check_state(engine, report);
    let last = report.log.map(|(_, last)| last).max(report.purged_index);
    if report.is_sound() && report.applied_index > 0 && last < Some(report.applied_index) {
        report.damages.push(format!(
            "the state contains entry {}, but the log ends at {}",
            report.applied_index,
            last.map_or_else(|| "nothing".to_owned(), |last| last.to_string())
        ));
    }
}

fn check_log(engine: &DiskEngine, report: &mut VerifyReport) {
    match inspect(engine) {
        Ok(summary) => {
            report.log = summary.first_index.zip(summary.last_index);
            report.purged_index = summary.purged_index;
        }
        Err(error) => report.damages.push(format!("log: {error}")),
    }
}

fn check_state(engine: &DiskEngine, report: &mut VerifyReport) {
    match state::recompute(engine) {
        Ok(found) => {
            report.applied_index = found.applied.index;
            report.pairs = found.pairs;
            report.digest = found.computed;
            if found.computed != found.stored {
                report.damages.push(format!(
                    "state: its pairs have the digest {}, but {} was kept with them",
                    found.computed, found.stored
                ));
            }
        }
        Err(error) => report.damages.push(format!("state: {error}")),
    }
}

fn check_snapshots(directory: &Path, report: &mut VerifyReport) -> Result<(), StorageError> {
    if !directory.is_dir() {
        return Ok(());
    }
    let files = DirSnapshots::existing(directory);
    for name in files.list()? {
        match files
            .open(&name)
            .and_then(|reader| snapshot::check(reader.as_ref()))
        {
            Ok(summary) => report.snapshots.push((name, summary)),
            Err(error) => report.damages.push(format!("snapshot {name}: {error}")),
        }
    }
    Ok(())
}

fn copy_directory(from: &Path, to: &Path) -> Result<(), StorageError> {
    let failed = |error| StorageError::file("copy", from, error);
    fs::create_dir(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let target = to.join(entry.file_name());
        if entry.file_type().map_err(failed)?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target).map_err(failed)?;
        }
    }
    Ok(())
}

fn remove_directory(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::file("remove", path, error))
        }
        _ => Ok(()),
    }
}
