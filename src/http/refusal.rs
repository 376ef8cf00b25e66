//! The one place that says what each refusal of the state machine means to a client.

use serde_json::{Value, json};

use super::{
    problem::{Code, Problem},
    wire::show_utc,
};
use crate::{
    booking::{Refusal, reply::Quota},
    service::{FieldError, Refused},
};

/// The problem that a refusal is to a client.
pub(super) fn problem(refused: &Refused) -> Problem {
    let Refused {
        refusal,
        index,
        alternatives,
    } = refused;
    let code = code(refusal);
    let problem = match refusal {
        Refusal::Invalid(invalid) => {
            let pointer = format!("/{}", invalid.field());
            Problem::fields(vec![FieldError::new(
                &pointer,
                "out_of_range",
                invalid.to_string(),
            )])
        }
        _ => Problem::new(code, refusal.to_string()),
    };
    let problem = match refusal {
        Refusal::VersionMismatch { current } => problem.with("current_version", *current),
        Refusal::Full { max } => problem.with("max", *max),
        Refusal::QuotaExceeded(quota) => problem.with("quota", quota_json(quota)),
        Refusal::UserAlreadyBooked { booking } => problem.with("booking", booking.to_string()),
        Refusal::SlotTaken { taken } => {
            let desk = |(desk, label): &(String, String)| json!({"desk": desk, "label": label});
            problem
                .with("taken", json!({"starts_at": show_utc(taken.starts()), "ends_at": show_utc(taken.ends())}))
                .with("alternatives", alternatives.iter().map(desk).collect::<Vec<_>>())
        }
        _ => problem,
    };
    problem.at_index(*index)
}

/// The code of a refusal. Fields out of bounds share the code of all bad fields.
pub(super) fn code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::BadCommand => Code::BadCommand,
        Refusal::IdempotencyKeyReused => Code::IdempotencyKeyReused,
        Refusal::Forbidden => Code::Forbidden,
        Refusal::NotFound(_) => Code::NotFound,
        Refusal::VersionMismatch { .. } => Code::VersionMismatch,
        Refusal::Invalid(_) => Code::InvalidFields,
        Refusal::EmailTaken => Code::EmailTaken,
        Refusal::SlugTaken => Code::SlugTaken,
        Refusal::LabelTaken => Code::LabelTaken,
        Refusal::ZoneInUse => Code::ZoneInUse,
        Refusal::Full { .. } => Code::Full,
        Refusal::SessionUnknown => Code::SessionUnknown,
        Refusal::RefreshTokenReused => Code::RefreshTokenReused,
        Refusal::BookingCancelled => Code::BookingCancelled,
        Refusal::AlreadyStarted => Code::AlreadyStarted,
        Refusal::SpaceClosed => Code::SpaceClosed,
        Refusal::DeskInactive => Code::DeskInactive,
        Refusal::StaleSchedule { .. } => Code::StaleSchedule,
        Refusal::OffGrid => Code::OffGrid,
        Refusal::OutsideOpeningHours => Code::OutsideOpeningHours,
        Refusal::Closed => Code::Closed,
        Refusal::InThePast => Code::InThePast,
        Refusal::TooShortNotice => Code::TooShortNotice,
        Refusal::TooFarAhead => Code::TooFarAhead,
        Refusal::TooLong => Code::TooLong,
        Refusal::QuotaExceeded(_) => Code::QuotaExceeded,
        Refusal::SlotTaken { .. } => Code::SlotTaken,
        Refusal::UserAlreadyBooked { .. } => Code::UserAlreadyBooked,
        Refusal::NameTaken => Code::NameTaken,
    }
}

fn quota_json(quota: &Quota) -> Value {
    match quota {
        Quota::OpenBookings { max } => json!({"kind": "open_bookings", "max": max}),
        Quota::HoursPerWeek { max } => json!({"kind": "hours_per_week", "max": max}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::{
        Instant, Interval,
        ids::BookingId,
        reply::{Invalid, Kind},
    };

    #[test]
    fn clients_see_the_code_that_the_state_machine_gave() {
        let taken = Interval::new(Instant::EPOCH, Instant::from_ms(1)).expect("in order");
        for refusal in [
            Refusal::BadCommand,
            Refusal::IdempotencyKeyReused,
            Refusal::Forbidden,
            Refusal::NotFound(Kind::Desk),
            Refusal::VersionMismatch { current: 2 },
            Refusal::EmailTaken,
            Refusal::SlugTaken,
            Refusal::NameTaken,
            Refusal::LabelTaken,
            Refusal::ZoneInUse,
            Refusal::Full { max: 3 },
            Refusal::SessionUnknown,
            Refusal::RefreshTokenReused,
            Refusal::BookingCancelled,
            Refusal::AlreadyStarted,
            Refusal::SpaceClosed,
            Refusal::DeskInactive,
            Refusal::StaleSchedule { current: 1 },
            Refusal::OffGrid,
            Refusal::OutsideOpeningHours,
            Refusal::Closed,
            Refusal::InThePast,
            Refusal::TooShortNotice,
            Refusal::TooFarAhead,
            Refusal::TooLong,
            Refusal::QuotaExceeded(Quota::OpenBookings { max: 1 }),
            Refusal::SlotTaken { taken },
            Refusal::UserAlreadyBooked {
                booking: BookingId::from_number(1),
            },
        ] {
            assert_eq!(code(&refusal).as_str(), refusal.code());
        }
        assert_eq!(code(&Refusal::Invalid(Invalid::Walls)), Code::InvalidFields);
    }
}
