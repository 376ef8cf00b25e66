//! Every decoder, and examples of what it decodes. Those of the two packages below stand in their own `fuzzing.rs`.

use std::path::Path;
use std::sync::OnceLock;

use axum::http::{HeaderMap, HeaderValue, header};
use mesto::booking::calendar::LocalDate;
use mesto::booking::command::Envelope;
use mesto::booking::ids::{BookingId, DeskId, SpaceId, UserId};
use mesto::booking::text::{DisplayName, Email, Label, Name, Slug, TimeZoneName};
use mesto::booking::{Instant, MemoryStore, Stamp, apply, decode_reply};
use mesto::config::{Address, Config, Secret};
use mesto::http::extract;
use mesto::http::wire::account::{Credentials, NewUser, PasswordChange, Profile};
use mesto::http::wire::booking::{BookingChange, BookingRequest, ImportRequest};
use mesto::http::wire::space::SpaceDocument;
use mesto::http::wire::{parse_instant, show_instant, show_utc};
use mesto::service::tokens::{self, Claims, RefreshToken};
use serde::de::DeserializeOwned;

use crate::Target;

const GOLDEN: &str = include_str!("../../src/booking/tests/golden/booking.txt");
const CONFIGURATION: &str = include_str!("../../cluster.toml");
const SECRET: &[u8] = b"a secret of thirty-two bytes, ok";
const NOW_S: u64 = 1_800_000_000;

const OWN: [(&str, Target); 6] = [
    ("command", command),
    ("apply", apply_anything),
    ("request_body", request_body),
    ("text", text),
    ("access_token", access_token),
    ("configuration", configuration),
];

/// Every target, by name.
pub(crate) fn all() -> Vec<(&'static str, Target)> {
    let storage = mesto_storage::fuzzing::TARGETS;
    let raft = mesto_raft::fuzzing::TARGETS;
    storage.into_iter().chain(raft).chain(OWN).collect()
}

/// What a target is begun with.
pub(crate) fn examples(name: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match name {
        "command" | "apply" => golden("command."),
        "request_body" => bodies(),
        "text" => texts(&[
            "2026-03-02T09:00:00+03:00",
            "2026-12-31T23:59:59Z",
            "2026-01-01",
            "bkg_0000000002000",
            "usr_0000000002000",
            "anna.ivanova+desk@example.com",
            "standing-desk",
            "Europe/Moscow",
            "\"v12\"",
            "W/\"v1\"",
            "Анна",
            "24:00",
        ]),
        "access_token" => {
            let claims = Claims::new("usr_1".to_owned(), "ses_1".to_owned(), NOW_S, 900);
            let token = tokens::sign(&claims, "key_0000000002000", SECRET).unwrap_or_default();
            vec![token.into_bytes(), vec![b'A'; 43]]
        }
        "configuration" => vec![
            CONFIGURATION.as_bytes().to_vec(),
            b"[[nodes]]\nid = 1\nhttp = \"h:1\"\npeer = \"h:2\"\ndata = \"d\"\n".to_vec(),
        ],
        _ => {
            let storage = mesto_storage::fuzzing::examples(name);
            if storage.is_empty() {
                mesto_raft::fuzzing::examples(name)
            } else {
                storage
            }
        }
    }
}

/// The bytes of the golden file whose names begin with `prefix`.
fn golden(prefix: &str) -> Vec<Vec<u8>> {
    let lines = GOLDEN.lines().filter(|line| line.starts_with(prefix));
    let hexadecimal = lines.filter_map(|line| line.split_whitespace().nth(1));
    hexadecimal
        .map(|digits| {
            let pairs = digits.as_bytes().chunks_exact(2);
            pairs
                .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect()
        })
        .collect()
}

fn bodies() -> Vec<Vec<u8>> {
    let bodies = [
        r#"{"email":"anna@example.com","password":"correct horse","display_name":"Anna"}"#,
        r#"{"desk":"dsk_0000000002000","starts_at":"2026-03-02T09:00:00+03:00","ends_at":null,"user":null}"#,
        r#"{"space":"nevsky","bookings":[{"user":"anna@example.com","desk":"dsk_0000000002000","starts_at":"2026-03-02T09:00:00Z"}]}"#,
        r#"{"current_password":"correct horse","new_password":"battery staple"}"#,
        r#"{"slug":"nevsky","name":"N","time_zone":"Europe/Moscow","slot_minutes":60,"open":true,
            "opening_hours":{"mon":[["08:00","12:00"],["13:00","24:00"]]},
            "closures":[{"date":"2026-01-01","reason":"New Year"}],
            "rules":{"minimum_notice_minutes":0,"days_ahead":30,"longest_slots":4,"open_bookings_per_user":2,"hours_per_week":9},
            "halls":[{"name":"H","plan":{"width":10,"height":10,"walls":[{"x1":0,"y1":0,"x2":9,"y2":9}],
            "labels":[{"x":1,"y":1,"text":"w"}]},"zones":[{"name":"Q","kind":"quiet"}],
            "desks":[{"label":"A-1","x":1,"y":2,"rotation":90,"zone":"Q","features":["monitor"],"active":true}]}]}"#,
    ];
    bodies.iter().map(|body| body.as_bytes().to_vec()).collect()
}

/// A command in its envelope: what decodes comes back the same.
fn command(bytes: &[u8]) -> Result<(), String> {
    let Ok(envelope) = Envelope::decode(bytes) else {
        return Ok(());
    };
    let encoded = envelope.encode();
    let again = Envelope::decode(&encoded).map_err(|error| error.to_string())?;
    same(&encoded, &again.encode())
}

/// A state with some history: the golden commands, in their order.
fn world() -> &'static MemoryStore {
    static WORLD: OnceLock<MemoryStore> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut store = MemoryStore::new();
        for (index, command) in (1..).zip(golden("command.")) {
            apply(&mut store, stamp(index), &command);
        }
        store
    })
}

fn stamp(index: u64) -> Stamp {
    Stamp {
        index,
        now: Instant::from_ms(1_700_000_000_000 + index),
    }
}

/// Whatever is in the log: applied twice to the same state it gives the same answer and the same state.
fn apply_anything(bytes: &[u8]) -> Result<(), String> {
    let once = || {
        let mut store = world().clone();
        let reply = apply(&mut store, stamp(1_000), bytes);
        let state: Vec<(Vec<u8>, Vec<u8>)> = store
            .iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        (reply, state)
    };
    let first = once();
    decode_reply(&first.0).map_err(|error| format!("its reply cannot be read: {error}"))?;
    same(&first, &once())
}

/// The JSON of each request.
fn request_body(bytes: &[u8]) -> Result<(), String> {
    fn read<T: DeserializeOwned>(bytes: &[u8], parse: impl FnOnce(T)) {
        if let Ok(document) = serde_json::from_slice(bytes) {
            parse(document);
        }
    }
    read(bytes, |body: SpaceDocument| drop(body.parse()));
    read(bytes, |body: BookingRequest| drop(body.parse()));
    read(bytes, |body: BookingChange| {
        drop(body.parse(BookingId::from_number(7), Some(1)));
    });
    read(bytes, |body: ImportRequest| drop(body.parse()));
    read(bytes, |body: NewUser| drop(body.parse()));
    read(bytes, |body: Credentials| drop(body.parse()));
    read(bytes, |body: Profile| drop(body.parse()));
    read(bytes, |body: PasswordChange| drop(body.parse()));
    Ok(())
}

/// What stands in paths, queries, headers and fields.
fn text(bytes: &[u8]) -> Result<(), String> {
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, value);
        drop(extract::if_match(&headers));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Ok(());
    };
    if let Ok(instant) = parse_instant(text) {
        same(&Ok(instant), &parse_instant(&show_utc(instant)))?;
        if let Ok(zone) = "Europe/Moscow".parse() {
            same(&Ok(instant), &parse_instant(&show_instant(instant, &zone)))?;
        }
    }
    round_trip::<BookingId>(text)?;
    round_trip::<UserId>(text)?;
    round_trip::<DeskId>(text)?;
    round_trip::<SpaceId>(text)?;
    round_trip::<LocalDate>(text)?;
    round_trip::<Email>(text)?;
    round_trip::<Slug>(text)?;
    round_trip::<Name>(text)?;
    round_trip::<Label>(text)?;
    round_trip::<DisplayName>(text)?;
    round_trip::<TimeZoneName>(text)?;
    round_trip::<Address>(text)?;
    if let Some(token) = RefreshToken::parse(text) {
        same(&text.to_owned(), &token.reveal())?;
    }
    Ok(())
}

/// What parses is shown as something that parses to the same.
fn round_trip<T: std::str::FromStr + std::fmt::Display>(text: &str) -> Result<(), String> {
    let Ok(value) = text.parse::<T>() else {
        return Ok(());
    };
    let shown = value.to_string();
    let again: T = shown
        .parse()
        .map_err(|_| format!("{shown:?} does not parse again"))?;
    same(&shown, &again.to_string())
}

/// Nothing but what was signed is believed.
fn access_token(bytes: &[u8]) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Ok(());
    };
    drop(tokens::key_id(text));
    let Ok(claims) = tokens::verify(text, SECRET, NOW_S) else {
        return Ok(());
    };
    let ours = Claims::new("usr_1".to_owned(), "ses_1".to_owned(), NOW_S, 900);
    same(&format!("{ours:?}"), &format!("{claims:?}"))
}

fn configuration(bytes: &[u8]) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Ok(());
    };
    if let Ok(config) = Config::parse(text, "cluster.toml", Path::new(".")) {
        drop(config.warnings());
        let _limits = config.limits();
    }
    drop(Secret::new(text, "a file"));
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(one: &T, other: &T) -> Result<(), String> {
    if one == other {
        Ok(())
    } else {
        Err(format!("{one:?} came back as {other:?}"))
    }
}
