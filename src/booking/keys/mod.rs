//! The state's keys: one file per kind of record, each with its byte layout.
//!
//! Every key starts with one byte for its kind. Numbers are big-endian, so that bytes sort as
//! numbers do; the only variable part (an address, a slug) comes last. Every value goes through
//! [`codec`](super::codec), except where a key alone says everything and the value is empty.
//!
//! | byte | record | layout of the key |
//! |---|---|---|
//! | `0x01` | [`user`] | user 8 |
//! | `0x02` | [`user_by_email`] | address |
//! | `0x03` | [`credential`] | user 8 |
//! | `0x04` | [`session`] | session 8 |
//! | `0x05` | [`session_by_token`] | token hash 32 |
//! | `0x06` | [`session_of_user`] | user 8, session 8 |
//! | `0x07` | [`signing_key`] | key 8 |
//! | `0x10` | [`space`] | space 8 |
//! | `0x11` | [`space_by_slug`] | slug |
//! | `0x12` | [`hall`] | space 8, hall 8 |
//! | `0x13` | [`hall_by_id`] | hall 8 |
//! | `0x14` | [`desk`] | desk 8 |
//! | `0x15` | [`desk_of_space`] | space 8, hall 8, desk 8 |
//! | `0x20` | [`booking`] | booking 8 |
//! | `0x21` | [`booking_of_user`] | user 8, booking 8 |
//! | `0x22` | [`desk_sheet`] | space 8, UTC day 4, desk 8 |
//! | `0x23` | [`user_sheet`] | user 8, UTC day 4 |
//! | `0x30` | [`event`] | space 8, index 8, ordinal 2 |
//! | `0x31` | [`event_floor`] | space 8 |
//! | `0x40` | [`answer`] | kind of key 1, generation 4, key 16 |
//! | `0x50` | [`totals`] | |

pub(crate) mod answer;
pub(crate) mod booking;
pub(crate) mod booking_of_user;
pub(crate) mod credential;
pub(crate) mod desk;
pub(crate) mod desk_of_space;
pub(crate) mod desk_sheet;
pub(crate) mod event;
pub(crate) mod event_floor;
pub(crate) mod hall;
pub(crate) mod hall_by_id;
pub(crate) mod session;
pub(crate) mod session_by_token;
pub(crate) mod session_of_user;
pub(crate) mod signing_key;
pub(crate) mod space;
pub(crate) mod space_by_slug;
pub(crate) mod totals;
pub(crate) mod user;
pub(crate) mod user_by_email;
pub(crate) mod user_sheet;

use super::codec;
use super::store::{Store, StoreMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest value that the store takes, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 7 * 1024;

/// A key under construction: the kind, then its parts.
pub(super) fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// The first key after all that start with `prefix`: the end of its range.
pub(super) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The big-endian number at `at` in a key of this module.
pub(super) fn number_at(key: &[u8], at: usize) -> u64 {
    let bytes = key.get(at..).and_then(<[u8]>::first_chunk);
    u64::from_be_bytes(*bytes.expect("the scanned range holds keys of one layout only"))
}

/// The value under a key.
///
/// Stored bytes that don't decode mean that this replica's state is damaged; going on would make
/// it decide otherwise than the others, so it stops here.
pub(super) fn get<T: DeserializeOwned>(store: &dyn Store, key: &[u8]) -> Option<T> {
    store.get(key).map(|bytes| read(key, &bytes))
}

/// The value in these stored bytes.
pub(super) fn read<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> T {
    match codec::decode(bytes) {
        Ok(value) => value,
        Err(error) => panic!(
            "the state holds an unreadable value of kind {:#04x}: {error}",
            key[0]
        ),
    }
}

/// Writes a value under a key.
pub(super) fn put<T: Serialize>(store: &mut dyn StoreMut, key: &[u8], value: &T) {
    let bytes = codec::encode(value);
    assert!(
        bytes.len() <= MAX_VALUE_BYTES,
        "a value of kind {:#04x} has {} bytes, more than the store takes",
        key[0],
        bytes.len()
    );
    store.put(key, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_after_its_prefix() {
        assert_eq!(after(&[1, 2]), [1, 3]);
        assert_eq!(after(&[1, 255]), [2]);
        assert_eq!(after(&[1, 255, 255]), [2]);
        assert!(after(&[255, 255]).is_empty());
    }
}
