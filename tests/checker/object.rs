//! The objects that a history is about, and what each operation says about each.
//!
//! - A **slot of a desk** is free or held by a booking; so is a **slot of a user**. Making a booking takes it, moving
//!   enters and leaves, cancelling leaves.
//! - A **booking** is absent, active at a place, or cancelled, and has a version that every change raises by one.
//!
//! An answer that does not belong to its question (another desk was booked than was asked for, a "free" desk that nobody
//! asked about) is a violation by itself.

mod derive;
pub(crate) mod steps;

use super::history::{Action, Id, Outcome, Record};
use super::merge::Operation;
use super::search::{Found, Item, Stuck, search};
use super::verdict::Violation;

pub(crate) use derive::objects;
use steps::{BookingStep, HolderStep};

/// What counts as time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// When clients called and were answered.
    RealTime,
    /// The log index that an answer carries: one moment for each operation.
    LogIndex,
}

/// An object and its operations.
#[derive(Debug)]
pub(crate) struct Object {
    name: Name,
    items: Items,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    /// A slot of a desk.
    Desk(Id, u64),
    /// A slot of a user.
    User(Id, u64),
    /// A booking.
    Booking(Id),
}

#[derive(Debug)]
enum Items {
    Holder(Vec<Item<HolderStep>>),
    Booking(Vec<Item<BookingStep>>),
}

impl Object {
    /// How the object is called in messages.
    pub(crate) fn name(&self) -> String {
        match &self.name {
            Name::Desk(desk, slot) => format!("slot {slot} of desk {desk}"),
            Name::User(user, slot) => format!("slot {slot} of user {user}"),
            Name::Booking(booking) => format!("booking {booking}"),
        }
    }

    /// How many operations concern it.
    pub(crate) fn len(&self) -> usize {
        match &self.items {
            Items::Holder(items) => items.len(),
            Items::Booking(items) => items.len(),
        }
    }

    /// Looks for an order.
    pub(crate) fn search(&self, budget: &mut u64) -> Found {
        match &self.items {
            Items::Holder(items) => told(search(items, budget)),
            Items::Booking(items) => told(search(items, budget)),
        }
    }

    /// A record with as much of a day's availability as concerns this object.
    fn only(&self, record: &Record) -> Record {
        let mut record = record.clone();
        if let Name::Desk(desk, slot) = &self.name
            && let Action::Availability { desks, slots, .. } = &mut record.action
        {
            desks.retain(|other| other == desk);
            slots.retain(|other| other == slot);
            if let Some(Outcome::Free(free)) =
                record.answer.as_mut().map(|answer| &mut answer.outcome)
            {
                free.retain(|(one, other)| one == desk && other == slot);
            }
        }
        record
    }

    /// What to say when there is none.
    pub(crate) fn violation(
        &self,
        operations: &[Operation],
        clock: Clock,
        stuck: &Stuck<String>,
    ) -> Violation {
        let items: Vec<(usize, u64)> = match &self.items {
            Items::Holder(items) => items
                .iter()
                .map(|item| (item.operation, item.call))
                .collect(),
            Items::Booking(items) => items
                .iter()
                .map(|item| (item.operation, item.call))
                .collect(),
        };
        let (culprit, _) = items[stuck.item];
        let until = match &self.items {
            Items::Holder(items) => items[stuck.item].answer,
            Items::Booking(items) => items[stuck.item].answer,
        };
        let mut involved: Vec<Record> = items
            .iter()
            .filter(|(operation, call)| Some(*call) <= until && *operation != culprit)
            .map(|(operation, _)| self.only(&operations[*operation].record))
            .collect();
        involved.sort_by_key(|record| record.call);
        let by = match clock {
            Clock::RealTime => "",
            Clock::LogIndex => " by log index",
        };
        let what = format!(
            "{}: the last of these {} operations fits nowhere{by}; at best the state was then {}",
            self.name(),
            involved.len() + 1,
            stuck.state,
        );
        involved.push(self.only(&operations[culprit].record));
        Violation::of(&what, &involved)
    }
}

fn told<T: std::fmt::Debug>(found: Found<T>) -> Found {
    match found {
        Found::Order => Found::Order,
        Found::OutOfBudget => Found::OutOfBudget,
        Found::Stuck(stuck) => Found::Stuck(Stuck {
            item: stuck.item,
            state: format!("{:?}", stuck.state),
        }),
    }
}
