//! Passwords: Argon2id on a bounded pool, before anything is proposed.
//!
//! Hashing is slow on purpose, so it is what a flood of sign-ins would exhaust first. Three bounds keep the node alive:
//! as many hashes at once as there are cores, a bounded number of requests that wait for their turn, and a bounded
//! wait. Whoever finds the queue full is told at once to come back later.
//!
//! A sign-in for an account that does not exist costs the same as one with a wrong password: it is checked against a
//! hash that no password matches. A turn is taken first and the look at the count of failed attempts comes after it, so
//! that a burst of guesses cannot slip past the count by being in flight together.
//!
//! Left out on purpose: Unicode normalisation (a password is the bytes that were sent) and a pepper outside the state.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::phc::PasswordHash,
};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{Limits, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};

/// A password as a person typed it. It shows itself to nobody.
#[derive(Clone)]
pub struct Password(String);

/// What is wrong with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PasswordShape {
    /// Fewer than [`PASSWORD_CHARS_MIN`] characters.
    #[error("a password has at least {PASSWORD_CHARS_MIN} characters")]
    TooShort,
    /// More than [`PASSWORD_CHARS_MAX`] characters.
    #[error("a password has at most {PASSWORD_CHARS_MAX} characters")]
    TooLong,
}

impl Password {
    /// A password to be set, which must be neither too short nor too long.
    ///
    /// # Errors
    /// Says which.
    pub fn chosen(text: String) -> Result<Self, PasswordShape> {
        match text.chars().count() {
            count if count < PASSWORD_CHARS_MIN => Err(PasswordShape::TooShort),
            count if count > PASSWORD_CHARS_MAX => Err(PasswordShape::TooLong),
            _ => Ok(Self(text)),
        }
    }

    /// A password to be checked: of any length that a password may have or not have, but bounded.
    ///
    /// # Errors
    /// Refuses what is longer than any password can be.
    pub fn claimed(text: String) -> Result<Self, PasswordShape> {
        if text.chars().count() > PASSWORD_CHARS_MAX {
            Err(PasswordShape::TooLong)
        } else {
            Ok(Self(text))
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// How much work a hash is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl PasswordCost {
    /// What the OWASP password storage cheat sheet recommends for Argon2id: 19 MiB, two passes, one lane.
    pub const RECOMMENDED: Self = Self {
        memory_kib: 19_456,
        passes: 2,
        lanes: 1,
    };
    /// As little as the algorithm allows: for tests that are not about passwords.
    pub const LEAST: Self = Self {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };
}

/// No turn could be had: the queue is full, or the wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many passwords wait to be hashed")]
pub struct Busy;

/// The bounded pool.
pub struct Passwords {
    argon2: Argon2<'static>,
    /// Whether a hash is worth a thread of its own.
    is_slow: bool,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
    wait: Duration,
    /// Stands in for the hash of an account that does not exist.
    nobody: String,
}

/// The right to hash one password now.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Passwords {
    /// A pool of the given cost, bounded as `limits` say. `salt` is for the hash that no password matches.
    #[must_use]
    pub fn new(cost: PasswordCost, limits: &Limits, salt: [u8; 16]) -> Self {
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None)
            .expect("the costs are constants of this module, and all within Argon2's bounds");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = if limits.password_hashes == 0 {
            cores
        } else {
            limits.password_hashes
        };
        // What is hashed here is as random as the salt, so nobody can type it.
        let nobody = hash(&argon2, &blake3::hash(&salt).as_bytes()[..], salt);
        Self {
            argon2,
            is_slow: cost.memory_kib > PasswordCost::LEAST.memory_kib,
            turns: Arc::new(Semaphore::new(turns)),
            waiting: AtomicUsize::new(0),
            queue: limits.password_queue,
            wait: Duration::from_millis(limits.password_wait_ms),
            nobody,
        }
    }

    /// Waits for the right to hash one password.
    ///
    /// # Errors
    /// [`Busy`] at once where the queue is full, and later where the wait was too long.
    pub async fn turn(&self) -> Result<Turn, Busy> {
        if let Ok(permit) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(Turn(permit));
        }
        let _place = Place::take(&self.waiting, self.queue)?;
        match tokio::time::timeout(self.wait, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn(permit)),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }

    /// The hash of a password in PHC form, with this salt.
    pub async fn hash(&self, turn: Turn, password: Password, salt: [u8; 16]) -> String {
        let argon2 = self.argon2.clone();
        self.off_the_loop(move || {
            let text = hash(&argon2, password.0.as_bytes(), salt);
            drop(turn);
            text
        })
        .await
    }

    /// Whether the password is the one that was hashed. Without a hash the answer is no, after the same work.
    pub async fn verify(&self, turn: Turn, password: Password, stored: Option<String>) -> bool {
        let argon2 = self.argon2.clone();
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.clone());
        self.off_the_loop(move || {
            let matches = PasswordHash::new(&stored).is_ok_and(|stored| {
                argon2
                    .verify_password(password.0.as_bytes(), &stored)
                    .is_ok()
            });
            drop(turn);
            matches && known
        })
        .await
    }

    /// Runs `work` where it holds nobody up. The least cost is microseconds, less than a thread's turn: it is paid right
    /// here, which also keeps a simulation free of threads.
    async fn off_the_loop<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if !self.is_slow {
            return work();
        }
        tokio::task::spawn_blocking(work)
            .await
            .expect("hashing a bounded password does not panic")
    }

    /// How many requests wait for a turn.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

/// A place in the queue, given back when dropped, also when the request goes away while it waits.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, queue: usize) -> Result<Self, Busy> {
        waiting
            .try_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < queue).then_some(count + 1)
            })
            .map(|_| Self(waiting))
            .map_err(|_| Busy)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn hash(argon2: &Argon2<'static>, password: &[u8], salt: [u8; 16]) -> String {
    let hash: PasswordHash = argon2
        .hash_password_with_salt(password, &salt)
        .expect("a bounded password and a salt of sixteen bytes are within Argon2's bounds");
    hash.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(limits: &Limits) -> Passwords {
        Passwords::new(PasswordCost::LEAST, limits, [1; 16])
    }

    fn password(text: &str) -> Password {
        Password::claimed(text.to_owned()).expect("short enough")
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert_eq!(
            Password::chosen("семьбук".to_owned()).err(),
            Some(PasswordShape::TooShort)
        );
        assert!(Password::chosen("восемь88".to_owned()).is_ok());
        assert!(Password::chosen("я".repeat(128)).is_ok());
        assert_eq!(
            Password::chosen("я".repeat(129)).err(),
            Some(PasswordShape::TooLong)
        );
        assert!(Password::claimed(String::new()).is_ok());
        assert_eq!(
            Password::claimed("a".repeat(129)).err(),
            Some(PasswordShape::TooLong)
        );
    }

    #[test]
    fn a_password_shows_itself_to_nobody() {
        assert!(!format!("{:?}", password("correct horse")).contains("horse"));
    }

    #[tokio::test]
    async fn only_the_password_that_was_hashed_is_accepted() {
        let pool = pool(&Limits::default());
        let turn = pool.turn().await.expect("the pool is idle");
        let stored = pool.hash(turn, password("correct horse"), [7; 16]).await;
        assert!(
            stored.starts_with("$argon2id$v=19$m=8,t=1,p=1$"),
            "{stored}"
        );
        let turn = pool.turn().await.expect("the pool is idle");
        assert!(
            pool.verify(turn, password("correct horse"), Some(stored.clone()))
                .await
        );
        let turn = pool.turn().await.expect("the pool is idle");
        assert!(
            !pool
                .verify(turn, password("correct horsf"), Some(stored))
                .await
        );
        let turn = pool.turn().await.expect("the pool is idle");
        assert!(!pool.verify(turn, password("correct horse"), None).await);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_a_long_wait_in_the_end() {
        let limits = Limits {
            password_hashes: 1,
            password_queue: 1,
            password_wait_ms: 40,
            ..Limits::default()
        };
        let pool = Arc::new(pool(&limits));
        let held = pool.turn().await.expect("the pool is idle");
        let waiter = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.turn().await.map(drop) }
        });
        while pool.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            pool.turn().await.map(drop),
            Err(Busy),
            "the queue holds one, and one is in it"
        );
        assert_eq!(
            waiter.await.expect("the task does not panic"),
            Err(Busy),
            "nobody gave way in time"
        );
        assert_eq!(pool.waiting(), 0);
        drop(held);
        assert!(pool.turn().await.is_ok());
    }
}
