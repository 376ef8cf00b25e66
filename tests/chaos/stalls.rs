//! When this machine stood still: a virtual machine that is paused, or one that has too much else to do.
//!
//! A thread of its own wants to run every few milliseconds and notes when it could not. What clients waited for
//! meanwhile says nothing about the cluster and is left out of its figures; the report tells how long it was. Nothing is
//! left out of the history, since a pause excuses no wrong answer. Limits of time, too, count only time in which the
//! machine ran ([`Patience`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::load::Shared;

/// From when until when, in nanoseconds of the run.
pub(crate) type Stall = (u64, u64);

const NAP: Duration = Duration::from_millis(20);
/// A gap of so much is a stall.
const STALL_NS: u64 = 1_000_000_000;

/// Watches until told to stop.
pub(crate) fn watch(shared: Arc<Shared>, stop: Arc<AtomicBool>) -> JoinHandle<Vec<Stall>> {
    std::thread::spawn(move || {
        let mut stalls = Vec::new();
        let mut before = shared.recorder.now();
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(NAP);
            let now = shared.recorder.now();
            if now - before > STALL_NS {
                stalls.push((before, now));
            }
            before = now;
        }
        stalls
    })
}

/// A limit of time, for something that is looked at again and again.
pub(crate) struct Patience {
    left: Duration,
    last: Instant,
}

impl Patience {
    /// The most that counts between two looks. No look takes longer by itself than a request may.
    const STEP: Duration = Duration::from_millis(2_500);

    pub(crate) fn of(limit: Duration) -> Self {
        Self {
            left: limit,
            last: Instant::now(),
        }
    }

    /// Whether the time is up.
    pub(crate) fn is_over(&mut self) -> bool {
        let passed = self.last.elapsed().min(Self::STEP);
        self.last = Instant::now();
        self.left = self.left.saturating_sub(passed);
        self.left.is_zero()
    }
}
