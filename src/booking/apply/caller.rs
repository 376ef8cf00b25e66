//! Rule 1: what the caller may do. Roles are read from the state at this very entry, so that a
//! right that was taken away is gone, whatever an access token still says.

use super::Entry;
use crate::account::{User, UserStatus};
use crate::command::Actor;
use crate::ids::UserId;
use crate::keys;
use crate::reply::{Kind, Refusal};

/// On whose behalf the caller may act.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    /// Everyone's: the operator, the cluster itself, admins.
    All,
    /// Their own only.
    Own(UserId),
}

impl Authority {
    /// Whether it covers that user.
    pub(super) fn covers(self, user: UserId) -> bool {
        match self {
            Authority::All => true,
            Authority::Own(own) => own == user,
        }
    }
}

impl Entry<'_> {
    /// The caller's authority. Barred, erased and unknown users have none.
    pub(super) fn authority(&self) -> Result<Authority, Refusal> {
        let Actor::Member(id) = self.actor else {
            return Ok(Authority::All);
        };
        match keys::user::get(self.store, id) {
            Some(user) if user.is_admin() => Ok(Authority::All),
            Some(user) if user.is_active() => Ok(Authority::Own(id)),
            _ => Err(Refusal::Forbidden),
        }
    }

    /// Only the operator and admins.
    pub(super) fn require_manager(&self) -> Result<(), Refusal> {
        match (self.actor, self.authority()?) {
            (Actor::System, _) | (_, Authority::Own(_)) => Err(Refusal::Forbidden),
            _ => Ok(()),
        }
    }

    /// The account, which the caller may act for. Erased accounts don't exist any more.
    pub(super) fn account(&self, id: UserId) -> Result<User, Refusal> {
        if !self.authority()?.covers(id) {
            return Err(Refusal::Forbidden);
        }
        match keys::user::get(self.store, id) {
            Some(user) if user.status != UserStatus::Erased => Ok(user),
            _ => Err(Refusal::NotFound(Kind::User)),
        }
    }
}
