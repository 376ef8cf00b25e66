//! Where randomness enters: tokens, salts, keys, and the dedup keys of commands that came without one.
//!
//! Randomness is drawn before a command is proposed, never while one is applied. In production it comes from a
//! cryptographic generator that the operating system seeds; a test or the simulator gives a reproducible source.

use std::fmt;

use parking_lot::Mutex;
use rand::Rng;

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync + fmt::Debug + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// An array of unpredictable bytes.
pub fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

/// The generator of the process, seeded and reseeded by the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// A stream of bytes that follows from a seed: for tests and simulation only.
pub struct SeededEntropy(Mutex<blake3::OutputReader>);

impl SeededEntropy {
    /// The stream that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_be_bytes());
        Self(Mutex::new(hasher.finalize_xof()))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill(bytes);
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededEntropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_does_not_repeat_itself() {
        assert_ne!(random::<32>(&SystemEntropy), random::<32>(&SystemEntropy));
    }

    #[test]
    fn a_seed_repeats_itself_but_its_stream_does_not() {
        let (one, other) = (SeededEntropy::new(7), SeededEntropy::new(7));
        let first = random::<16>(&one);
        assert_eq!(first, random::<16>(&other));
        assert_ne!(first, random::<16>(&one));
        assert_ne!(random::<16>(&SeededEntropy::new(8)), first);
    }
}
