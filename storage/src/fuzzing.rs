//! For fuzzing: every decoder of stored bytes, behind one face. Nothing else uses this.
//!
//! Most decoders begin with a checksum, which random bytes never have. So there are two ways in: the bytes as they are,
//! and the bytes as the body of something sealed as this package seals it, which is what a decoder meets when a fault
//! happened before the checksum was made.

use std::sync::Arc;

use bytes::Bytes;

use crate::frame::{frame, unframe};
use crate::snapshot::{self, SnapshotReader};
use crate::{Record, StorageError, Tree, journal, log, state, undo};

/// A decoder: takes any bytes, and must neither panic nor allocate much more than it was given. `Err` says which
/// promise was broken.
pub type Target = fn(&[u8]) -> Result<(), String>;

/// Every decoder of this package, by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("log_chunk", log::fuzzing::chunk),
    ("undo_record", undo_record),
    ("stored_fact", stored_fact),
    ("state_head", state::fuzzing::head),
    ("state_layer", state::fuzzing::layer),
    ("journal_segment", journal::fuzzing::segment),
    ("snapshot_file", snapshot_file),
];

/// Examples to begin with, for the target `name`: bytes that are decoded.
#[must_use]
pub fn examples(name: &str) -> Vec<Vec<u8>> {
    match name {
        "log_chunk" => {
            log::fuzzing::examples(&[record(7, 0), record(8, 40), record(9, 9_000), record(10, 3)])
        }
        "undo_record" => {
            let before = vec![
                (b"key".to_vec(), Some(b"value".to_vec())),
                (b"other".to_vec(), None),
                (b"long".to_vec(), Some(vec![7; 7_000])),
            ];
            let pieces = undo::encode(2, 9, &before).unwrap_or_default();
            pieces
                .into_iter()
                .map(|(key, value)| [&key[..], &value.into_bytes()].concat())
                .collect()
        }
        "stored_fact" => frame(b"fact", b"content")
            .map(|value| vec![value.into_bytes()])
            .unwrap_or_default(),
        "state_head" => state::fuzzing::head_examples(),
        "state_layer" => state::fuzzing::layer_examples(),
        "journal_segment" => vec![journal::fuzzing::example()],
        "snapshot_file" => snapshot::fuzzing::examples(),
        _ => Vec::new(),
    }
}

fn record(index: u64, length: usize) -> Record {
    Record {
        index,
        bytes: Bytes::from(vec![0x5a; length]),
    }
}

/// The key is the first three bytes, as it is stored; the rest is a piece.
fn undo_record(bytes: &[u8]) -> Result<(), String> {
    let Some((key, value)) = bytes.split_first_chunk::<3>() else {
        return Ok(());
    };
    for value in [value.to_vec(), undo::resealed(key, value)] {
        let Ok(before) = undo::decode(&[(key.to_vec(), value)]) else {
            continue;
        };
        if before.is_empty() {
            continue;
        }
        let again = undo::encode(key[0], 1, &before).map_err(|error| error.to_string())?;
        let mut pieces: Vec<_> = again
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value.into_bytes()))
            .collect();
        pieces.reverse();
        let decoded = undo::decode(&pieces).map_err(|error| error.to_string())?;
        same(&before, &decoded)?;
    }
    Ok(())
}

fn stored_fact(bytes: &[u8]) -> Result<(), String> {
    drop(unframe(Tree::Meta, b"fact", bytes));
    let Ok(sealed) = frame(b"fact", bytes) else {
        return Ok(());
    };
    let content = unframe(Tree::Meta, b"fact", sealed.as_bytes());
    same(
        &bytes.to_vec(),
        &content.map_err(|error| error.to_string())?,
    )
}

struct InMemory(Vec<u8>);

impl SnapshotReader for InMemory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let from = usize::try_from(offset).ok();
        let bytes = from.and_then(|from| self.0.get(from..)?.get(..buffer.len()));
        let bytes = bytes.ok_or_else(|| StorageError::corruption("a read past the end"))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

fn snapshot_file(bytes: &[u8]) -> Result<(), String> {
    for bytes in [bytes.to_vec(), snapshot::fuzzing::sealed(bytes)] {
        let reader: Arc<dyn SnapshotReader> = Arc::new(InMemory(bytes));
        drop(snapshot::read_header(reader.as_ref()));
        drop(snapshot::check(reader.as_ref()));
    }
    Ok(())
}

pub(crate) fn same<T: PartialEq + std::fmt::Debug>(one: &T, other: &T) -> Result<(), String> {
    if one == other {
        Ok(())
    } else {
        Err(format!("{one:?} came back as {other:?}"))
    }
}
