//! The bytes of a journal's file: a header, then records. Nothing here reads or writes files.
//!
//! # Layout (all numbers little-endian)
//! ```text
//! header   0       "mestojnl"
//!          8..12   version, 1
//!          12..20  sequence number of the segment
//!          20..24  where the records of the segment before it end
//!          24..28  crc32c of bytes 0..24
//!          28..32  zero
//! record   0..4    crc32c of the segment's sequence number, the record's offset, bytes 4.. of it
//!          4..8    length of its body
//!          8..12   offset up to which this segment was synced when the record was written
//!          12..    body: writes, one after the other; then zeros up to a multiple of 8
//! write    0       number of the tree; 255: no write but a trim
//!          1       1: put, 0: removal
//!          2..4    length of the key
//!          4..8    length of the value
//!          8..     key, value; of a trim: 8 bytes, the oldest segment that is still needed
//! ```
//!
//! Since the checksum covers sequence number and offset, a record is valid only where it was
//! written: what is left from an earlier use of a file never passes for one.

use crate::Tree;
use crate::engine::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

pub(super) const HEADER_BYTES: u32 = 32;
const MAGIC: &[u8; 8] = b"mestojnl";
const VERSION: u32 = 1;
const RECORD_HEADER_BYTES: usize = 12;
const WRITE_HEADER_BYTES: usize = 8;
const ALIGNMENT: usize = 8;
const TRIM: u8 = 255;

/// What a segment says of itself and of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sequence: u64,
    /// Where the records of the segment before it end; 0 where there is none.
    pub(super) previous_end: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.previous_end.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..24]);
        bytes[24..28].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` where the bytes are no header of this version, or damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Header> {
        let header = Header {
            sequence: u64::from_le_bytes(*bytes.get(12..)?.first_chunk()?),
            previous_end: u32::from_le_bytes(*bytes.get(20..)?.first_chunk()?),
        };
        // Magic, version and checksum are right if writing the same facts gives the same bytes.
        (bytes.first_chunk()? == &header.encode()).then_some(header)
    }
}

/// What a record does, with its places in the segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Sets `key` to the value at `value_at`.
    Put {
        tree: Tree,
        key: &'a [u8],
        value: &'a [u8],
        value_at: u32,
    },
    /// Removes `key`.
    Remove { tree: Tree, key: &'a [u8] },
    /// Nothing before this segment is needed.
    Trim(u64),
}

/// A record that is being put together.
pub(super) struct Draft {
    bytes: Vec<u8>,
}

impl Draft {
    pub(super) fn new() -> Draft {
        Draft {
            bytes: vec![0; RECORD_HEADER_BYTES],
        }
    }

    /// Adds a write and returns where its value begins, from the record's beginning.
    pub(super) fn write(&mut self, tree: Tree, key: &[u8], value: Option<&[u8]>) -> usize {
        let number = u8::try_from(tree.number()).expect("there are three trees");
        self.header(
            number,
            value.is_some(),
            key.len(),
            value.map_or(0, <[u8]>::len),
        );
        self.bytes.extend_from_slice(key);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(value.unwrap_or_default());
        at
    }

    /// A record with this body, whatever it is; for fuzzing.
    pub(super) fn of(body: &[u8]) -> Draft {
        let mut draft = Draft::new();
        draft.bytes.extend_from_slice(body);
        draft
    }

    pub(super) fn trim(&mut self, oldest: u64) {
        self.header(TRIM, false, 0, 8);
        self.bytes.extend_from_slice(&oldest.to_le_bytes());
    }

    fn header(&mut self, tree: u8, put: bool, key: usize, value: usize) {
        let key = u16::try_from(key).expect("keys are at most 1 KiB");
        let value = u32::try_from(value).expect("values are at most 7 KiB");
        self.bytes.extend_from_slice(&[tree, u8::from(put)]);
        self.bytes.extend_from_slice(&key.to_le_bytes());
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// The length that the record will take.
    pub(super) fn len(&self) -> usize {
        self.bytes.len().next_multiple_of(ALIGNMENT)
    }

    /// Appends the finished record to `out`, for a place at `at` of segment `sequence`.
    pub(super) fn finish(mut self, out: &mut Vec<u8>, sequence: u64, at: u32, synced_to: u32) {
        let body = u32::try_from(self.bytes.len() - RECORD_HEADER_BYTES);
        let body = body.expect("a record fits a segment");
        self.bytes[4..8].copy_from_slice(&body.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&synced_to.to_le_bytes());
        let sum = checksum(sequence, at, &self.bytes[4..]);
        self.bytes[..4].copy_from_slice(&sum.to_le_bytes());
        self.bytes.resize(self.len(), 0);
        out.extend_from_slice(&self.bytes);
    }
}

/// A record that was read back.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) synced_to: u32,
    /// Where the next record begins.
    pub(super) end: u32,
    body_at: u32,
    body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at `at` of a segment's bytes; `None` where there is none that is valid.
    pub(super) fn read(segment: &'a [u8], sequence: u64, at: u32) -> Option<Record<'a>> {
        let start = usize::try_from(at).ok()?;
        let bytes = segment.get(start..)?;
        let sum = u32::from_le_bytes(*bytes.first_chunk()?);
        let length = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
        let synced_to = u32::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
        let length = usize::try_from(length).ok()?;
        let total = RECORD_HEADER_BYTES.checked_add(length)?;
        if length == 0 || checksum(sequence, at, bytes.get(4..total)?) != sum {
            return None;
        }
        let end = start.checked_add(total)?.next_multiple_of(ALIGNMENT);
        let record = Record {
            synced_to,
            end: u32::try_from(end).ok()?,
            body_at: u32::try_from(start + RECORD_HEADER_BYTES).ok()?,
            body: &bytes[RECORD_HEADER_BYTES..total],
        };
        // A sound checksum over a body that makes no sense is not ours.
        record.steps().all(|step| step.is_some()).then_some(record)
    }

    /// What the record does, in order; `None` at the place where it makes no sense.
    pub(super) fn steps(&self) -> impl Iterator<Item = Option<Step<'a>>> + use<'a> {
        let (body, body_at) = (self.body, self.body_at);
        let mut at = 0;
        std::iter::from_fn(move || {
            if at == body.len() {
                return None;
            }
            let Some((step, next)) = step(body, at, body_at) else {
                at = body.len();
                return Some(None);
            };
            at = next;
            Some(Some(step))
        })
    }
}

fn step(body: &[u8], at: usize, body_at: u32) -> Option<(Step<'_>, usize)> {
    let header: &[u8; WRITE_HEADER_BYTES] = body.get(at..)?.first_chunk()?;
    let key_length = usize::from(u16::from_le_bytes([header[2], header[3]]));
    let value_length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let value_length = usize::try_from(value_length).ok()?;
    if key_length > MAX_KEY_BYTES || value_length > MAX_VALUE_BYTES {
        return None;
    }
    let key_at = at + WRITE_HEADER_BYTES;
    let value_at = key_at + key_length;
    let end = value_at + value_length;
    let (key, value) = (body.get(key_at..value_at)?, body.get(value_at..end)?);
    if header[0] == TRIM {
        let oldest = u64::from_le_bytes(value.try_into().ok()?);
        return Some((Step::Trim(oldest), end));
    }
    let tree = *Tree::ALL.get(usize::from(header[0]))?;
    let step = match header[1] {
        1 => Step::Put {
            tree,
            key,
            value,
            value_at: body_at + u32::try_from(value_at).ok()?,
        },
        0 => Step::Remove { tree, key },
        _ => return None,
    };
    Some((step, end))
}

/// The first place after `from` that holds a valid record which proves that `from` was synced:
/// the record was written when more than `from` was.
pub(super) fn proof_of_damage(segment: &[u8], sequence: u64, from: u32) -> Option<u32> {
    let first = from.checked_add(1)?.next_multiple_of(8);
    let last = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    (first..last).step_by(ALIGNMENT).find(|at| {
        Record::read(segment, sequence, *at).is_some_and(|record| record.synced_to > from)
    })
}

fn checksum(sequence: u64, at: u32, bytes: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&sequence.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &at.to_le_bytes());
    crc32c::crc32c_append(sum, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut bytes = Header {
            sequence: 7,
            previous_end: 96,
        }
        .encode()
        .to_vec();
        let mut first = Draft::new();
        first.write(Tree::Log, b"key", Some(b"a value"));
        first.write(Tree::Meta, b"gone", None);
        first.finish(&mut bytes, 7, HEADER_BYTES, HEADER_BYTES);
        let at = u32::try_from(bytes.len()).expect("it is short");
        let mut second = Draft::new();
        second.trim(5);
        second.finish(&mut bytes, 7, at, at);
        bytes
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        let bytes = sample();
        assert_eq!(
            Header::decode(&bytes),
            Some(Header {
                sequence: 7,
                previous_end: 96
            })
        );
        let first = Record::read(&bytes, 7, HEADER_BYTES).expect("a record");
        let steps: Option<Vec<_>> = first.steps().collect();
        assert_eq!(
            steps.expect("it makes sense"),
            [
                Step::Put {
                    tree: Tree::Log,
                    key: b"key",
                    value: b"a value",
                    value_at: 55
                },
                Step::Remove {
                    tree: Tree::Meta,
                    key: b"gone"
                },
            ]
        );
        assert_eq!(&bytes[55..62], b"a value");
        let second = Record::read(&bytes, 7, first.end).expect("a second record");
        assert_eq!(second.synced_to, first.end);
        assert_eq!(second.steps().collect::<Vec<_>>(), [Some(Step::Trim(5))]);
        assert!(
            Record::read(&bytes, 7, second.end).is_none(),
            "nothing follows"
        );
    }

    #[test]
    fn a_record_is_valid_only_in_its_segment_and_place_and_whole() {
        let bytes = sample();
        assert!(
            Record::read(&bytes, 8, HEADER_BYTES).is_none(),
            "another segment"
        );
        let moved = [&[0; 8], bytes.as_slice()].concat();
        assert!(
            Record::read(&moved, 7, HEADER_BYTES + 8).is_none(),
            "another place"
        );
        let first = Record::read(&bytes, 7, HEADER_BYTES).expect("a record");
        // The record ends with six bytes of padding, which say nothing.
        for bit in HEADER_BYTES * 8..(first.end - 6) * 8 {
            let mut flipped = bytes.clone();
            flipped[usize::try_from(bit / 8).expect("it is short")] ^= 1 << (bit % 8);
            assert!(
                Record::read(&flipped, 7, HEADER_BYTES).is_none(),
                "bit {bit}"
            );
        }
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes.clone();
            flipped[usize::try_from(bit / 8).expect("it is short")] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_later_record_proves_that_an_earlier_place_was_synced() {
        let mut bytes = sample();
        assert_eq!(proof_of_damage(&bytes, 7, HEADER_BYTES), Some(80));
        assert_eq!(
            Record::read(&bytes, 7, 80).map(|record| record.synced_to),
            Some(80)
        );
        // The last record proves nothing of itself.
        assert_eq!(proof_of_damage(&bytes, 7, 80), None);
        bytes.truncate(80);
        assert_eq!(proof_of_damage(&bytes, 7, HEADER_BYTES), None);
    }
}
