//! Spaces on the wire: as an administrator writes them, and as everyone reads them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Fields, show_instant};
use crate::{
    booking::{
        calendar::{Closure, LocalDate, Opening, OpeningHours},
        layout::{Desk, Hall, Plan, PlanLabel, Point, Rules, Space, SpaceDetails, Wall, Zone},
        text::{Label, Name, Slug},
    },
    service::{
        Failure,
        layout::{DeskPlan, HallPlan, SpacePlan, WholeSpace, ZonePlan},
        schedule::is_known_zone,
    },
};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Opening hours by weekday (`mon` to `sun`): each day a list of `[opens, closes]`, as `HH:MM` in local time; `24:00` is
/// the midnight at the end of the day. A day that is left out is a day off.
pub type HoursBody = BTreeMap<String, Vec<[String; 2]>>;

/// A whole space, as an administrator writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpaceDocument {
    /// The name in paths: lower-case letters, digits and hyphens.
    #[schema(
        example = "nevsky",
        max_length = 40,
        pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
    )]
    pub slug: String,
    /// What people call it.
    #[schema(min_length = 1, max_length = 60)]
    pub name: String,
    /// An IANA time zone.
    #[schema(example = "Europe/Moscow")]
    pub time_zone: String,
    /// The length of a slot.
    #[serde(default = "default_slot_minutes")]
    #[schema(minimum = 15, maximum = 1440, default = 60)]
    pub slot_minutes: u16,
    /// Opening hours by weekday.
    #[schema(value_type = BTreeMap<String, Vec<Vec<String>>>)]
    pub opening_hours: HoursBody,
    /// Dates without opening.
    #[serde(default)]
    pub closures: Vec<ClosureBody>,
    /// The limits of booking.
    #[serde(default)]
    pub rules: RulesBody,
    /// Whether it takes bookings at all.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub open: bool,
    /// Its halls. Halls are recognised by their names, desks by their labels: what exists is changed, what is new is
    /// made, and what is left out stays as it is.
    #[serde(default)]
    pub halls: Vec<HallDocument>,
}

/// A date without opening.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClosureBody {
    /// The local date.
    #[schema(example = "2026-01-01", format = Date)]
    pub date: String,
    /// What visitors are told.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 40)]
    pub reason: Option<String>,
}

/// The limits of booking in a space.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RulesBody {
    /// How long before its start a booking must be made.
    #[schema(maximum = 44640)]
    pub minimum_notice_minutes: u32,
    /// How many days ahead of today one may book.
    #[schema(maximum = 366)]
    pub days_ahead: u16,
    /// The most slots in one booking.
    pub longest_slots: Option<u16>,
    /// The most bookings of one user that have not ended.
    pub open_bookings_per_user: Option<u16>,
    /// The most hours of one user in a week.
    pub hours_per_week: Option<u16>,
}

/// A hall, as an administrator writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HallDocument {
    /// Unique in its space.
    #[schema(min_length = 1, max_length = 60)]
    pub name: String,
    /// Its floor plan.
    pub plan: PlanBody,
    /// Its named parts.
    #[serde(default)]
    pub zones: Vec<ZoneDocument>,
    /// Its desks.
    #[serde(default)]
    pub desks: Vec<DeskDocument>,
}

/// A floor plan, in plan units from the upper left corner.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanBody {
    /// From left to right.
    #[schema(minimum = 1, maximum = 10000)]
    pub width: u16,
    /// From top to bottom.
    #[schema(minimum = 1, maximum = 10000)]
    pub height: u16,
    /// Straight walls.
    #[serde(default)]
    pub walls: Vec<WallBody>,
    /// Words on the plan.
    #[serde(default)]
    pub labels: Vec<LabelBody>,
}

/// A straight wall.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WallBody {
    /// Where it begins.
    pub x1: u16,
    /// Where it begins.
    pub y1: u16,
    /// Where it ends.
    pub x2: u16,
    /// Where it ends.
    pub y2: u16,
}

/// A word on the plan.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelBody {
    /// Where it stands.
    pub x: u16,
    /// Where it stands.
    pub y: u16,
    /// The word.
    #[schema(min_length = 1, max_length = 24)]
    pub text: String,
}

/// A zone, as an administrator writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneDocument {
    /// Unique in its hall.
    #[schema(min_length = 1, max_length = 60)]
    pub name: String,
    /// What it is for.
    #[schema(
        example = "quiet",
        max_length = 40,
        pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
    )]
    pub kind: String,
}

/// A desk, as an administrator writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeskDocument {
    /// Unique in its hall.
    #[schema(example = "A-12", min_length = 1, max_length = 24)]
    pub label: String,
    /// Where its middle is on the plan.
    pub x: u16,
    /// Where its middle is on the plan.
    pub y: u16,
    /// Degrees clockwise.
    #[serde(default)]
    #[schema(maximum = 359, default = 0)]
    pub rotation: u16,
    /// The name of its zone, if it has one.
    #[serde(default)]
    pub zone: Option<String>,
    /// What it has.
    #[serde(default)]
    pub features: Vec<String>,
    /// Whether it can be booked.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub active: bool,
}

/// A space in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct SpaceSummary {
    /// Its id.
    #[schema(example = "spc_0000000002000")]
    pub id: String,
    /// Its name in paths.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// Its IANA time zone.
    pub time_zone: String,
    /// The length of a slot.
    pub slot_minutes: u16,
    /// Whether it takes bookings at all.
    pub open: bool,
}

/// A whole space.
#[derive(Debug, Serialize, ToSchema)]
pub struct SpaceBody {
    /// What a list says about it.
    #[serde(flatten)]
    pub summary: SpaceSummary,
    /// Opening hours by weekday.
    #[schema(value_type = BTreeMap<String, Vec<Vec<String>>>)]
    pub opening_hours: HoursBody,
    /// Dates without opening.
    pub closures: Vec<ClosureBody>,
    /// The limits of booking.
    pub rules: RulesBody,
    /// Raised by each change of the above.
    pub schedule_revision: u32,
    /// When it was made.
    pub created_at: String,
    /// Its halls.
    pub halls: Vec<HallBody>,
}

/// A hall with its desks.
#[derive(Debug, Serialize, ToSchema)]
pub struct HallBody {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Its floor plan.
    pub plan: PlanBody,
    /// Its named parts.
    pub zones: Vec<ZoneBody>,
    /// Its desks.
    pub desks: Vec<DeskBody>,
    /// Counts its changes.
    pub version: u32,
}

/// A zone.
#[derive(Debug, Serialize, ToSchema)]
pub struct ZoneBody {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub kind: String,
}

/// A desk.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeskBody {
    /// Its id.
    pub id: String,
    /// What stands on it.
    pub label: String,
    /// Where its middle is on the plan.
    pub x: u16,
    /// Where its middle is on the plan.
    pub y: u16,
    /// Degrees clockwise.
    pub rotation: u16,
    /// The id of its zone, if it has one.
    pub zone: Option<String>,
    /// What it has.
    pub features: Vec<String>,
    /// Whether it can be booked.
    pub active: bool,
    /// Counts its changes.
    pub version: u32,
}

impl SpaceDocument {
    /// The parsed plan of the space.
    ///
    /// # Errors
    /// Names every field that is not what it should be.
    pub fn parse(&self) -> Result<SpacePlan, Failure> {
        let mut fields = Fields::new();
        let details = self.details(&mut fields);
        let halls: Option<Vec<HallPlan>> = self
            .halls
            .iter()
            .enumerate()
            .map(|(at, hall)| hall.parse(&mut fields, &format!("/halls/{at}")))
            .collect();
        let mut names = BTreeSet::new();
        for (at, hall) in self.halls.iter().enumerate() {
            if !names.insert(hall.name.trim()) {
                fields.refuse(
                    &format!("/halls/{at}/name"),
                    "duplicate",
                    "another hall of the space has this name",
                );
            }
        }
        fields.finish(
            details
                .zip(halls)
                .map(|(details, halls)| SpacePlan { details, halls }),
        )
    }

    fn details(&self, fields: &mut Fields) -> Option<SpaceDetails> {
        let slug = fields.text("/slug", &self.slug);
        let name = fields.text("/name", &self.name);
        let time_zone = fields.text("/time_zone", &self.time_zone).filter(|zone| {
            let known = is_known_zone(zone);
            if !known {
                fields.refuse(
                    "/time_zone",
                    "unknown_time_zone",
                    "there is no such IANA time zone",
                );
            }
            known
        });
        let opening_hours = parse_hours(fields, &self.opening_hours);
        let closures: Option<Vec<Closure>> = self
            .closures
            .iter()
            .enumerate()
            .map(|(at, closure)| {
                let date =
                    fields.parse::<LocalDate>(&format!("/closures/{at}/date"), &closure.date);
                let reason = match &closure.reason {
                    Some(reason) => Some(fields.text(&format!("/closures/{at}/reason"), reason)?),
                    None => None,
                };
                Some(Closure {
                    date: date?,
                    reason,
                })
            })
            .collect();
        let mut closures = closures?;
        closures.sort_by_key(|closure| closure.date);
        let details = SpaceDetails {
            slug: slug?,
            name: name?,
            time_zone: time_zone?,
            opening_hours: opening_hours?,
            closures,
            slot_minutes: self.slot_minutes,
            rules: self.rules.parse(),
            open: self.open,
        };
        match details.validate() {
            Ok(()) => Some(details),
            Err(invalid) => {
                let field = invalid.field();
                let within = if matches!(field, "slot_minutes" | "closures") {
                    ""
                } else {
                    "/rules"
                };
                fields.refuse(&format!("{within}/{field}"), "out_of_range", invalid);
                None
            }
        }
    }
}

impl HallDocument {
    fn parse(&self, fields: &mut Fields, at: &str) -> Option<HallPlan> {
        let name = fields.text::<Name>(&format!("{at}/name"), &self.name);
        let plan = self.plan.parse(fields, &format!("{at}/plan"));
        let zones: Option<Vec<ZonePlan>> = self
            .zones
            .iter()
            .enumerate()
            .map(|(number, zone)| {
                let name = fields.text(&format!("{at}/zones/{number}/name"), &zone.name);
                let kind = fields.text(&format!("{at}/zones/{number}/kind"), &zone.kind);
                Some(ZonePlan {
                    name: name?,
                    kind: kind?,
                })
            })
            .collect();
        let zones = zones?;
        let mut labels = BTreeSet::new();
        let desks: Option<Vec<DeskPlan>> = self
            .desks
            .iter()
            .enumerate()
            .map(|(number, desk)| {
                let at = format!("{at}/desks/{number}");
                let parsed = desk.parse(fields, &at, &zones);
                if !labels.insert(desk.label.trim()) {
                    fields.refuse(
                        &format!("{at}/label"),
                        "duplicate",
                        "another desk of the hall has this label",
                    );
                }
                parsed
            })
            .collect();
        let hall = HallPlan {
            name: name?,
            plan: plan?,
            zones,
            desks: desks?,
        };
        if let Err(invalid) = hall.validate() {
            fields.refuse(at, "out_of_range", invalid);
            return None;
        }
        Some(hall)
    }
}

impl DeskDocument {
    fn parse(&self, fields: &mut Fields, at: &str, zones: &[ZonePlan]) -> Option<DeskPlan> {
        let label = fields.text::<Label>(&format!("{at}/label"), &self.label);
        let zone = match &self.zone {
            None => Some(None),
            Some(name) => {
                let zone = zones
                    .iter()
                    .find(|zone| zone.name.as_str() == name.trim())
                    .map(|zone| zone.name.clone());
                if zone.is_none() {
                    fields.refuse(
                        &format!("{at}/zone"),
                        "unknown_zone",
                        "the hall has no zone of this name",
                    );
                }
                zone.map(Some)
            }
        };
        let features: Option<BTreeSet<Slug>> = self
            .features
            .iter()
            .enumerate()
            .map(|(number, feature)| fields.text(&format!("{at}/features/{number}"), feature))
            .collect();
        Some(DeskPlan {
            label: label?,
            at: Point {
                x: self.x,
                y: self.y,
            },
            rotation_degrees: self.rotation,
            zone: zone?,
            features: features?,
            active: self.active,
        })
    }
}

impl PlanBody {
    fn parse(&self, fields: &mut Fields, at: &str) -> Option<Plan> {
        let walls = self.walls.iter().map(|wall| Wall {
            from: Point {
                x: wall.x1,
                y: wall.y1,
            },
            to: Point {
                x: wall.x2,
                y: wall.y2,
            },
        });
        let labels: Option<Vec<PlanLabel>> = self
            .labels
            .iter()
            .enumerate()
            .map(|(number, label)| {
                let text = fields.text(&format!("{at}/labels/{number}/text"), &label.text)?;
                Some(PlanLabel {
                    at: Point {
                        x: label.x,
                        y: label.y,
                    },
                    text,
                })
            })
            .collect();
        Some(Plan {
            width: self.width,
            height: self.height,
            walls: walls.collect(),
            labels: labels?,
        })
    }

    fn show(plan: &Plan) -> Self {
        let wall = |wall: &Wall| WallBody {
            x1: wall.from.x,
            y1: wall.from.y,
            x2: wall.to.x,
            y2: wall.to.y,
        };
        let label = |label: &PlanLabel| LabelBody {
            x: label.at.x,
            y: label.at.y,
            text: label.text.to_string(),
        };
        Self {
            width: plan.width,
            height: plan.height,
            walls: plan.walls.iter().map(wall).collect(),
            labels: plan.labels.iter().map(label).collect(),
        }
    }
}

impl Default for RulesBody {
    fn default() -> Self {
        Self::show(&Rules::default())
    }
}

impl RulesBody {
    fn parse(&self) -> Rules {
        Rules {
            minimum_notice_minutes: self.minimum_notice_minutes,
            days_ahead: self.days_ahead,
            longest_slots: self.longest_slots,
            open_bookings_per_user: self.open_bookings_per_user,
            hours_per_week: self.hours_per_week,
        }
    }

    fn show(rules: &Rules) -> Self {
        Self {
            minimum_notice_minutes: rules.minimum_notice_minutes,
            days_ahead: rules.days_ahead,
            longest_slots: rules.longest_slots,
            open_bookings_per_user: rules.open_bookings_per_user,
            hours_per_week: rules.hours_per_week,
        }
    }
}

impl SpaceSummary {
    /// What a list says about a space.
    #[must_use]
    pub fn show(space: &Space) -> Self {
        Self {
            id: space.id.to_string(),
            slug: space.details.slug.to_string(),
            name: space.details.name.to_string(),
            time_zone: space.details.time_zone.to_string(),
            slot_minutes: space.details.slot_minutes,
            open: space.details.open,
        }
    }
}

impl SpaceBody {
    /// A whole space.
    #[must_use]
    pub fn show(whole: &WholeSpace) -> Self {
        let WholeSpace { space, halls } = whole;
        let closure = |closure: &Closure| ClosureBody {
            date: closure.date.to_string(),
            reason: closure.reason.as_ref().map(ToString::to_string),
        };
        Self {
            summary: SpaceSummary::show(space),
            opening_hours: show_hours(&space.details.opening_hours),
            closures: space.details.closures.iter().map(closure).collect(),
            rules: RulesBody::show(&space.details.rules),
            schedule_revision: space.schedule_revision,
            created_at: show_instant(space.created_at, &space.details.time_zone),
            halls: halls
                .iter()
                .map(|(hall, desks)| HallBody::show(hall, desks))
                .collect(),
        }
    }
}

impl HallBody {
    fn show(hall: &Hall, desks: &[Desk]) -> Self {
        let zone = |zone: &Zone| ZoneBody {
            id: zone.id.to_string(),
            name: zone.name.to_string(),
            kind: zone.kind.to_string(),
        };
        Self {
            id: hall.id.to_string(),
            name: hall.name.to_string(),
            plan: PlanBody::show(&hall.plan),
            zones: hall.zones.iter().map(zone).collect(),
            desks: desks.iter().map(DeskBody::show).collect(),
            version: hall.version,
        }
    }
}

impl DeskBody {
    fn show(desk: &Desk) -> Self {
        Self {
            id: desk.id.to_string(),
            label: desk.label.to_string(),
            x: desk.at.x,
            y: desk.at.y,
            rotation: desk.rotation_degrees,
            zone: desk.zone.map(|zone| zone.to_string()),
            features: desk.features.iter().map(ToString::to_string).collect(),
            active: desk.active,
            version: desk.version,
        }
    }
}

/// `HH:MM` as minutes after midnight, up to `24:00`.
#[must_use]
pub fn parse_minute(text: &str) -> Option<u16> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == 5
        && bytes[2] == b':'
        && [0, 1, 3, 4].iter().all(|at| bytes[*at].is_ascii_digit());
    if !shaped {
        return None;
    }
    let (hours, minutes): (u16, u16) = (text[..2].parse().ok()?, text[3..].parse().ok()?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= 1440).then_some(minute)
}

fn show_minute(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn parse_hours(fields: &mut Fields, body: &HoursBody) -> Option<OpeningHours> {
    let mut days: [Vec<Opening>; 7] = Default::default();
    let mut good = true;
    for (day, openings) in body {
        let Some(weekday) = DAYS.iter().position(|name| name == day) else {
            fields.refuse(
                "/opening_hours",
                "unknown_field",
                "days are mon, tue, wed, thu, fri, sat and sun",
            );
            good = false;
            continue;
        };
        for (number, [opens, closes]) in openings.iter().enumerate() {
            let opening = parse_minute(opens).zip(parse_minute(closes));
            match opening.map(|(opens, closes)| Opening::new(opens, closes)) {
                Some(Ok(opening)) => days[weekday].push(opening),
                Some(Err(error)) => {
                    fields.refuse(
                        &format!("/opening_hours/{day}/{number}"),
                        "out_of_range",
                        error,
                    );
                    good = false;
                }
                None => {
                    fields.refuse(
                        &format!("/opening_hours/{day}/{number}"),
                        "malformed",
                        "hours are written HH:MM",
                    );
                    good = false;
                }
            }
        }
    }
    if !good {
        return None;
    }
    OpeningHours::new(days)
        .map_err(|error| fields.refuse("/opening_hours", "out_of_range", error))
        .ok()
}

fn show_hours(hours: &OpeningHours) -> HoursBody {
    let day = |(number, name): (usize, &&str)| {
        let openings = hours.of_weekday(number).iter();
        let shown = openings
            .map(|opening| [opening.opens_minute(), opening.closes_minute()].map(show_minute));
        ((*name).to_owned(), shown.collect())
    };
    DAYS.iter().enumerate().map(day).collect()
}

fn default_slot_minutes() -> u16 {
    crate::booking::layout::DEFAULT_SLOT_MINUTES
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> serde_json::Value {
        serde_json::json!({
            "slug": "nevsky", "name": "Nevsky", "time_zone": "Europe/Moscow",
            "opening_hours": {"mon": [["08:00", "12:00"], ["13:00", "24:00"]]},
            "closures": [{"date": "2026-05-09"}, {"date": "2026-01-01", "reason": "New Year"}],
            "halls": [{
                "name": "Main", "plan": {"width": 100, "height": 50, "walls": [{"x1": 0, "y1": 0, "x2": 100, "y2": 0}]},
                "zones": [{"name": "Quiet", "kind": "quiet"}],
                "desks": [{"label": "A-1", "x": 10, "y": 10, "zone": "Quiet", "features": ["monitor"]}]
            }]
        })
    }

    fn errors(change: impl FnOnce(&mut serde_json::Value)) -> Vec<(String, &'static str)> {
        let mut json = document();
        change(&mut json);
        let document: SpaceDocument = serde_json::from_value(json).expect("the types are right");
        match document.parse() {
            Err(Failure::Fields(errors)) => errors
                .into_iter()
                .map(|error| (error.pointer, error.code))
                .collect(),
            other => panic!("expected field errors, got {other:?}"),
        }
    }

    #[test]
    fn a_document_becomes_a_plan_with_defaults_and_sorted_closures() {
        let document: SpaceDocument =
            serde_json::from_value(document()).expect("the types are right");
        let plan = document.parse().expect("nothing is wrong");
        assert_eq!(plan.details.slot_minutes, 60);
        assert!(plan.details.open);
        assert_eq!(plan.details.rules, Rules::default());
        assert_eq!(plan.details.closures[0].date.to_string(), "2026-01-01");
        assert_eq!(
            plan.details.opening_hours.of_weekday(0)[1].closes_minute(),
            1440
        );
        assert_eq!(
            plan.halls[0].desks[0].zone.as_ref().map(Name::as_str),
            Some("Quiet")
        );
        assert_eq!(
            show_hours(&plan.details.opening_hours)["mon"][0],
            ["08:00", "12:00"]
        );
    }

    #[test]
    fn each_bad_field_is_named() {
        let pointer = |pointer: &str, code| vec![(pointer.to_owned(), code)];
        assert_eq!(
            errors(|json| json["slug"] = "Невский".into()),
            pointer("/slug", "malformed")
        );
        assert_eq!(
            errors(|json| json["time_zone"] = "Mars/Base".into()),
            pointer("/time_zone", "unknown_time_zone")
        );
        assert_eq!(
            errors(|json| json["slot_minutes"] = 7.into()),
            pointer("/slot_minutes", "out_of_range")
        );
        assert_eq!(
            errors(|json| json["opening_hours"]["mon"][0][1] = "12:60".into()),
            pointer("/opening_hours/mon/0", "malformed")
        );
        assert_eq!(
            errors(|json| json["rules"] = serde_json::json!({"days_ahead": 1000})),
            pointer("/rules/days_ahead", "out_of_range")
        );
        assert_eq!(
            errors(|json| json["halls"][0]["desks"][0]["zone"] = "Loud".into()),
            pointer("/halls/0/desks/0/zone", "unknown_zone")
        );
        assert_eq!(
            errors(|json| json["halls"][0]["desks"][0]["x"] = 101.into()),
            pointer("/halls/0", "out_of_range")
        );
    }

    #[test]
    fn minutes_are_two_digits_each() {
        assert_eq!(parse_minute("08:30"), Some(510));
        assert_eq!(parse_minute("24:00"), Some(1440));
        for bad in [
            "24:01", "8:30", "08:60", "08-30", "0830", "", "99:99", "８8:30",
        ] {
            assert_eq!(parse_minute(bad), None, "{bad}");
        }
    }
}
