//! For fuzzing: the head of the state, and the layer that it names.

use super::head::{self, Head};
use super::redo;
use crate::frame::unframe;
use crate::fuzzing::same;
use crate::{Applied, Tree};

pub(crate) fn head(bytes: &[u8]) -> Result<(), String> {
    let Some(head) = Head::decode(bytes) else {
        return Ok(());
    };
    // A record above its limit is never written.
    let Ok(value) = head.encode() else {
        return Ok(());
    };
    let content = unframe(Tree::State, head::KEY, value.as_bytes());
    let content = content.map_err(|error| error.to_string())?;
    same(&Some(head), &Head::decode(&content))
}

pub(crate) fn layer(bytes: &[u8]) -> Result<(), String> {
    drop(redo::decode_stream(bytes));
    Ok(())
}

pub(crate) fn head_examples() -> Vec<Vec<u8>> {
    let head = Head {
        applied: Applied {
            index: 12,
            now_ms: 1_700_000_000_000,
            record: b"record".to_vec(),
        },
        ..Head::fresh()
    };
    let heads = [Head::fresh(), head.clone(), head.with_pieces(3)];
    let contents = heads.iter().filter_map(|head| {
        let value = head.encode().ok()?;
        unframe(Tree::State, head::KEY, value.as_bytes()).ok()
    });
    contents.collect()
}

pub(crate) fn layer_examples() -> Vec<Vec<u8>> {
    let mut stream = Vec::new();
    for (key, value) in [(&b"key"[..], Some(&b"value"[..])), (b"gone", None)] {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or_default();
        stream.extend_from_slice(&length(key).to_le_bytes());
        stream.extend_from_slice(&value.map_or(u16::MAX, length).to_le_bytes());
        stream.extend_from_slice(key);
        stream.extend_from_slice(value.unwrap_or_default());
    }
    vec![stream]
}
