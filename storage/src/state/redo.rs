//! A layer as a few large values: how it becomes part of the stored state in one step.
//!
//! ```text
//! pieces 0..n     the whole layer, in key order
//! the head        names the n pieces: from here on the stored state contains the layer
//! its pairs       one by one, at leisure
//! the head        names no pieces: the tree alone is the state again
//! ```
//! The engine keeps the order of writes, so whatever prefix of this a crash leaves is a state
//! that was: before the first head the old one (the pieces are not looked at), after it the new
//! one, which is the tree overlaid by the pieces, however many pairs had been carried. To carry
//! a pair twice does no harm.
//!
//! The other way round, keeping what the pairs are about to replace, was weighed: it must read
//! every old value, cannot be interrupted for long, and makes nothing durable before its end.
//!
//! # Layout
//! ```text
//! key    0        0, as the head's
//!        1..5     number of the piece (big-endian)
//! value           in a frame (`frame.rs`):
//!        0        version, 1
//!        1        the generation
//!        2..10    index of the last entry that the layer contains (little-endian)
//!        10..     a piece of the stream: for each key its length (u16), the length of its value
//!                 (u16; 65535: removed), key, value; all little-endian
//! ```
//! Pieces of earlier, longer layers may lie behind the last; nothing names them.

use super::head::Head;
use super::layer::Layer;
use crate::frame::{MAX_CONTENT_BYTES, frame, unframe};
use crate::{Engine, StorageError, Tree, hex};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 10;
const PIECE_BYTES: usize = MAX_CONTENT_BYTES - HEADER_BYTES;
const REMOVED: u16 = u16::MAX;

/// Writes the pieces of one layer.
pub(super) struct RedoWriter {
    generation: u8,
    index: u64,
    stream: Vec<u8>,
    pieces: u32,
}

impl RedoWriter {
    pub(super) fn new(head: &Head) -> RedoWriter {
        RedoWriter {
            generation: head.generation,
            index: head.applied.index,
            stream: Vec::with_capacity(2 * PIECE_BYTES),
            pieces: 0,
        }
    }

    /// Adds the next pair; writes the piece that it fills.
    ///
    /// # Errors
    /// `Io` or `Poisoned` of the engine.
    pub(super) fn add(
        &mut self,
        engine: &dyn Engine,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StorageError> {
        self.stream.extend_from_slice(&length(key).to_le_bytes());
        let value_length = value.map_or(REMOVED, length);
        self.stream.extend_from_slice(&value_length.to_le_bytes());
        self.stream.extend_from_slice(key);
        self.stream.extend_from_slice(value.unwrap_or_default());
        while self.stream.len() >= PIECE_BYTES {
            self.write_piece(engine, PIECE_BYTES)?;
        }
        Ok(())
    }

    /// Writes what is left and gives the number of pieces.
    ///
    /// # Errors
    /// As [`RedoWriter::add`].
    pub(super) fn finish(&mut self, engine: &dyn Engine) -> Result<u32, StorageError> {
        if !self.stream.is_empty() {
            self.write_piece(engine, self.stream.len())?;
        }
        Ok(self.pieces)
    }

    fn write_piece(&mut self, engine: &dyn Engine, bytes: usize) -> Result<(), StorageError> {
        let key = key(self.pieces);
        let mut content = Vec::with_capacity(HEADER_BYTES + bytes);
        content.extend_from_slice(&[VERSION, self.generation]);
        content.extend_from_slice(&self.index.to_le_bytes());
        content.extend(self.stream.drain(..bytes));
        engine.insert(Tree::State, &key, frame(&key, &content)?)?;
        self.pieces += 1;
        Ok(())
    }
}

fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("keys and values are at most 7 KiB")
}

fn key(piece: u32) -> [u8; 5] {
    let [a, b, c, d] = piece.to_be_bytes();
    [0, a, b, c, d]
}

/// The layer that `head` names; an empty one where it names none.
///
/// # Errors
/// `Corruption` that names the piece; `Io` or `Poisoned` of the engine.
pub(super) fn read(engine: &dyn Engine, head: &Head) -> Result<Layer, StorageError> {
    let mut stream = Vec::new();
    for piece in 0..head.redo_pieces {
        let key = key(piece);
        let Some(value) = engine.get(Tree::State, &key)? else {
            return Err(damaged(&key, "is missing"));
        };
        let content = unframe(Tree::State, &key, &value)?;
        let part = part_of(&content, head).ok_or_else(|| damaged(&key, "is another layer's"))?;
        stream.extend_from_slice(part);
    }
    decode_stream(&stream).ok_or_else(|| {
        StorageError::corruption("the pieces of the state's last layer do not fit together")
    })
}

fn part_of<'a>(content: &'a [u8], head: &Head) -> Option<&'a [u8]> {
    let (&[version, generation], rest) = content.split_first_chunk::<2>()?;
    let (index, part) = rest.split_first_chunk::<8>()?;
    let expected = (VERSION, head.generation, head.applied.index);
    ((version, generation, u64::from_le_bytes(*index)) == expected).then_some(part)
}

pub(super) fn decode_stream(stream: &[u8]) -> Option<Layer> {
    let mut layer = Layer::default();
    let mut rest = stream;
    while !rest.is_empty() {
        let (key_length, after) = rest.split_first_chunk::<2>()?;
        let (value_length, after) = after.split_first_chunk::<2>()?;
        let (key, after) = after.split_at_checked(u16::from_le_bytes(*key_length).into())?;
        let value_length = match u16::from_le_bytes(*value_length) {
            REMOVED => None,
            length => Some(usize::from(length)),
        };
        let (value, after) = after.split_at_checked(value_length.unwrap_or(0))?;
        layer.set(key.to_vec(), value_length.map(|_| value.to_vec()));
        rest = after;
    }
    Some(layer)
}

fn damaged(key: &[u8], what: &str) -> StorageError {
    StorageError::corruption(format!(
        "the piece {} of the state's last layer {what}",
        hex(key)
    ))
}
