//! The wall clock of a machine, as wrong as the plan wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::shared::Shared;

/// When every run begins: Monday, 2 March 2026, 06:30 UTC, in milliseconds since the epoch.
pub(crate) const START_MS: u64 = 1_772_433_000_000;

/// A machine's wall clock: the true time and how far this one is off it.
#[derive(Clone)]
pub(crate) struct WallClock {
    shared: Arc<Shared>,
    off_ms: Arc<AtomicI64>,
}

impl WallClock {
    /// A clock that is right.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            off_ms: Arc::default(),
        }
    }

    /// Sets it forward, or back.
    pub(crate) fn jump(&self, by_ms: i64) {
        self.off_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// How far it is off.
    pub(crate) fn off_ms(&self) -> i64 {
        self.off_ms.load(Ordering::Relaxed)
    }

    fn read_ms(&self) -> u64 {
        (START_MS + self.shared.now_ms()).saturating_add_signed(self.off_ms())
    }
}

impl std::fmt::Debug for WallClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WallClock({} ms off)", self.off_ms())
    }
}

impl mesto::clock::Clock for WallClock {
    fn now_ms(&self) -> u64 {
        self.read_ms()
    }
}

impl mesto_raft::Clock for WallClock {
    fn now_ms(&self) -> u64 {
        self.read_ms()
    }
}
