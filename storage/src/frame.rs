//! The frame around each small stored fact (vote, purge mark, storage id, the state's head).
//!
//! ```text
//! 0      version, 1
//! 1..5   crc32c of the key, then of the content (little-endian)
//! 5..    the content
//! ```
//!
//! The key is part of the checksum, so that a value found under another key is noticed.

use crate::engine::MAX_VALUE_BYTES;
use crate::{StorageError, Tree, Value, hex};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

/// The largest content of a frame, in bytes.
pub(crate) const MAX_CONTENT_BYTES: usize = MAX_VALUE_BYTES - HEADER_BYTES;

/// Wraps `content` for storing under `key`.
pub(crate) fn frame(key: &[u8], content: &[u8]) -> Result<Value, StorageError> {
    if content.len() > MAX_CONTENT_BYTES {
        return Err(StorageError::TooLarge {
            what: "stored fact",
            bytes: content.len(),
            limit_bytes: MAX_CONTENT_BYTES,
        });
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&checksum(key, content).to_le_bytes());
    bytes.extend_from_slice(content);
    Value::try_from(bytes)
}

/// The content of what was stored under `key`.
///
/// # Errors
/// `Corruption` that names the tree and key.
pub(crate) fn unframe(tree: Tree, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StorageError> {
    let damaged = |what: &str| {
        StorageError::corruption(format!(
            "{what} at key {} of tree {}",
            hex(key),
            tree.name()
        ))
    };
    let (header, content) = value
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| damaged("a cut-off fact"))?;
    let [version, stored @ ..] = *header;
    if version != VERSION {
        return Err(damaged("an unknown version of a fact"));
    }
    if u32::from_le_bytes(stored) != checksum(key, content) {
        return Err(damaged("a wrong checksum of a fact"));
    }
    Ok(content.to_vec())
}

fn checksum(key: &[u8], content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), content)
}
