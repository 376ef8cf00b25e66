//! Every failure that a client can see, in one table, and the one place that maps failures to it.
//!
//! A failure is an RFC 9457 problem. Which status, title and retry advice belong to a code is said in the table below
//! and nowhere else; the page `/api/docs/problems` and the OpenAPI document are made from the same table. Handlers
//! return a [`Problem`]; the shell around them adds the request id and writes the body, so that failures of the
//! framework itself come out in the same shape.
//!
//! `outcome` is about the request as a whole: `not_applied` promises that nothing happened, `unknown` promises nothing,
//! and asking again with the same key is the way to find out. A code says `unknown` by itself where nobody can say; any
//! other does where the failure came after something had taken effect. A read changes nothing, whatever becomes of it.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::shell::AnswerIndex;
use crate::{
    replica::{ControlError, ProposeError, ReadError},
    service::{Failure, FieldError},
};

/// Where the codes are explained; a problem's `type` is this and `#code`.
pub const PROBLEMS_PATH: &str = "/api/docs/problems";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $retryable:literal, $title:literal;)*) => {
        /// The stable code of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code there is, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as clients see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status that it comes with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// Whether the same request may succeed later without being changed.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }

            /// One sentence for people, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    // What is wrong with the request as such.
    /// The body is not JSON.
    MalformedJson = "malformed_json", BAD_REQUEST, false, "The body is not valid JSON";
    /// The query is not what the call takes.
    InvalidQuery = "invalid_query", BAD_REQUEST, false, "The query string is not valid";
    /// A header is not what it should be.
    InvalidHeader = "invalid_header", BAD_REQUEST, false, "A header is not valid";
    /// A cursor that this API did not give.
    InvalidCursor = "invalid_cursor", BAD_REQUEST, false, "The cursor is not valid";
    /// A request that HTTP does not allow.
    BadRequest = "bad_request", BAD_REQUEST, false, "The request is not valid";
    /// The fields of the body are not what the call takes.
    InvalidFields = "invalid_fields", UNPROCESSABLE_ENTITY, false, "Some fields are not valid";
    /// No or a bad access token.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, false, "A valid access token is needed";
    /// An access token whose time is over.
    TokenExpired = "token_expired", UNAUTHORIZED, false, "The access token has expired";
    /// Wrong e-mail or password.
    BadCredentials = "bad_credentials", UNAUTHORIZED, false, "The e-mail or the password is wrong";
    /// A refresh token that opens nothing.
    SessionUnknown = "session_unknown", UNAUTHORIZED, false, "The refresh token is not valid any more";
    /// A refresh token that was exchanged before.
    RefreshTokenReused = "refresh_token_reused", UNAUTHORIZED, false, "The refresh token was used before, so its session is closed";
    /// Not allowed for this user.
    Forbidden = "forbidden", FORBIDDEN, false, "This is not allowed";
    /// No such thing, or not one that this user may know of.
    NotFound = "not_found", NOT_FOUND, false, "There is no such thing";
    /// The path does not take this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, false, "This path does not take this method";
    /// The client was too slow.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, true, "The request took too long to arrive";
    /// The body is too long.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, false, "The body is too long";
    /// The path and query are too long.
    UriTooLong = "uri_too_long", URI_TOO_LONG, false, "The address is too long";
    /// Not JSON.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, false, "The body must be application/json";
    /// The header is too long.
    HeaderTooLarge = "header_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, false, "The header is too long";

    // What the booking rules say no to, in their order of precedence.
    /// The space takes no bookings at all.
    SpaceClosed = "space_closed", CONFLICT, false, "The space takes no bookings at present";
    /// The desk is out of service.
    DeskInactive = "desk_inactive", CONFLICT, false, "The desk is out of service";
    /// The schedule kept changing while it was read.
    StaleSchedule = "stale_schedule", CONFLICT, true, "The schedule of the space has just changed";
    /// Not a whole number of slots.
    OffGrid = "off_grid", UNPROCESSABLE_ENTITY, false, "The times do not lie on the grid of slots";
    /// Outside the opening hours.
    OutsideOpeningHours = "outside_opening_hours", UNPROCESSABLE_ENTITY, false, "The space is not open at that time";
    /// On a closure.
    Closed = "closed", UNPROCESSABLE_ENTITY, false, "The space is closed on that date";
    /// It has started.
    InThePast = "in_the_past", UNPROCESSABLE_ENTITY, false, "That time has passed";
    /// Less than the minimum notice.
    TooShortNotice = "too_short_notice", UNPROCESSABLE_ENTITY, false, "The space wants more notice";
    /// Beyond the booking window.
    TooFarAhead = "too_far_ahead", UNPROCESSABLE_ENTITY, false, "That is further ahead than the space takes bookings";
    /// More slots than a booking may have.
    TooLong = "too_long", UNPROCESSABLE_ENTITY, false, "A booking may not be that long";
    /// A limit of the user is used up.
    QuotaExceeded = "quota_exceeded", CONFLICT, false, "The limit of bookings is used up";
    /// Someone has the desk.
    SlotTaken = "slot_taken", CONFLICT, false, "The desk is taken at that time";
    /// The user sits elsewhere.
    UserAlreadyBooked = "user_already_booked", CONFLICT, false, "There is another booking at that time";
    /// It cannot be changed any more.
    AlreadyStarted = "already_started", CONFLICT, false, "The booking has already started";
    /// It was cancelled before.
    BookingCancelled = "booking_cancelled", CONFLICT, false, "The booking was cancelled";
    /// Someone changed it meanwhile.
    VersionMismatch = "version_mismatch", PRECONDITION_FAILED, false, "It has been changed meanwhile";

    // What accounts and the layout of spaces say no to.
    /// The e-mail has an account.
    EmailTaken = "email_taken", CONFLICT, false, "There is an account with this e-mail";
    /// The slug has a space.
    SlugTaken = "slug_taken", CONFLICT, false, "There is a space with this slug";
    /// The name has a hall.
    NameTaken = "name_taken", CONFLICT, false, "Another hall of the space has this name";
    /// The label has a desk.
    LabelTaken = "label_taken", CONFLICT, false, "Another desk of the hall has this label";
    /// The zone has desks.
    ZoneInUse = "zone_in_use", CONFLICT, false, "The zone still has desks";
    /// As many as the store takes of this kind.
    Full = "full", CONFLICT, false, "There are as many of these as there may be";
    /// The key was used for something else.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, false, "This Idempotency-Key was used for another request";
    /// The command does not hold together.
    BadCommand = "bad_command", UNPROCESSABLE_ENTITY, false, "The request contradicts itself";

    // The cluster, for operators.
    /// The cluster exists.
    AlreadyInitialized = "already_initialized", CONFLICT, false, "The cluster is already initialized";
    /// The cluster does not exist.
    NotInitialized = "not_initialized", SERVICE_UNAVAILABLE, true, "The cluster is not initialized yet";
    /// The cluster cannot do this now.
    ClusterRefused = "cluster_refused", CONFLICT, false, "The cluster does not do this";

    // What is wrong with us.
    /// Too many failed sign-ins.
    TooManyAttempts = "too_many_attempts", TOO_MANY_REQUESTS, true, "Too many failed sign-ins";
    /// Too much to do.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, true, "The node has too much to do";
    /// Nobody leads.
    NoLeader = "no_leader", SERVICE_UNAVAILABLE, true, "The cluster has no leader at present";
    /// The answer was lost.
    OutcomeUnknown = "outcome_unknown", SERVICE_UNAVAILABLE, true, "It is not known whether the request took effect";
    /// Older than was asked for.
    TooStale = "too_stale", SERVICE_UNAVAILABLE, true, "This node cannot vouch for data that fresh";
    /// The index is not here yet.
    IndexNotReached = "index_not_reached", SERVICE_UNAVAILABLE, true, "This node has not reached the wanted index";
    /// The node cannot read its state.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, true, "The node cannot serve";
    /// It took too long.
    TimedOut = "timed_out", GATEWAY_TIMEOUT, true, "The request took too long";
    /// A defect.
    Internal = "internal", INTERNAL_SERVER_ERROR, true, "Something went wrong on our side";
}

/// Whether a failed request may have changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Certainly nothing happened.
    NotApplied,
    /// Nobody can say.
    Unknown,
}

/// A failure on its way to the client.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    outcome: Outcome,
    retry_after_s: Option<u64>,
    errors: Vec<FieldError>,
    members: Map<String, Value>,
    index: Option<u64>,
}

impl Problem {
    /// A problem of this kind, with a sentence about this occurrence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after_s = match code {
            Code::Overloaded | Code::NoLeader | Code::Unavailable | Code::TooStale => Some(1),
            Code::IndexNotReached | Code::OutcomeUnknown | Code::NotInitialized => Some(1),
            _ => None,
        };
        Self {
            code,
            detail: detail.into(),
            outcome: match code {
                Code::OutcomeUnknown | Code::TimedOut | Code::Internal => Outcome::Unknown,
                _ => Outcome::NotApplied,
            },
            retry_after_s,
            errors: Vec::new(),
            members: Map::new(),
            index: None,
        }
    }

    /// Fields that are not what they should be.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail = errors.first().map_or_else(
            || "some fields are not valid".to_owned(),
            |first| {
                format!(
                    "{}: {}",
                    if first.pointer.is_empty() {
                        "the body"
                    } else {
                        &first.pointer
                    },
                    first.detail
                )
            },
        );
        Self {
            errors,
            ..Self::new(Code::InvalidFields, detail)
        }
    }

    /// One field that is not what it should be; `pointer` is a JSON pointer into the body.
    pub fn field(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError::new(pointer, code, detail)])
    }

    /// Adds a member of its own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Says at which log index the state machine said no.
    #[must_use]
    pub fn at_index(mut self, index: u64) -> Self {
        self.index = (index > 0).then_some(index);
        self
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Says that the request may have taken effect.
    #[must_use]
    pub fn outcome_unknown(mut self) -> Self {
        self.outcome = Outcome::Unknown;
        self
    }

    /// Says that nothing happened, because the request was one that changes nothing.
    #[must_use]
    pub fn of_a_read(mut self) -> Self {
        self.outcome = Outcome::NotApplied;
        self
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The problem that a status of the framework's own stands for.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::new(Code::NotFound, "there is nothing at this path"),
            StatusCode::METHOD_NOT_ALLOWED => Self::new(
                Code::MethodNotAllowed,
                "the Allow header names the methods that this path takes",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(
                Code::PayloadTooLarge,
                "the body is longer than this call takes",
            ),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::new(
                Code::UnsupportedMediaType,
                "send the body as application/json",
            ),
            StatusCode::URI_TOO_LONG => Self::new(
                Code::UriTooLong,
                "the address is longer than this API takes",
            ),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Self::new(
                Code::HeaderTooLarge,
                "the header is longer than this API takes",
            ),
            StatusCode::REQUEST_TIMEOUT => {
                Self::new(Code::RequestTimeout, "the request took too long to arrive")
            }
            status if status.is_client_error() => {
                Self::new(Code::BadRequest, "the request is not valid")
            }
            _ => Self::new(Code::Internal, "the request could not be worked on"),
        }
    }

    /// The answer, whole. The shell calls this; it alone knows the request id.
    pub(super) fn render(&self, request_id: &str) -> Response<Body> {
        let mut body = self.members.clone();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put(
            "type",
            format!("{PROBLEMS_PATH}#{}", self.code.as_str()).into(),
        );
        put("title", self.code.title().into());
        put("status", self.code.status().as_u16().into());
        put("detail", self.detail.clone().into());
        put("code", self.code.as_str().into());
        put("request_id", request_id.into());
        put("retryable", self.code.retryable().into());
        put(
            "outcome",
            if self.outcome == Outcome::Unknown {
                "unknown"
            } else {
                "not_applied"
            }
            .into(),
        );
        put(
            "errors",
            self.errors
                .iter()
                .map(FieldError::to_json)
                .collect::<Vec<_>>()
                .into(),
        );
        let mut response = Response::new(Body::from(Value::Object(body).to_string()));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            let challenge = match self.code {
                Code::TokenExpired => {
                    "Bearer realm=\"mesto\", error=\"invalid_token\", error_description=\"expired\""
                }
                _ => "Bearer realm=\"mesto\"",
            };
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        response
    }
}

/// The body is written by the shell, from the problem that travels with the response.
impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.code.status();
        if let Some(index) = self.index {
            response.extensions_mut().insert(AnswerIndex(index));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refused) => super::refusal::problem(&refused),
            Failure::Propose(error) => error.into(),
            Failure::Read(error) => error.into(),
            Failure::Control(error) => error.into(),
            Failure::Fields(errors) => Self::fields(errors),
            Failure::Cursor => Self::new(
                Code::InvalidCursor,
                "the cursor is not one that this API gave",
            ),
            Failure::Unauthenticated => {
                Self::new(Code::Unauthenticated, "sign in and send the access token")
            }
            Failure::TokenExpired => {
                Self::new(Code::TokenExpired, "refresh the session or sign in again")
            }
            Failure::BadCredentials => Self::new(
                Code::BadCredentials,
                "no account has this e-mail and this password",
            ),
            Failure::Forbidden => Self::new(Code::Forbidden, "your role does not allow this"),
            Failure::NotFound(what) => {
                Self::new(Code::NotFound, format!("there is no such {what}"))
            }
            Failure::TooManyAttempts { retry_after_s } => Self::new(
                Code::TooManyAttempts,
                "too many failed sign-ins; wait before the next",
            )
            .retry_after_s(retry_after_s),
            Failure::Busy => Self::new(
                Code::Overloaded,
                "the node works at its limit; come back soon",
            ),
            Failure::After(cause) => after(*cause),
            Failure::Internal(what) => {
                tracing::error!(what, "a request failed for a reason that is a defect");
                Self::new(
                    Code::Internal,
                    "the failure has been logged under this request id",
                )
            }
        }
    }
}

/// What a failure is that came after something had taken effect. The codes of a cluster or node in trouble promise that
/// nothing was changed, so they are not used; what the state machine or a check said is said, only without the promise.
fn after(cause: Failure) -> Problem {
    match cause {
        Failure::Propose(_) | Failure::Read(_) | Failure::Control(_) | Failure::Busy => {
            Problem::new(
                Code::OutcomeUnknown,
                "it took effect, at least in part, but could not be finished or shown; look, or ask again with the \
                 same Idempotency-Key",
            )
        }
        other => Problem::from(other).outcome_unknown(),
    }
}

const NOT_INITIALIZED: &str =
    "this node belongs to no cluster yet; run mesto cluster init, or add the node";

impl From<ProposeError> for Problem {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NoLeader => Self::new(
                Code::NoLeader,
                "no leader was found in time; nothing was changed, ask again",
            ),
            ProposeError::NotInitialized => Self::new(Code::NotInitialized, NOT_INITIALIZED),
            ProposeError::Overloaded => Self::new(
                Code::Overloaded,
                "too many writes wait; nothing was changed, ask again",
            ),
            ProposeError::TooLarge => Self::new(
                Code::PayloadTooLarge,
                "the request is longer than one log entry may be",
            ),
            ProposeError::Unknown => Self::new(
                Code::OutcomeUnknown,
                "the answer was lost on the way; ask again with the same Idempotency-Key",
            ),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoLeader => Self::new(
                Code::NoLeader,
                "no leader confirmed the read in time; consistency=local reads what this node has",
            ),
            ReadError::NotInitialized => Self::new(Code::NotInitialized, NOT_INITIALIZED),
            ReadError::Timeout => Self::new(
                Code::IndexNotReached,
                "this node did not reach the wanted index in time",
            ),
            ReadError::TooStale => Self::new(
                Code::TooStale,
                "the state of this node may be older than max_staleness_ms",
            ),
            ReadError::Unavailable => Self::new(
                Code::Unavailable,
                "this node is stopping or its store has failed",
            ),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::AlreadyInitialized => Self::new(
                Code::AlreadyInitialized,
                "a cluster is initialized only once",
            ),
            ControlError::NotInitialized => Self::new(Code::NotInitialized, NOT_INITIALIZED),
            ControlError::NoLeader => ProposeError::NoLeader.into(),
            ControlError::Refused(why) => Self::new(Code::ClusterRefused, why),
            ControlError::Unknown => Self::new(
                Code::OutcomeUnknown,
                "look at the cluster's status before asking again",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::Refusal;

    #[test]
    fn nothing_is_promised_after_something_took_effect() {
        let internal = || Failure::Internal("a defect");
        for (failure, code, outcome) in [
            (
                ProposeError::NoLeader.into(),
                Code::NoLeader,
                Outcome::NotApplied,
            ),
            (
                ReadError::Timeout.into(),
                Code::IndexNotReached,
                Outcome::NotApplied,
            ),
            (
                ProposeError::Unknown.into(),
                Code::OutcomeUnknown,
                Outcome::Unknown,
            ),
            (internal(), Code::Internal, Outcome::Unknown),
            (internal().after(), Code::Internal, Outcome::Unknown),
            (
                Failure::from(ProposeError::NoLeader).after(),
                Code::OutcomeUnknown,
                Outcome::Unknown,
            ),
            (
                Failure::from(ReadError::Timeout).after().after(),
                Code::OutcomeUnknown,
                Outcome::Unknown,
            ),
            (
                Failure::refused(Refusal::LabelTaken, 7).after(),
                Code::LabelTaken,
                Outcome::Unknown,
            ),
        ] {
            let problem = Problem::from(failure);
            assert_eq!(
                (problem.code, problem.outcome),
                (code, outcome),
                "{problem:?}"
            );
        }
        let read = Problem::from(internal()).of_a_read();
        assert_eq!(read.outcome, Outcome::NotApplied, "a read changes nothing");
    }
}
