//! For fuzzing: the chunks of the log.

use super::chunk::{self, Assembler, Chunk, KEY_BYTES};
use crate::Record;

/// The key is the first ten bytes, as it is stored; the rest is the value.
pub(crate) fn chunk(bytes: &[u8]) -> Result<(), String> {
    let Some((key, value)) = bytes.split_first_chunk::<KEY_BYTES>() else {
        return Ok(());
    };
    for value in [value.to_vec(), chunk::resealed(key, value)] {
        let mut assembled = Vec::new();
        drop(Assembler::new(None).push((key.to_vec(), value.clone()), &mut assembled));
        let Ok(decoded) = chunk::decode((key.to_vec(), value)) else {
            continue;
        };
        let _last = decoded.last_index();
        if let Chunk::Packed { first, records } = &decoded {
            // In this order the index is not raised beyond the last record, which may be the last that there is.
            let records: Vec<Record> = records
                .iter()
                .zip(*first..)
                .map(|(bytes, index)| Record {
                    index,
                    bytes: bytes.clone(),
                })
                .collect();
            repack(&records)?;
        }
    }
    Ok(())
}

/// What was read must be what is read when it is written again.
fn repack(records: &[Record]) -> Result<(), String> {
    let pairs = chunk::pack(records).map_err(|error| error.to_string())?;
    let mut assembler = Assembler::new(None);
    let mut again = Vec::new();
    for (key, value) in pairs {
        assembler
            .push((key, value.into_bytes()), &mut again)
            .map_err(|error| error.to_string())?;
    }
    let plain = |records: &[Record]| -> Vec<(u64, Vec<u8>)> {
        let pairs = records.iter().map(|r| (r.index, r.bytes.to_vec()));
        pairs.collect()
    };
    crate::fuzzing::same(&plain(records), &plain(&again))
}

pub(crate) fn examples(records: &[Record]) -> Vec<Vec<u8>> {
    let pairs = chunk::pack(records).unwrap_or_default();
    let joined = pairs
        .into_iter()
        .map(|(key, value)| [key, value.into_bytes()].concat());
    joined.collect()
}
