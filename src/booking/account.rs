//! Users, their credentials and sessions, and the keys that sign access tokens.

use super::ids::{KeyId, SessionId, UserId};
use super::instant::Instant;
use super::secret::{KeySecret, PasswordHash, TokenHash};
use super::text::{DisplayName, Email};
use serde::{Deserialize, Serialize};

/// What a user may do beyond managing their own bookings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Books for themselves.
    Member,
    /// Lays out spaces and manages everyone's bookings.
    Admin,
}

/// Whether an account can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserStatus {
    /// In use.
    Active,
    /// Barred by an admin; can be let in again.
    Disabled,
    /// Erased at the user's wish: the personal data is gone, the bookings stay as statistics.
    Erased,
}

/// An account. What proves its identity is kept apart, in [`Credential`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Assigned at registration.
    pub id: UserId,
    /// Unique among accounts; `None` once erased.
    pub email: Option<Email>,
    /// `None` if not given, or erased.
    pub display_name: Option<DisplayName>,
    /// Member or admin.
    pub role: Role,
    /// Whether it can be used.
    pub status: UserStatus,
    /// When it was registered.
    pub created_at: Instant,
    /// Counts changes of this record, from 1.
    pub version: u32,
}

impl User {
    /// Whether the account can be used.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == UserStatus::Active
    }

    /// Whether it can be used, and for everyone's bookings.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.is_active() && self.role == Role::Admin
    }
}

/// What a user's password is checked against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The hash of the password.
    pub password_hash: PasswordHash,
    /// Counts changes of the password, from 1. A sign-in names the version that it checked, so
    /// that it can't outlive a change of password that overtook it.
    pub version: u32,
}

/// A signed-in client: what its refresh token stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Assigned at sign-in.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// The hash of the one refresh token that is good.
    pub refresh_token_hash: TokenHash,
    /// Hashes of earlier tokens, newest last. Whoever shows one of them stole it or was robbed
    /// of it, and the session ends. Only the last few are remembered.
    pub retired_token_hashes: Vec<TokenHash>,
    /// When it was opened.
    pub created_at: Instant,
    /// When the refresh token was last exchanged (or made).
    pub rotated_at: Instant,
    /// When it ends unless refreshed before.
    pub expires_at: Instant,
}

/// A key for access tokens. The newest signs; older ones still verify until they are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Goes into the token's header as `kid`.
    pub id: KeyId,
    /// The HMAC secret.
    pub secret: KeySecret,
    /// When it was installed.
    pub created_at: Instant,
    /// When a newer key took over; `None` for the one that signs.
    pub retired_at: Option<Instant>,
}
