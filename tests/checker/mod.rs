//! Is what the clients saw possible? A checker of linearizability for histories of bookings.
//!
//! A history is what clients saw: who asked what, when, and what the answer was ([`history`]). It is *linearizable* if
//! every operation can be given one moment between its call and its answer such that, carried out one after another at
//! these moments on a single machine, all of them would have been answered as they were (Herlihy and Wing,
//! "Linearizability: A Correctness Condition for Concurrent Objects", 1990). An operation without an answer is
//! *unknown*: its moment may come at any time after its call, or never.
//!
//! # How
//!
//! 1. Tries under one idempotency key become one operation, and each booking that clients met without ever having been
//!    told of its making is ascribed to an unknown create, or nobody asked for it ([`merge`], [`ascribe`]).
//! 2. Indexes keep to real time ([`order`]): who asks after an answer with index *i* is answered with *i* at least, a
//!    write with more than *i*; `Mesto-Min-Index` is kept.
//! 3. The history falls apart into objects ([`object`]): each slot of a desk (who holds it), each slot of a user (which
//!    booking), each booking (absent, active at a place, cancelled; with its version).
//! 4. For each object, a search for an order that explains all answers ([`search`]): Wing and Gong's algorithm with
//!    Lowe's memory of configurations ("Testing for Linearizability", 2017).
//! 5. Step 4 once more with log indexes in the place of time. There, each write has exactly one moment for all the
//!    objects that it touches, each read one moment at which it saw them all. What this adds: reads of several slots
//!    that mix two states, a move that is half done, and local reads, which may be late but must be *some* state.
//!
//! # Why object by object, and what that cannot see
//!
//! Linearizability is local: a history is linearizable if and only if, for each object, the operations on it are
//! (theorem 1 of Herlihy and Wing), as long as an operation touches one object. A booking of three slots touches seven.
//! Taking it apart never raises a false alarm: an order of the whole history orders the parts, too. It may miss
//! a violation that shows only in how objects stand to each other. Step 5 sees those wherever the answers carry their
//! index. What remains unseen: disagreement between objects about an operation that was never answered, as far as
//! neither a later reading of the booking nor its index shows it.
//!
//! A refusal asserts what can be asserted of one object:
//!
//! | refusal | says |
//! |---|---|
//! | `slot_taken` | the slots that the answer names are held by another; if one slot was wanted, that one |
//! | `user_already_booked` | every wanted slot of the desk is free, since that rule comes first; if one slot was wanted, the user holds it elsewhere |
//! | `booking_cancelled`, `version_mismatch`, `not_found` | as much of the booking |
//! | others | nothing, but that nothing happened |
//!
//! A refused booking of several slots where the answer does not name the one in the way says "one of these", which is
//! no statement about any one object, and is left out.
//!
//! # Deliberately not here
//!
//! Accounts, sessions, layouts, quotas: objects of other kinds, tested elsewhere. Bookings in the past: histories keep to
//! slots that do not start while they run. Time-outs that pass: the search has a budget of steps, and running out of it
//! is a failure ([`Verdict::OutOfBudget`]), never a pass.
//!
//! # Use
//!
//! `#[path = "../checker/mod.rs"] mod checker;` at the root of a test binary, with `#[expect(dead_code)]` where a part of
//! it is not needed; then fill a [`history::History`] and [`check`] it.
//!
//! `tests/it/checker_checked/` checks the checker: against brute force, against planted violations, against itself.

pub(crate) mod ascribe;
pub(crate) mod history;
pub(crate) mod merge;
pub(crate) mod object;
pub(crate) mod order;
pub(crate) mod search;
pub(crate) mod text;
pub(crate) mod verdict;

pub(crate) use verdict::Verdict;

use history::History;
use search::Found;
use verdict::Violation;

/// Steps of search that are enough for any history that our tests make, a hundred times over.
pub(crate) const BUDGET: u64 = 500_000_000;

/// Checks a history. `budget` bounds the steps of all searches together.
pub(crate) fn check(history: &History, budget: u64) -> Verdict {
    match judge(history, budget) {
        Ok(verdict) => verdict,
        Err(violation) => Verdict::Violation(Box::new(violation)),
    }
}

fn judge(history: &History, budget: u64) -> Result<Verdict, Violation> {
    let mut operations = merge::merged(history)?;
    ascribe::ascribe(&mut operations)?;
    order::check(history, &operations)?;
    let mut left = budget;
    let mut objects = 0;
    for clock in [object::Clock::RealTime, object::Clock::LogIndex] {
        for object in object::objects(&operations, clock)? {
            objects += 1;
            match object.search(&mut left) {
                Found::Order => {}
                Found::Stuck(stuck) => return Err(object.violation(&operations, clock, &stuck)),
                Found::OutOfBudget => {
                    return Ok(Verdict::OutOfBudget {
                        object: object.name(),
                        operations: object.len(),
                    });
                }
            }
        }
    }
    Ok(Verdict::Linearizable {
        operations: operations.len(),
        objects,
        steps: budget - left,
    })
}
