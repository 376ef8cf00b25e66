//! What an answer says, in the words of the checker.

use jiff::Timestamp;
use serde_json::Value;

use super::Client;
use crate::checker::history::{Action, Id, Outcome, Refusal, Sight};
use crate::coverage::Event;
use crate::front::Response;
use crate::town::Town;

impl Client {
    /// What an answer says about an action; nothing where it says nothing.
    pub(super) fn outcome(&self, action: &Action, response: &Response) -> Option<Outcome> {
        if !response.is_success() {
            return refusal(action, response, &self.town).map(Outcome::Refused);
        }
        // Before the space was laid out there were no desks to be free.
        if action.is_local() && response.index < Some(self.town.laid_out()) {
            return None;
        }
        match action {
            Action::Availability { desks, slots, .. } => {
                Some(Outcome::Free(free(response, desks, slots)))
            }
            Action::List { .. } => {
                let items = response.body["items"].as_array()?;
                Some(Outcome::Bookings {
                    items: items.iter().filter_map(sight).collect(),
                    whole: response.body["next_cursor"].is_null(),
                })
            }
            Action::Create { .. }
            | Action::Cancel { .. }
            | Action::Move { .. }
            | Action::Get { .. } => sight(&response.body).map(Outcome::Booking),
        }
    }
}

fn refusal(action: &Action, response: &Response, town: &Town) -> Option<Refusal> {
    let refusal = match response.code() {
        "slot_taken" => {
            town.count(Event::SlotTaken);
            Refusal::SlotTaken(taken(action, response))
        }
        "user_already_booked" => {
            town.count(Event::UserBooked);
            Refusal::UserBooked
        }
        "booking_cancelled" => Refusal::BookingCancelled,
        "version_mismatch" => Refusal::Version(response.body["current_version"].as_u64()?),
        "not_found" => Refusal::NotFound,
        // A schedule that kept changing is not remembered.
        "stale_schedule" => Refusal::NotApplied,
        _ if response.status < 500 && response.status != 429 => Refusal::Other,
        _ if action.is_write() && response.is_not_applied() => Refusal::NotApplied,
        _ => return None,
    };
    Some(refusal)
}

/// Of the wanted slots, those that the answer says are taken.
fn taken(action: &Action, response: &Response) -> Vec<u64> {
    let (Action::Create { slots, .. } | Action::Move { slots, .. }) = action else {
        return Vec::new();
    };
    let taken = &response.body["taken"];
    let (from, to) = (hour(&taken["starts_at"]), hour(&taken["ends_at"]));
    let is_taken =
        |slot: &&u64| from.is_some_and(|from| from <= **slot) && to.is_some_and(|to| **slot < to);
    slots.iter().filter(is_taken).copied().collect()
}

fn free(response: &Response, desks: &[Id], slots: &[u64]) -> Vec<(Id, u64)> {
    let all: Vec<Option<u64>> = response.body["slots"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|slot| hour(&slot["starts_at"]))
        .collect();
    let mut found = Vec::new();
    for row in response.body["desks"].as_array().into_iter().flatten() {
        let Some(desk) = desks.iter().find(|desk| row["desk"] == ***desk) else {
            continue;
        };
        let numbers = row["free"].as_array().into_iter().flatten();
        let hours = numbers.filter_map(|number| {
            let number = usize::try_from(number.as_u64()?).ok()?;
            all.get(number).copied().flatten()
        });
        found.extend(
            hours
                .filter(|hour| slots.contains(hour))
                .map(|hour| (desk.clone(), hour)),
        );
    }
    found
}

/// A booking as an answer shows it.
pub(super) fn sight(body: &Value) -> Option<Sight> {
    let (from, to) = (hour(&body["starts_at"])?, hour(&body["ends_at"])?);
    Some(Sight {
        booking: Id::from(body["id"].as_str()?),
        desk: Id::from(body["desk"].as_str()?),
        slots: (from..to).collect(),
        active: body["status"] == "active",
        version: body["version"].as_u64()?,
    })
}

/// An instant on the wire, in hours since the epoch.
fn hour(text: &Value) -> Option<u64> {
    let at: Timestamp = text.as_str()?.parse().ok()?;
    u64::try_from(at.as_second() / 3_600).ok()
}

/// The same the other way round.
pub(super) fn instant(hour: u64) -> String {
    let seconds = i64::try_from(hour * 3_600).expect("hours of this century");
    Timestamp::from_second(seconds)
        .expect("hours of this century")
        .to_string()
}
