//! Accounts: registering, changing, barring, erasing.

use super::{Entry, check_version};
use crate::account::{Credential, Role, User, UserStatus};
use crate::ids::{SessionId, UserId};
use crate::keys;
use crate::reply::{Kind, Outcome, Refusal};
use crate::secret::PasswordHash;
use crate::text::{DisplayName, Email};

/// The most upcoming bookings that erasing an account cancels in one entry.
const MAX_CANCELLED_BY_ERASURE: usize = 500;

impl Entry<'_> {
    pub(super) fn register_user(
        &mut self,
        email: Email,
        display_name: Option<DisplayName>,
        password_hash: PasswordHash,
    ) -> Result<Outcome, Refusal> {
        if self.authority()? != super::caller::Authority::All {
            return Err(Refusal::Forbidden);
        }
        if keys::user_by_email::get(self.store, &email).is_some() {
            return Err(Refusal::EmailTaken);
        }
        let id = UserId::assigned(self.stamp.index, self.ordinal());
        keys::user_by_email::put(self.store, &email, id);
        keys::credential::put(
            self.store,
            id,
            &Credential {
                password_hash,
                version: 1,
            },
        );
        let user = User {
            id,
            email: Some(email),
            display_name,
            role: Role::Member,
            status: UserStatus::Active,
            created_at: self.now(),
            version: 1,
        };
        keys::user::put(self.store, &user);
        keys::totals::change(self.store, |totals| totals.users += 1);
        Ok(Outcome::User(user))
    }

    pub(super) fn update_user(
        &mut self,
        id: UserId,
        display_name: Option<DisplayName>,
        expected_version: Option<u32>,
    ) -> Result<Outcome, Refusal> {
        let mut user = self.account(id)?;
        check_version(expected_version, user.version)?;
        if user.display_name != display_name {
            user.display_name = display_name;
            self.save_user(&mut user);
        }
        Ok(Outcome::User(user))
    }

    pub(super) fn change_password(
        &mut self,
        id: UserId,
        password_hash: PasswordHash,
        expected_credential: Option<u32>,
        keep_session: Option<SessionId>,
    ) -> Result<Outcome, Refusal> {
        self.account(id)?;
        let old = keys::credential::get(self.store, id);
        let version = old
            .expect("an account that isn't erased has a credential")
            .version;
        check_version(expected_credential, version)?;
        let credential = Credential {
            password_hash,
            version: version + 1,
        };
        keys::credential::put(self.store, id, &credential);
        self.drop_sessions_of(id, keep_session);
        Ok(Outcome::Done)
    }

    pub(super) fn set_role_by_email(
        &mut self,
        email: &Email,
        role: Role,
    ) -> Result<Outcome, Refusal> {
        self.require_manager()?;
        let id = keys::user_by_email::get(self.store, email);
        self.set_role(id.ok_or(Refusal::NotFound(Kind::User))?, role)
    }

    pub(super) fn set_role(&mut self, id: UserId, role: Role) -> Result<Outcome, Refusal> {
        self.require_manager()?;
        let mut user = self.account(id)?;
        if user.role != role {
            user.role = role;
            self.save_user(&mut user);
        }
        Ok(Outcome::User(user))
    }

    pub(super) fn set_user_disabled(
        &mut self,
        id: UserId,
        disabled: bool,
    ) -> Result<Outcome, Refusal> {
        self.require_manager()?;
        let mut user = self.account(id)?;
        let status = if disabled {
            UserStatus::Disabled
        } else {
            UserStatus::Active
        };
        if user.status != status {
            user.status = status;
            self.save_user(&mut user);
            if disabled {
                self.drop_sessions_of(id, None);
            }
        }
        Ok(Outcome::User(user))
    }

    pub(super) fn delete_user(&mut self, id: UserId) -> Result<Outcome, Refusal> {
        if !self.authority()?.covers(id) {
            return Err(Refusal::Forbidden);
        }
        let user = keys::user::get(self.store, id).ok_or(Refusal::NotFound(Kind::User))?;
        self.erase(user);
        let upcoming = self.upcoming(id, MAX_CANCELLED_BY_ERASURE + 1);
        let cancelled = &upcoming[..upcoming.len().min(MAX_CANCELLED_BY_ERASURE)];
        for booking in cancelled {
            let booking = keys::booking::get(self.store, *booking);
            self.cancel(booking.expect("a sheet names bookings that exist"));
        }
        Ok(Outcome::Erased {
            bookings_cancelled: u32::try_from(cancelled.len()).expect("a bounded number"),
            more: cancelled.len() < upcoming.len(),
        })
    }

    /// Forgets who the user was. The record stays, because bookings name it.
    fn erase(&mut self, mut user: User) {
        if user.status == UserStatus::Erased {
            return;
        }
        if let Some(email) = user.email.take() {
            keys::user_by_email::delete(self.store, &email);
        }
        keys::credential::delete(self.store, user.id);
        self.drop_sessions_of(user.id, None);
        user.display_name = None;
        user.role = Role::Member;
        user.status = UserStatus::Erased;
        self.save_user(&mut user);
        keys::totals::change(self.store, |totals| totals.users -= 1);
    }

    fn save_user(&mut self, user: &mut User) {
        user.version += 1;
        keys::user::put(self.store, user);
    }
}
