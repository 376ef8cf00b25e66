//! For fuzzing: snapshot files.

use super::format::{Footer, Kind, MAGIC, SnapshotHeader, block, encode_header, encode_page};
use crate::{Applied, Digest, Pair};

/// The bytes as the payloads of three sealed blocks, one of each kind.
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    let third = bytes.len() / 3;
    let (header, rest) = bytes.split_at(third);
    let (page, footer) = rest.split_at(third);
    file([
        (Kind::Header, header),
        (Kind::Page, page),
        (Kind::Footer, footer),
    ])
}

fn file<'a>(blocks: impl IntoIterator<Item = (Kind, &'a [u8])>) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    for (number, (kind, payload)) in (0..).zip(blocks) {
        file.extend(block(number, kind, payload).unwrap_or_default());
    }
    file
}

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let pairs: Vec<Pair> = vec![
        (b"a".to_vec(), b"value".to_vec()),
        (b"b".to_vec(), vec![7; 300]),
    ];
    let mut digest = Digest::EMPTY;
    for (key, value) in &pairs {
        digest.add(key, value);
    }
    let header = encode_header(&SnapshotHeader {
        applied: Applied {
            index: 12,
            now_ms: 5,
            record: b"record".to_vec(),
        },
        digest,
        caller: b"caller".to_vec(),
    });
    let page = encode_page(&pairs);
    let footer = Footer { pages: 1, pairs: 2 }.encode();
    let blocks = [
        (Kind::Header, &header[..]),
        (Kind::Page, &page),
        (Kind::Footer, &footer),
    ];
    vec![
        file(blocks),
        [header.clone(), page.clone(), footer.clone()].concat(),
    ]
}
