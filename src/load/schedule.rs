//! When the requests of an open loop are due.

use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// How requests are spread over a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Arrivals {
    /// Independent of each other, like people: bursts and lulls
    Poisson,
    /// Evenly spaced
    Even,
}

/// The moments, counted from the start of the run, at which requests are due. Never ends.
#[derive(Debug)]
pub(super) struct Schedule {
    rate: f64,
    arrivals: Arrivals,
    random: StdRng,
    due_s: f64,
    sent: u64,
}

impl Schedule {
    /// `rate` requests a second on average.
    pub(super) fn new(rate: u32, arrivals: Arrivals, seed: u64) -> Self {
        Self {
            rate: f64::from(rate),
            arrivals,
            random: StdRng::seed_from_u64(seed),
            due_s: 0.0,
            sent: 0,
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        match self.arrivals {
            // From the count, not from a sum of gaps, so that rounding does not add up.
            Arrivals::Even => {
                self.due_s = count(self.sent) / self.rate;
            }
            // The gaps of a Poisson process are exponential.
            Arrivals::Poisson => {
                let uniform: f64 = self.random.random_range(f64::EPSILON..1.0);
                self.due_s -= uniform.ln() / self.rate;
            }
        }
        self.sent += 1;
        Some(Duration::from_secs_f64(self.due_s))
    }
}

/// A count as a number to calculate with; exact far beyond any run.
#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_arrivals_are_evenly_spaced() {
        let due: Vec<Duration> = Schedule::new(4, Arrivals::Even, 1).take(5).collect();
        assert_eq!(due, [0, 250, 500, 750, 1_000].map(Duration::from_millis));
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_their_order() {
        let due: Vec<Duration> = Schedule::new(1_000, Arrivals::Poisson, 7)
            .take(100_000)
            .collect();
        assert!(due.is_sorted());
        let last = due.last().expect("100,000 arrivals").as_secs_f64();
        assert!(
            (98.0..102.0).contains(&last),
            "100,000 arrivals at 1,000/s took {last} s"
        );
        // The hallmark of a Poisson process: the counts of seconds vary as much as their mean.
        let mut counts = [0_u64; 90];
        for moment in &due {
            if let Some(count) = usize::try_from(moment.as_secs())
                .ok()
                .and_then(|second| counts.get_mut(second))
            {
                *count += 1;
            }
        }
        let variance = counts
            .iter()
            .map(|seen| (count(*seen) - 1_000.0).powi(2))
            .sum::<f64>()
            / 90.0;
        assert!(
            (500.0..2_000.0).contains(&variance),
            "the variance is {variance}"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let take = |seed| {
            Schedule::new(50, Arrivals::Poisson, seed)
                .take(50)
                .collect::<Vec<_>>()
        };
        assert_eq!(take(3), take(3));
        assert_ne!(take(3), take(4));
    }
}
