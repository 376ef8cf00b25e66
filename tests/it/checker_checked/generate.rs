//! Histories that are fine by construction, and what spoils them.

use std::collections::VecDeque;

use super::world::{Random, World};
use crate::checker::history::{Action, Answer, History, Id, Outcome, Record, Refusal, Sight};

/// How a history is made.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) operations: u64,
    pub(super) users: u64,
    pub(super) desks: u64,
    pub(super) slots: u64,
    /// The longest booking, in slots.
    pub(super) longest: u64,
    /// About how many operations are under way at one time.
    pub(super) at_once: u64,
    /// One in so many is never answered; 0 for none.
    pub(super) unknown: u64,
    /// Whether answers carry their index.
    pub(super) indexed: bool,
    /// One read in so many is local; 0 for none.
    pub(super) local: u64,
}

const STEP: u64 = 10;

/// A history that a correct system could have produced: everything is carried out at one moment between its call and
/// its answer. Clients name only bookings that they were shown.
pub(super) fn fine(shape: Shape, seed: u64) -> History {
    let mut random = Random(seed);
    // The last few states, for local reads, and the index of the last.
    let (mut worlds, mut last) = (VecDeque::from([World::default()]), 0);
    let mut history = History::default();
    for number in 1..=shape.operations {
        let moment = number * STEP + shape.at_once * STEP;
        let call = moment - random.below(shape.at_once * STEP);
        let action = action(shape, &mut random, &history, call);
        let unknown = shape.unknown > 0 && random.one_in(shape.unknown);
        let (index, outcome) = if action.is_local() {
            let age = random.below(worlds.len() as u64);
            let seen = worlds.len() - 1 - usize::try_from(age).expect("small");
            (last - age, worlds[seen].carry_out(&action, &"none".into()))
        } else if unknown && random.one_in(2) {
            continue_without(&mut history, number, call, action);
            continue;
        } else if action.is_write() {
            let mut world = worlds[worlds.len() - 1].clone();
            let outcome = world.carry_out(&action, &format!("b{number}").into());
            worlds.push_back(world);
            last += 1;
            if worlds.len() > 6 {
                worlds.pop_front();
            }
            (last, outcome)
        } else {
            let now = worlds.len() - 1;
            (last, worlds[now].carry_out(&action, &"none".into()))
        };
        if unknown {
            continue_without(&mut history, number, call, action);
            continue;
        }
        history.records.push(Record {
            client: number,
            call,
            min_index: None,
            action,
            answer: Some(Answer {
                at: moment + random.below(shape.at_once * STEP),
                index: shape.indexed.then_some(index),
                outcome,
            }),
        });
    }
    history
}

fn continue_without(history: &mut History, client: u64, call: u64, action: Action) {
    history.records.push(Record {
        client,
        call,
        min_index: None,
        action,
        answer: None,
    });
}

fn action(shape: Shape, random: &mut Random, history: &History, call: u64) -> Action {
    let user: Id = format!("u{}", random.below(shape.users)).into();
    let desk: Id = format!("d{}", random.below(shape.desks)).into();
    let from = random.below(shape.slots);
    let slots: Vec<u64> = (from..shape.slots.min(from + 1 + random.below(shape.longest))).collect();
    let local = shape.local > 0 && random.one_in(shape.local);
    // Long histories are not searched from their beginning: old bookings are left alone.
    let recent = history.records.len().saturating_sub(200);
    let known: Vec<(Id, Id)> = history.records[recent..]
        .iter()
        .filter(|record| {
            record
                .answer
                .as_ref()
                .is_some_and(|answer| answer.at < call)
        })
        .filter_map(|record| {
            let sights = record.answer.as_ref()?.outcome.sights();
            Some((
                record.action.user()?.clone(),
                sights.last()?.booking.clone(),
            ))
        })
        .collect();
    let named = (!known.is_empty()).then(|| random.of(&known).clone());
    match (random.below(10), named) {
        (0..2, _) => {
            let desks = (0..shape.desks.min(20))
                .map(|desk| format!("d{desk}").into())
                .collect();
            Action::Availability {
                local,
                desks,
                slots: (0..shape.slots.min(20)).collect(),
            }
        }
        (2, _) => Action::List { local, user },
        (3, Some((user, booking))) => Action::Get {
            local,
            user,
            booking,
        },
        (4..6, Some((user, booking))) => Action::Cancel {
            user,
            booking,
            key: None,
        },
        (6, Some((user, booking))) => Action::Move {
            user,
            booking,
            desk,
            slots,
            key: None,
        },
        _ => Action::Create {
            user,
            desk,
            slots,
            key: None,
        },
    }
}

/// Changes one answer into another, which may be wrong or not.
pub(super) fn spoil(history: &mut History, random: &mut Random) {
    let answered: Vec<usize> = (0..history.records.len())
        .filter(|number| history.records[*number].answer.is_some())
        .collect();
    if answered.is_empty() {
        return;
    }
    let bookings: Vec<Sight> = history
        .records
        .iter()
        .filter_map(|record| record.answer.as_ref())
        .flat_map(|answer| answer.outcome.sights().to_vec())
        .collect();
    let record = &mut history.records[*random.of(&answered)];
    let answer = record.answer.as_mut().expect("it was answered");
    match random.below(6) {
        0 => {
            if let Some(index) = &mut answer.index {
                *index = (*index + random.below(3)).saturating_sub(1);
            }
        }
        1 => answer.at = record.call + random.below(answer.at - record.call + 1),
        _ => answer.outcome = other(&record.action, &answer.outcome, &bookings, random),
    }
}

fn other(action: &Action, outcome: &Outcome, bookings: &[Sight], random: &mut Random) -> Outcome {
    let mut outcome = outcome.clone();
    match (&mut outcome, action) {
        (Outcome::Free(free), Action::Availability { desks, slots, .. }) => {
            let cell = (random.of(desks).clone(), *random.of(slots));
            match free.iter().position(|other| *other == cell) {
                Some(place) => drop(free.remove(place)),
                None => free.push(cell),
            }
        }
        (Outcome::Bookings { items, .. }, _) if !items.is_empty() && random.one_in(2) => {
            drop(items.pop());
        }
        (Outcome::Bookings { items, .. }, _) => {
            let sight = bookings
                .iter()
                .find(|sight| !items.iter().any(|item| item.booking == sight.booking));
            items.extend(sight.cloned().map(|sight| Sight {
                active: true,
                ..sight
            }));
        }
        (Outcome::Booking(sight), Action::Get { .. }) if random.one_in(2) => {
            sight.active = !sight.active;
        }
        (Outcome::Booking(sight), _) if random.one_in(3) => sight.version += 1,
        (_, Action::Create { desk, slots, .. }) => {
            outcome = match random.below(3) {
                0 => Outcome::Refused(Refusal::SlotTaken(slots[..1].to_vec())),
                1 => Outcome::Refused(Refusal::UserBooked),
                _ => Outcome::Booking(Sight {
                    booking: "made-up".into(),
                    desk: desk.clone(),
                    slots: slots.clone(),
                    active: true,
                    version: 1,
                }),
            };
        }
        (
            _,
            Action::Move {
                booking,
                desk,
                slots,
                ..
            },
        ) => {
            outcome = match random.below(3) {
                0 => Outcome::Refused(Refusal::SlotTaken(slots[..1].to_vec())),
                1 => Outcome::Refused(Refusal::BookingCancelled),
                _ => Outcome::Booking(Sight {
                    booking: booking.clone(),
                    desk: desk.clone(),
                    slots: slots.clone(),
                    active: true,
                    version: 1 + random.below(3),
                }),
            };
        }
        (_, Action::Cancel { .. } | Action::Get { .. }) => {
            outcome = Outcome::Refused(Refusal::NotFound);
        }
        _ => {}
    }
    outcome
}
