//! Which desks of a space are free when, on one local day.
//!
//! A slot that has started is not offered, and a desk without a free slot is left out. Nothing here promises that a
//! free slot can be booked: that is decided when someone tries.

use std::collections::BTreeSet;

use super::{
    Consistency, Failure, Seen, Service, Sight,
    schedule::{Schedule, Slot},
};
use crate::booking::{
    Instant, Interval,
    calendar::{DAY_MINUTES, LocalDate},
    layout::{Desk, Hall, Space},
    query,
    text::Slug,
};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The local date.
    pub date: LocalDate,
    /// Only slots that start at this local minute or later.
    pub from_minute: u16,
    /// Only slots that end by this local minute.
    pub to_minute: u16,
    /// Only this hall, by id or name.
    pub hall: Option<String>,
    /// Only this zone, by id, name or kind.
    pub zone: Option<String>,
    /// Only desks with all of these.
    pub features: BTreeSet<Slug>,
}

/// What is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    /// The space.
    pub space: Space,
    /// The slots that have not started, in order.
    pub slots: Vec<Slot>,
    /// Desks with a free slot, and which slots are free: indexes into `slots`.
    pub desks: Vec<(Desk, Vec<usize>)>,
}

impl Wanted {
    /// All of a day.
    #[must_use]
    pub fn day(date: LocalDate) -> Self {
        Self {
            date,
            from_minute: 0,
            to_minute: DAY_MINUTES,
            hall: None,
            zone: None,
            features: BTreeSet::new(),
        }
    }

    fn takes_slot(&self, slot: &Slot, now: Instant) -> bool {
        let minutes = u16::try_from(slot.interval.length_ms() / 60_000).unwrap_or(DAY_MINUTES);
        slot.interval.starts() > now
            && slot.local_minute >= self.from_minute
            && slot.local_minute.saturating_add(minutes) <= self.to_minute
    }

    fn takes_desk(&self, desk: &Desk, halls: &[Hall]) -> bool {
        let hall = halls.iter().find(|hall| hall.id == desk.hall);
        let in_hall = self.hall.as_deref().is_none_or(|wanted| {
            desk.hall.to_string() == wanted || hall.is_some_and(|hall| hall.name.as_str() == wanted)
        });
        let in_zone = self.zone.as_deref().is_none_or(|wanted| {
            let zones = hall.map_or(&[][..], |hall| &hall.zones);
            zones
                .iter()
                .filter(|zone| Some(zone.id) == desk.zone)
                .any(|zone| {
                    zone.id.to_string() == wanted
                        || zone.name.as_str() == wanted
                        || zone.kind.as_str() == wanted
                })
        });
        desk.active
            && in_hall
            && in_zone
            && self
                .features
                .iter()
                .all(|feature| desk.features.contains(feature))
    }
}

impl Service {
    /// What is free in a space, named by id or slug.
    ///
    /// # Errors
    /// Where there is no such space, or the state cannot be had that fresh.
    pub async fn availability(
        &self,
        consistency: Consistency,
        space: &str,
        wanted: &Wanted,
    ) -> Result<Seen<Availability>, Failure> {
        let seen = self.read(None, consistency, |sight| {
            let space = query::space_by_id_or_slug(sight.store, space)?;
            Some(free(sight, space, wanted))
        });
        let seen = seen.await?;
        let value = seen.value.ok_or(Failure::NotFound("space"))??;
        Ok(Seen {
            value,
            index: seen.index,
        })
    }
}

fn free(sight: &Sight<'_>, space: Space, wanted: &Wanted) -> Result<Availability, Failure> {
    let schedule = Schedule::of(&space).ok_or(Failure::Internal(
        "the space's time zone is not known to this node",
    ))?;
    let mut slots = schedule.slots(wanted.date);
    slots.retain(|slot| wanted.takes_slot(slot, sight.now));
    let span = slots.first().zip(slots.last());
    let span = span.and_then(|(first, last)| {
        Interval::new(first.interval.starts(), last.interval.ends()).ok()
    });
    let desks = match span {
        Some(span) if space.details.open => free_desks(sight, &space, wanted, &slots, span),
        _ => Vec::new(),
    };
    Ok(Availability {
        slots,
        desks,
        space,
    })
}

fn free_desks(
    sight: &Sight<'_>,
    space: &Space,
    wanted: &Wanted,
    slots: &[Slot],
    span: Interval,
) -> Vec<(Desk, Vec<usize>)> {
    let taken = query::occupied(sight.store, space.id, span);
    let halls = query::halls(sight.store, space.id);
    let desks = query::desks_of_space(sight.store, space.id).into_iter();
    let with_free = desks
        .filter(|desk| wanted.takes_desk(desk, &halls))
        .map(|desk| {
            let bookings = taken.get(&desk.id).map_or(&[][..], Vec::as_slice);
            let is_free = |slot: &Slot| {
                bookings
                    .iter()
                    .all(|taken| !taken.interval.overlaps(slot.interval))
            };
            let free = slots
                .iter()
                .enumerate()
                .filter(|(_, slot)| is_free(slot))
                .map(|(number, _)| number);
            let free = free.collect();
            (desk, free)
        });
    with_free
        .filter(|(_, free): &(Desk, Vec<usize>)| !free.is_empty())
        .collect()
}
