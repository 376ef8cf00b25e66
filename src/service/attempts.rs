//! Failed sign-ins within a window, by account and by address.
//!
//! Each node counts for itself, in memory: an attacker who spreads his guesses over all nodes gets that many times the
//! limit, which changes nothing about its order of magnitude and keeps failed guesses out of the replicated log. The
//! table is bounded; when it is full, the entry whose window began first makes room.
//!
//! Keys are hashes, so that neither e-mails nor addresses sit in this table.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// A bounded table of counters, each within a window of its own.
#[derive(Debug)]
pub struct Attempts {
    limit: u32,
    window_ms: u64,
    entries_max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    counters: BTreeMap<[u8; 16], Counter>,
    /// The same entries by the beginning of their windows.
    by_age: BTreeMap<(u64, [u8; 16]), ()>,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    since_ms: u64,
    failures: u32,
}

impl Attempts {
    /// Allows `limit` failures of one key within `window_ms`, and remembers up to `entries_max` keys.
    #[must_use]
    pub fn new(limit: u32, window_ms: u64, entries_max: usize) -> Self {
        Self {
            limit,
            window_ms,
            entries_max: entries_max.max(1),
            table: Mutex::default(),
        }
    }

    /// Whether another attempt of `key` may be made.
    ///
    /// # Errors
    /// Answers after how many seconds it may.
    pub fn check(&self, key: &str, now_ms: u64) -> Result<(), u64> {
        let table = self.table.lock();
        match table.counters.get(&digest(key)) {
            Some(counter) if counter.failures >= self.limit && self.is_open(*counter, now_ms) => {
                let left_ms = (counter.since_ms + self.window_ms).saturating_sub(now_ms);
                Err(left_ms.div_ceil(1_000).max(1))
            }
            _ => Ok(()),
        }
    }

    /// Counts a failed attempt of `key`.
    pub fn failed(&self, key: &str, now_ms: u64) {
        let key = digest(key);
        let mut table = self.table.lock();
        match table.counters.get(&key).copied() {
            Some(counter) if self.is_open(counter, now_ms) => {
                let failures = counter.failures.saturating_add(1);
                table.counters.insert(
                    key,
                    Counter {
                        failures,
                        ..counter
                    },
                );
            }
            stale => {
                if let Some(counter) = stale {
                    table.by_age.remove(&(counter.since_ms, key));
                }
                table.counters.insert(
                    key,
                    Counter {
                        since_ms: now_ms,
                        failures: 1,
                    },
                );
                table.by_age.insert((now_ms, key), ());
            }
        }
        while table.counters.len() > self.entries_max {
            let Some(((_, oldest), ())) = table.by_age.pop_first() else {
                break;
            };
            table.counters.remove(&oldest);
        }
    }

    /// Forgets the failures of `key`, after a success.
    pub fn succeeded(&self, key: &str) {
        let key = digest(key);
        let mut table = self.table.lock();
        if let Some(counter) = table.counters.remove(&key) {
            table.by_age.remove(&(counter.since_ms, key));
        }
    }

    /// A clock that was set back leaves windows that begin in the future; they count as over.
    fn is_open(&self, counter: Counter, now_ms: u64) -> bool {
        now_ms >= counter.since_ms && now_ms - counter.since_ms < self.window_ms
    }
}

fn digest(key: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_for_the_window_and_not_longer() {
        let attempts = Attempts::new(2, 10_000, 8);
        assert_eq!(attempts.check("a", 0), Ok(()));
        attempts.failed("a", 0);
        assert_eq!(attempts.check("a", 1), Ok(()));
        attempts.failed("a", 4_000);
        assert_eq!(attempts.check("a", 4_000), Err(6));
        assert_eq!(attempts.check("a", 9_999), Err(1));
        assert_eq!(attempts.check("b", 4_000), Ok(()));
        assert_eq!(attempts.check("a", 10_000), Ok(()));
        attempts.failed("a", 10_000);
        assert_eq!(
            attempts.check("a", 10_001),
            Ok(()),
            "a new window counts from one"
        );
    }

    #[test]
    fn a_success_forgets() {
        let attempts = Attempts::new(1, 10_000, 8);
        attempts.failed("a", 0);
        assert!(attempts.check("a", 1).is_err());
        attempts.succeeded("a");
        assert_eq!(attempts.check("a", 1), Ok(()));
    }

    #[test]
    fn a_full_table_drops_its_oldest_entry() {
        let attempts = Attempts::new(1, 10_000, 2);
        attempts.failed("a", 0);
        attempts.failed("b", 1);
        attempts.failed("c", 2);
        assert_eq!(attempts.check("a", 3), Ok(()));
        assert!(attempts.check("b", 3).is_err());
        assert!(attempts.check("c", 3).is_err());
        assert_eq!(attempts.table.lock().by_age.len(), 2);
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let attempts = Attempts::new(1, 10_000, 2);
        attempts.failed("a", 1_000_000);
        assert_eq!(attempts.check("a", 5), Ok(()));
    }
}
