//! The one place that knows how values become bytes: a version byte, then bincode (variable-length
//! little-endian integers).
//!
//! bincode is no longer maintained. Nothing outside this file names it, the golden files under
//! `tests/golden/` pin its bytes, and the version byte lets another encoding take its place.
//!
//! Decoding trusts nothing: it is limited in size (a corrupt length can't make it allocate), it
//! refuses unknown versions and bytes left over, and the values' own types check themselves.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest value that [`decode`] takes, in bytes: more than the store holds in one value.
pub const MAX_DECODED_BYTES: usize = 64 * 1024;

const VERSION: u8 = 1;

/// Why bytes couldn't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is nothing, not even a version.
    #[error("no bytes to decode")]
    Empty,
    /// A version that this program doesn't know.
    #[error("cannot decode format version {0}")]
    UnknownVersion(u8),
    /// The bytes don't spell a value of this kind.
    #[error("the bytes do not spell a value of this kind")]
    Malformed,
    /// A value, and then something more.
    #[error("{0} bytes are left over after the value")]
    LeftOver(usize),
    /// More bytes than a value of this kind can have.
    #[error("{0} bytes are too many for a value of this kind")]
    TooLong(usize),
}

/// The value's bytes.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(VERSION);
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard()).expect(
        "a vector takes all bytes, and the domain's types all have lengths known in advance",
    );
    bytes
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// The bytes aren't exactly one value of a known version.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_limited::<T, MAX_DECODED_BYTES>(bytes)
}

/// As [`decode`], with another limit in bytes.
pub(crate) fn decode_limited<T: DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<T, DecodeError> {
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::UnknownVersion(version));
    }
    if bytes.len() > LIMIT {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, used) =
        bincode::serde::decode_from_slice(body, config).map_err(|_| DecodeError::Malformed)?;
    if used == body.len() {
        Ok(value)
    } else {
        Err(DecodeError::LeftOver(body.len() - used))
    }
}
