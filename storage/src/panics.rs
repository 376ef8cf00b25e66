//! Panics of the store below, made into errors.
//!
//! On some damaged files sled panics instead of answering. Where that can happen the call goes
//! through [`catching`], and the panic becomes a text for an error. Whoever owns the process may
//! ask [`panic_is_caught`] in its panic hook, so that an operator is told of damage once and in
//! words, and is not shown a backtrace as well.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread at this moment becomes an error of the store.
#[must_use]
pub fn panic_is_caught() -> bool {
    CATCHING.get()
}

/// Runs what may panic on damaged files, and gives its panic as a text. What `work` left half done
/// must not be used afterwards.
pub(crate) fn catching<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
    result.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("for an unknown reason");
        format!("the store gave up on it: {text}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_given_as_a_text_and_is_known_to_be_caught() {
        assert_eq!(catching(|| 7), Ok(7));
        let number = 7;
        for (outcome, expected) in [
            (catching(|| panic!("cannot find pid {number}")), "pid 7"),
            (catching(|| panic!("torn")), "torn"),
        ] {
            let outcome: Result<(), String> = outcome;
            assert!(outcome.is_err_and(|text| text.contains(expected)));
        }
        assert!(!panic_is_caught());
        assert_eq!(catching(panic_is_caught), Ok(true));
        let nested = catching(|| (catching(|| ()), panic_is_caught()));
        assert_eq!(nested, Ok((Ok(()), true)));
        assert!(!panic_is_caught());
    }
}
