//! Bookings on one machine, one operation after another: what the checker's histories are generated from, and what brute
//! force compares with. Written without a look at the checker's own objects: one map of bookings.

use std::collections::BTreeMap;

use crate::checker::history::{Action, Id, Outcome, Refusal, Sight};

/// Random numbers from a seed.
#[derive(Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(super) fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.below(list.len() as u64)).expect("small")]
    }
}

/// One booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Booked {
    pub(super) user: Id,
    pub(super) desk: Id,
    pub(super) slots: Vec<u64>,
    pub(super) active: bool,
    pub(super) version: u64,
}

/// All bookings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct World {
    pub(super) bookings: BTreeMap<Id, Booked>,
}

impl World {
    fn sight(&self, booking: &Id) -> Sight {
        let Booked {
            desk,
            slots,
            active,
            version,
            ..
        } = self.bookings[booking].clone();
        Sight {
            booking: booking.clone(),
            desk,
            slots,
            active,
            version,
        }
    }

    fn at<'a>(&'a self, slot: u64, but: Option<&'a Id>) -> impl Iterator<Item = &'a Booked> {
        let others = self.bookings.iter().filter(move |(id, _)| Some(*id) != but);
        others
            .map(|(_, booked)| booked)
            .filter(move |booked| booked.active && booked.slots.contains(&slot))
    }

    /// Why a place cannot be had.
    fn hindered(&self, user: &Id, desk: &Id, slots: &[u64], but: Option<&Id>) -> Option<Refusal> {
        let taken = |slot: &&u64| self.at(**slot, but).any(|booked| booked.desk == *desk);
        let taken: Vec<u64> = slots.iter().filter(taken).copied().collect();
        if !taken.is_empty() {
            return Some(Refusal::SlotTaken(taken));
        }
        let busy = slots
            .iter()
            .any(|slot| self.at(*slot, but).any(|booked| booked.user == *user));
        busy.then_some(Refusal::UserBooked)
    }

    /// Does it and answers as a correct system would. `fresh` is the id for a booking that is made.
    pub(super) fn carry_out(&mut self, action: &Action, fresh: &Id) -> Outcome {
        let owner = action
            .booking()
            .and_then(|booking| self.bookings.get(booking))
            .map(|booked| &booked.user);
        if action.booking().is_some() && owner != action.user() {
            return Outcome::Refused(Refusal::NotFound);
        }
        match action {
            Action::Create {
                user, desk, slots, ..
            } => {
                if let Some(refusal) = self.hindered(user, desk, slots, None) {
                    return Outcome::Refused(refusal);
                }
                let booked = Booked {
                    user: user.clone(),
                    desk: desk.clone(),
                    slots: slots.clone(),
                    active: true,
                    version: 1,
                };
                self.bookings.insert(fresh.clone(), booked);
                Outcome::Booking(self.sight(fresh))
            }
            Action::Cancel { booking, .. } => {
                let booked = self.bookings.get_mut(booking).expect("it has an owner");
                booked.version += u64::from(booked.active);
                booked.active = false;
                Outcome::Booking(self.sight(booking))
            }
            Action::Move {
                booking,
                user,
                desk,
                slots,
                ..
            } => self.shift(booking, user, desk, slots),
            Action::Get { booking, .. } => Outcome::Booking(self.sight(booking)),
            Action::List { user, .. } => {
                let own = self
                    .bookings
                    .iter()
                    .filter(|(_, booked)| booked.active && booked.user == *user);
                let items = own.map(|(id, _)| self.sight(id)).collect();
                Outcome::Bookings { items, whole: true }
            }
            Action::Availability { desks, slots, .. } => {
                let cells = desks
                    .iter()
                    .flat_map(|desk| slots.iter().map(|slot| (desk.clone(), *slot)));
                let is_free = |(desk, slot): &(Id, u64)| {
                    !self.at(*slot, None).any(|booked| booked.desk == *desk)
                };
                Outcome::Free(cells.filter(is_free).collect())
            }
        }
    }

    fn shift(&mut self, booking: &Id, user: &Id, desk: &Id, slots: &[u64]) -> Outcome {
        let booked = &self.bookings[booking];
        if !booked.active {
            return Outcome::Refused(Refusal::BookingCancelled);
        }
        if booked.desk != *desk || booked.slots != slots {
            if let Some(refusal) = self.hindered(user, desk, slots, Some(booking)) {
                return Outcome::Refused(refusal);
            }
            let booked = self.bookings.get_mut(booking).expect("just seen");
            booked.desk = desk.clone();
            booked.slots = slots.to_vec();
            booked.version += 1;
        }
        Outcome::Booking(self.sight(booking))
    }

    /// Whether the answer is the one of a correct system, given what the checker takes refusals of several slots to say;
    /// and the world after it.
    pub(super) fn explains(&self, action: &Action, outcome: &Outcome) -> Option<Self> {
        let mut after = self.clone();
        let fresh = match (action, outcome) {
            (Action::Create { .. }, Outcome::Booking(sight)) => sight.booking.clone(),
            _ => "unused".into(),
        };
        if matches!(action, Action::Create { .. }) && self.bookings.contains_key(&fresh) {
            return None;
        }
        if let Outcome::Refused(refusal) = outcome
            && let Action::Create {
                user, desk, slots, ..
            }
            | Action::Move {
                user, desk, slots, ..
            } = action
        {
            let own = action.booking();
            let taken = |slot: &u64| self.at(*slot, own).any(|booked| booked.desk == *desk);
            let busy = |slot: &u64| self.at(*slot, own).any(|booked| booked.user == *user);
            match refusal {
                Refusal::SlotTaken(named) => return named.iter().all(taken).then_some(after),
                Refusal::UserBooked => {
                    let fits =
                        !slots.iter().any(taken) && (slots.len() > 1 || slots.iter().any(busy));
                    return fits.then_some(after);
                }
                _ => {}
            }
        }
        let mut correct = after.carry_out(action, &fresh);
        let mut outcome = outcome.clone();
        for outcome in [&mut correct, &mut outcome] {
            match outcome {
                Outcome::Free(cells) => cells.sort(),
                Outcome::Bookings { items, .. } => {
                    items.sort_by(|one, other| one.booking.cmp(&other.booking));
                }
                Outcome::Booking(_) | Outcome::Refused(_) => {}
            }
        }
        (correct == outcome).then_some(after)
    }
}
