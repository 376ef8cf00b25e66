//! The example space and the example accounts.
//!
//! They go in through the public API, as an administrator would do it by hand, so the example is
//! also a test of what can be done by hand. What exists already is left as it is: an operator may
//! run this at every start, and a visitor may have moved a desk.
//!
//! The passwords are public. `mesto demo` is the only way to these accounts; no node creates them
//! by itself.

use serde_json::{Map, Value, json};

use crate::cli::{Client, ClientError, Method, role_path};
use crate::clock::{Clock as _, SystemClock};

/// The slug of the example space.
pub const SPACE: &str = "nevsky";
/// The example administrator: e-mail address and password.
pub const ADMIN: (&str, &str) = ("admin@example.com", "admin-example-password");
/// The example member: e-mail address and password.
pub const MEMBER: (&str, &str) = ("member@example.com", "member-example-password");

/// How far apart two desks of a row stand, in plan units (centimetres).
const ROW_STEP: u32 = 150;
/// Public holidays on which the example space is closed: month, day, name.
const HOLIDAYS: [(i8, i8, &str); 4] = [
    (1, 1, "New Year"),
    (1, 7, "Orthodox Christmas"),
    (5, 9, "Victory Day"),
    (6, 12, "Russia Day"),
];

/// Creates what does not exist yet; answers what was done, in lines for people.
pub async fn fill(client: &Client) -> Result<Vec<String>, ClientError> {
    let mut lines = vec![create_space(client).await?];
    lines.push(create_account(client, ADMIN, "Anna Admin").await?);
    lines.push(create_account(client, MEMBER, "Mikhail Member").await?);
    let role = json!({ "role": "admin" });
    client
        .expect(Method::PUT, &role_path(ADMIN.0), Some(&role))
        .await?;
    lines.push(format!("{} has the role admin", ADMIN.0));
    Ok(lines)
}

async fn create_space(client: &Client) -> Result<String, ClientError> {
    let there = client
        .send(Method::GET, &format!("/api/v1/spaces/{SPACE}"), None)
        .await?;
    if there.is_success() {
        return Ok(format!("the space {SPACE} exists"));
    }
    let path = format!("/api/v1/admin/spaces/{SPACE}");
    client
        .expect(Method::PUT, &path, Some(&space(this_year())))
        .await?;
    Ok(format!("the space {SPACE} is created"))
}

async fn create_account(
    client: &Client,
    account: (&str, &str),
    name: &str,
) -> Result<String, ClientError> {
    let (email, password) = account;
    let body = json!({ "email": email, "password": password, "display_name": name });
    let answer = client
        .clone()
        .without_token()
        .send(Method::POST, "/api/v1/users", Some(&body))
        .await?;
    if answer.is_success() {
        Ok(format!(
            "the account {email} is created; its password is {password}"
        ))
    } else if answer.code() == "email_taken" {
        Ok(format!("the account {email} exists"))
    } else {
        Err(answer.refused(&Method::POST, "/api/v1/users"))
    }
}

fn this_year() -> i16 {
    let now_ms = i64::try_from(SystemClock.now_ms()).unwrap_or(0);
    let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
    now.to_zoned(jiff::tz::TimeZone::UTC).year()
}

/// The example space: two halls with 44 desks, as `PUT /admin/spaces/{slug}` takes it.
pub fn space(year: i16) -> Value {
    json!({
        "slug": SPACE,
        "name": "Nevsky 28",
        "time_zone": "Europe/Moscow",
        "slot_minutes": 60,
        "opening_hours": opening_hours(),
        "closures": closures(year),
        "rules": { "days_ahead": 30 },
        "halls": [main_hall(), garden_hall()],
    })
}

fn opening_hours() -> Value {
    let weekday = json!([["08:00", "22:00"]]);
    let weekend = json!([["10:00", "20:00"]]);
    let mut hours = Map::new();
    for day in ["mon", "tue", "wed", "thu", "fri"] {
        hours.insert(day.to_owned(), weekday.clone());
    }
    for day in ["sat", "sun"] {
        hours.insert(day.to_owned(), weekend.clone());
    }
    Value::Object(hours)
}

fn closures(year: i16) -> Vec<Value> {
    [year, year + 1]
        .into_iter()
        .flat_map(|year| {
            HOLIDAYS.map(|(month, day, reason)| json!({ "date": format!("{year}-{month:02}-{day:02}"), "reason": reason }))
        })
        .collect()
}

/// 28 desks: a row along the windows, a quiet block, and two islands for teams.
fn main_hall() -> Value {
    let mut desks = row(
        "A",
        1,
        8,
        (130, 120),
        180,
        "Window seats",
        &["window", "monitor"],
    );
    desks.extend(row("A", 9, 6, (130, 420), 0, "Quiet corner", &["monitor"]));
    desks.extend(row(
        "A",
        15,
        6,
        (130, 530),
        180,
        "Quiet corner",
        &["monitor", "standing"],
    ));
    desks.extend(row(
        "A",
        21,
        2,
        (1_130, 420),
        0,
        "Team tables",
        &["monitor", "whiteboard"],
    ));
    desks.extend(row(
        "A",
        23,
        2,
        (1_130, 530),
        180,
        "Team tables",
        &["monitor", "whiteboard"],
    ));
    desks.extend(row(
        "A",
        25,
        2,
        (1_130, 700),
        0,
        "Team tables",
        &["whiteboard"],
    ));
    desks.extend(row(
        "A",
        27,
        2,
        (1_130, 810),
        180,
        "Team tables",
        &["whiteboard", "standing"],
    ));
    json!({
        "name": "Main hall",
        "plan": {
            "width": 1_400,
            "height": 950,
            "walls": [
                wall(0, 0, 1_400, 0), wall(1_400, 0, 1_400, 950), wall(0, 950, 500, 950),
                wall(650, 950, 1_400, 950), wall(0, 0, 0, 950),
                wall(1_020, 320, 1_020, 600), wall(1_020, 720, 1_020, 950), wall(0, 680, 400, 680),
                wall(400, 680, 400, 950),
            ],
            "labels": [
                label(700, 40, "Nevsky Prospekt"), label(575, 930, "Entrance"),
                label(200, 820, "Kitchen"), label(800, 820, "Lounge"),
            ],
        },
        "zones": [zone("Window seats", "window"), zone("Quiet corner", "quiet"), zone("Team tables", "team")],
        "desks": desks,
    })
}

/// 16 desks: windows to the courtyard, a long team table, four desks to be left alone at.
fn garden_hall() -> Value {
    let mut desks = row("B", 1, 4, (140, 120), 180, "Courtyard windows", &["window"]);
    desks.extend(row("B", 5, 4, (140, 380), 0, "Long table", &["monitor"]));
    desks.extend(row("B", 9, 4, (140, 490), 180, "Long table", &["monitor"]));
    desks.extend(row(
        "B",
        13,
        4,
        (140, 720),
        0,
        "Silent room",
        &["standing", "lamp"],
    ));
    json!({
        "name": "Garden hall",
        "plan": {
            "width": 900,
            "height": 820,
            "walls": [
                wall(0, 0, 900, 0), wall(900, 0, 900, 820), wall(0, 820, 900, 820), wall(0, 0, 0, 300),
                wall(0, 440, 0, 820), wall(0, 610, 640, 610), wall(760, 610, 900, 610),
            ],
            "labels": [
                label(450, 40, "Courtyard"), label(40, 370, "To the main hall"), label(780, 780, "Phone booth"),
            ],
        },
        "zones": [zone("Courtyard windows", "window"), zone("Long table", "team"), zone("Silent room", "quiet")],
        "desks": desks,
    })
}

/// Desks side by side from left to right, numbered on from `first`.
fn row(
    hall: &str,
    first: u32,
    desks: u32,
    from: (u32, u32),
    rotation: u32,
    zone: &str,
    features: &[&str],
) -> Vec<Value> {
    let (x, y) = from;
    (0..desks)
        .map(|place| {
            json!({
                "label": format!("{hall}-{:02}", first + place),
                "x": x + place * ROW_STEP,
                "y": y,
                "rotation": rotation,
                "zone": zone,
                "features": features,
                "active": true,
            })
        })
        .collect()
}

fn wall(x1: u32, y1: u32, x2: u32, y2: u32) -> Value {
    json!({ "x1": x1, "y1": y1, "x2": x2, "y2": y2 })
}

fn label(x: u32, y: u32, text: &str) -> Value {
    json!({ "x": x, "y": y, "text": text })
}

fn zone(name: &str, kind: &str) -> Value {
    json!({ "name": name, "kind": kind })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn halls() -> Vec<Value> {
        space(2026)["halls"].as_array().expect("halls").clone()
    }

    fn desks(hall: &Value) -> &Vec<Value> {
        hall["desks"].as_array().expect("desks")
    }

    fn point(object: &Value, x: &str, y: &str) -> (u64, u64) {
        (
            object[x].as_u64().expect("a number"),
            object[y].as_u64().expect("a number"),
        )
    }

    #[test]
    fn there_are_two_halls_with_forty_four_desks_of_different_labels() {
        let halls = halls();
        assert_eq!(
            halls
                .iter()
                .map(|hall| desks(hall).len())
                .collect::<Vec<_>>(),
            [28, 16]
        );
        let labels: BTreeSet<&str> = halls
            .iter()
            .flat_map(desks)
            .map(|desk| desk["label"].as_str().expect("a label"))
            .collect();
        assert_eq!(labels.len(), 44);
    }

    #[test]
    fn everything_lies_on_its_plan() {
        for hall in halls() {
            let (width, height) = point(&hall["plan"], "width", "height");
            let inside = |(x, y): (u64, u64)| x <= width && y <= height;
            for wall in hall["plan"]["walls"].as_array().expect("walls") {
                assert!(
                    inside(point(wall, "x1", "y1")) && inside(point(wall, "x2", "y2")),
                    "{wall}"
                );
            }
            for label in hall["plan"]["labels"].as_array().expect("labels") {
                assert!(inside(point(label, "x", "y")), "{label}");
            }
            for desk in desks(&hall) {
                let (x, y) = point(desk, "x", "y");
                assert!(
                    (60..=width - 60).contains(&x) && (60..=height - 60).contains(&y),
                    "{desk}"
                );
            }
        }
    }

    #[test]
    fn no_two_desks_stand_on_one_another() {
        for hall in halls() {
            let places: Vec<(u64, u64)> = desks(&hall)
                .iter()
                .map(|desk| point(desk, "x", "y"))
                .collect();
            for (at, one) in places.iter().enumerate() {
                for other in &places[at + 1..] {
                    assert!(
                        one.0.abs_diff(other.0) >= 120 || one.1.abs_diff(other.1) >= 80,
                        "{one:?} {other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_desk_belongs_to_a_zone_of_its_hall_and_every_zone_has_desks() {
        for hall in halls() {
            let zones: BTreeSet<&str> = hall["zones"]
                .as_array()
                .expect("zones")
                .iter()
                .map(|zone| zone["name"].as_str().expect("a name"))
                .collect();
            let used: BTreeSet<&str> = desks(&hall)
                .iter()
                .map(|desk| desk["zone"].as_str().expect("a zone"))
                .collect();
            assert_eq!(zones, used);
        }
    }

    #[test]
    fn it_closes_on_real_dates() {
        for closure in space(2027)["closures"].as_array().expect("closures") {
            let date = closure["date"].as_str().expect("a date");
            assert!(date.parse::<jiff::civil::Date>().is_ok(), "{date}");
        }
    }
}
