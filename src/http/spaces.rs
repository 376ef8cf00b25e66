//! Spaces, what is free in them, and what changes in them.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt};
use serde_json::json;

use super::{
    App,
    answer::Answer,
    extract::{Anyone, Given, PageOf, Parameters, PathText, Plain, Query, bad_query},
    problem::{Code, Problem},
    wire::{
        ListBody,
        booking::{AvailabilityBody, show_change},
        space::{SpaceBody, SpaceSummary, parse_minute},
    },
};
use crate::{
    booking::{calendar::DAY_MINUTES, calendar::LocalDate, ids::SpaceId, text::Slug},
    limits::FILTER_FEATURES_MAX,
    service::{availability::Wanted, events::Item},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Spaces
///
/// Oldest first.
#[utoipa::path(get, path = "/api/v1/spaces", tag = "spaces", security((), ("bearer" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 if left out", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of spaces", body = ListBody<SpaceSummary>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Anyone,
    query: Query<PageOf<SpaceId>>,
) -> Result<Answer<ListBody<SpaceSummary>>, Problem> {
    let seen = app
        .service
        .spaces(query.consistency, query.value.cursor, query.value.limit)
        .await?;
    Ok(Answer::ok(seen, |page| ListBody {
        items: page.items.iter().map(SpaceSummary::show).collect(),
        next_cursor: page.next.map(|next| next.to_string()),
    }))
}

/// A space
///
/// The whole of it: halls, zones, desks, hours, rules.
#[utoipa::path(get, path = "/api/v1/spaces/{space}", tag = "spaces", security((), ("bearer" = [])),
    params(("space" = String, Path, description = "Its id or slug")),
    responses((status = 200, description = "The space", body = SpaceBody)))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    _: Anyone,
    PathText(space): PathText,
    query: Query<Plain>,
) -> Result<Answer<SpaceBody>, Problem> {
    let seen = app.service.space(query.consistency, &space).await?;
    Ok(Answer::ok(seen, |space| SpaceBody::show(&space)))
}

/// What is free
///
/// Desks of a space with a free slot on a local date, and which slots those are. Slots that have started are left out.
#[utoipa::path(get, path = "/api/v1/spaces/{space}/availability", tag = "spaces", security((), ("bearer" = [])),
    params(
        ("space" = String, Path, description = "Its id or slug"),
        ("date" = String, Query, description = "The local date, `YYYY-MM-DD`, from 1970 on", format = Date),
        ("from" = Option<String>, Query, description = "Only slots that start at this local time or later, `HH:MM`", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"),
        ("to" = Option<String>, Query, description = "Only slots that end by this local time, `HH:MM` up to `24:00`", pattern = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"),
        ("hall" = Option<String>, Query, description = "Only this hall, by id or name", min_length = 1),
        ("zone" = Option<String>, Query, description = "Only this zone, by id, name or kind", min_length = 1),
        ("feature" = Option<Vec<String>>, Query, description = "Only desks with this feature; may be repeated"),
    ),
    responses((status = 200, description = "What is free", body = AvailabilityBody)))]
pub(super) async fn availability(
    State(app): State<Arc<App>>,
    _: Anyone,
    PathText(space): PathText,
    query: Query<Wanted>,
) -> Result<Answer<AvailabilityBody>, Problem> {
    let seen = app
        .service
        .availability(query.consistency, &space, &query.value)
        .await?;
    Ok(Answer::ok(seen, |free| {
        AvailabilityBody::show(&free, query.value.date.to_string())
    }))
}

impl Parameters for Wanted {
    const NAMES: &'static [(&'static str, bool)] = &[
        ("date", false),
        ("from", false),
        ("to", false),
        ("hall", false),
        ("zone", false),
        ("feature", true),
    ];

    fn take(given: &mut Given) -> Result<Self, Problem> {
        let date = given
            .one("date")
            .ok_or_else(|| bad_query("date", "it is needed"))?;
        let date: LocalDate = date
            .parse()
            .map_err(|_| bad_query("date", "it must be a date from 1970-01-01 on, YYYY-MM-DD"))?;
        let mut minute = |name: &str, default: u16| match given.one(name) {
            None => Ok(default),
            Some(text) => {
                parse_minute(&text).ok_or_else(|| bad_query(name, "it must be a local time, HH:MM"))
            }
        };
        let (from_minute, to_minute) = (minute("from", 0)?, minute("to", DAY_MINUTES)?);
        if from_minute >= to_minute {
            return Err(bad_query("to", "it must be later than from"));
        }
        let mut name = |name: &str| match given.one(name) {
            Some(text) if text.is_empty() || text.len() > 128 => {
                Err(bad_query(name, "it must be a name or an id"))
            }
            text => Ok(text),
        };
        let (hall, zone) = (name("hall")?, name("zone")?);
        let features = given.all("feature");
        if features.len() > FILTER_FEATURES_MAX {
            return Err(bad_query("feature", "there are too many of them"));
        }
        let features: Result<BTreeSet<Slug>, _> =
            features.iter().map(|feature| feature.parse()).collect();
        let features =
            features.map_err(|_| bad_query("feature", "it must be the name of a feature"))?;
        Ok(Self {
            date,
            from_minute,
            to_minute,
            hall,
            zone,
            features,
        })
    }
}

/// From which index an event stream goes on.
#[derive(Debug)]
pub(super) struct From {
    after: Option<u64>,
}

impl Parameters for From {
    const NAMES: &'static [(&'static str, bool)] = &[("after", false)];

    fn take(given: &mut Given) -> Result<Self, Problem> {
        Ok(Self {
            after: given.number("after", 0..=u64::MAX)?,
        })
    }
}

/// Live changes
///
/// A stream of server-sent events. The first is `ready` (or `reset`: look at everything again); each `change` after it
/// holds all that one log entry changed, and its `id` is the log index. `Last-Event-ID` resumes without a gap.
#[utoipa::path(get, path = "/api/v1/spaces/{space}/events", tag = "spaces", security((), ("bearer" = [])),
    params(
        ("space" = String, Path, description = "Its id or slug"),
        ("after" = Option<u64>, Query, description = "The log index after which to begin; `Last-Event-ID` goes before it"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The id of the last event that was seen"),
    ),
    responses((status = 200, description = "The stream", body = String, content_type = "text/event-stream")))]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    _: Anyone,
    PathText(space): PathText,
    headers: HeaderMap,
    query: Query<From>,
) -> Result<Response, Problem> {
    let after = last_event_id(&headers)?.or(query.value.after);
    let subscription = app.service.follow(&space, after).await?;
    let zone = subscription.time_zone.clone();
    let stream = subscription
        .items()
        .map(move |item| Ok::<Event, Infallible>(show_item(&item, &zone)));
    let silence = Duration::from_millis(app.service.limits().event_keep_alive_ms);
    Ok(sse(stream, silence))
}

fn sse(
    stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
    silence: Duration,
) -> Response {
    Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(silence).text("still here"))
        .into_response()
}

fn show_item(item: &Item, zone: &crate::booking::text::TimeZoneName) -> Event {
    let (name, index, data) = match item {
        Item::Ready { index } => ("ready", *index, json!({"index": index})),
        Item::Reset { index } => ("reset", *index, json!({"index": index})),
        Item::Change(change) => ("change", change.index, show_change(change, zone)),
    };
    // JSON on one line: it holds no line break that an event could not carry.
    Event::default()
        .event(name)
        .id(index.to_string())
        .data(data.to_string())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or_else(|| {
            Problem::new(
                Code::InvalidHeader,
                "Last-Event-ID must be a log index: a whole number",
            )
        })
}
