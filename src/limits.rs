//! Every limit of the service and of HTTP, with its unit last in its name.
//!
//! [`Limits`] holds what an operator may set; the constants below it are part of the contract with clients and are the
//! same everywhere. Limits of the domain itself (how many desks a hall has, how long a name may be) live with the
//! domain; those of the log and the peers live in their packages.

use serde::{Deserialize, Serialize};

/// What an operator may set. Every field has a default that suits a coworking of some hundred members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests that are worked on at once; more are refused at once with `overloaded`.
    pub requests_in_flight: usize,
    /// Open connections of clients; more wait in the listen queue of the operating system.
    pub connections: usize,
    /// The time a request may take as a whole, its body included.
    pub request_ms: u64,
    /// The time a connection may take to send the header of a request, or stay idle between two.
    pub header_read_ms: u64,
    /// The time that a write waits for a leader and its decision.
    pub write_ms: u64,
    /// The time that a linearizable read waits for its barrier.
    pub read_ms: u64,
    /// The time that `Mesto-Min-Index` may make a request wait.
    pub min_index_wait_ms: u64,
    /// The life of an access token.
    pub access_token_s: u64,
    /// The life of a session whose refresh token is not used.
    pub refresh_token_s: u64,
    /// The longest body of a request.
    pub body_bytes: usize,
    /// The longest body of a page of imported bookings, or of a whole space.
    pub page_body_bytes: usize,
    /// Passwords that are hashed at once; 0 stands for the number of cores.
    pub password_hashes: usize,
    /// Requests that may wait for a password to be hashed; more are refused at once.
    pub password_queue: usize,
    /// The time that a request may wait for its turn to have a password hashed.
    pub password_wait_ms: u64,
    /// Failed sign-ins of one account within the window before it is refused.
    pub failed_sign_ins_per_account: u32,
    /// Failed sign-ins from one address within the window before it is refused.
    pub failed_sign_ins_per_address: u32,
    /// The window in which failed sign-ins are counted.
    pub failed_sign_ins_window_ms: u64,
    /// Open event streams.
    pub event_streams: usize,
    /// The silence after which an event stream gets a comment, so that proxies keep it open.
    pub event_keep_alive_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_in_flight: 1_024,
            connections: 4_096,
            request_ms: 30_000,
            header_read_ms: 30_000,
            write_ms: 5_000,
            read_ms: 3_000,
            min_index_wait_ms: 5_000,
            access_token_s: 15 * 60,
            refresh_token_s: 30 * 24 * 60 * 60,
            body_bytes: 64 * 1024,
            page_body_bytes: 1024 * 1024,
            password_hashes: 0,
            password_queue: 512,
            password_wait_ms: 20_000,
            failed_sign_ins_per_account: 10,
            failed_sign_ins_per_address: 300,
            failed_sign_ins_window_ms: 15 * 60 * 1_000,
            event_streams: 1_024,
            event_keep_alive_ms: 15_000,
        }
    }
}

/// The longest header of a request as a whole, in bytes.
pub const HEADER_BYTES: usize = 32 * 1024;
/// The most lines of a request's header.
pub const HEADERS_MAX: usize = 64;
/// The longest path and query, in bytes.
pub const URI_BYTES: usize = 4 * 1024;
/// Requests that wait for an index at once, beside those that are worked on.
pub const INDEX_WAITS_MAX: usize = 256;
/// How many log entries ahead an index may be that is waited for: more than a node applies in the time.
pub const INDEX_AHEAD_MAX: u64 = 100_000;
/// The longest `X-Request-Id`, in bytes.
pub const REQUEST_ID_BYTES: usize = 128;
/// The longest `Idempotency-Key`, in bytes.
pub const IDEMPOTENCY_KEY_BYTES: usize = 255;
/// The longest access token that is looked at, in bytes.
pub const TOKEN_BYTES: usize = 2 * 1024;
/// The most items of a page, and the default.
pub const PAGE_ITEMS_MAX: usize = 100;
/// The number of items of a page where none is asked for.
pub const PAGE_ITEMS_DEFAULT: usize = 50;
/// The most features that an availability query may ask for.
pub const FILTER_FEATURES_MAX: usize = 16;
/// The shortest password, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// The longest password, in characters.
pub const PASSWORD_CHARS_MAX: usize = 128;
/// How often a proposer recomputes a placement whose schedule has changed meanwhile.
pub const SCHEDULE_RETRIES: usize = 4;
/// Accounts, and addresses, whose failed sign-ins are remembered at once.
pub const ATTEMPT_ENTRIES: usize = 16 * 1024;
/// Events read from the state at once.
pub const EVENT_PAGE_ITEMS: usize = 256;
/// Events that a slow reader of a stream may be behind before it is sent back to the state.
pub const EVENT_BACKLOG_ITEMS: usize = 1_024;
/// Alternatives that come with `slot_taken`.
pub const ALTERNATIVES_MAX: usize = 5;
/// Bookings of one account in its export.
pub const EXPORT_BOOKINGS_MAX: usize = 10_000;
