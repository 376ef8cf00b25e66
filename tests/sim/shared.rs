//! What every part of a run shares: the time, the trace, the counts, the first failure.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::coverage::{Coverage, Event};
use crate::trace::Trace;

/// Shared by everything in one run.
pub(crate) struct Shared {
    now_us: AtomicU64,
    ticks: AtomicU64,
    pub(crate) trace: Mutex<Trace>,
    pub(crate) coverage: Mutex<Coverage>,
    failure: Mutex<Option<Failure>>,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Which check says so.
    pub(crate) check: &'static str,
    /// What it saw.
    pub(crate) detail: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.check, self.detail)
    }
}

/// Adds a line to the trace that is kept to be shown with a failure.
macro_rules! note {
    ($shared:expr, $($text:tt)*) => {
        $shared.line(true, format_args!($($text)*))
    };
}
pub(crate) use note;

impl Shared {
    /// It is 0.
    pub(crate) fn new(trace: Trace) -> Self {
        Self {
            now_us: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            trace: Mutex::new(trace),
            coverage: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Simulated microseconds since the run began.
    pub(crate) fn now_us(&self) -> u64 {
        self.now_us.load(Ordering::Relaxed)
    }

    /// The same in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_us() / 1_000
    }

    /// Time goes on.
    pub(crate) fn set_now_us(&self, now_us: u64) {
        self.now_us.store(now_us, Ordering::Relaxed);
    }

    /// A number that is greater than all before: the clock of histories.
    pub(crate) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a line to the trace.
    pub(crate) fn line(&self, keep: bool, text: std::fmt::Arguments<'_>) {
        self.trace.lock().line(self.now_us(), keep, text);
    }

    /// Counts an event.
    pub(crate) fn count(&self, event: Event) {
        self.coverage.lock().count(event);
    }

    /// A check says no. The first one counts.
    pub(crate) fn fail(&self, check: &'static str, detail: impl Into<String>) {
        let mut failure = self.failure.lock();
        if failure.is_none() {
            let found = Failure {
                check,
                detail: detail.into(),
            };
            note!(self, "FAILED {found}");
            *failure = Some(found);
        }
    }

    /// The first failure, if there was one.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.lock().clone()
    }
}
