//! Panics of simulated nodes: kept, not printed, since a node that panics is a finding of the run.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// From now on panics on this thread are kept.
pub(crate) fn keep_on_this_thread() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.with(|quiet| *quiet.borrow()) {
                LAST.with(|last| *last.borrow_mut() = info.to_string());
            } else {
                print(info);
            }
        }));
    });
    QUIET.with(|quiet| *quiet.borrow_mut() = true);
}

/// What the last panic on this thread said.
pub(crate) fn last() -> String {
    LAST.with(|last| last.borrow().clone())
}
