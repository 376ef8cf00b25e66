//! Histories as text: one record a line, words with `=`, lists with commas. What is written can be read back, so that a
//! history that failed is kept as a file and checked again later.
//!
//! ```text
//! # comment
//! 3 120..180 create user=u1 desk=d1 slots=10,20 key=k1 -> booking index=44 b1@d1:10,20/1
//! 3 190.. cancel user=u1 booking=b1 -> ?
//! 4 200..210 availability desks=d1,d2 slots=10,20 -> free index=45 d2@10 d2@20
//! 4 220..225 list local min=44 user=u1 -> whole index=45 b1@d1:10,20/1
//! 5 226..228 create user=u2 desk=d1 slots=10 -> slot_taken index=46 10
//! ```
//!
//! A booking is written `booking@desk:slots/version`, with `!` behind it if it is cancelled.

use std::fmt::Write as _;
use std::str::SplitWhitespace;

use super::history::{Action, Answer, History, Id, Outcome, Record, Refusal, Sight};

/// A history as text.
pub(crate) fn write(history: &History) -> String {
    let mut text = String::new();
    for record in &history.records {
        write_record(&mut text, record).expect("a string takes everything");
    }
    text
}

/// The history that a text is. An error names the line.
pub(crate) fn read(text: &str) -> Result<History, String> {
    let mut records = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            records.push(
                read_record(line)
                    .ok_or_else(|| format!("line {number} is not a record: {line}"))?,
            );
        }
    }
    Ok(History { records })
}

fn write_record(text: &mut String, record: &Record) -> std::fmt::Result {
    write!(text, "{} {}..", record.client, record.call)?;
    if let Some(answer) = &record.answer {
        write!(text, "{}", answer.at)?;
    }
    write_action(text, record)?;
    text.push_str(" -> ");
    match &record.answer {
        Some(answer) => write_answer(text, answer)?,
        None => text.push('?'),
    }
    text.push('\n');
    Ok(())
}

fn write_action(text: &mut String, record: &Record) -> std::fmt::Result {
    let verb = match &record.action {
        Action::Create { .. } => "create",
        Action::Cancel { .. } => "cancel",
        Action::Move { .. } => "move",
        Action::Availability { .. } => "availability",
        Action::List { .. } => "list",
        Action::Get { .. } => "get",
    };
    write!(text, " {verb}")?;
    if record.action.is_local() {
        text.push_str(" local");
    }
    if let Some(least) = record.min_index {
        write!(text, " min={least}")?;
    }
    if let Some(user) = record.action.user() {
        write!(text, " user={user}")?;
    }
    if let Some(booking) = record.action.booking() {
        write!(text, " booking={booking}")?;
    }
    match &record.action {
        Action::Create { desk, slots, .. } | Action::Move { desk, slots, .. } => {
            write!(text, " desk={desk} slots={}", joined(slots))?;
        }
        Action::Availability { desks, slots, .. } => {
            write!(text, " desks={} slots={}", joined(desks), joined(slots))?;
        }
        Action::Cancel { .. } | Action::List { .. } | Action::Get { .. } => {}
    }
    match record.action.key() {
        Some(key) => write!(text, " key={key}"),
        None => Ok(()),
    }
}

fn write_answer(text: &mut String, answer: &Answer) -> std::fmt::Result {
    text.push_str(match &answer.outcome {
        Outcome::Booking(_) => "booking",
        Outcome::Free(_) => "free",
        Outcome::Bookings { whole: true, .. } => "whole",
        Outcome::Bookings { whole: false, .. } => "part",
        Outcome::Refused(refusal) => match refusal {
            Refusal::SlotTaken(_) => "slot_taken",
            Refusal::UserBooked => "user_already_booked",
            Refusal::BookingCancelled => "booking_cancelled",
            Refusal::Version(_) => "version_mismatch",
            Refusal::NotFound => "not_found",
            Refusal::Other => "refused",
            Refusal::NotApplied => "not_applied",
        },
    });
    if let Some(index) = answer.index {
        write!(text, " index={index}")?;
    }
    match &answer.outcome {
        Outcome::Free(free) => free
            .iter()
            .try_for_each(|(desk, slot)| write!(text, " {desk}@{slot}")),
        Outcome::Refused(Refusal::SlotTaken(taken)) => {
            taken.iter().try_for_each(|slot| write!(text, " {slot}"))
        }
        Outcome::Refused(Refusal::Version(version)) => write!(text, " {version}"),
        other => other.sights().iter().try_for_each(|sight| {
            let end = if sight.active { "" } else { "!" };
            let Sight {
                booking,
                desk,
                slots,
                version,
                ..
            } = sight;
            write!(text, " {booking}@{desk}:{}/{version}{end}", joined(slots))
        }),
    }
}

fn joined<T: ToString>(list: &[T]) -> String {
    list.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn read_record(line: &str) -> Option<Record> {
    let (asked, told) = line.split_once(" -> ")?;
    let mut words = asked.split_whitespace();
    let client = words.next()?.parse().ok()?;
    let (call, at) = words.next()?.split_once("..")?;
    let verb = words.next()?;
    let mut fields = Fields::default();
    for word in words {
        fields.note(word)?;
    }
    let min_index = fields.min;
    let action = fields.action(verb)?;
    let answer = match (at, told.trim()) {
        ("", "?") => None,
        (at, told) => Some(read_answer(at.parse().ok()?, told)?),
    };
    Some(Record {
        client,
        call: call.parse().ok()?,
        min_index,
        action,
        answer,
    })
}

#[derive(Default)]
struct Fields<'a> {
    local: bool,
    min: Option<u64>,
    user: Option<Id>,
    booking: Option<Id>,
    desk: Option<Id>,
    desks: Option<&'a str>,
    slots: Option<Vec<u64>>,
    key: Option<Id>,
}

impl<'a> Fields<'a> {
    fn note(&mut self, word: &'a str) -> Option<()> {
        if word == "local" {
            self.local = true;
            return Some(());
        }
        let (name, value) = word.split_once('=')?;
        match name {
            "min" => self.min = Some(value.parse().ok()?),
            "user" => self.user = Some(value.into()),
            "booking" => self.booking = Some(value.into()),
            "desk" => self.desk = Some(value.into()),
            "desks" => self.desks = Some(value),
            "slots" => self.slots = Some(numbers(value)?),
            "key" => self.key = Some(value.into()),
            _ => return None,
        }
        Some(())
    }

    fn action(self, verb: &str) -> Option<Action> {
        let Self {
            local,
            user,
            booking,
            desk,
            desks,
            slots,
            key,
            ..
        } = self;
        Some(match verb {
            "create" => Action::Create {
                user: user?,
                desk: desk?,
                slots: slots?,
                key,
            },
            "cancel" => Action::Cancel {
                user: user?,
                booking: booking?,
                key,
            },
            "move" => Action::Move {
                user: user?,
                booking: booking?,
                desk: desk?,
                slots: slots?,
                key,
            },
            "availability" => {
                let desks = desks?
                    .split(',')
                    .filter(|desk| !desk.is_empty())
                    .map(Id::from)
                    .collect();
                Action::Availability {
                    local,
                    desks,
                    slots: slots?,
                }
            }
            "list" => Action::List { local, user: user? },
            "get" => Action::Get {
                local,
                user: user?,
                booking: booking?,
            },
            _ => return None,
        })
    }
}

fn read_answer(at: u64, told: &str) -> Option<Answer> {
    let mut words = told.split_whitespace().peekable();
    let verb = words.next()?;
    let index = words.next_if(|word| word.starts_with("index="));
    let index = index
        .map(|word| word["index=".len()..].parse())
        .transpose()
        .ok()?;
    let rest: Vec<&str> = words.collect();
    let outcome = match verb {
        "booking" => match rest.as_slice() {
            [sight] => Outcome::Booking(read_sight(sight)?),
            _ => return None,
        },
        "whole" | "part" => Outcome::Bookings {
            items: rest
                .iter()
                .map(|word| read_sight(word))
                .collect::<Option<_>>()?,
            whole: verb == "whole",
        },
        "free" => Outcome::Free(
            rest.iter()
                .map(|word| read_cell(word))
                .collect::<Option<_>>()?,
        ),
        refusal => Outcome::Refused(read_refusal(refusal, &rest.join(" "))?),
    };
    Some(Answer { at, index, outcome })
}

fn read_refusal(name: &str, rest: &str) -> Option<Refusal> {
    let refusal = match name {
        "slot_taken" => {
            let words: SplitWhitespace<'_> = rest.split_whitespace();
            return words
                .map(|word| word.parse().ok())
                .collect::<Option<_>>()
                .map(Refusal::SlotTaken);
        }
        "version_mismatch" => return rest.parse().ok().map(Refusal::Version),
        "user_already_booked" => Refusal::UserBooked,
        "booking_cancelled" => Refusal::BookingCancelled,
        "not_found" => Refusal::NotFound,
        "refused" => Refusal::Other,
        "not_applied" => Refusal::NotApplied,
        _ => return None,
    };
    rest.is_empty().then_some(refusal)
}

fn read_sight(word: &str) -> Option<Sight> {
    let (word, active) = match word.strip_suffix('!') {
        Some(word) => (word, false),
        None => (word, true),
    };
    let (booking, place) = word.split_once('@')?;
    let (desk, rest) = place.split_once(':')?;
    let (slots, version) = rest.split_once('/')?;
    Some(Sight {
        booking: booking.into(),
        desk: desk.into(),
        slots: numbers(slots)?,
        active,
        version: version.parse().ok()?,
    })
}

fn read_cell(word: &str) -> Option<(Id, u64)> {
    let (desk, slot) = word.rsplit_once('@')?;
    Some((desk.into(), slot.parse().ok()?))
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| part.parse().ok()).collect()
}
