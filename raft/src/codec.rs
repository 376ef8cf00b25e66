//! The one place where this package turns values into bytes and back: bincode, with a version byte in front.
//!
//! Everything that is decoded came from a disk or a socket, so decoding is limited in size and every byte must be
//! consumed. bincode is no longer maintained: it is named here and nowhere else in the package, so that it can be
//! replaced by giving the next format another version byte.

use bincode::config;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The version byte that every encoding begins with.
pub(crate) const VERSION: u8 = 1;

/// The most that one value may take, in bytes; a corrupt length is refused above it.
pub(crate) const MAX_DECODED_BYTES: usize = 16 << 20;

/// Why bytes could not be decoded.
#[derive(Debug, Error)]
pub(crate) enum CodecError {
    /// There is not even a version byte.
    #[error("the encoding is empty")]
    Empty,
    /// Written by another version.
    #[error("the encoding has version {0}, not {VERSION}")]
    Version(u8),
    /// Not an encoding of the wanted type.
    #[error("the encoding is malformed: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// Well-formed, but not a value that can exist.
    #[error("the encoding holds an impossible value: {0}")]
    Impossible(&'static str),
    /// Bytes are left over.
    #[error("{0} bytes follow the encoded value")]
    Trailing(usize),
}

/// Encodes `value`.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bincode::serde::encode_into_std_write(value, &mut bytes, config::standard())
        .expect("encoding into memory fails for no type of this package");
    bytes
}

/// Decodes what [`encode`] made.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (&version, rest) = bytes.split_first().ok_or(CodecError::Empty)?;
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let limited = config::standard().with_limit::<MAX_DECODED_BYTES>();
    let (value, used) = bincode::serde::decode_from_slice(rest, limited)?;
    if used == rest.len() {
        Ok(value)
    } else {
        Err(CodecError::Trailing(rest.len() - used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded() {
        let value = (7_u64, "seven".to_owned(), vec![1_u8, 2, 3]);
        assert_eq!(
            decode::<(u64, String, Vec<u8>)>(&encode(&value)).expect("a round trip"),
            value
        );
    }

    #[test]
    fn damage_is_refused() {
        let bytes = encode(&(7_u64, vec![1_u8, 2, 3]));
        assert!(matches!(
            decode::<(u64, Vec<u8>)>(&[]),
            Err(CodecError::Empty)
        ));
        assert!(matches!(
            decode::<(u64, Vec<u8>)>(&bytes[..bytes.len() - 1]),
            Err(CodecError::Malformed(_))
        ));
        let mut longer = bytes.clone();
        longer.extend([0, 0]);
        assert!(matches!(
            decode::<(u64, Vec<u8>)>(&longer),
            Err(CodecError::Trailing(2))
        ));
        let mut other = bytes;
        other[0] = 9;
        assert!(matches!(
            decode::<(u64, Vec<u8>)>(&other),
            Err(CodecError::Version(9))
        ));
    }

    #[test]
    fn a_corrupt_length_is_refused_without_reserving_it() {
        // 253 announces a 64-bit length; here it claims an exabyte.
        let bytes = [VERSION, 253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(matches!(
            decode::<Vec<u8>>(&bytes),
            Err(CodecError::Malformed(_))
        ));
    }
}
