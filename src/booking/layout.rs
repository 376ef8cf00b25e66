//! Spaces, halls, zones and desks: what there is to book, when, and under which rules.
//!
//! A change of a space raises its `schedule_revision`. The proposer names the revision by which
//! it placed an interval on the grid; a booking placed by an older one is refused and placed
//! anew. Desks are never deleted, only switched off, because bookings refer to them for ever.

use super::calendar::{Closure, OpeningHours};
use super::ids::{DeskId, HallId, SpaceId, ZoneId};
use super::instant::Instant;
use super::reply::Invalid;
use super::text::{Label, Name, Slug, TimeZoneName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The slot length unless set, in minutes.
pub const DEFAULT_SLOT_MINUTES: u16 = 60;
/// The shortest slot, in minutes.
pub const MIN_SLOT_MINUTES: u16 = 15;
/// The longest slot, in minutes.
pub const MAX_SLOT_MINUTES: u16 = 1440;
/// How far ahead one may book unless set, in days.
pub const DEFAULT_DAYS_AHEAD: u16 = 30;
/// The most that `days_ahead` can be, in days.
pub const MAX_DAYS_AHEAD: u16 = 366;
/// The most that `minimum_notice_minutes` can be (31 days).
pub const MAX_NOTICE_MINUTES: u32 = 31 * 1440;
/// The most closures a space holds.
pub const MAX_CLOSURES: usize = 50;
/// The largest width or height of a floor plan, in plan units.
pub const MAX_PLAN_SIDE: u16 = 10_000;
/// The most walls on a plan.
pub const MAX_WALLS: usize = 160;
/// The most labels on a plan.
pub const MAX_PLAN_LABELS: usize = 30;
/// The most zones in a hall.
pub const MAX_ZONES: usize = 20;
/// The most halls in a space.
pub const MAX_HALLS_PER_SPACE: usize = 64;
/// The most desks in a hall.
pub const MAX_DESKS_PER_HALL: usize = 500;
/// The most features of a desk.
pub const MAX_FEATURES: usize = 12;

/// One coworking, as the state holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Assigned when it was made.
    pub id: SpaceId,
    /// What an admin set.
    pub details: SpaceDetails,
    /// Raised by every change of `details`, from 1.
    pub schedule_revision: u32,
    /// When it was made.
    pub created_at: Instant,
}

/// What an admin sets about a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceDetails {
    /// Unique among spaces.
    pub slug: Slug,
    /// What people call it.
    pub name: Name,
    /// In which its opening hours and closures are meant.
    pub time_zone: TimeZoneName,
    /// By weekday, in local time.
    pub opening_hours: OpeningHours,
    /// Dates without opening, in order, each once.
    pub closures: Vec<Closure>,
    /// Length of a slot, [`MIN_SLOT_MINUTES`] to [`MAX_SLOT_MINUTES`].
    pub slot_minutes: u16,
    /// Limits of booking.
    pub rules: Rules,
    /// Whether it takes bookings at all.
    pub open: bool,
}

/// The limits of booking in a space (rule 5 of the contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// How long before its start a booking must be made.
    pub minimum_notice_minutes: u32,
    /// How many local days ahead of today one may book; 0 is today only.
    pub days_ahead: u16,
    /// The most slots in one booking; `None` leaves it at what opening hours allow.
    pub longest_slots: Option<u16>,
    /// The most bookings of one user in this space that haven't ended.
    pub open_bookings_per_user: Option<u16>,
    /// The most hours of one user in this space in a local week, counted by where they start.
    pub hours_per_week: Option<u16>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            minimum_notice_minutes: 0,
            days_ahead: DEFAULT_DAYS_AHEAD,
            longest_slots: None,
            open_bookings_per_user: None,
            hours_per_week: None,
        }
    }
}

impl SpaceDetails {
    /// Checks the bounds that the fields' types don't.
    ///
    /// # Errors
    /// The first field out of bounds.
    pub fn validate(&self) -> Result<(), Invalid> {
        let rules = &self.rules;
        check(
            (MIN_SLOT_MINUTES..=MAX_SLOT_MINUTES).contains(&self.slot_minutes),
            Invalid::SlotMinutes,
        )?;
        check(self.closures.len() <= MAX_CLOSURES, Invalid::Closures)?;
        check(
            self.closures
                .windows(2)
                .all(|pair| pair[0].date < pair[1].date),
            Invalid::Closures,
        )?;
        check(
            rules.minimum_notice_minutes <= MAX_NOTICE_MINUTES,
            Invalid::MinimumNotice,
        )?;
        check(rules.days_ahead <= MAX_DAYS_AHEAD, Invalid::DaysAhead)?;
        check(rules.longest_slots != Some(0), Invalid::LongestSlots)
    }
}

/// A room or floor of a space, as the state holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hall {
    /// Assigned when it was made.
    pub id: HallId,
    /// Where it is.
    pub space: SpaceId,
    /// What people call it.
    pub name: Name,
    /// The floor plan.
    pub plan: Plan,
    /// Its named parts.
    pub zones: Vec<Zone>,
    /// Counts changes of this record, from 1.
    pub version: u32,
}

/// A floor plan. Coordinates are plan units from the upper left corner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// 1 to [`MAX_PLAN_SIDE`].
    pub width: u16,
    /// 1 to [`MAX_PLAN_SIDE`].
    pub height: u16,
    /// At most [`MAX_WALLS`].
    pub walls: Vec<Wall>,
    /// At most [`MAX_PLAN_LABELS`].
    pub labels: Vec<PlanLabel>,
}

/// A straight wall from one point to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wall {
    /// Where it begins.
    pub from: Point,
    /// Where it ends.
    pub to: Point,
}

/// A point of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Plan units from the left.
    pub x: u16,
    /// Plan units from the top.
    pub y: u16,
}

/// A word on the plan, such as "kitchen".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanLabel {
    /// Where it stands.
    pub at: Point,
    /// The word.
    pub text: Label,
}

/// A named part of a hall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Assigned when it was made.
    pub id: ZoneId,
    /// What people call it.
    pub name: Name,
    /// What it is for (`quiet`, `window`, `team`).
    pub kind: Slug,
}

/// What an admin sets about a hall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HallDraft {
    /// What people call it.
    pub name: Name,
    /// The floor plan.
    pub plan: Plan,
    /// All its zones; a zone that is left out is removed, which only an empty one can be.
    pub zones: Vec<ZoneDraft>,
}

/// What an admin sets about a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneDraft {
    /// The zone to change; `None` makes one.
    pub id: Option<ZoneId>,
    /// Unique in the hall.
    pub name: Name,
    /// What it is for (`quiet`, `window`, `team`).
    pub kind: Slug,
}

impl HallDraft {
    /// Checks the bounds that the fields' types don't.
    ///
    /// # Errors
    /// The first field out of bounds.
    pub fn validate(&self) -> Result<(), Invalid> {
        let plan = &self.plan;
        let sides = 1..=MAX_PLAN_SIDE;
        check(
            sides.contains(&plan.width) && sides.contains(&plan.height),
            Invalid::PlanSize,
        )?;
        check(plan.walls.len() <= MAX_WALLS, Invalid::Walls)?;
        check(
            plan.walls
                .iter()
                .all(|w| plan.holds(w.from) && plan.holds(w.to)),
            Invalid::Walls,
        )?;
        check(plan.labels.len() <= MAX_PLAN_LABELS, Invalid::PlanLabels)?;
        check(
            plan.labels.iter().all(|label| plan.holds(label.at)),
            Invalid::PlanLabels,
        )?;
        check(self.zones.len() <= MAX_ZONES, Invalid::Zones)?;
        let names: BTreeSet<_> = self.zones.iter().map(|zone| &zone.name).collect();
        check(names.len() == self.zones.len(), Invalid::Zones)
    }
}

impl Plan {
    /// Whether the point lies on the plan, its edges included.
    #[must_use]
    pub fn holds(&self, point: Point) -> bool {
        point.x <= self.width && point.y <= self.height
    }
}

/// A bookable place, as the state holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desk {
    /// Assigned when it was made.
    pub id: DeskId,
    /// Where it is.
    pub space: SpaceId,
    /// In which hall.
    pub hall: HallId,
    /// In which zone, if any.
    pub zone: Option<ZoneId>,
    /// What stands on it; unique in its hall.
    pub label: Label,
    /// Where its middle is on the hall's plan.
    pub at: Point,
    /// Degrees clockwise, 0 to 359.
    pub rotation_degrees: u16,
    /// What it has (`monitor`, `standing`, `window`), in order, each once.
    pub features: Vec<Slug>,
    /// Whether it can be booked.
    pub active: bool,
    /// Counts changes of this record, from 1.
    pub version: u32,
}

/// What an admin sets about a desk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeskDraft {
    /// The desk to change; `None` makes one.
    pub id: Option<DeskId>,
    /// In which zone of the hall, if any.
    pub zone: Option<ZoneId>,
    /// Unique in the hall.
    pub label: Label,
    /// Where its middle is on the hall's plan.
    pub at: Point,
    /// Degrees clockwise, 0 to 359.
    pub rotation_degrees: u16,
    /// What it has; at most [`MAX_FEATURES`].
    pub features: BTreeSet<Slug>,
    /// Whether it can be booked.
    pub active: bool,
}

impl DeskDraft {
    /// Checks the bounds that the fields' types don't.
    ///
    /// # Errors
    /// The first field out of bounds.
    pub fn validate(&self, plan: &Plan) -> Result<(), Invalid> {
        check(plan.holds(self.at), Invalid::DeskPosition)?;
        check(self.rotation_degrees < 360, Invalid::DeskRotation)?;
        check(self.features.len() <= MAX_FEATURES, Invalid::DeskFeatures)
    }
}

fn check(holds: bool, otherwise: Invalid) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(otherwise) }
}
