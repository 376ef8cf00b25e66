//! Randomness that follows from a seed.
//!
//! Each purpose has a stream of its own, named by a word, so that what one part draws does not change what another part
//! gets: a planted bug then meets the same faults as the healthy run. The generator is written out here (xoshiro256**
//! by Blackman and Vigna, 2018), because a seed that once failed must mean the same run for ever, whatever becomes of a
//! library.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Dice([u64; 4]);

impl Dice {
    /// The stream of `seed` that is named `stream`.
    pub(crate) fn new(seed: u64, stream: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("mesto simulation stream");
        hasher.update(&seed.to_be_bytes());
        hasher.update(stream.as_bytes());
        let bytes = hasher.finalize();
        let mut words = bytes
            .as_bytes()
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("chunks of eight bytes")));
        Self([(); 4].map(|()| words.next().expect("a hash has four words")))
    }

    /// Sixty-four random bits.
    pub(crate) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `count`, which is not 0. (The bias of the remainder is below 2⁻³², and harmless here.)
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// `true` with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number from 0 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).expect("32 bits are left");
        f64::from(bits) / f64::from(u32::MAX)
    }

    /// One of `items`, which are not none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// A place in a list of this length, which is not 0.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).expect("a length fits 64 bits");
        usize::try_from(self.below(length)).expect("less than a length")
    }

    /// Puts `items` in a random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            items.swap(place, self.index(place + 1));
        }
    }

    /// One of these by weight; the weights are not all 0.
    pub(crate) fn weighted<'a, T>(&mut self, items: &'a [(u64, T)]) -> &'a T {
        let total: u64 = items.iter().map(|(weight, _)| weight).sum();
        let mut left = self.below(total);
        for (weight, item) in items {
            if left < *weight {
                return item;
            }
            left -= weight;
        }
        &items[items.len() - 1].1
    }
}
