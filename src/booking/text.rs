//! Words that people type, parsed once: what a value of these types holds is trimmed, bounded
//! and free of control characters.
//!
//! Lengths are bounded in characters, for people, and at two bytes a character on average, for
//! the store: Cyrillic fits, a name of nothing but emoji is cut off at half the length.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing is left after trimming.
    #[error("must not be empty")]
    Empty,
    /// More than the type allows.
    #[error("must be at most {max_chars} characters")]
    TooLong {
        /// The most characters that fit.
        max_chars: usize,
    },
    /// A character or a form that this kind of text doesn't have.
    #[error("is not well formed")]
    Malformed,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $max_chars:literal, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The most characters that fit; the most bytes are twice as many.
            pub const MAX_CHARS: usize = $max_chars;

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                let text = bounded(text, $max_chars)?;
                let parse: fn(&str) -> Option<String> = $parse;
                parse(text).map(Self).ok_or(TextError::Malformed)
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;

            fn try_from(text: String) -> Result<Self, TextError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

text!(
    /// An e-mail address in lower case: a dot-atom, `@`, and a domain name of at least two labels.
    Email,
    254,
    email
);
text!(
    /// What a user is called on the pages.
    DisplayName,
    100,
    line
);
text!(
    /// The name of a space, a hall or a zone.
    Name,
    60,
    line
);
text!(
    /// What stands on a desk (`A-12`) or on a floor plan.
    Label,
    24,
    line
);
text!(
    /// Why a space is closed on a date.
    Reason,
    40,
    line
);
text!(
    /// A name for addresses and filters: lower-case letters and digits in groups joined by single
    /// hyphens, starting with a letter (`nevsky`, `standing-desk`).
    Slug,
    40,
    slug
);
text!(
    /// The name of an IANA time zone (`Europe/Moscow`). Only its form is checked: whether the
    /// zone exists is known to the proposer, which holds the time-zone data.
    TimeZoneName,
    60,
    time_zone
);

fn bounded(text: &str, max_chars: usize) -> Result<&str, TextError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.len() > max_chars * 2 || text.chars().count() > max_chars {
        return Err(TextError::TooLong { max_chars });
    }
    Ok(text)
}

fn line(text: &str) -> Option<String> {
    // The invisible marks that reorder or hide text would let one name look like another.
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    (!text.chars().any(hidden)).then(|| text.to_owned())
}

fn slug(text: &str) -> Option<String> {
    let group = |g: &str| {
        !g.is_empty()
            && g.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let good = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.split('-').all(group);
    good.then(|| text.to_owned())
}

fn time_zone(text: &str) -> Option<String> {
    let part = |p: &str| {
        p.starts_with(|c: char| c.is_ascii_alphabetic())
            && p.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
    };
    text.split('/').all(part).then(|| text.to_owned())
}

/// The dot-atom form of RFC 5322 (no quoting, no comments), and a domain of host-name labels.
fn email(text: &str) -> Option<String> {
    let (local, domain) = text.split_once('@')?;
    let atom = |a: &str| {
        !a.is_empty()
            && a.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
    };
    let host = |h: &str| {
        !h.is_empty()
            && h.len() <= 63
            && !h.starts_with('-')
            && !h.ends_with('-')
            && h.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let good = local.len() <= 64
        && local.split('.').all(atom)
        && domain.contains('.')
        && domain.split('.').all(host);
    good.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn an_email_is_strict_and_lower_case() {
        let email: Email = " Anna.Ivanova+desk@Example.COM ".parse().unwrap();
        assert_eq!(email.as_str(), "anna.ivanova+desk@example.com");
        for text in [
            "anna",
            "anna@",
            "@example.com",
            "anna@example",
            "a@b@example.com",
            "a..b@example.com",
            ".a@example.com",
            "a@-b.com",
            "a@b-.com",
            "a@b..com",
            "a b@example.com",
            "a@exa mple.com",
            "анна@example.com",
            "a\0@example.com",
            "\"a\"@example.com",
        ] {
            assert_eq!(text.parse::<Email>(), Err(TextError::Malformed), "{text}");
        }
        assert_eq!("".parse::<Email>(), Err(TextError::Empty));
        let long = format!("{}@{}.com", "a".repeat(64), "b".repeat(190));
        assert!(matches!(
            long.parse::<Email>(),
            Err(TextError::TooLong { .. })
        ));
    }

    #[test]
    fn the_parts_of_an_email_have_lengths_of_their_own() {
        let email = |local: usize, host: usize| {
            let text = format!("{}@{}.com", "a".repeat(local), "b".repeat(host));
            text.parse::<Email>()
        };
        assert!(email(64, 63).is_ok());
        assert_eq!(email(65, 63), Err(TextError::Malformed));
        assert_eq!(email(64, 64), Err(TextError::Malformed));
    }

    #[test]
    fn a_text_shows_itself() {
        let label: Label = "A-12".parse().unwrap();
        assert_eq!(format!("{label} {label:?}"), "A-12 \"A-12\"");
        assert_eq!(String::from(label), "A-12");
    }

    #[test]
    fn names_are_trimmed_bounded_and_visible() {
        assert_eq!(
            "  Тихая зона ".parse::<Name>().unwrap().as_str(),
            "Тихая зона"
        );
        assert_eq!(" \t".parse::<Name>(), Err(TextError::Empty));
        assert_eq!("a\nb".parse::<Name>(), Err(TextError::Malformed));
        assert_eq!("a\u{202e}b".parse::<Name>(), Err(TextError::Malformed));
        let longest = "я".repeat(Name::MAX_CHARS);
        assert_eq!(longest.parse::<Name>().unwrap().as_str(), longest);
        assert!((longest + "я").parse::<Name>().is_err());
        assert!("🪑".repeat(31).parse::<Name>().is_err());
    }

    #[test]
    fn slugs_and_time_zones_have_their_form() {
        for good in ["nevsky", "standing-desk", "a1-2"] {
            assert_eq!(good.parse::<Slug>().unwrap().as_str(), good);
        }
        for bad in ["Nevsky", "1a", "-a", "a-", "a--b", "a_b", "a/b", "spc_0"] {
            assert_eq!(bad.parse::<Slug>(), Err(TextError::Malformed), "{bad}");
        }
        for good in [
            "Europe/Moscow",
            "UTC",
            "America/Argentina/Buenos_Aires",
            "Etc/GMT+3",
        ] {
            assert!(good.parse::<TimeZoneName>().is_ok(), "{good}");
        }
        for bad in [
            "Europe//Moscow",
            "/UTC",
            "Europe/Mos cow",
            "../etc/passwd",
            "1/2",
        ] {
            assert!(bad.parse::<TimeZoneName>().is_err(), "{bad}");
        }
    }
}
