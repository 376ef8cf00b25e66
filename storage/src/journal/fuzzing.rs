//! For fuzzing: a segment of the journal, walked as recovery walks it.

use super::segment::{self, Draft, HEADER_BYTES, Header, Record};
use crate::Tree;

const SEQUENCE: u64 = 3;

/// The bytes as a segment; and the bytes as the body of one record with a sound checksum.
pub(crate) fn segment(bytes: &[u8]) -> Result<(), String> {
    walk(bytes)?;
    let mut sealed = header().to_vec();
    Draft::of(bytes).finish(&mut sealed, SEQUENCE, HEADER_BYTES, 0);
    walk(&sealed)
}

fn walk(bytes: &[u8]) -> Result<(), String> {
    let sequence = Header::decode(bytes).map_or(SEQUENCE, |header| header.sequence);
    let mut at = HEADER_BYTES;
    while let Some(record) = Record::read(bytes, sequence, at) {
        if record.end <= at {
            return Err(format!("the record at {at} ends at {}", record.end));
        }
        at = record.end;
    }
    // Looking for a proof reads every place that is left, which a long input would make slow.
    if bytes.len() <= 64 << 10 {
        let _proof = segment::proof_of_damage(bytes, sequence, at);
    }
    Ok(())
}

fn header() -> [u8; HEADER_BYTES as usize] {
    let header = Header {
        sequence: SEQUENCE,
        previous_end: 0,
    };
    header.encode()
}

pub(crate) fn example() -> Vec<u8> {
    let mut bytes = header().to_vec();
    let mut at = HEADER_BYTES;
    for number in 0..3_u8 {
        let mut draft = Draft::new();
        draft.write(Tree::Log, &[number; 10], Some(&[number; 50]));
        draft.write(Tree::Meta, b"fact", (number > 0).then_some(&b"value"[..]));
        draft.trim(2);
        draft.finish(&mut bytes, SEQUENCE, at, at);
        at = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    }
    bytes
}
