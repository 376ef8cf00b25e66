//! Identifiers: numbers that the state machine assigns, and their text form.
//!
//! An id is `log index << 16 | ordinal within the entry`. It needs no randomness and no
//! counter, is unique by construction (an index is applied once), and sorts by age. The text
//! form is a prefix for the kind and thirteen characters of Crockford's base 32 in lower case,
//! most significant first, so that text sorts as the numbers do. Parsing is strict: one number
//! has exactly one text, and the kinds are never taken for one another.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 13;
const ORDINAL_BITS: u32 = 16;

/// The text is not an id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of this kind")]
pub struct IdError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(u64);

        impl $name {
            /// What the text form starts with.
            pub const PREFIX: &'static str = $prefix;

            /// The id of what the log entry at `index` made as its `ordinal`-th thing, counted from 0 over all kinds.
            ///
            /// # Panics
            /// The index has more than 48 bits, which no log reaches.
            #[must_use]
            pub fn assigned(index: u64, ordinal: u16) -> Self {
                Self(number(index, ordinal))
            }

            /// The id with this number, as [`Self::number`] gave it.
            #[must_use]
            pub const fn from_number(number: u64) -> Self {
                Self(number)
            }

            /// The number, which sorts as ids do.
            #[must_use]
            pub const fn number(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                write_digits(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.strip_prefix($prefix).ok_or(IdError)?;
                read_digits(digits).map(Self).ok_or(IdError)
            }
        }
    };
}

id!(
    /// A booking: `bkg_…`.
    BookingId,
    "bkg_"
);
id!(
    /// A user: `usr_…`.
    UserId,
    "usr_"
);
id!(
    /// A space: `spc_…`.
    SpaceId,
    "spc_"
);
id!(
    /// A hall: `hal_…`.
    HallId,
    "hal_"
);
id!(
    /// A zone of a hall: `zon_…`.
    ZoneId,
    "zon_"
);
id!(
    /// A desk: `dsk_…`.
    DeskId,
    "dsk_"
);
id!(
    /// A session: `ses_…`.
    SessionId,
    "ses_"
);
id!(
    /// A key that signs access tokens: `key_…`.
    KeyId,
    "key_"
);

fn number(index: u64, ordinal: u16) -> u64 {
    assert!(
        index < 1 << (u64::BITS - ORDINAL_BITS),
        "log index {index} is beyond 48 bits"
    );
    index << ORDINAL_BITS | u64::from(ordinal)
}

fn write_digits(number: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for place in (0..DIGITS).rev() {
        let digit = (number >> (place * 5)) & 31;
        let index = usize::try_from(digit).expect("five bits fit");
        fmt::Write::write_char(f, char::from(ALPHABET[index]))?;
    }
    Ok(())
}

fn read_digits(text: &str) -> Option<u64> {
    if text.len() != DIGITS {
        return None;
    }
    text.bytes()
        .enumerate()
        .try_fold(0u64, |number, (at, byte)| {
            let digit = ALPHABET.iter().position(|&known| known == byte)?;
            // Thirteen digits hold 65 bits: the first may only use four of its five.
            (at > 0 || digit < 16).then_some(number << 5 | digit as u64)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_sortable_and_reads_back() {
        let mut texts = Vec::new();
        for (index, ordinal) in [(0, 0), (1, 0), (1, 7), (2, 0), (1 << 30, 65535)] {
            let id = BookingId::assigned(index, ordinal);
            assert_eq!(id.to_string().parse(), Ok(id));
            texts.push(id.to_string());
        }
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(texts[1], "bkg_0000000002000");
        let largest = UserId::from_number(u64::MAX);
        assert_eq!(largest.to_string(), "usr_fzzzzzzzzzzzz");
        assert_eq!("usr_fzzzzzzzzzzzz".parse(), Ok(largest));
    }

    #[test]
    fn a_number_is_the_index_and_the_ordinal() {
        let id = DeskId::assigned(3, 2);
        assert_eq!(id.number(), 0x3_0002);
        assert_eq!(DeskId::from_number(0x3_0002), id);
        assert_eq!(format!("{id:?}"), id.to_string());
        assert_eq!(DeskId::assigned((1 << 48) - 1, 1).number(), !0xfffe);
    }

    #[test]
    #[should_panic(expected = "beyond 48 bits")]
    fn an_index_that_fits_no_id_is_not_cut_off() {
        let _ = DeskId::assigned(1 << 48, 0);
    }

    #[test]
    fn anything_but_the_one_text_is_refused() {
        for text in [
            "",
            "bkg_",
            "0000000002000",
            "usr_0000000002000",
            "bkg_000000000200",
            "bkg_00000000002000",
            "bkg_000000000200O",
            "bkg_000000000200u",
            "bkg_000000000200A",
            "bkg_g000000000000",
            "BKG_0000000002000",
            " bkg_0000000002000",
            "bkg_00000000020é",
        ] {
            assert_eq!(text.parse::<BookingId>(), Err(IdError), "{text}");
        }
    }
}
