//! Figures of a run.

use std::collections::BTreeMap;

use crate::faults::{Event, Fault, Reach};
use crate::recorder::{End, Kind, Sample};
use crate::stalls::Stall;

/// An operation that is settled within so long counts as served.
pub(crate) const SERVED_NS: u64 = 2_000_000_000;
/// How long after its recovery an event is looked at.
const AFTER_NS: u64 = 500_000_000;
/// Nobody tries for longer.
const LONGEST_TRY_NS: u64 = 15_000_000_000;

/// Times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) count: usize,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Spread {
    pub(crate) fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let Some(max) = times.last().copied() else {
            return Self::default();
        };
        let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
        Self {
            count: times.len(),
            p50: at(50),
            p99: at(99),
            max,
        }
    }
}

/// Of operations of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) done: u64,
    pub(crate) refused: u64,
    pub(crate) late: u64,
    pub(crate) unanswered: u64,
    pub(crate) given_up: u64,
    pub(crate) retried: u64,
    pub(crate) latency: Spread,
}

pub(crate) fn by_kind(samples: &[Sample]) -> BTreeMap<Kind, Tally> {
    let tally = |kind: Kind| {
        let mut tally = Tally::default();
        let mut times = Vec::new();
        for sample in samples.iter().filter(|sample| sample.kind == kind) {
            tally.retried += u64::from(sample.tries > 1);
            match sample.end {
                End::Done => tally.done += 1,
                End::Refused => tally.refused += 1,
                End::Unanswered => tally.unanswered += 1,
                End::GivenUp => tally.given_up += 1,
            }
            if matches!(sample.end, End::Done | End::Refused) {
                tally.late += u64::from(sample.until - sample.from > SERVED_NS);
                times.push(sample.until - sample.from);
            }
        }
        tally.latency = Spread::of(times);
        tally
    };
    Kind::ALL
        .into_iter()
        .map(|kind| (kind, tally(kind)))
        .collect()
}

/// The operations that no stall of the machine touched.
pub(crate) fn calm(samples: &[Sample], stalls: &[Stall]) -> Vec<Sample> {
    let stalled = |sample: &Sample| {
        let mut stalls = stalls.iter();
        stalls.any(|(from, until)| sample.from < *until && sample.until + AFTER_NS > *from)
    };
    samples
        .iter()
        .filter(|sample| !stalled(sample))
        .copied()
        .collect()
}

/// Of all operations of careful clients, how many were settled within two seconds; and of those that no fault touched
/// that takes away more than one node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Availability {
    pub(crate) served: u64,
    pub(crate) all: u64,
    pub(crate) one_node_served: u64,
    pub(crate) one_node_all: u64,
}

impl Availability {
    pub(crate) fn percent(served: u64, all: u64) -> f64 {
        if all == 0 {
            100.0
        } else {
            served as f64 * 100.0 / all as f64
        }
    }
}

pub(crate) fn availability(samples: &[Sample], events: &[Event]) -> Availability {
    let wide: Vec<&Event> = events
        .iter()
        .filter(|event| event.fault.reach() != Reach::OneNode)
        .collect();
    let mut found = Availability::default();
    for sample in samples.iter().filter(|sample| sample.end != End::GivenUp) {
        let settled = matches!(sample.end, End::Done | End::Refused);
        let served = settled && sample.until - sample.from <= SERVED_NS;
        let hit = wide
            .iter()
            .any(|event| sample.from < event.recovered + AFTER_NS && sample.until > event.from);
        found.all += 1;
        found.served += u64::from(served);
        found.one_node_all += u64::from(!hit);
        found.one_node_served += u64::from(!hit && served);
    }
    found
}

/// For each event the longest time that a careful client waited for one write: from its first try to the answer that
/// settled it.
pub(crate) fn longest_waits(samples: &[Sample], events: &[Event]) -> Vec<u64> {
    let mut writes: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.kind.is_write())
        .collect();
    writes.sort_by_key(|sample| sample.from);
    let longest = |event: &Event| {
        let until = event.recovered + AFTER_NS;
        let first = writes.partition_point(|sample| sample.from + LONGEST_TRY_NS < event.from);
        let around = writes[first..]
            .iter()
            .take_while(|sample| sample.from < until);
        let around =
            around.filter(|sample| sample.until > event.from && sample.end != End::GivenUp);
        around
            .map(|sample| sample.until - sample.from)
            .max()
            .unwrap_or_default()
    };
    events.iter().map(longest).collect()
}

/// Of each fault: the longest waits of its events, and how long recovery took.
pub(crate) fn without_service(
    samples: &[Sample],
    events: &[Event],
) -> BTreeMap<Fault, (Spread, Spread)> {
    let mut times: BTreeMap<Fault, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
    for (event, longest) in events.iter().zip(longest_waits(samples, events)) {
        let (waited, recovery) = times.entry(event.fault).or_default();
        waited.push(longest);
        recovery.push(event.recovered - event.healed);
    }
    let spread = |(waited, recovery)| (Spread::of(waited), Spread::of(recovery));
    times
        .into_iter()
        .map(|(fault, times)| (fault, spread(times)))
        .collect()
}
