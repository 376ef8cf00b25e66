//! The checker of linearizability, checked: against brute force, against planted violations, against histories that are
//! fine by construction.

use crate::checker::history::History;
use crate::checker::{self, BUDGET, text};

fn verdict(history: &str) -> checker::Verdict {
    let history = text::read(history).expect("a history");
    checker::check(&history, BUDGET)
}

/// Demands that a history passes.
fn fine(history: &str) {
    let verdict = verdict(history);
    assert!(verdict.is_linearizable(), "{verdict}\n{history}");
}

/// Demands that a history is refused for a reason that contains `why`.
fn wrong(why: &str, history: &str) {
    let verdict = verdict(history).to_string();
    assert!(
        verdict.starts_with("not linearizable") && verdict.contains(why),
        "{verdict}\n{history}"
    );
}

#[test]
fn what_is_possible_passes() {
    fine("");
    fine(
        "1 10..20 create user=a desk=d slots=5 key=k -> booking index=7 b@d:5/1
          2 15..30 create user=c desk=d slots=5 -> slot_taken index=8 5
          2 31..40 availability desks=d,e slots=5,6 -> free index=8 d@6 e@5 e@6
          1 41..50 cancel user=a booking=b -> booking index=9 b@d:5/2!
          2 51..60 create user=c desk=d slots=5 -> booking index=10 b2@d:5/1",
    );
    // Concurrent: the second in time may be the first in order.
    fine(
        "1 10..30 create user=a desk=d slots=5 -> slot_taken 5
          2 20..40 create user=c desk=d slots=5 -> booking b@d:5/1",
    );
    // Unknown ones happen, late, or never.
    fine(
        "1 10.. create user=a desk=d slots=5 -> ?
          2 20..30 availability desks=d slots=5 -> free d@5
          2 40..50 availability desks=d slots=5 -> free",
    );
    fine(
        "1 10.. create user=a desk=d slots=5 -> ?
          2 20..30 create user=c desk=d slots=5 -> booking b@d:5/1",
    );
    fine(
        "1 10.. create user=a desk=d slots=5,6 -> ?
          1 40..50 list user=a -> whole b@d:5,6/1
          1 60..70 cancel user=a booking=b -> booking b@d:5,6/2!",
    );
}

#[test]
fn what_is_impossible_is_refused() {
    wrong(
        "slot 5 of desk d",
        "1 10..20 create user=a desk=d slots=5 -> booking b@d:5/1
          2 15..30 create user=c desk=d slots=5 -> booking b2@d:5/1",
    );
    wrong(
        "slot 5 of user a",
        "1 10..20 create user=a desk=d slots=5 -> booking b@d:5/1
          2 15..30 create user=a desk=e slots=5 -> booking b2@e:5/1",
    );
    wrong(
        "slot 5 of desk d",
        "1 10..20 create user=a desk=d slots=5 -> booking b@d:5/1
          2 30..40 availability desks=d slots=5 -> free d@5",
    );
    wrong("nobody asked", "1 10..20 list user=a -> whole b@d:5/1");
}

#[test]
fn a_history_is_read_back_as_it_was_written() {
    let text_of = "3 120..180 create user=u1 desk=d1 slots=10,20 key=k1 -> booking index=44 b1@d1:10,20/1\n\
        3 190.. cancel user=u1 booking=b1 -> ?\n\
        4 200..210 availability local desks=d1,d2 slots=10,20 -> free index=45 d2@10 d2@20\n\
        4 220..225 list local min=44 user=u1 -> whole index=45 b1@d1:10,20/1 b2@d1:7/3!\n\
        4 220..225 get user=u1 booking=b1 -> not_found\n\
        5 226..228 create user=u2 desk=d1 slots=10 -> slot_taken index=46 10\n\
        5 229..230 move user=u2 booking=b1 desk=d1 slots=10 key=k2 -> version_mismatch 3\n";
    let history: History = text::read(text_of).expect("a history");
    assert_eq!(history.records.len(), 7);
    assert_eq!(text::write(&history), text_of);
    assert!(text::read("1 2..3 dance -> fine").is_err());
}
