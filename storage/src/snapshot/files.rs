//! Snapshot files in a directory.
//!
//! A file is written aside, synced, renamed to its name, and the directory synced: after a
//! power cut it is there whole or not at all. What a crash left aside is removed at open.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{SnapshotFiles, SnapshotReader, SnapshotWriter};
use crate::StorageError;

const ASIDE: &str = ".aside";
const MAX_NAME_BYTES: usize = 128;

/// Snapshot files in a directory of their own.
#[derive(Debug, Clone)]
pub struct DirSnapshots {
    directory: PathBuf,
}

impl DirSnapshots {
    /// Opens the directory, creates it if need be, and removes files that were never committed.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(directory: &Path) -> Result<DirSnapshots, StorageError> {
        fs::create_dir_all(directory)
            .map_err(|error| StorageError::file("create", directory, error))?;
        for entry in entries(directory)? {
            if entry.to_string_lossy().ends_with(ASIDE) {
                let path = directory.join(&entry);
                fs::remove_file(&path)
                    .map_err(|error| StorageError::file("remove", &path, error))?;
            }
        }
        sync_directory(directory)?;
        Ok(DirSnapshots {
            directory: directory.to_owned(),
        })
    }

    /// The files in `directory`, which is left as it is.
    pub(crate) fn existing(directory: &Path) -> DirSnapshots {
        DirSnapshots {
            directory: directory.to_owned(),
        }
    }
}

impl SnapshotFiles for DirSnapshots {
    fn create(&self, name: &str) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        check_name(name)?;
        let aside = self.directory.join(format!("{name}{ASIDE}"));
        let file =
            File::create(&aside).map_err(|error| StorageError::file("create", &aside, error))?;
        Ok(Box::new(FileWriter {
            file,
            aside,
            target: self.directory.join(name),
            directory: self.directory.clone(),
            committed: false,
        }))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn SnapshotReader>, StorageError> {
        check_name(name)?;
        let path = self.directory.join(name);
        let file = File::open(&path).map_err(|error| StorageError::file("open", &path, error))?;
        let metadata = file
            .metadata()
            .map_err(|error| StorageError::file("measure", &path, error))?;
        Ok(Arc::new(FileReader {
            file,
            path,
            bytes: metadata.len(),
        }))
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        let mut names: Vec<String> = entries(&self.directory)?
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .filter(|name| !name.ends_with(ASIDE))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        check_name(name)?;
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_directory(&self.directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StorageError::file("remove", &path, error)),
        }
    }
}

struct FileWriter {
    file: File,
    aside: PathBuf,
    target: PathBuf,
    directory: PathBuf,
    committed: bool,
}

impl SnapshotWriter for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file
            .write_all(bytes)
            .map_err(|error| StorageError::file("write", &self.aside, error))
    }

    fn commit(mut self: Box<Self>) -> Result<(), StorageError> {
        self.file
            .sync_all()
            .map_err(|error| StorageError::file("sync", &self.aside, error))?;
        fs::rename(&self.aside, &self.target)
            .map_err(|error| StorageError::file("rename", &self.aside, error))?;
        self.committed = true;
        sync_directory(&self.directory)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = fs::remove_file(&self.aside)
        {
            // The next open removes it.
            tracing::warn!(file = %self.aside.display(), %error, "could not remove a half-written snapshot");
        }
    }
}

struct FileReader {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl SnapshotReader for FileReader {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| StorageError::file("read", &self.path, error))
    }
}

/// Refuses names that could leave the directory or be taken for a file written aside.
pub(crate) fn check_name(name: &str) -> Result<(), StorageError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let sound = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.starts_with('.')
        && !name.ends_with(ASIDE)
        && name.bytes().all(allowed);
    if sound {
        Ok(())
    } else {
        Err(StorageError::misuse(format!(
            "{name:?} is no name for a snapshot"
        )))
    }
}

/// Makes created, renamed and removed names in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| StorageError::file("sync", directory, error))
}

fn entries(directory: &Path) -> Result<Vec<std::ffi::OsString>, StorageError> {
    fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
        .map_err(|error| StorageError::file("list", directory, error))
}
