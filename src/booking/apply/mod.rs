//! The decision: one synchronous function over the state and a stamped command.
//!
//! ```text
//! bytes ─ decode ─▶ known key? ── yes ─▶ the original answer
//!                       │ no
//!                       ▼
//!            check everything, then write ─▶ answer, remembered under the key
//! ```
//!
//! Invariants:
//! - It reads the store, the stamp and the command, nothing else: no clock, no randomness, no
//!   time-zone data, no configuration. Equal stores and equal entries give equal bytes.
//! - A refused command changes nothing but the memory of its answer; the one exception is a
//!   refresh token shown twice, which closes its session. So handlers check first and write after.
//! - The work of one entry is bounded, housekeeping included.
//! - It never panics on a command, whatever bytes it has. It does panic on a state that can't be
//!   (an unreadable value, a desk booked twice): such a replica must stop.

mod accounts;
mod bookings;
mod caller;
mod events;
mod layout;
mod rules;
mod sessions;

use super::Stamp;
use super::command::{Actor, Command, Envelope};
use super::instant::Instant;
use super::keys;
use super::reply::{Outcome, Refusal, Reply};
use super::store::StoreMut;
use keys::answer::Answer;

/// Housekeeping is done by every entry whose index is a multiple of this.
const SWEEP_EVERY_ENTRIES: u64 = 8;
/// How many forgotten answers of each kind one housekeeping removes: more than can have been
/// added since the last one, so that sweeping catches up.
const SWEPT_ANSWERS: usize = 32;

/// Applies one log entry: a command's bytes in, a reply's bytes out.
///
/// Bytes that aren't a command get a refusal, on every replica the same.
///
/// # Panics
/// The state can't be: see the module's invariants.
pub fn apply(store: &mut dyn StoreMut, stamp: Stamp, command: &[u8]) -> Vec<u8> {
    if stamp.index.is_multiple_of(SWEEP_EVERY_ENTRIES) {
        keys::answer::sweep(store, stamp.now, SWEPT_ANSWERS);
    }
    let reply = match Envelope::decode(command) {
        Ok(envelope) => answer(store, stamp, envelope),
        Err(_) => Reply {
            index: stamp.index,
            replayed: false,
            result: Err(Refusal::BadCommand),
        },
    };
    reply.encode()
}

fn answer(store: &mut dyn StoreMut, stamp: Stamp, envelope: Envelope) -> Reply {
    let Envelope {
        dedup,
        fingerprint,
        actor,
        command,
    } = envelope;
    if let Some(answer) = keys::answer::get(store, dedup, stamp.now) {
        return answer.replay(fingerprint, stamp);
    }
    let remembered = !matches!(command, Command::Noop);
    let mut entry = Entry {
        store,
        stamp,
        actor,
        next_ordinal: 0,
        next_event: 0,
    };
    let result = entry.decide(command);
    if remembered && !matches!(result, Err(Refusal::StaleSchedule { .. })) {
        let answer = Answer {
            fingerprint,
            index: stamp.index,
            result: result.clone(),
        };
        keys::answer::put(store, dedup, stamp.now, &answer);
    }
    Reply {
        index: stamp.index,
        replayed: false,
        result,
    }
}

/// One log entry while it is being applied.
struct Entry<'a> {
    store: &'a mut dyn StoreMut,
    stamp: Stamp,
    actor: Actor,
    next_ordinal: u16,
    next_event: u16,
}

impl Entry<'_> {
    fn now(&self) -> Instant {
        self.stamp.now
    }

    /// The ordinal of the next thing made by this entry; ids of all kinds share the count.
    fn ordinal(&mut self) -> u16 {
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        ordinal
    }

    fn decide(&mut self, command: Command) -> Result<Outcome, Refusal> {
        match command {
            Command::Noop => Ok(Outcome::Done),
            Command::InstallSigningKey { secret, replaces } => {
                self.install_signing_key(secret, replaces)
            }
            Command::RegisterUser {
                email,
                display_name,
                password_hash,
            } => self.register_user(email, display_name, password_hash),
            Command::UpdateUser {
                user,
                display_name,
                expected_version,
            } => self.update_user(user, display_name, expected_version),
            Command::ChangePassword {
                user,
                password_hash,
                expected_credential,
                keep_session,
            } => self.change_password(user, password_hash, expected_credential, keep_session),
            Command::DeleteUser { user } => self.delete_user(user),
            Command::SetRole { email, role } => self.set_role_by_email(&email, role),
            Command::SetRoleOf { user, role } => self.set_role(user, role),
            Command::SetUserDisabled { user, disabled } => self.set_user_disabled(user, disabled),
            Command::OpenSession {
                user,
                credential_version,
                refresh_token_hash,
                ttl_ms,
            } => self.open_session(user, credential_version, refresh_token_hash, ttl_ms),
            Command::RotateRefreshToken { old, new, ttl_ms } => {
                self.rotate_refresh_token(old, new, ttl_ms)
            }
            Command::CloseSession { session } => self.close_session(session),
            Command::CloseAllSessions { user } => self.close_all_sessions(user),
            Command::PutSpace {
                space,
                details,
                expected_revision,
            } => self.put_space(space, details, expected_revision),
            Command::PutHall {
                space,
                hall,
                draft,
                expected_version,
            } => self.put_hall(space, hall, draft, expected_version),
            Command::PutDesks { hall, desks } => self.put_desks(hall, desks),
            Command::SetDeskActive { desk, active } => self.set_desk_active(desk, active),
            Command::CreateBooking {
                for_user,
                desk,
                placement,
            } => self.create_booking(for_user, desk, &placement),
            Command::MoveBooking {
                booking,
                desk,
                placement,
                expected_version,
            } => self.move_booking(booking, desk, &placement, expected_version),
            Command::CancelBooking {
                booking,
                expected_version,
            } => self.cancel_booking(booking, expected_version),
            Command::ImportBookings {
                space,
                schedule_revision,
                rows,
            } => self.import_bookings(space, schedule_revision, &rows),
        }
    }
}

/// Refuses if the asker has seen another version than there is.
fn check_version(expected: Option<u32>, current: u32) -> Result<(), Refusal> {
    match expected {
        Some(expected) if expected != current => Err(Refusal::VersionMismatch { current }),
        _ => Ok(()),
    }
}
