//! One number for the whole content, kept up to date with each change.
//!
//! The digest is the sum, in two wrapping 64-bit halves, of a 128-bit hash of every pair
//! (BLAKE3 of the key's length, the key and the value, cut to 16 bytes). A sum does not depend
//! on the order, so a put adds and a delete subtracts, and whoever reads all pairs again gets
//! the same number. This is the additive multiset hash of Clarke et al. (Asiacrypt 2003); it
//! finds accidents and divergence, not forgers, who could craft colliding sums.

use std::fmt;

/// A digest of a set of pairs. Two replicas that applied the same index have the same.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest of no pairs at all.
    pub const EMPTY: Digest = Digest([0; 16]);

    /// The digest as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// A digest from [`Digest::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Digest {
        Digest(bytes)
    }

    /// Adds a pair.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.combine(key, value, u64::wrapping_add);
    }

    /// Takes a pair away that was added before.
    pub fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.combine(key, value, u64::wrapping_sub);
    }

    fn combine(&mut self, key: &[u8], value: &[u8], operation: fn(u64, u64) -> u64) {
        let hash = pair_hash(key, value);
        for (half, part) in self.0.chunks_exact_mut(8).zip(hash.chunks_exact(8)) {
            let sum = operation(number(half), number(part));
            half.copy_from_slice(&sum.to_le_bytes());
        }
    }
}

fn number(half: &[u8]) -> u64 {
    u64::from_le_bytes(half.try_into().expect("chunks of eight bytes"))
}

fn pair_hash(key: &[u8], value: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    let length = u32::try_from(key.len()).expect("keys are at most a kibibyte");
    hasher.update(&length.to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

/// 32 hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
