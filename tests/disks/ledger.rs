//! What each person was told, and whether the cluster still says the same.
//!
//! A person asks for one thing at a time, so what was acknowledged to them is exact: a booking that was answered 201 is
//! there until a cancel of it is answered 200. What was not answered, or answered with an honest "unknown", may have
//! happened wholly or not at all. What was answered "not applied", and nothing else, has not happened.

use std::collections::{BTreeMap, BTreeSet};

/// A desk and the second at which its slot begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) desk: String,
    pub(crate) starts_s: i64,
}

#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Book(Cell),
    Cancel(String),
}

/// A request under its idempotency key.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) key: String,
    pub(crate) wish: Wish,
    /// Whether it may have happened: not when every answer so far was that nothing was applied.
    pub(crate) may_have_happened: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Active,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Booking {
    pub(crate) cell: Cell,
    pub(crate) status: Status,
}

/// Bookings by id: what a person was told, or what the cluster lists.
pub(crate) type Bookings = BTreeMap<String, Booking>;

/// What one person was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) acknowledged: Bookings,
    pub(crate) open: Vec<Asked>,
    /// Some requests that were answered, with the booking that each gave: asked again they must give the same.
    pub(crate) answered: Vec<(Asked, String)>,
}

impl Account {
    /// Notes that a request was carried out; `id` is the booking that was answered.
    pub(crate) fn done(&mut self, asked: &Asked, id: &str) {
        let (cell, status) = match &asked.wish {
            Wish::Book(cell) => (cell.clone(), Status::Active),
            Wish::Cancel(id) => {
                let booking = &self.acknowledged[id];
                (booking.cell.clone(), Status::Cancelled)
            }
        };
        self.acknowledged
            .insert(id.to_owned(), Booking { cell, status });
    }

    /// Compares what the cluster lists with what this person was told; gives every contradiction.
    pub(crate) fn contradictions(&self, listed: &Bookings) -> Vec<String> {
        let mut found = Vec::new();
        for (id, told) in &self.acknowledged {
            match listed.get(id) {
                None => found.push(format!("{id} is lost: {told:?} was acknowledged")),
                Some(is) if is.cell != told.cell => {
                    found.push(format!("{id} was acknowledged as {told:?}, but is {is:?}"));
                }
                Some(is) if is.status == told.status => {}
                Some(is) if is.status == Status::Cancelled && self.may_be_cancelled(id) => {}
                Some(is) => found.push(format!("{id} was acknowledged as {told:?}, but is {is:?}")),
            }
        }
        let mut unexplained: Vec<&Asked> = self.open.iter().collect();
        for (id, is) in listed {
            if self.acknowledged.contains_key(id) {
                continue;
            }
            let explains = |asked: &&Asked| {
                asked.may_have_happened
                    && matches!(&asked.wish, Wish::Book(cell) if *cell == is.cell)
            };
            match unexplained.iter().position(explains) {
                Some(at) => drop(unexplained.remove(at)),
                None => found.push(format!("nobody asked for {id}: {is:?}")),
            }
        }
        found
    }

    fn may_be_cancelled(&self, booking: &str) -> bool {
        self.open.iter().any(|asked| {
            asked.may_have_happened && matches!(&asked.wish, Wish::Cancel(id) if id == booking)
        })
    }
}

/// Whatever is booked twice: a desk by two, or two desks by one, at the same time.
pub(crate) fn doubles<'a>(everyone: impl IntoIterator<Item = &'a Bookings>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut found = Vec::new();
    for (person, bookings) in everyone.into_iter().enumerate() {
        let mut busy = BTreeSet::new();
        for (id, booking) in bookings {
            if booking.status != Status::Active {
                continue;
            }
            if !taken.insert(&booking.cell) {
                found.push(format!("{id}: its desk is booked twice: {booking:?}"));
            }
            if !busy.insert(booking.cell.starts_s) {
                found.push(format!(
                    "{id}: person {person} is booked twice: {booking:?}"
                ));
            }
        }
    }
    found
}

/// Plants each contradiction and demands that it is found: a check that cannot fail is none.
pub(crate) fn check_yourself() {
    let cell = |desk: &str, starts_s| Cell {
        desk: desk.to_owned(),
        starts_s,
    };
    let booking = |desk: &str, starts_s, status| Booking {
        cell: cell(desk, starts_s),
        status,
    };
    let asked = |wish, may_have_happened| Asked {
        key: "key".to_owned(),
        wish,
        may_have_happened,
    };
    let mut account = Account::default();
    for (id, desk) in [("kept", "a"), ("gone", "b")] {
        account.done(&asked(Wish::Book(cell(desk, 1)), true), id);
    }
    account.done(&asked(Wish::Cancel("gone".to_owned()), true), "gone");
    let sound = account.acknowledged.clone();
    let expect = |account: &Account, listed: &Bookings, part: &str| {
        let found = account.contradictions(listed);
        assert!(
            found.len() == 1 && found[0].contains(part),
            "{part}: {found:?}"
        );
    };
    assert!(account.contradictions(&sound).is_empty());

    let mut lost = sound.clone();
    lost.remove("kept");
    expect(&account, &lost, "kept is lost");
    let mut resurrected = sound.clone();
    resurrected.insert("gone".to_owned(), booking("b", 1, Status::Active));
    expect(&account, &resurrected, "gone was acknowledged");
    let mut moved = sound.clone();
    moved.insert("kept".to_owned(), booking("c", 1, Status::Active));
    expect(&account, &moved, "kept was acknowledged");
    let mut cancelled = sound.clone();
    cancelled.insert("kept".to_owned(), booking("a", 1, Status::Cancelled));
    expect(&account, &cancelled, "kept was acknowledged");
    let mut phantom = sound.clone();
    phantom.insert("new".to_owned(), booking("d", 2, Status::Active));
    expect(&account, &phantom, "nobody asked for new");

    // An unknown request explains one booking, and one that was certainly not applied explains none.
    account.open = vec![asked(Wish::Book(cell("d", 2)), false)];
    expect(&account, &phantom, "nobody asked for new");
    account.open = vec![asked(Wish::Book(cell("d", 2)), true)];
    assert!(account.contradictions(&phantom).is_empty());
    phantom.insert("twice".to_owned(), booking("d", 2, Status::Active));
    expect(&account, &phantom, "nobody asked for twice");
    account.open = vec![asked(Wish::Cancel("kept".to_owned()), true)];
    assert!(account.contradictions(&cancelled).is_empty());

    let one = Bookings::from([("x".to_owned(), booking("a", 1, Status::Active))]);
    let other = Bookings::from([("y".to_owned(), booking("a", 1, Status::Active))]);
    let both = Bookings::from([
        ("x".to_owned(), booking("a", 1, Status::Active)),
        ("y".to_owned(), booking("b", 1, Status::Active)),
    ]);
    assert!(doubles([&one, &cancelled_of(&other)]).is_empty());
    assert_eq!(doubles([&one, &other]).len(), 1);
    assert_eq!(doubles([&both]).len(), 1);
}

fn cancelled_of(bookings: &Bookings) -> Bookings {
    let cancelled = bookings.iter().map(|(id, booking)| {
        let status = Status::Cancelled;
        (
            id.clone(),
            Booking {
                status,
                ..booking.clone()
            },
        )
    });
    cancelled.collect()
}
