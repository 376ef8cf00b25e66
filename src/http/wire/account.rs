//! Accounts and sessions on the wire.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{Fields, booking::BookingBody, show_utc};
use crate::{
    booking::{
        account::{Role, Session, User, UserStatus},
        text::{DisplayName, Email},
    },
    service::{
        Failure,
        accounts::{Export, NewAccount, SignedIn},
        passwords::{Password, PasswordShape},
    },
};

/// An account to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// An e-mail address; letter case does not count.
    #[schema(example = "member@example.com", max_length = 254)]
    pub email: String,
    /// 8 to 128 characters.
    #[schema(example = "correct horse battery", min_length = 8, max_length = 128, format = Password)]
    pub password: String,
    /// What to call the user.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    pub display_name: Option<String>,
}

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The account's e-mail address.
    #[schema(example = "member@example.com")]
    pub email: String,
    /// Its password.
    #[schema(example = "correct horse battery", format = Password)]
    pub password: String,
}

/// A session to be continued.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The refresh token that the session gave last.
    pub refresh_token: String,
}

/// What to change about oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What to call the user; `null` for nothing.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    pub display_name: Option<Option<String>>,
}

/// A change of password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The password so far.
    #[schema(format = Password)]
    pub current_password: String,
    /// The new one, 8 to 128 characters.
    #[schema(min_length = 8, max_length = 128, format = Password)]
    pub new_password: String,
}

/// A role to be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleChange {
    /// The role from now on.
    pub role: RoleBody,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleBody {
    /// Books for themselves.
    Member,
    /// Manages spaces and everyone's bookings.
    Admin,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserBody {
    /// Its id.
    #[schema(example = "usr_0000000002000")]
    pub id: String,
    /// Its e-mail address, in lower case.
    pub email: Option<String>,
    /// What to call the user.
    pub display_name: Option<String>,
    /// What the user may do.
    pub role: RoleBody,
    /// `active`, `disabled` or `erased`.
    pub status: String,
    /// When it was made.
    pub created_at: String,
    /// Counts its changes; also the `ETag`.
    pub version: u32,
}

/// An open session. The tokens are shown this once.
#[derive(Serialize, ToSchema)]
pub struct SessionBody {
    /// For `Authorization: Bearer`.
    pub access_token: String,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    pub token_type: String,
    /// For how many seconds the access token is valid.
    pub expires_in: u64,
    /// For `POST /sessions/refresh`, once.
    pub refresh_token: String,
    /// Whose session it is.
    pub user: UserBody,
}

/// Everything that is stored about a user.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExportBody {
    /// The account.
    pub user: UserBody,
    /// Open sessions.
    pub sessions: Vec<OpenSessionBody>,
    /// Bookings, newest first.
    pub bookings: Vec<BookingBody>,
    /// There are more bookings than an export holds; the list of bookings has them all.
    pub truncated: bool,
}

/// A session without its tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct OpenSessionBody {
    /// Its id.
    pub id: String,
    /// When it was opened.
    pub created_at: String,
    /// When it was last refreshed.
    pub rotated_at: String,
    /// When it ends unless refreshed.
    pub expires_at: String,
}

impl NewUser {
    /// The parsed account.
    ///
    /// # Errors
    /// Names every field that is not what it should be.
    pub fn parse(self) -> Result<NewAccount, Failure> {
        let mut fields = Fields::new();
        let email = fields.text("/email", &self.email);
        let display_name = match self.display_name {
            None => Some(None),
            Some(name) => fields.text::<DisplayName>("/display_name", &name).map(Some),
        };
        let password = chosen(&mut fields, "/password", self.password);
        let account = email.zip(display_name).zip(password);
        fields.finish(account.map(|((email, display_name), password)| NewAccount {
            email,
            display_name,
            password,
        }))
    }
}

impl Credentials {
    /// The parsed credentials.
    ///
    /// # Errors
    /// Names every field that is not what it should be.
    pub fn parse(self) -> Result<(Email, Password), Failure> {
        let mut fields = Fields::new();
        let email = fields.text("/email", &self.email);
        let password = claimed(&mut fields, "/password", self.password);
        fields.finish(email.zip(password))
    }
}

impl Profile {
    /// The parsed change; nothing where nothing is to be changed.
    ///
    /// # Errors
    /// Names every field that is not what it should be.
    pub fn parse(self) -> Result<Option<Option<DisplayName>>, Failure> {
        let mut fields = Fields::new();
        let display_name = match self.display_name {
            None => Some(None),
            Some(None) => Some(Some(None)),
            Some(Some(name)) => fields
                .text("/display_name", &name)
                .map(|name| Some(Some(name))),
        };
        fields.finish(display_name)
    }
}

impl PasswordChange {
    /// The current and the new password.
    ///
    /// # Errors
    /// Names every field that is not what it should be.
    pub fn parse(self) -> Result<(Password, Password), Failure> {
        let mut fields = Fields::new();
        let current = claimed(&mut fields, "/current_password", self.current_password);
        let new = chosen(&mut fields, "/new_password", self.new_password);
        fields.finish(current.zip(new))
    }
}

impl From<RoleBody> for Role {
    fn from(role: RoleBody) -> Self {
        match role {
            RoleBody::Member => Self::Member,
            RoleBody::Admin => Self::Admin,
        }
    }
}

impl UserBody {
    /// An account.
    #[must_use]
    pub fn show(user: &User) -> Self {
        let status = match user.status {
            UserStatus::Active => "active",
            UserStatus::Disabled => "disabled",
            UserStatus::Erased => "erased",
        };
        Self {
            id: user.id.to_string(),
            email: user.email.as_ref().map(ToString::to_string),
            display_name: user.display_name.as_ref().map(ToString::to_string),
            role: match user.role {
                Role::Member => RoleBody::Member,
                Role::Admin => RoleBody::Admin,
            },
            status: status.to_owned(),
            created_at: show_utc(user.created_at),
            version: user.version,
        }
    }
}

impl SessionBody {
    /// An open session, with its tokens.
    #[must_use]
    pub fn show(session: &SignedIn) -> Self {
        Self {
            access_token: session.access_token.reveal().to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: session.expires_in_s,
            refresh_token: session.refresh_token.reveal(),
            user: UserBody::show(&session.user),
        }
    }
}

impl ExportBody {
    /// Everything that is stored about a user.
    #[must_use]
    pub fn show(export: &Export) -> Self {
        let session = |session: &Session| OpenSessionBody {
            id: session.id.to_string(),
            created_at: show_utc(session.created_at),
            rotated_at: show_utc(session.rotated_at),
            expires_at: show_utc(session.expires_at),
        };
        Self {
            user: UserBody::show(&export.user),
            sessions: export.sessions.iter().map(session).collect(),
            bookings: export.bookings.iter().map(BookingBody::show).collect(),
            truncated: export.truncated,
        }
    }
}

fn chosen(fields: &mut Fields, pointer: &str, text: String) -> Option<Password> {
    Password::chosen(text)
        .map_err(|shape| refuse(fields, pointer, shape))
        .ok()
}

fn claimed(fields: &mut Fields, pointer: &str, text: String) -> Option<Password> {
    Password::claimed(text)
        .map_err(|shape| refuse(fields, pointer, shape))
        .ok()
}

fn refuse(fields: &mut Fields, pointer: &str, shape: PasswordShape) {
    let code = match shape {
        PasswordShape::TooShort => "too_short",
        PasswordShape::TooLong => "too_long",
    };
    fields.refuse(pointer, code, shape);
}

/// Tells a member that is `null` from one that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
