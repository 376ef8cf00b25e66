//! What is sent, in which proportions.

use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};

/// The kinds of request, in the order in which they are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Which desks are free on a day?
    Availability,
    /// Book a desk.
    Book,
    /// Cancel an own booking.
    Cancel,
}

impl Kind {
    /// Every kind.
    pub(super) const ALL: [Self; 3] = [Self::Availability, Self::Book, Self::Cancel];

    /// Its name on the command line and in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Book => "book",
            Self::Cancel => "cancel",
        }
    }

    /// Its place in [`Kind::ALL`].
    pub(super) fn position(self) -> usize {
        self as usize
    }
}

/// Weights of the kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    weights: [u32; Kind::ALL.len()],
}

impl Mix {
    /// The sum of the weights, at least 1.
    pub(super) fn total(&self) -> u32 {
        self.weights.iter().sum()
    }

    /// The kind for a number below [`Mix::total`].
    pub(super) fn pick(&self, mut number: u32) -> Kind {
        for kind in Kind::ALL {
            let weight = self.weights[kind.position()];
            if number < weight {
                return kind;
            }
            number -= weight;
        }
        Kind::Availability
    }

    /// Whether the kind is sent at all.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.weights[kind.position()] > 0
    }
}

impl FromStr for Mix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut weights = [0; Kind::ALL.len()];
        for part in text.split(',') {
            let (name, weight) = part
                .split_once('=')
                .context("write kind=weight,kind=weight")?;
            let Some(kind) = Kind::ALL
                .into_iter()
                .find(|kind| kind.name() == name.trim())
            else {
                bail!("`{name}` is none of availability, book, cancel");
            };
            let weight: u32 = weight
                .trim()
                .parse()
                .with_context(|| format!("the weight of {name} is no number"))?;
            ensure!(weight <= 1_000_000, "the weight of {name} is above 1000000");
            weights[kind.position()] = weight;
        }
        let mix = Self { weights };
        ensure!(mix.total() > 0, "every weight is 0");
        ensure!(
            !mix.has(Kind::Cancel) || mix.has(Kind::Book),
            "without bookings there is nothing to cancel"
        );
        Ok(mix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_exactly() {
        let mix: Mix = "availability=80,book=15,cancel=5".parse().expect("a mix");
        let mut counts = [0; 3];
        for number in 0..mix.total() {
            counts[mix.pick(number).position()] += 1;
        }
        assert_eq!(counts, [80, 15, 5]);
    }

    #[test]
    fn a_kind_that_is_left_out_is_never_sent() {
        let mix: Mix = "book=1".parse().expect("a mix");
        assert_eq!(mix.total(), 1);
        assert_eq!(mix.pick(0), Kind::Book);
        assert!(!mix.has(Kind::Availability));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "book",
            "book=",
            "book=x",
            "sleep=1",
            "book=0",
            "cancel=5",
            "book=99999999",
        ] {
            assert!(text.parse::<Mix>().is_err(), "{text} was taken");
        }
    }
}
