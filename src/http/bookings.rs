//! Bookings.

use std::sync::Arc;

use axum::{Extension, extract::State, http::HeaderMap};

use super::{
    App,
    answer::Answer,
    extract::{
        Given, Json, NoBody, PageOf, Parameters, PathText, Plain, Query, SignedIn, bad_query,
        id_in_path, if_match,
    },
    problem::Problem,
    wire::{
        ListBody,
        booking::{BookingBody, BookingChange, BookingRequest, parse_status},
    },
};
use crate::{
    booking::{ids::BookingId, reservation::BookingStatus},
    service::{
        Context, Seen,
        bookings::{Listing, Shown},
    },
};

/// Book a desk
///
/// One slot, or several that follow each other. Of all who want the same desk at the same time, exactly one gets it.
#[utoipa::path(post, path = "/api/v1/bookings", tag = "bookings", request_body = BookingRequest, responses(
    (status = 201, description = "The booking", body = BookingBody),
    (status = 403, description = "`forbidden`: only administrators book for others"),
    (status = 404, description = "`not_found`: there is no such desk"),
    (status = 409, description = "`slot_taken` with `alternatives`, `user_already_booked`, `quota_exceeded`, `desk_inactive`, `space_closed`"),
))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    SignedIn(caller): SignedIn,
    request: Json<BookingRequest>,
) -> Result<Answer<BookingBody>, Problem> {
    let wanted = request.value.parse()?;
    let seen = app
        .service
        .book(&context, &caller, &request.write, wanted)
        .await?;
    Ok(
        answer(Answer::created(seen, |shown| BookingBody::show(&shown)))
            .at(|body| format!("/api/v1/bookings/{}", body.id)),
    )
}

/// My bookings
///
/// Newest first. With a status a page may hold fewer than `limit`, even none, though more follow: go by `next_cursor`.
#[utoipa::path(get, path = "/api/v1/bookings", tag = "bookings",
    params(
        ("status" = Option<String>, Query, description = "`active`, `past` or `cancelled`; all if left out", pattern = "^(active|past|cancelled)$"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100, 50 if left out", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of bookings", body = ListBody<BookingBody>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    query: Query<Listing>,
) -> Result<Answer<ListBody<BookingBody>>, Problem> {
    let seen = app
        .service
        .bookings(&caller, query.consistency, query.value)
        .await?;
    Ok(Answer::ok(seen, |(items, next)| ListBody {
        items: items.iter().map(BookingBody::show).collect(),
        next_cursor: next.map(|next| next.to_string()),
    }))
}

impl Parameters for Listing {
    const NAMES: &'static [(&'static str, bool)] =
        &[("status", false), ("cursor", false), ("limit", false)];

    fn take(given: &mut Given) -> Result<Self, Problem> {
        let status: Option<BookingStatus> = match given.one("status") {
            None => None,
            Some(text) => Some(
                parse_status(&text)
                    .ok_or_else(|| bad_query("status", "it is active, past or cancelled"))?,
            ),
        };
        let PageOf { cursor, limit } = PageOf::<BookingId>::take(given)?;
        Ok(Self {
            status,
            before: cursor,
            limit,
        })
    }
}

/// A booking
#[utoipa::path(get, path = "/api/v1/bookings/{id}", tag = "bookings",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The booking", body = BookingBody)))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    PathText(id): PathText,
    query: Query<Plain>,
) -> Result<Answer<BookingBody>, Problem> {
    let id = id_in_path(&id, "booking")?;
    let seen = app.service.booking(&caller, query.consistency, id).await?;
    Ok(shown(seen))
}

/// Move a booking
///
/// To another time, another desk, or both, in one step: the old place is given up only if the new one is had.
#[utoipa::path(patch, path = "/api/v1/bookings/{id}", tag = "bookings", request_body = BookingChange,
    params(
        ("id" = String, Path, description = "Its id"),
        ("If-Match" = Option<String>, Header, description = "Only if the booking still has this `ETag`", min_length = 1, pattern = r#"^(\*|(W/)?"[^"]*")$"#),
    ),
    responses(
        (status = 200, description = "The booking as it is now", body = BookingBody),
        (status = 409, description = "As for a new booking; `already_started`, `booking_cancelled`"),
        (status = 412, description = "`version_mismatch`"),
))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    SignedIn(caller): SignedIn,
    PathText(id): PathText,
    headers: HeaderMap,
    request: Json<BookingChange>,
) -> Result<Answer<BookingBody>, Problem> {
    let id = id_in_path(&id, "booking")?;
    let wanted = request.value.parse(id, if_match(&headers)?)?;
    let seen = app
        .service
        .move_booking(&context, &caller, &request.write, wanted)
        .await?;
    Ok(shown(seen))
}

/// Cancel a booking
///
/// Possible until its first slot starts. Cancelling a cancelled booking changes nothing.
#[utoipa::path(post, path = "/api/v1/bookings/{id}/cancel", tag = "bookings",
    params(
        ("id" = String, Path, description = "Its id"),
        ("If-Match" = Option<String>, Header, description = "Only if the booking still has this `ETag`", min_length = 1, pattern = r#"^(\*|(W/)?"[^"]*")$"#),
    ),
    responses(
        (status = 200, description = "The booking as it is now", body = BookingBody),
        (status = 409, description = "`already_started`"),
        (status = 412, description = "`version_mismatch`"),
))]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Context>,
    SignedIn(caller): SignedIn,
    PathText(id): PathText,
    headers: HeaderMap,
    request: NoBody,
) -> Result<Answer<BookingBody>, Problem> {
    let id = id_in_path(&id, "booking")?;
    let seen = app
        .service
        .cancel(&context, &caller, &request.write, id, if_match(&headers)?)
        .await?;
    Ok(shown(seen))
}

fn shown(seen: Seen<Shown>) -> Answer<BookingBody> {
    answer(Answer::ok(seen, |shown| BookingBody::show(&shown)))
}

fn answer(answer: Answer<BookingBody>) -> Answer<BookingBody> {
    answer.version(|body| body.version)
}
