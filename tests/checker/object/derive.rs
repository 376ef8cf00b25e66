//! From operations to objects.
//!
//! Writes come first, since they tell which objects there are and where each booking may ever have been; reads then say
//! what they say about these. A read that shows a desk as taken makes an object even where no write did: then nobody
//! asked for that.

use std::collections::{BTreeSet, HashMap};

use super::steps::{BookingStep, HolderStep, Standing};
use super::{Clock, Items, Name, Object};
use crate::checker::history::{Action, Id, Outcome, Refusal, Sight};
use crate::checker::merge::Operation;
use crate::checker::order::spoken_for;
use crate::checker::search::Item;
use crate::checker::verdict::Violation;

/// The objects of a history, in order of their first appearance.
pub(crate) fn objects(operations: &[Operation], clock: Clock) -> Result<Vec<Object>, Violation> {
    let mut derivation = Derivation::default();
    derivation.number(operations);
    let moments = moments(operations, clock);
    for writes in [true, false] {
        for (number, operation) in operations.iter().enumerate() {
            if operation.action().is_write() == writes
                && let Some((call, answer)) = moments[number]
            {
                derivation.now = Now {
                    operation: number,
                    call,
                    answer,
                };
                derivation.derive(operation)?;
            }
        }
    }
    Ok(derivation.objects)
}

/// From when until when each operation has its moment; none for what is left out. By log index, a write's moment is
/// twice its index, that of a read which shows the state after it one more.
fn moments(operations: &[Operation], clock: Clock) -> Vec<Option<(u64, Option<u64>)>> {
    let real = |operation: &Operation| {
        let answer = operation.answer.as_ref().map(|answer| answer.at);
        let met = operation.met.map(|met| met.at);
        (!operation.action().is_local()).then_some((operation.call, answer.or(met)))
    };
    if clock == Clock::RealTime {
        return operations.iter().map(real).collect();
    }
    let mut answered: Vec<(u64, u64)> = operations
        .iter()
        .filter_map(|operation| Some((operation.answer.as_ref()?.at, spoken_for(operation)?)))
        .collect();
    answered.sort_unstable();
    let mut before = answered.iter().peekable();
    let mut highest = 0;
    let by_index = |operation: &Operation| {
        while let Some((_, index)) = before.next_if(|(at, _)| *at < operation.call) {
            highest = highest.max(*index);
        }
        let is_write = operation.action().is_write();
        if let Some(index) = spoken_for(operation) {
            let moment = index.saturating_mul(2).saturating_add(u64::from(!is_write));
            return Some((moment, Some(moment)));
        }
        // It is known only that it came after what had been answered when it was called.
        let from = highest.saturating_mul(2).saturating_add(1);
        match (&operation.answer, operation.met) {
            (Some(_), _) if operation.action().is_local() => None,
            (Some(_), _) => Some((from, Some(u64::MAX))),
            (None, Some(met)) => {
                let until = met
                    .index
                    .map_or(u64::MAX, |index| index.saturating_mul(2).saturating_add(1));
                Some((from.min(until), Some(until)))
            }
            (None, None) => Some((from, None)),
        }
    };
    operations.iter().map(by_index).collect()
}

/// The operation that is being derived.
#[derive(Clone, Copy, Default)]
struct Now {
    operation: usize,
    call: u64,
    answer: Option<u64>,
}

type Place = (Id, Vec<u64>);

#[derive(Default)]
struct Derivation {
    objects: Vec<Object>,
    by_name: HashMap<Name, usize>,
    /// Bookings are numbered in order of appearance; one that was never met has the number of its create instead.
    bookings: HashMap<Id, u32>,
    unmet: HashMap<usize, u32>,
    /// Where each booking may ever have been, by its number.
    places_of: Vec<BTreeSet<Place>>,
    places: HashMap<Place, u32>,
    /// Each user's slots and bookings, for lists.
    slots_of: HashMap<Id, BTreeSet<u64>>,
    bookings_of: HashMap<Id, BTreeSet<Id>>,
    now: Now,
}

impl Derivation {
    /// Numbers bookings, and notes whose they are and where they may have been.
    fn number(&mut self, operations: &[Operation]) {
        for (number, operation) in operations.iter().enumerate() {
            let place = match operation.action() {
                Action::Create { desk, slots, .. } | Action::Move { desk, slots, .. } => {
                    (desk.clone(), slots.clone())
                }
                _ => continue,
            };
            let booking = match operation.action() {
                Action::Move { booking, .. } => self.booking(booking),
                _ => match (&operation.made, operation.outcome()) {
                    (Some(made), _) => self.booking(&made.clone()),
                    (None, None) => {
                        let fresh = self.fresh();
                        self.unmet.insert(number, fresh);
                        fresh
                    }
                    (None, Some(_)) => continue,
                },
            };
            let user = operation
                .action()
                .user()
                .expect("a write has a user")
                .clone();
            self.slots_of
                .entry(user.clone())
                .or_default()
                .extend(&place.1);
            let named = operation.made.as_ref().or(operation.action().booking());
            self.bookings_of
                .entry(user)
                .or_default()
                .extend(named.cloned());
            self.places_of[booking as usize].insert(place);
        }
    }

    fn fresh(&mut self) -> u32 {
        self.places_of.push(BTreeSet::new());
        u32::try_from(self.places_of.len() - 1).expect("fewer bookings than that")
    }

    fn booking(&mut self, name: &Id) -> u32 {
        if let Some(number) = self.bookings.get(name) {
            return *number;
        }
        let number = self.fresh();
        self.bookings.insert(name.clone(), number);
        number
    }

    fn place(&mut self, desk: &Id, slots: &[u64]) -> u32 {
        let next = u32::try_from(self.places.len()).expect("fewer places than that");
        *self
            .places
            .entry((desk.clone(), slots.to_vec()))
            .or_insert(next)
    }

    fn holder(&mut self, name: Name, step: HolderStep) {
        let item = self.item(step);
        let object = self.object(name, || Items::Holder(Vec::new()));
        match &mut object.items {
            Items::Holder(items) => items.push(item),
            Items::Booking(_) => unreachable!("names of slots and of bookings differ"),
        }
    }

    fn standing(&mut self, booking: &Id, step: BookingStep) {
        let item = self.item(step);
        let object = self.object(
            Name::Booking(booking.clone()),
            || Items::Booking(Vec::new()),
        );
        match &mut object.items {
            Items::Booking(items) => items.push(item),
            Items::Holder(_) => unreachable!("names of slots and of bookings differ"),
        }
    }

    fn item<S>(&self, step: S) -> Item<S> {
        let Now {
            operation,
            call,
            answer,
        } = self.now;
        Item {
            operation,
            call,
            answer,
            step,
        }
    }

    fn object(&mut self, name: Name, items: fn() -> Items) -> &mut Object {
        let next = self.objects.len();
        let number = *self.by_name.entry(name.clone()).or_insert(next);
        if number == next {
            self.objects.push(Object {
                name,
                items: items(),
            });
        }
        &mut self.objects[number]
    }

    fn derive(&mut self, operation: &Operation) -> Result<(), Violation> {
        let wrong = |what: &str| Err(Violation::of(what, [&operation.record]));
        match (operation.action(), operation.outcome()) {
            (
                Action::Create {
                    user, desk, slots, ..
                },
                None,
            ) => self.made(user, desk, slots, operation.made.as_ref()),
            (
                Action::Create {
                    user, desk, slots, ..
                },
                Some(Outcome::Booking(sight)),
            ) => {
                if sight.desk != *desk
                    || sight.slots != *slots
                    || !sight.active
                    || sight.version != 1
                {
                    return wrong("another booking was made than was asked for");
                }
                self.made(user, desk, slots, Some(&sight.booking));
            }
            (
                Action::Create {
                    user, desk, slots, ..
                },
                Some(Outcome::Refused(refusal)),
            ) => {
                self.not_placed(user, desk, slots, None, refusal);
            }
            (
                Action::Move {
                    user,
                    booking,
                    desk,
                    slots,
                    ..
                },
                None,
            ) => {
                self.moved(user, booking, desk, slots, None);
            }
            (
                Action::Move {
                    user,
                    booking,
                    desk,
                    slots,
                    ..
                },
                Some(Outcome::Booking(sight)),
            ) => {
                if sight.booking != *booking
                    || sight.desk != *desk
                    || sight.slots != *slots
                    || !sight.active
                {
                    return wrong("the booking was moved elsewhere than was asked");
                }
                self.moved(user, booking, desk, slots, Some(sight.version));
            }
            (
                Action::Move {
                    user,
                    booking,
                    desk,
                    slots,
                    ..
                },
                Some(Outcome::Refused(refusal)),
            ) => {
                self.not_placed(user, desk, slots, Some(booking), refusal);
                self.refused(booking, refusal);
            }
            (Action::Cancel { user, booking, .. }, None) => self.cancelled(user, booking, None),
            (Action::Cancel { user, booking, .. }, Some(Outcome::Booking(sight))) => {
                if sight.booking != *booking || sight.active {
                    return wrong("the booking was not cancelled");
                }
                self.cancelled(user, booking, Some(sight));
            }
            (
                Action::Cancel { booking, .. } | Action::Get { booking, .. },
                Some(Outcome::Refused(refusal)),
            ) => {
                self.refused(booking, refusal);
            }
            (Action::Get { user, booking, .. }, Some(Outcome::Booking(sight))) => {
                if sight.booking != *booking {
                    return wrong("another booking was shown than was asked for");
                }
                self.shown(user, sight);
            }
            (Action::List { user, .. }, Some(Outcome::Bookings { items, whole })) => {
                if items.iter().any(|sight| !sight.active) {
                    return wrong("a cancelled booking is in a list of active ones");
                }
                self.listed(user, items, *whole);
            }
            (Action::Availability { desks, slots, .. }, Some(Outcome::Free(free))) => {
                let asked = |(desk, slot): &(Id, u64)| desks.contains(desk) && slots.contains(slot);
                if !free.iter().all(asked) {
                    return wrong("a desk is said to be free that was not asked about");
                }
                self.available(desks, slots, free);
            }
            (action, Some(Outcome::Refused(_)) | None) if !action.is_write() => {}
            _ => return wrong("the answer is none to this question"),
        }
        Ok(())
    }

    fn made(&mut self, user: &Id, desk: &Id, slots: &[u64], made: Option<&Id>) {
        let number = match made {
            Some(made) => self.booking(made),
            None => self.unmet[&self.now.operation],
        };
        for slot in slots {
            self.holder(Name::Desk(desk.clone(), *slot), HolderStep::Take(number));
            self.holder(Name::User(user.clone(), *slot), HolderStep::Take(number));
        }
        if let Some(made) = made {
            let place = self.place(desk, slots);
            self.standing(made, BookingStep::Make(place));
        }
    }

    fn moved(&mut self, user: &Id, booking: &Id, desk: &Id, slots: &[u64], version: Option<u64>) {
        let number = self.booking(booking);
        self.leave(user, number, Some((desk, slots)));
        for slot in slots {
            self.holder(Name::Desk(desk.clone(), *slot), HolderStep::Enter(number));
            self.holder(Name::User(user.clone(), *slot), HolderStep::Enter(number));
        }
        let place = self.place(desk, slots);
        self.standing(booking, BookingStep::Move(place, version));
    }

    fn cancelled(&mut self, user: &Id, booking: &Id, sight: Option<&Sight>) {
        let number = self.booking(booking);
        self.leave(user, number, None);
        let seen = sight.map(|sight| (self.place(&sight.desk, &sight.slots), sight.version));
        self.standing(booking, BookingStep::Cancel(seen));
    }

    /// A booking is nowhere any more, but where it goes.
    fn leave(&mut self, user: &Id, number: u32, but: Option<(&Id, &[u64])>) {
        let stays = |desk: Option<&Id>, slot: u64| {
            but.is_some_and(|(to, slots)| {
                desk.is_none_or(|desk| desk == to) && slots.contains(&slot)
            })
        };
        for (desk, slot) in self.cells_of(number) {
            if !stays(Some(&desk), slot) {
                self.holder(Name::Desk(desk, slot), HolderStep::Leave(number));
            }
        }
        for slot in self.times_of(number) {
            if !stays(None, slot) {
                self.holder(Name::User(user.clone(), slot), HolderStep::Leave(number));
            }
        }
    }

    /// Each slot of each desk that a booking may ever have held.
    fn cells_of(&self, number: u32) -> BTreeSet<(Id, u64)> {
        let places = self.places_of[number as usize].iter();
        places
            .flat_map(|(desk, slots)| slots.iter().map(move |slot| (desk.clone(), *slot)))
            .collect()
    }

    fn times_of(&self, number: u32) -> BTreeSet<u64> {
        self.places_of[number as usize]
            .iter()
            .flat_map(|(_, slots)| slots)
            .copied()
            .collect()
    }

    /// What the refusal of a place says about it. `own` is the booking that was to be moved there.
    fn not_placed(
        &mut self,
        user: &Id,
        desk: &Id,
        slots: &[u64],
        own: Option<&Id>,
        refusal: &Refusal,
    ) {
        let own = own.map(|booking| self.booking(booking));
        let held = own.map_or(HolderStep::Held, HolderStep::HeldByOther);
        let free = own.map_or(HolderStep::Free, HolderStep::FreeBut);
        match (refusal, slots) {
            (Refusal::SlotTaken(_), [slot]) => self.holder(Name::Desk(desk.clone(), *slot), held),
            (Refusal::SlotTaken(taken), _) => {
                for slot in taken {
                    self.holder(Name::Desk(desk.clone(), *slot), held);
                }
            }
            (Refusal::UserBooked, _) => {
                for slot in slots {
                    self.holder(Name::Desk(desk.clone(), *slot), free);
                }
                if let [slot] = slots {
                    self.holder(Name::User(user.clone(), *slot), held);
                }
            }
            _ => {}
        }
    }

    /// What a refusal says about the booking.
    fn refused(&mut self, booking: &Id, refusal: &Refusal) {
        match refusal {
            Refusal::BookingCancelled => self.standing(booking, BookingStep::IsCancelled),
            Refusal::Version(version) => self.standing(booking, BookingStep::HasVersion(*version)),
            Refusal::NotFound => self.standing(booking, BookingStep::Stands(Standing::Absent)),
            Refusal::SlotTaken(_) | Refusal::UserBooked | Refusal::Other | Refusal::NotApplied => {}
        }
    }

    /// A booking was seen, active or not.
    fn shown(&mut self, user: &Id, sight: &Sight) {
        let Sight {
            booking,
            desk,
            slots,
            active,
            version,
        } = sight;
        let (number, place, version) = (self.booking(booking), self.place(desk, slots), *version);
        if *active {
            for slot in slots {
                self.holder(Name::Desk(desk.clone(), *slot), HolderStep::HeldBy(number));
                self.holder(Name::User(user.clone(), *slot), HolderStep::HeldBy(number));
            }
            self.standing(
                booking,
                BookingStep::Stands(Standing::Active { place, version }),
            );
        } else {
            for (desk, slot) in self.cells_of(number) {
                self.holder(Name::Desk(desk, slot), HolderStep::NotHeldBy(number));
            }
            for slot in self.times_of(number) {
                self.holder(
                    Name::User(user.clone(), slot),
                    HolderStep::NotHeldBy(number),
                );
            }
            self.standing(
                booking,
                BookingStep::Stands(Standing::Cancelled { place, version }),
            );
        }
    }

    fn listed(&mut self, user: &Id, items: &[Sight], whole: bool) {
        for sight in items {
            self.shown(user, sight);
        }
        if !whole {
            return;
        }
        let held: BTreeSet<u64> = items
            .iter()
            .flat_map(|sight| &sight.slots)
            .copied()
            .collect();
        let free = self
            .slots_of
            .get(user)
            .map(|slots| slots.difference(&held).copied().collect::<Vec<_>>());
        for slot in free.unwrap_or_default() {
            self.holder(Name::User(user.clone(), slot), HolderStep::Free);
        }
        let shown: BTreeSet<Id> = items.iter().map(|sight| sight.booking.clone()).collect();
        let others = self
            .bookings_of
            .get(user)
            .map(|known| known.difference(&shown).cloned().collect::<Vec<_>>());
        for booking in others.unwrap_or_default() {
            self.standing(&booking, BookingStep::Inactive);
        }
    }

    fn available(&mut self, desks: &[Id], slots: &[u64], free: &[(Id, u64)]) {
        let free: BTreeSet<(&Id, u64)> = free.iter().map(|(desk, slot)| (desk, *slot)).collect();
        for desk in desks {
            for slot in slots {
                let name = Name::Desk(desk.clone(), *slot);
                if !free.contains(&(desk, *slot)) {
                    self.holder(name, HolderStep::Held);
                } else if self.by_name.contains_key(&name) {
                    self.holder(name, HolderStep::Free);
                }
            }
        }
    }
}
