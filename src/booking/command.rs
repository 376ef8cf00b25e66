//! What can be asked of the state machine, and by whom.
//!
//! A command holds parsed values only, and everything that apply must not find out for itself:
//! hashes of passwords and tokens, instants computed from local time.

use super::ids::{BookingId, DeskId, HallId, KeyId, SessionId, SpaceId, UserId};
use super::instant::{Instant, Interval};
use super::layout::{DeskDraft, HallDraft, SpaceDetails};
use super::secret::{KeySecret, PasswordHash, TokenHash};
use super::text::{DisplayName, Email};
use super::{account::Role, codec};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most desks in one [`Command::PutDesks`].
pub const MAX_DESKS_PER_COMMAND: usize = 64;
/// The most rows in one [`Command::ImportBookings`].
pub const MAX_IMPORT_ROWS: usize = 500;
/// The longest encoded envelope, in bytes.
pub const MAX_COMMAND_BYTES: usize = 128 * 1024;

/// A command with what makes it safe to send twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The same key gets the same answer, and is applied once.
    pub dedup: DedupKey,
    /// What was asked, as the asker put it: another fingerprint under the same key is refused.
    pub fingerprint: Fingerprint,
    /// Who asks.
    pub actor: Actor,
    /// What is asked.
    pub command: Command,
}

impl Envelope {
    /// The bytes for the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// The bytes aren't exactly one envelope of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Envelope, codec::DecodeError> {
        codec::decode_limited::<_, MAX_COMMAND_BYTES>(bytes)
    }
}

/// What names one intention, however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DedupKey {
    /// From a client's `Idempotency-Key`; remembered for 24 to 48 hours.
    Client([u8; 16]),
    /// Drawn at random by a node, for its own retries; remembered for 10 to 20 minutes.
    Node([u8; 16]),
}

impl DedupKey {
    /// The key of a signed-in user's `Idempotency-Key`. Two users never share one.
    #[must_use]
    pub fn for_user(user: UserId, client_key: &str) -> DedupKey {
        let mut hasher = blake3::Hasher::new_derive_key("mesto 2026 idempotency key of a user");
        hasher.update(&user.number().to_be_bytes());
        hasher.update(client_key.as_bytes());
        DedupKey::Client(first_half(&hasher.finalize()))
    }

    /// The key of an `Idempotency-Key` sent without signing in. `scope` is what the request is
    /// about (the e-mail address of a registration), so that strangers' keys stay apart.
    #[must_use]
    pub fn for_stranger(scope: &str, client_key: &str) -> DedupKey {
        let mut hasher = blake3::Hasher::new_derive_key("mesto 2026 idempotency key of a stranger");
        hasher.update(&(scope.len() as u64).to_be_bytes());
        hasher.update(scope.as_bytes());
        hasher.update(client_key.as_bytes());
        DedupKey::Client(first_half(&hasher.finalize()))
    }

    /// The key of one step of a request that takes several, remembered as long as this one. `step` says which, by
    /// what a retry knows as well.
    #[must_use]
    pub fn for_step(self, step: &[&[u8]]) -> DedupKey {
        let (DedupKey::Client(whole) | DedupKey::Node(whole)) = self;
        let mut hasher = blake3::Hasher::new_derive_key("mesto 2026 idempotency key of a step");
        hasher.update(&whole);
        for part in step {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let half = first_half(&hasher.finalize());
        match self {
            DedupKey::Client(_) => DedupKey::Client(half),
            DedupKey::Node(_) => DedupKey::Node(half),
        }
    }
}

/// 128 bits of a hash over method, path and body of a request.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of these parts, in this order. Where one part ends and the next begins
    /// counts.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Fingerprint {
        let mut hasher = blake3::Hasher::new_derive_key("mesto 2026 request fingerprint");
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Fingerprint(first_half(&hasher.finalize()))
    }

    /// The fingerprint with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Fingerprint {
        Fingerprint(bytes)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may cover a password, which is short: nobody should get to try guesses against it.
        f.write_str("Fingerprint(…)")
    }
}

fn first_half(hash: &blake3::Hash) -> [u8; 16] {
    let (half, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash has 32 bytes");
    *half
}

/// Who asks. What a member may do is looked up in the state, never taken from the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// A signed-in user.
    Member(UserId),
    /// Whoever holds the cluster's own secrets: its command line.
    Operator,
    /// The cluster itself, and a stranger's request that the service layer let in (registering).
    System,
}

/// Where an interval lies on a space's grid, as the proposer worked it out with the time-zone
/// data it has. `schedule_revision` says by which schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The space by whose grid it was placed.
    pub space: SpaceId,
    /// The space's revision then.
    pub schedule_revision: u32,
    /// From when to when.
    pub interval: Interval,
    /// Whether it lies on the grid.
    pub grid: Result<Grid, GridRefusal>,
    /// From when on the interval may be booked: the local midnight that lies the space's
    /// `days_ahead` before the local day in which it starts.
    pub bookable_from: Instant,
    /// The local week (Monday to Monday) in which it starts; at most eight days long.
    pub week: Interval,
}

/// An interval that lies on the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// How many consecutive slots it covers; never 0.
    pub slots: u16,
}

/// Why an interval doesn't lie on the grid (rule 3), in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GridRefusal {
    /// It doesn't begin or end on a slot's edge.
    OffGrid,
    /// It reaches outside the opening hours.
    OutsideOpeningHours,
    /// The space is closed on that date.
    Closed,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Changes nothing but time, which moves on with every entry.
    Noop,
    /// Makes a key that signs access tokens from now on. Operator and system only.
    InstallSigningKey {
        /// The new key's secret.
        secret: KeySecret,
        /// The key that signs now, as far as the proposer knows (`None`: none yet). If another
        /// one does, nothing happens and the answer names that one: several nodes may try at
        /// once to be the first.
        replaces: Option<KeyId>,
    },
    /// Makes an account with the role of a member. System, operator and admins.
    RegisterUser {
        /// Must not be taken.
        email: Email,
        /// What to call the user.
        display_name: Option<DisplayName>,
        /// The password's hash.
        password_hash: PasswordHash,
    },
    /// Changes what a user is called. The user or an admin.
    UpdateUser {
        /// Whose account.
        user: UserId,
        /// What to call the user from now on.
        display_name: Option<DisplayName>,
        /// Refused if the account's version is another by now.
        expected_version: Option<u32>,
    },
    /// Changes a password and closes the user's other sessions. The user or an admin.
    ChangePassword {
        /// Whose.
        user: UserId,
        /// The new password's hash.
        password_hash: PasswordHash,
        /// The version of the credential that the old password was checked against; `None` if
        /// none was (an admin).
        expected_credential: Option<u32>,
        /// A session that stays open.
        keep_session: Option<SessionId>,
    },
    /// Erases an account: personal data, credential and sessions go, upcoming bookings are
    /// cancelled, past ones stay as statistics. The user or an admin. Asking again for an erased
    /// user (admin, operator, system) cancels what a first, bounded, pass left. Remembered answers
    /// to the user's own commands go when they are forgotten, within two days.
    DeleteUser {
        /// Whose.
        user: UserId,
    },
    /// Gives a user another role. Operator and admins.
    SetRole {
        /// Whose, by address.
        email: Email,
        /// From now on.
        role: Role,
    },
    /// Bars a user or lets one in again; barring closes the sessions. Operator and admins.
    SetUserDisabled {
        /// Whose.
        user: UserId,
        /// Barred or not.
        disabled: bool,
    },
    /// Opens a session for a user whose password the service layer has checked. System, or the
    /// user.
    OpenSession {
        /// Whose.
        user: UserId,
        /// The version of the credential that the password was checked against.
        credential_version: u32,
        /// The hash of the session's first refresh token.
        refresh_token_hash: TokenHash,
        /// How long it lasts unless refreshed, at most [`super::MAX_SESSION_TTL_MS`].
        ttl_ms: u64,
    },
    /// Exchanges a refresh token. Showing one that was exchanged before ends the session.
    RotateRefreshToken {
        /// The hash of the token that was shown.
        old: TokenHash,
        /// The hash of the one that takes its place.
        new: TokenHash,
        /// How long the session lasts from now unless refreshed.
        ttl_ms: u64,
    },
    /// Closes a session. Closing one that isn't there is fine. The user or an admin.
    CloseSession {
        /// Which.
        session: SessionId,
    },
    /// Closes all sessions of a user. The user or an admin.
    CloseAllSessions {
        /// Whose.
        user: UserId,
    },
    /// Makes a space or changes one. Operator and admins.
    PutSpace {
        /// The space to change; `None` makes one.
        space: Option<SpaceId>,
        /// Everything an admin sets; what was there before is replaced.
        details: SpaceDetails,
        /// Refused if the space's revision is another by now.
        expected_revision: Option<u32>,
    },
    /// Makes a hall or changes one. Operator and admins.
    PutHall {
        /// Where.
        space: SpaceId,
        /// The hall to change; `None` makes one, whose name no other hall of the space has.
        hall: Option<HallId>,
        /// Everything an admin sets; what was there before is replaced.
        draft: HallDraft,
        /// Refused if the hall's version is another by now.
        expected_version: Option<u32>,
    },
    /// Makes or changes desks of a hall, all or none. Operator and admins.
    PutDesks {
        /// In which hall.
        hall: HallId,
        /// At most [`MAX_DESKS_PER_COMMAND`].
        desks: Vec<DeskDraft>,
    },
    /// Switches a desk on or off; bookings it has stay. Operator and admins.
    SetDeskActive {
        /// Which.
        desk: DeskId,
        /// Whether it can be booked.
        active: bool,
    },
    /// Books a desk. The user, or anyone who may act for all.
    CreateBooking {
        /// For whom; `None` is the actor.
        for_user: Option<UserId>,
        /// Which desk.
        desk: DeskId,
        /// From when to when.
        placement: Placement,
    },
    /// Gives a booking another time, another desk, or both. As [`Self::CreateBooking`].
    MoveBooking {
        /// Which.
        booking: BookingId,
        /// The desk to move to; `None` stays.
        desk: Option<DeskId>,
        /// From when to when.
        placement: Placement,
        /// Refused if the booking's version is another by now.
        expected_version: Option<u32>,
    },
    /// Cancels a booking; cancelling a cancelled one changes nothing. As [`Self::CreateBooking`].
    CancelBooking {
        /// Which.
        booking: BookingId,
        /// Refused if the booking's version is another by now.
        expected_version: Option<u32>,
    },
    /// Brings in many bookings of one space, past ones too: rules 4 and 5 (not started, window
    /// and limits) don't apply, all others do. Rows that are refused are left out. Operator and
    /// admins.
    ImportBookings {
        /// The space by whose grid the rows were placed.
        space: SpaceId,
        /// The space's revision then.
        schedule_revision: u32,
        /// At most [`MAX_IMPORT_ROWS`]; each lies on the grid.
        rows: Vec<ImportRow>,
    },
    /// As [`Self::SetRole`], for whom an id names: an address may get another holder, an id never.
    SetRoleOf {
        /// Whose.
        user: UserId,
        /// From now on.
        role: Role,
    },
}

/// A booking to bring in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRow {
    /// For whom.
    pub user: UserId,
    /// Which desk.
    pub desk: DeskId,
    /// From when to when.
    pub interval: Interval,
    /// How many slots that is.
    pub slots: u16,
}
