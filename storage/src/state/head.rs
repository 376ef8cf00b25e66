//! The head of the stored state: one record that says which generation lives, how far it was
//! applied, what its digest is, and whether pieces of a layer are to be laid over its pairs
//! (`redo.rs`). One write replaces it, so the stored state changes in one step.
//!
//! ```text
//! key    0        the only key of one byte, smaller than all data
//! value           in a frame (`frame.rs`):
//!        0        version: 1 without pieces, 2 with
//!        1        the live generation, 1..=254
//!        2..18    digest of the live pairs
//!        18..26   index of the last applied entry (little-endian)
//!        26..34   replicated time in milliseconds (little-endian)
//!        34..38   version 2 only: the number of pieces (little-endian)
//!        34/38..  the caller's record
//! data   key      generation, then the caller's key
//! ```

use super::{Applied, Digest, MAX_APPLIED_RECORD_BYTES};
use crate::frame::{frame, unframe};
use crate::{Engine, StorageError, Tree, Value};

pub(super) const KEY: &[u8] = &[0];
pub(super) const FIRST_GENERATION: u8 = 1;
pub(super) const LAST_GENERATION: u8 = 254;
const VERSION: u8 = 1;
const VERSION_WITH_PIECES: u8 = 2;

/// What is true of the live generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(super) generation: u8,
    pub(super) digest: Digest,
    pub(super) applied: Applied,
    /// How many pieces of a layer are to be laid over the pairs; 0 in memory.
    pub(super) redo_pieces: u32,
}

impl Head {
    /// The head of a state in which nothing was ever written.
    pub(super) fn fresh() -> Head {
        Head {
            generation: FIRST_GENERATION,
            digest: Digest::EMPTY,
            applied: Applied::default(),
            redo_pieces: 0,
        }
    }

    /// The same state, spread over its pairs and this many pieces.
    pub(super) fn with_pieces(&self, redo_pieces: u32) -> Head {
        Head {
            redo_pieces,
            ..self.clone()
        }
    }

    pub(super) fn encode(&self) -> Result<Value, StorageError> {
        check_record(&self.applied)?;
        let record = &self.applied.record;
        let version = match self.redo_pieces {
            0 => VERSION,
            _ => VERSION_WITH_PIECES,
        };
        let mut bytes = Vec::with_capacity(38 + record.len());
        bytes.extend_from_slice(&[version, self.generation]);
        bytes.extend_from_slice(&self.digest.to_bytes());
        bytes.extend_from_slice(&self.applied.index.to_le_bytes());
        bytes.extend_from_slice(&self.applied.now_ms.to_le_bytes());
        if version == VERSION_WITH_PIECES {
            bytes.extend_from_slice(&self.redo_pieces.to_le_bytes());
        }
        bytes.extend_from_slice(record);
        frame(KEY, &bytes)
    }

    pub(super) fn read(engine: &dyn Engine) -> Result<Option<Head>, StorageError> {
        let Some(value) = engine.get(Tree::State, KEY)? else {
            return Ok(None);
        };
        let content = unframe(Tree::State, KEY, &value)?;
        match Head::decode(&content) {
            Some(head) => Ok(Some(head)),
            None => Err(StorageError::corruption(
                "the head of the state is malformed",
            )),
        }
    }

    pub(super) fn decode(content: &[u8]) -> Option<Head> {
        let (&[version, generation], rest) = content.split_first_chunk::<2>()?;
        let (digest, rest) = rest.split_first_chunk::<16>()?;
        let (index, rest) = rest.split_first_chunk::<8>()?;
        let (now_ms, rest) = rest.split_first_chunk::<8>()?;
        let (redo_pieces, record) = match version {
            VERSION => (0, rest),
            VERSION_WITH_PIECES => {
                let (pieces, record) = rest.split_first_chunk::<4>()?;
                (u32::from_le_bytes(*pieces), record)
            }
            _ => return None,
        };
        let known = (FIRST_GENERATION..=LAST_GENERATION).contains(&generation);
        known.then(|| Head {
            generation,
            digest: Digest::from_bytes(*digest),
            applied: Applied {
                index: u64::from_le_bytes(*index),
                now_ms: u64::from_le_bytes(*now_ms),
                record: record.to_vec(),
            },
            redo_pieces,
        })
    }
}

/// Refuses a record above its limit.
pub(super) fn check_record(applied: &Applied) -> Result<(), StorageError> {
    let bytes = applied.record.len();
    if bytes > MAX_APPLIED_RECORD_BYTES {
        return Err(StorageError::TooLarge {
            what: "applied record",
            bytes,
            limit_bytes: MAX_APPLIED_RECORD_BYTES,
        });
    }
    Ok(())
}

/// The stored key of the caller's `key`.
pub(super) fn stored_key(generation: u8, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(generation);
    stored.extend_from_slice(key);
    stored
}

/// The stored end of a range; an empty `to` means the end of the generation.
pub(super) fn stored_end(generation: u8, to: &[u8]) -> Vec<u8> {
    if to.is_empty() {
        vec![generation + 1]
    } else {
        stored_key(generation, to)
    }
}
