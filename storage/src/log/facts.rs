//! The small facts beside the log, in the `Meta` tree, each in a frame (`frame.rs`).
//!
//! ```text
//! log.base    index of the first record ever (u64, big-endian): a log that was never purged
//!             begins exactly there, so that a lost beginning is noticed
//! log.purge   index of the last purged record (u64, big-endian), then the caller's mark
//! user.KEY    the caller's fact KEY
//! ```

use crate::frame::{frame, unframe};
use crate::{Engine, StorageError, Tree, Value};

const BASE_KEY: &[u8] = b"log.base";
const PURGE_KEY: &[u8] = b"log.purge";

pub(super) fn meta_key(key: &str) -> Vec<u8> {
    [b"user.", key.as_bytes()].concat()
}

pub(super) fn encode_meta(key: &str, value: &[u8]) -> Result<Value, StorageError> {
    frame(&meta_key(key), value)
}

pub(super) fn write_meta(engine: &dyn Engine, key: &str, fact: Value) -> Result<(), StorageError> {
    engine.insert(Tree::Meta, &meta_key(key), fact)
}

pub(super) fn read_meta(engine: &dyn Engine, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
    read(engine, &meta_key(key))
}

pub(super) fn encode_floor(index: u64, mark: &[u8]) -> Result<Value, StorageError> {
    frame(PURGE_KEY, &[&index.to_be_bytes(), mark].concat())
}

pub(super) fn write_floor(engine: &dyn Engine, fact: Value) -> Result<(), StorageError> {
    engine.insert(Tree::Meta, PURGE_KEY, fact)
}

/// The last purged index and the caller's mark.
pub(super) fn read_floor(engine: &dyn Engine) -> Result<Option<(u64, Vec<u8>)>, StorageError> {
    let Some(content) = read(engine, PURGE_KEY)? else {
        return Ok(None);
    };
    match content.split_first_chunk::<8>() {
        Some((index, mark)) => Ok(Some((u64::from_be_bytes(*index), mark.to_vec()))),
        None => Err(StorageError::corruption("the purge mark is cut off")),
    }
}

pub(super) fn write_base(engine: &dyn Engine, index: u64) -> Result<(), StorageError> {
    engine.insert(Tree::Meta, BASE_KEY, frame(BASE_KEY, &index.to_be_bytes())?)
}

/// The index of the first record of a log that was never purged.
pub(super) fn read_base(engine: &dyn Engine) -> Result<Option<u64>, StorageError> {
    let Some(content) = read(engine, BASE_KEY)? else {
        return Ok(None);
    };
    match <[u8; 8]>::try_from(content.as_slice()) {
        Ok(index) => Ok(Some(u64::from_be_bytes(index))),
        Err(_) => Err(StorageError::corruption("the base of the log is malformed")),
    }
}

fn read(engine: &dyn Engine, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
    let stored = engine.get(Tree::Meta, key)?;
    stored
        .map(|value| unframe(Tree::Meta, key, &value))
        .transpose()
}
