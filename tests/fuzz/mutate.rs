//! Mutations: what faults and attackers do to bytes.

/// Numbers that sit on a border of some integer.
const BORDERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];
/// Marks of bincode's variable integers: what follows has 2, 4, 8 or 16 bytes.
const VARINT_MARKS: [u8; 4] = [251, 252, 253, 254];
const LONGEST: usize = 64 << 10;

/// A generator of 64-bit numbers (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("it is below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// One of `pool`, changed in one place or in some.
pub(crate) fn mutated(pool: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = pool[dice.index(pool.len())].clone();
    for _ in 0..=dice.below(4) {
        mutate(&mut bytes, pool, dice);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn mutate(bytes: &mut Vec<u8>, pool: &[Vec<u8>], dice: &mut Dice) {
    if bytes.is_empty() {
        bytes.push(dice.byte());
        return;
    }
    let at = dice.index(bytes.len());
    match dice.below(10) {
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes[at] = dice.byte(),
        2 => bytes[at] = bytes[at].wrapping_add(1),
        3 => bytes.truncate(at),
        4 => border(bytes, at, dice),
        5 => {
            let mark = VARINT_MARKS[dice.index(VARINT_MARKS.len())];
            bytes[at] = mark;
            border(bytes, at + 1, dice);
        }
        6 => {
            let end = at + dice.index(bytes.len() - at) + 1;
            bytes.drain(at..end);
        }
        7 => {
            let end = (at + 1 + dice.index(32)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            let to = dice.index(bytes.len() + 1);
            bytes.splice(to..to, part);
        }
        8 => {
            let count = 1 + dice.index(40);
            let byte = dice.byte();
            bytes.splice(at..at, std::iter::repeat_n(byte, count));
        }
        _ => {
            let other = &pool[dice.index(pool.len())];
            if !other.is_empty() {
                let from = dice.index(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

/// Overwrites an integer of some width, in either order of bytes.
fn border(bytes: &mut [u8], at: usize, dice: &mut Dice) {
    let number = BORDERS[dice.index(BORDERS.len())];
    let width = 1_usize << dice.below(4);
    let mut image = number.to_le_bytes()[..width].to_vec();
    if dice.below(2) == 0 {
        image.reverse();
    }
    for (byte, new) in bytes.iter_mut().skip(at).zip(image) {
        *byte = new;
    }
}
