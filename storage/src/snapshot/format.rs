//! The blocks of a snapshot file; see the module above for the layout.

use super::SnapshotReader;
use crate::{Applied, Digest, Pair, StorageError};

pub(super) const MAGIC: &[u8; 8] = b"MESTOSN1";
/// The largest payload of a block, in bytes.
pub(super) const MAX_BLOCK_BYTES: usize = 4 * 1024 * 1024;
const BLOCK_HEADER_BYTES: usize = 9;

/// What a snapshot file begins with.
#[derive(Clone, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// How far the state in the file was applied.
    pub applied: Applied,
    /// The digest of all its pairs.
    pub digest: Digest,
    /// Whatever the caller put there.
    pub caller: Vec<u8>,
}

impl std::fmt::Debug for SnapshotHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotHeader")
            .field("applied", &self.applied)
            .field("digest", &self.digest)
            .field("caller_bytes", &self.caller.len())
            .finish()
    }
}

/// Reads and checks the beginning of a snapshot file.
///
/// # Errors
/// `Corruption` when it is no snapshot or damaged; `Io`.
pub fn read_header(reader: &dyn SnapshotReader) -> Result<SnapshotHeader, StorageError> {
    let mut blocks = BlockReader::begin(reader)?;
    blocks.header(reader)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Header,
    Page,
    Footer,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Header => 1,
            Kind::Page => 2,
            Kind::Footer => 3,
        }
    }

    fn from_code(code: u8) -> Option<Kind> {
        [Kind::Header, Kind::Page, Kind::Footer]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// Encodes block `number`.
///
/// # Errors
/// `TooLarge`.
pub(super) fn block(number: u64, kind: Kind, payload: &[u8]) -> Result<Vec<u8>, StorageError> {
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MAX_BLOCK_BYTES => length,
        _ => {
            return Err(StorageError::TooLarge {
                what: "snapshot block",
                bytes: payload.len(),
                limit_bytes: MAX_BLOCK_BYTES,
            });
        }
    };
    let mut bytes = Vec::with_capacity(BLOCK_HEADER_BYTES + payload.len());
    bytes.push(kind.code());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(number, kind, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

fn checksum(number: u64, kind: Kind, payload: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&number.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &[kind.code()]), payload)
}

pub(super) fn encode_header(header: &SnapshotHeader) -> Vec<u8> {
    let record = &header.applied.record;
    let length = u32::try_from(record.len()).expect("the applied record is at most 4 KiB");
    let mut payload = Vec::with_capacity(36 + record.len() + header.caller.len());
    payload.extend_from_slice(&header.applied.index.to_le_bytes());
    payload.extend_from_slice(&header.applied.now_ms.to_le_bytes());
    payload.extend_from_slice(&header.digest.to_bytes());
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(record);
    payload.extend_from_slice(&header.caller);
    payload
}

fn decode_header(payload: &[u8]) -> Option<SnapshotHeader> {
    let (index, rest) = payload.split_first_chunk::<8>()?;
    let (now_ms, rest) = rest.split_first_chunk::<8>()?;
    let (digest, rest) = rest.split_first_chunk::<16>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (record, caller) = rest.split_at_checked(length)?;
    Some(SnapshotHeader {
        applied: Applied {
            index: u64::from_le_bytes(*index),
            now_ms: u64::from_le_bytes(*now_ms),
            record: record.to_vec(),
        },
        digest: Digest::from_bytes(*digest),
        caller: caller.to_vec(),
    })
}

pub(super) fn encode_page(pairs: &[Pair]) -> Vec<u8> {
    let bytes = pairs
        .iter()
        .map(|(key, value)| 4 + key.len() + value.len())
        .sum();
    let mut payload = Vec::with_capacity(bytes);
    for (key, value) in pairs {
        for part in [key, value] {
            let length = u16::try_from(part.len()).expect("keys and values are at most 7 KiB");
            payload.extend_from_slice(&length.to_le_bytes());
        }
        payload.extend_from_slice(key);
        payload.extend_from_slice(value);
    }
    payload
}

pub(super) fn decode_page(payload: &[u8]) -> Option<Vec<Pair>> {
    let mut pairs = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let (key_length, after) = rest.split_first_chunk::<2>()?;
        let (value_length, after) = after.split_first_chunk::<2>()?;
        let (key, after) = after.split_at_checked(u16::from_le_bytes(*key_length).into())?;
        let (value, after) = after.split_at_checked(u16::from_le_bytes(*value_length).into())?;
        pairs.push((key.to_vec(), value.to_vec()));
        rest = after;
    }
    Some(pairs)
}

/// What the footer says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) pages: u64,
    pub(super) pairs: u64,
}

impl Footer {
    pub(super) fn encode(self) -> Vec<u8> {
        [self.pages.to_le_bytes(), self.pairs.to_le_bytes()].concat()
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Footer> {
        let (pages, rest) = payload.split_first_chunk::<8>()?;
        let pairs = <[u8; 8]>::try_from(rest).ok()?;
        Some(Footer {
            pages: u64::from_le_bytes(*pages),
            pairs: u64::from_le_bytes(pairs),
        })
    }
}

/// Walks the blocks of a file from the beginning.
pub(super) struct BlockReader {
    offset: u64,
    number: u64,
}

impl BlockReader {
    /// Checks that the file is a snapshot.
    pub(super) fn begin(reader: &dyn SnapshotReader) -> Result<BlockReader, StorageError> {
        let mut magic = [0; MAGIC.len()];
        if reader.len() < 8 {
            return Err(StorageError::corruption(
                "a snapshot file is cut off at its beginning",
            ));
        }
        reader.read_at(0, &mut magic)?;
        if &magic != MAGIC {
            return Err(StorageError::corruption(
                "a file is not a snapshot of a known version",
            ));
        }
        Ok(BlockReader {
            offset: 8,
            number: 0,
        })
    }

    pub(super) fn header(
        &mut self,
        reader: &dyn SnapshotReader,
    ) -> Result<SnapshotHeader, StorageError> {
        match self.next(reader)? {
            (Kind::Header, payload) => {
                decode_header(&payload).ok_or_else(|| self.damaged("a malformed header"))
            }
            _ => Err(self.damaged("no header")),
        }
    }

    /// The next block, which must be there.
    pub(super) fn next(
        &mut self,
        reader: &dyn SnapshotReader,
    ) -> Result<(Kind, Vec<u8>), StorageError> {
        let rest = reader.len().saturating_sub(self.offset);
        if rest < 9 {
            return Err(self.damaged("the file is cut off"));
        }
        let mut header = [0; BLOCK_HEADER_BYTES];
        reader.read_at(self.offset, &mut header)?;
        let [code, a, b, c, d, stored @ ..] = header;
        let kind = Kind::from_code(code).ok_or_else(|| self.damaged("an unknown kind"))?;
        let length = u32::from_le_bytes([a, b, c, d]);
        let bytes = usize::try_from(length)
            .ok()
            .filter(|bytes| *bytes <= MAX_BLOCK_BYTES);
        let bytes = bytes.ok_or_else(|| self.damaged("an impossible length"))?;
        if rest - 9 < u64::from(length) {
            return Err(self.damaged("the file is cut off"));
        }
        let mut payload = vec![0; bytes];
        reader.read_at(self.offset + 9, &mut payload)?;
        if checksum(self.number, kind, &payload) != u32::from_le_bytes(stored) {
            return Err(self.damaged("a wrong checksum"));
        }
        self.offset += 9 + u64::from(length);
        self.number += 1;
        Ok((kind, payload))
    }

    /// Whether the whole file was read.
    pub(super) fn at_end(&self, reader: &dyn SnapshotReader) -> bool {
        self.offset == reader.len()
    }

    pub(super) fn damaged(&self, what: &str) -> StorageError {
        StorageError::corruption(format!(
            "snapshot block {} at byte {}: {what}",
            self.number, self.offset
        ))
    }
}
