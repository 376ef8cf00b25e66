//! How records lie in the `Log` tree.
//!
//! A key per record would cost a tree insert each; so the records of one group are packed into
//! chunks just under the value limit. A record above the limit is cut into fragments.
//!
//! ```text
//! key    0..8    index of the first record in the chunk (big-endian: keys sort by index)
//!        8..10   number of the fragment, 0 for a packed chunk (big-endian)
//! value  0       version, 1
//!        1       1 packed, 2 fragment
//!        2..6    crc32c of the key, then of bytes 0..2, then of 6.. (little-endian)
//!        6..     packed: for each record its length (u32, little-endian) and its bytes
//!                fragment: the whole record's length (u32, little-endian), a part of its bytes
//! ```
//!
//! # Invariants
//! - Records are contiguous from chunk to chunk; [`Assembler`] insists on it.
//! - Chunks are written in key order, so that what a crash leaves is a prefix: an incomplete
//!   fragmented record can only stand at the very end, and was never acknowledged.

use bytes::Bytes;

use super::{MAX_RECORD_BYTES, Record};
use crate::{MAX_VALUE_BYTES, Pair, StorageError, Value};

const VERSION: u8 = 1;
const PACKED: u8 = 1;
const FRAGMENT: u8 = 2;
const HEADER_BYTES: usize = 6;
const LENGTH_BYTES: usize = 4;
const BODY_BYTES: usize = MAX_VALUE_BYTES - HEADER_BYTES;

/// The length of every key in the `Log` tree.
pub(super) const KEY_BYTES: usize = 10;

/// The key of the chunk that begins with record `index`, or of a fragment of it.
pub(super) fn key(index: u64, fragment: u16) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&fragment.to_be_bytes());
    key
}

/// The index in a key.
///
/// # Errors
/// `Corruption` when it is not a key of this tree.
pub(super) fn index_of(key: &[u8]) -> Result<u64, StorageError> {
    let malformed =
        || StorageError::corruption(format!("log key {} is malformed", crate::hex(key)));
    if key.len() != KEY_BYTES {
        return Err(malformed());
    }
    key.first_chunk()
        .map(|bytes| u64::from_be_bytes(*bytes))
        .ok_or_else(malformed)
}

/// Packs contiguous records into chunks, in key order.
///
/// # Errors
/// `TooLarge` for a record above [`MAX_RECORD_BYTES`].
pub(super) fn pack(records: &[Record]) -> Result<Vec<(Vec<u8>, Value)>, StorageError> {
    let mut chunks = Vec::new();
    let mut open: Option<(u64, Vec<u8>)> = None;
    for record in records {
        let length = record.bytes.len();
        if length > MAX_RECORD_BYTES {
            return Err(StorageError::TooLarge {
                what: "log record",
                bytes: length,
                limit_bytes: MAX_RECORD_BYTES,
            });
        }
        if LENGTH_BYTES + length > BODY_BYTES {
            close(&mut open, &mut chunks)?;
            cut(record, &mut chunks)?;
            continue;
        }
        let fits = |body: &[u8]| body.len() + LENGTH_BYTES + length <= MAX_VALUE_BYTES;
        if open.as_ref().is_some_and(|(_, body)| !fits(body)) {
            close(&mut open, &mut chunks)?;
        }
        let (_, value) = open.get_or_insert_with(|| (record.index, header(PACKED)));
        value.extend_from_slice(&length_bytes(length));
        value.extend_from_slice(&record.bytes);
    }
    close(&mut open, &mut chunks)?;
    Ok(chunks)
}

fn header(kind: u8) -> Vec<u8> {
    let mut value = Vec::with_capacity(1024);
    value.extend_from_slice(&[VERSION, kind, 0, 0, 0, 0]);
    value
}

fn length_bytes(length: usize) -> [u8; LENGTH_BYTES] {
    u32::try_from(length)
        .expect("records are at most a mebibyte")
        .to_le_bytes()
}

fn close(
    open: &mut Option<(u64, Vec<u8>)>,
    chunks: &mut Vec<(Vec<u8>, Value)>,
) -> Result<(), StorageError> {
    if let Some((index, value)) = open.take() {
        chunks.push(seal(key(index, 0), value)?);
    }
    Ok(())
}

fn cut(record: &Record, chunks: &mut Vec<(Vec<u8>, Value)>) -> Result<(), StorageError> {
    let total = length_bytes(record.bytes.len());
    for (number, part) in record.bytes.chunks(BODY_BYTES - LENGTH_BYTES).enumerate() {
        let number = u16::try_from(number).expect("a mebibyte makes some 150 fragments");
        let mut value = header(FRAGMENT);
        value.extend_from_slice(&total);
        value.extend_from_slice(part);
        chunks.push(seal(key(record.index, number), value)?);
    }
    Ok(())
}

fn seal(key: [u8; KEY_BYTES], mut value: Vec<u8>) -> Result<(Vec<u8>, Value), StorageError> {
    let checksum = checksum(&key, &value);
    value[2..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok((key.to_vec(), Value::try_from(value)?))
}

/// `value` with the checksum that it should have, as far as it is long enough for one; for fuzzing.
pub(super) fn resealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() >= HEADER_BYTES {
        let checksum = checksum(key, &value);
        value[2..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }
    value
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(key), &value[..2]);
    crc32c::crc32c_append(sum, &value[HEADER_BYTES..])
}

/// A decoded value of the `Log` tree.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Whole records, the first at `first`.
    Packed { first: u64, records: Vec<Bytes> },
    /// A part of the record `index`.
    Fragment {
        index: u64,
        number: u16,
        total_bytes: usize,
        part: Bytes,
    },
}

impl Chunk {
    /// The index of the last record that this chunk belongs to.
    pub(super) fn last_index(&self) -> u64 {
        match self {
            Chunk::Packed { first, records } => {
                let count = u64::try_from(records.len()).expect("a length fits 64 bits");
                first + count - 1
            }
            Chunk::Fragment { index, .. } => *index,
        }
    }
}

/// Decodes one pair of the `Log` tree, without copying the records.
///
/// # Errors
/// `Corruption` that names the chunk.
pub(super) fn decode((key, value): Pair) -> Result<Chunk, StorageError> {
    let first = index_of(&key)?;
    let damaged = |what: &str| {
        StorageError::corruption(format!("log chunk that begins with record {first}: {what}"))
    };
    if value.len() < HEADER_BYTES {
        return Err(damaged("cut off"));
    }
    if value[0] != VERSION {
        return Err(damaged("unknown version"));
    }
    if value[2..HEADER_BYTES] != checksum(&key, &value).to_le_bytes() {
        return Err(damaged("wrong checksum"));
    }
    let kind = value[1];
    let number = u16::from_be_bytes([key[8], key[9]]);
    let body = Bytes::from(value).slice(HEADER_BYTES..);
    match kind {
        PACKED if number == 0 => {
            let records = unpack(&body).ok_or_else(|| damaged("its records do not fill it"))?;
            let count = u64::try_from(records.len()).expect("a length fits 64 bits");
            if first.checked_add(count).is_none() {
                return Err(damaged("its records go past the last index that there is"));
            }
            Ok(Chunk::Packed { first, records })
        }
        FRAGMENT if first < u64::MAX => {
            let (total_bytes, rest) =
                take_length(&body).ok_or_else(|| damaged("a fragment without a length"))?;
            let part = body.slice_ref(rest);
            Ok(Chunk::Fragment {
                index: first,
                number,
                total_bytes,
                part,
            })
        }
        _ => Err(damaged("unknown kind")),
    }
}

fn unpack(body: &Bytes) -> Option<Vec<Bytes>> {
    let mut records = Vec::new();
    let mut rest: &[u8] = body;
    while !rest.is_empty() {
        let (length, after) = take_length(rest)?;
        let (record, after) = after.split_at_checked(length)?;
        records.push(body.slice_ref(record));
        rest = after;
    }
    (!records.is_empty()).then_some(records)
}

fn take_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    Some((usize::try_from(u32::from_le_bytes(*length)).ok()?, rest))
}

/// Turns pairs in key order back into records and insists that none is missing.
pub(super) struct Assembler {
    next: Option<u64>,
    partial: Option<Partial>,
}

struct Partial {
    index: u64,
    next_number: u16,
    total_bytes: usize,
    bytes: Vec<u8>,
}

impl Assembler {
    /// Expects record `next` first; with `None` any.
    pub(super) fn new(next: Option<u64>) -> Assembler {
        Assembler {
            next,
            partial: None,
        }
    }

    /// Adds the records that `pair` completes to `records`.
    ///
    /// # Errors
    /// `Corruption` for a gap, a damaged chunk, or an incomplete record in the middle.
    pub(super) fn push(
        &mut self,
        pair: Pair,
        records: &mut Vec<Record>,
    ) -> Result<(), StorageError> {
        match decode(pair)? {
            Chunk::Packed {
                first,
                records: parts,
            } => {
                self.expect(first)?;
                let count = parts.len();
                // In this order no index is counted beyond the last record.
                for (bytes, index) in parts.into_iter().zip(first..) {
                    records.push(Record { index, bytes });
                }
                let count = u64::try_from(count).expect("a length fits 64 bits");
                self.next = Some(first + count);
            }
            Chunk::Fragment {
                index,
                number,
                total_bytes,
                part,
            } => {
                self.add_fragment(index, number, total_bytes, &part, records)?;
            }
        }
        Ok(())
    }

    fn expect(&self, first: u64) -> Result<(), StorageError> {
        if let Some(partial) = &self.partial {
            return Err(StorageError::corruption(format!(
                "log record {} lacks its fragment {}",
                partial.index, partial.next_number
            )));
        }
        match self.next {
            Some(next) if next != first => Err(StorageError::corruption(format!(
                "log record {next} is missing; the next one stored is {first}"
            ))),
            _ => Ok(()),
        }
    }

    fn add_fragment(
        &mut self,
        index: u64,
        number: u16,
        total_bytes: usize,
        part: &[u8],
        records: &mut Vec<Record>,
    ) -> Result<(), StorageError> {
        let mut partial = match self.partial.take() {
            Some(partial)
                if partial.index == index
                    && partial.next_number == number
                    && partial.total_bytes == total_bytes =>
            {
                partial
            }
            other => {
                self.partial = other;
                self.expect(index)?;
                if number != 0 || total_bytes > MAX_RECORD_BYTES {
                    return Err(StorageError::corruption(format!(
                        "fragment {number} of log record {index} does not follow"
                    )));
                }
                Partial {
                    index,
                    next_number: 0,
                    total_bytes,
                    bytes: Vec::new(),
                }
            }
        };
        partial.bytes.extend_from_slice(part);
        partial.next_number += 1;
        match partial.bytes.len().cmp(&total_bytes) {
            std::cmp::Ordering::Less => self.partial = Some(partial),
            std::cmp::Ordering::Equal => {
                records.push(Record {
                    index,
                    bytes: Bytes::from(partial.bytes),
                });
                self.next = Some(index + 1);
            }
            std::cmp::Ordering::Greater => {
                return Err(StorageError::corruption(format!(
                    "the fragments of log record {index} are longer than it"
                )));
            }
        }
        Ok(())
    }

    /// The index after the last whole record, if any came or was expected.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.next
    }

    /// The record that began and did not end.
    pub(super) fn torn_index(&self) -> Option<u64> {
        self.partial.as_ref().map(|partial| partial.index)
    }
}
