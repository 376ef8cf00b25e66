//! Atomic batches by undo: what a batch is about to replace is stored first, and put back at the
//! next open if the batch did not reach its end.
//!
//! sled has batches of its own. But each of them rolls sled's buffers, which with a real sync
//! costs one to two more syncs, takes a lock that stops every reader of the process, and writes
//! the keys in the order of a hash map. Measured with groups like 1 / 64 bookings after each
//! durable append, undo instead of batches makes the whole group cheaper by a third to a half.
//!
//! It rests on the order of writes, as everything here does:
//! ```text
//! pieces n..1, piece 0   what was there before; piece 0 comes last, so it vouches for all
//! the batch itself       in key order
//! piece 0, empty         the end: nothing is to be undone
//! ```
//! After a crash a prefix of this is there. Without piece 0 the batch had not begun; with it,
//! the old values go back; with the empty one, all of the batch is there.
//!
//! # Layout
//! ```text
//! key    0       number of the tree
//!        1..3    number of the piece (big-endian)
//! value  0       version, 1
//!        1..5    crc32c of the key and of bytes 5.. (little-endian)
//!        5..13   number of the batch, the same in all its pieces
//!        13..15  how many pieces
//!        15..    a piece of the stream: for each key its length (u16), the length of its value
//!                (u16; 65535: there was none), key, value; all little-endian
//! ```

use crate::engine::MAX_VALUE_BYTES;
use crate::{Pair, StorageError, Value, hex};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 15;
const PIECE_BYTES: usize = MAX_VALUE_BYTES - HEADER_BYTES;
const ABSENT: u16 = u16::MAX;

/// A key and what was there.
pub(crate) type Before = (Vec<u8>, Option<Vec<u8>>);

/// The key of a piece.
pub(crate) fn key(tree: u8, piece: u16) -> [u8; 3] {
    let [high, low] = piece.to_be_bytes();
    [tree, high, low]
}

/// The pieces of `before`, to be stored in this order: piece 0 is the last.
///
/// # Errors
/// `TooLarge` for a batch that would replace some 470 MB.
pub(crate) fn encode(
    tree: u8,
    batch: u64,
    before: &[Before],
) -> Result<Vec<([u8; 3], Value)>, StorageError> {
    let stream = encode_stream(before);
    let parts: Vec<&[u8]> = stream.chunks(PIECE_BYTES).collect();
    let count = u16::try_from(parts.len()).map_err(|_| StorageError::TooLarge {
        what: "batch",
        bytes: stream.len(),
        limit_bytes: usize::from(u16::MAX) * PIECE_BYTES,
    })?;
    let mut pieces = Vec::with_capacity(parts.len());
    for (number, part) in (0..count).zip(parts) {
        let key = key(tree, number);
        let mut value = Vec::with_capacity(HEADER_BYTES + part.len());
        value.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
        value.extend_from_slice(&batch.to_le_bytes());
        value.extend_from_slice(&count.to_le_bytes());
        value.extend_from_slice(part);
        let sum = checksum(&key, &value);
        value[1..5].copy_from_slice(&sum.to_le_bytes());
        pieces.push((key, Value::try_from(value)?));
    }
    pieces.reverse();
    Ok(pieces)
}

fn encode_stream(before: &[Before]) -> Vec<u8> {
    let length = |bytes: &[u8]| {
        u16::try_from(bytes.len())
            .expect("keys and values are at most 7 KiB")
            .to_le_bytes()
    };
    let mut stream = Vec::with_capacity(before.len() * 64);
    for (key, value) in before {
        stream.extend_from_slice(&length(key));
        match value {
            Some(value) => stream.extend_from_slice(&length(value)),
            None => stream.extend_from_slice(&ABSENT.to_le_bytes()),
        }
        stream.extend_from_slice(key);
        stream.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    stream
}

/// `value` with the checksum that it should have, as far as it is long enough for one; for fuzzing.
pub(crate) fn resealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() >= HEADER_BYTES {
        let sum = checksum(key, &value);
        value[1..5].copy_from_slice(&sum.to_le_bytes());
    }
    value
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), &value[5..])
}

/// What the pieces of one tree, in key order, say is to be put back. Empty: nothing is.
///
/// # Errors
/// `Corruption` when piece 0 is there and something else is missing or damaged.
pub(crate) fn decode(pieces: &[Pair]) -> Result<Vec<Before>, StorageError> {
    // Pieces are written from the last to the first, so one that is there without piece 0 belongs
    // to a batch that never began.
    let begun = |(key, value): &&Pair| key.get(1..) == Some(&[0, 0][..]) && !value.is_empty();
    let Some((first_key, first)) = pieces.first().filter(begun) else {
        return Ok(Vec::new());
    };
    let (batch, count, _) = decode_piece(first_key, first)?;
    let mut stream = Vec::new();
    for number in 0..count {
        let Some((key, value)) = pieces.get(usize::from(number)) else {
            return Err(damaged(first_key, "a piece is missing"));
        };
        let (piece_batch, _, part) = decode_piece(key, value)?;
        if piece_batch != batch || key[1..] != number.to_be_bytes() {
            return Err(damaged(key, "the piece belongs to another batch"));
        }
        stream.extend_from_slice(part);
    }
    decode_stream(&stream).ok_or_else(|| damaged(first_key, "the stream is malformed"))
}

fn decode_piece<'a>(key: &[u8], value: &'a [u8]) -> Result<(u64, u16, &'a [u8]), StorageError> {
    let fields = || {
        let (header, part) = value.split_first_chunk::<HEADER_BYTES>()?;
        let batch = u64::from_le_bytes(*header[5..].first_chunk()?);
        let count = u16::from_le_bytes(*header[13..].first_chunk()?);
        let sum = u32::from_le_bytes(*header[1..].first_chunk()?);
        (header[0] == VERSION && sum == checksum(key, value)).then_some((batch, count, part))
    };
    fields().ok_or_else(|| damaged(key, "unknown version or wrong checksum"))
}

fn decode_stream(stream: &[u8]) -> Option<Vec<Before>> {
    let mut before = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let (key_length, after) = rest.split_first_chunk::<2>()?;
        let (value_length, after) = after.split_first_chunk::<2>()?;
        let (key, after) = after.split_at_checked(u16::from_le_bytes(*key_length).into())?;
        let value_length = u16::from_le_bytes(*value_length);
        if value_length == ABSENT {
            before.push((key.to_vec(), None));
            rest = after;
        } else {
            let (value, after) = after.split_at_checked(value_length.into())?;
            before.push((key.to_vec(), Some(value.to_vec())));
            rest = after;
        }
    }
    Some(before)
}

fn damaged(key: &[u8], what: &str) -> StorageError {
    StorageError::corruption(format!("undo record {}: {what}", hex(key)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(before: &[Before], batch: u64) -> Vec<Pair> {
        let mut pieces = encode(2, batch, before).expect("it is not too large");
        pieces.reverse();
        pieces
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value.into_bytes()))
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(
            before in prop::collection::vec(
                (
                    prop::collection::vec(any::<u8>(), 0..40),
                    prop::option::of(prop::collection::vec(any::<u8>(), 0..3000)),
                ),
                1..20,
            ),
        ) {
            prop_assert_eq!(decode(&stored(&before, 7)).expect("it is sound"), before);
        }
    }

    fn large() -> Vec<Before> {
        vec![
            (vec![1; 1000], Some(vec![2; MAX_VALUE_BYTES])),
            (vec![3], None),
        ]
    }

    #[test]
    fn no_piece_0_means_nothing_to_undo() {
        assert!(decode(&[]).expect("it is sound").is_empty());
        let mut pieces = stored(&large(), 7);
        pieces[0].1.clear();
        assert!(decode(&pieces).expect("it is sound").is_empty());
        // The first large batch of a store, cut off before its piece 0 was written.
        let later = &stored(&large(), 7)[1..];
        assert!(decode(later).expect("it is sound").is_empty());
    }

    #[test]
    fn every_damage_is_noticed() {
        let sound = stored(&large(), 7);
        assert_eq!(sound.len(), 2);
        assert!(decode(&sound[..1]).is_err(), "a missing piece");
        let mut mixed = sound.clone();
        mixed[1] = stored(&large(), 8)[1].clone();
        assert!(decode(&mixed).is_err(), "a piece of another batch");
        for (piece, bit) in [
            (0, 0),
            (0, 9),
            (0, 50),
            (0, 110),
            (0, 4_000),
            (1, 0),
            (1, 4_000),
        ] {
            let mut pieces = sound.clone();
            pieces[piece].1[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&pieces).is_err(), "piece {piece}, bit {bit}");
        }
    }
}
