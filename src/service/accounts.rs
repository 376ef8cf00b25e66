//! Accounts and sessions: registering, signing in and out, and everything about oneself.
//!
//! Passwords are hashed before anything is proposed. Tokens are never stored: of a refresh token its hash, of an access
//! token nothing. That bounds what an `Idempotency-Key` can do: a retried registration gets the account that the first
//! try made, and a retried refresh the session it continued, since the new refresh token then follows from the old one
//! and the key; but a retried sign-in may open a second session, whose first one simply expires.

use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{
    Admin, Caller, Consistency, Context, Failure, Seen, Service, Sight, Write,
    bookings::{Listing, Shown, page},
    entropy::random,
    layout::unexpected,
    passwords::Password,
    tokens::{self, Claims, RefreshToken, TokenError},
    write::IdempotencyKey,
};
use crate::{
    booking::{
        Actor, Command, DedupKey, Fingerprint, Outcome, Refusal,
        account::{Credential, Role, Session, SigningKey, User},
        ids::{KeyId, SessionId, UserId},
        query,
        secret::{KeySecret, PasswordHash, TokenHash},
        text::{DisplayName, Email},
    },
    limits::{EXPORT_BOOKINGS_MAX, PAGE_ITEMS_MAX},
};

/// How many low bits of an id number the things that one log entry made; the rest is the entry's index.
const ID_ORDINAL_BITS: u32 = 16;
/// How often an erasure that was too large for one entry is continued.
const ERASURE_STEPS: usize = 64;

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Must not be taken.
    pub email: Email,
    /// What to call the user.
    pub display_name: Option<DisplayName>,
    /// To be hashed.
    pub password: Password,
}

/// An open session, as its holder gets it.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The signed access token.
    pub access_token: Secret,
    /// How long it is valid.
    pub expires_in_s: u64,
    /// Exchanged for the next pair of tokens.
    pub refresh_token: RefreshToken,
    /// Whose session it is.
    pub user: User,
}

/// A text that shows itself to nobody.
#[derive(Clone)]
pub struct Secret(String);

/// Everything that is stored about a user.
#[derive(Debug, Clone)]
pub struct Export {
    /// The account.
    pub user: User,
    /// Open sessions.
    pub sessions: Vec<Session>,
    /// Bookings, newest first.
    pub bookings: Vec<Shown>,
    /// There are more bookings than an export holds.
    pub truncated: bool,
}

impl Secret {
    /// The text for its holder.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl Service {
    /// Makes an account. With a key, the salt follows from the key and the e-mail, so that a retry hashes to the same
    /// and the hash can stand for the password in the fingerprint.
    ///
    /// # Errors
    /// Where the e-mail is taken, too many passwords wait, or it could not be decided.
    pub async fn register(
        &self,
        context: &Context,
        key: Option<&IdempotencyKey>,
        account: NewAccount,
    ) -> Result<Seen<User>, Failure> {
        let NewAccount {
            email,
            display_name,
            password,
        } = account;
        let hash = self
            .hash(key, &format!("register {email}"), password)
            .await?;
        let name = display_name.as_ref().map_or("", DisplayName::as_str);
        let fingerprint = Fingerprint::of(&[
            b"POST /users",
            email.as_str().as_bytes(),
            name.as_bytes(),
            hash.expose().as_bytes(),
        ]);
        let dedup = key.map_or_else(
            || self.node_key(),
            |key| DedupKey::for_stranger(email.as_str(), key.as_str()),
        );
        let command = Command::RegisterUser {
            email,
            display_name,
            password_hash: hash,
        };
        let proposed = self
            .propose_as(context, Actor::System, dedup, fingerprint, command)
            .await?;
        let Outcome::User(user) = proposed.outcome else {
            return Err(unexpected());
        };
        Ok(Seen {
            value: user,
            index: proposed.index,
        })
    }

    /// Opens a session for whoever knows the password.
    ///
    /// # Errors
    /// [`Failure::BadCredentials`] whichever of the two is wrong; too many failed tries; too many passwords wait.
    pub async fn sign_in(
        &self,
        context: &Context,
        address: IpAddr,
        email: &Email,
        password: Password,
    ) -> Result<Seen<SignedIn>, Failure> {
        let (account, address) = (format!("account {email}"), format!("address {address}"));
        self.check_attempts(&account, &address)?;
        let found = self
            .read(None, Consistency::Linearizable, |sight| {
                find_credential(sight, email)
            })
            .await?
            .value;
        let turn = self.passwords.turn().await?;
        // Guesses that waited together are counted one by one, now that this one has its turn.
        self.check_attempts(&account, &address)?;
        let stored = found
            .as_ref()
            .map(|(_, credential)| credential.password_hash.expose().to_owned());
        let matches = self.passwords.verify(turn, password, stored).await;
        let Some((user, credential)) = found.filter(|(user, _)| matches && user.is_active()) else {
            self.by_account.failed(&account, self.now_ms());
            self.by_address.failed(&address, self.now_ms());
            return Err(Failure::BadCredentials);
        };
        self.by_account.succeeded(&account);
        self.open_session(context, user, credential.version).await
    }

    /// Exchanges a refresh token for a new pair of tokens.
    ///
    /// # Errors
    /// Where the token opens nothing, or was exchanged before: its session is closed then.
    pub async fn refresh(
        &self,
        context: &Context,
        key: Option<&IdempotencyKey>,
        token: &str,
    ) -> Result<Seen<SignedIn>, Failure> {
        let unknown = || Failure::refused(Refusal::SessionUnknown, 0);
        let old = RefreshToken::parse(token).ok_or_else(unknown)?;
        let hash = TokenHash::new(old.hash());
        let new = match key {
            None => RefreshToken::random(self.entropy()),
            Some(key) => old.successor(key.as_str()),
        };
        let scope = old
            .hash()
            .iter()
            .fold(String::from("refresh "), |text, byte| {
                format!("{text}{byte:02x}")
            });
        let dedup = key.map_or_else(
            || self.node_key(),
            |key| DedupKey::for_stranger(&scope, key.as_str()),
        );
        let ttl_ms = self.limits.refresh_token_s.saturating_mul(1_000);
        let command = Command::RotateRefreshToken {
            old: hash,
            new: TokenHash::new(new.hash()),
            ttl_ms,
        };
        let fingerprint = Fingerprint::of(&[b"POST /sessions/refresh", &old.hash()]);
        let signing_key = self.newest_key(context).await?;
        let proposed = self
            .propose_as(context, Actor::System, dedup, fingerprint, command)
            .await?;
        let Outcome::Session { id, user, .. } = proposed.outcome else {
            return Err(unexpected());
        };
        // The old token is worth nothing from here on.
        let user = self
            .find(proposed.index, |sight| query::user(sight.store, user))
            .await
            .map_err(Failure::after)?;
        let access_token = self.access_token(&signing_key, user.id, id)?;
        Ok(Seen {
            value: self.signed_in(access_token, new, user),
            index: proposed.index,
        })
    }

    /// Whose access token this is.
    ///
    /// # Errors
    /// Where the token is not valid, its time is over, or its session is closed.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, Failure> {
        let kid = tokens::key_id(token).map_err(from_token)?;
        let kid: KeyId = kid.parse().map_err(|_| Failure::Unauthenticated)?;
        let key = self
            .recent(kid.number(), |sight| query::signing_key(sight.store, kid))
            .await?;
        let claims = tokens::verify(token, key.secret.expose(), self.now_ms() / 1_000)
            .map_err(from_token)?;
        let session: SessionId = claims.sid.parse().map_err(|_| Failure::Unauthenticated)?;
        self.recent(session.number(), |sight| {
            let caller = sight.signed_in(session);
            caller.filter(|caller| claims.sub == caller.user.to_string())
        })
        .await
    }

    /// Closes the caller's session.
    ///
    /// # Errors
    /// Where it could not be decided.
    pub async fn sign_out(
        &self,
        context: &Context,
        caller: &Caller,
        write: &Write,
    ) -> Result<u64, Failure> {
        let command = Command::CloseSession {
            session: caller.session,
        };
        Ok(self
            .propose(context, Actor::Member(caller.user), write, command)
            .await?
            .index)
    }

    /// Closes all sessions of the caller's.
    ///
    /// # Errors
    /// Where it could not be decided.
    pub async fn sign_out_everywhere(
        &self,
        context: &Context,
        caller: &Caller,
        write: &Write,
    ) -> Result<u64, Failure> {
        let command = Command::CloseAllSessions { user: caller.user };
        Ok(self
            .propose(context, Actor::Member(caller.user), write, command)
            .await?
            .index)
    }

    /// The caller's account.
    ///
    /// # Errors
    /// Where the state cannot be had that fresh.
    pub async fn me(
        &self,
        caller: &Caller,
        consistency: Consistency,
    ) -> Result<Seen<User>, Failure> {
        let seen = self
            .read(Some(caller), consistency, |sight| {
                query::user(sight.store, caller.user)
            })
            .await?;
        let value = seen.value.ok_or(Failure::Unauthenticated)?;
        Ok(Seen {
            value,
            index: seen.index,
        })
    }

    /// Changes what the caller is called.
    ///
    /// # Errors
    /// Where the account has another version by now, or it could not be decided.
    pub async fn rename(
        &self,
        context: &Context,
        caller: &Caller,
        write: &Write,
        display_name: Option<DisplayName>,
        expected_version: Option<u32>,
    ) -> Result<Seen<User>, Failure> {
        let command = Command::UpdateUser {
            user: caller.user,
            display_name,
            expected_version,
        };
        let proposed = self
            .propose(context, Actor::Member(caller.user), write, command)
            .await?;
        let Outcome::User(user) = proposed.outcome else {
            return Err(unexpected());
        };
        Ok(Seen {
            value: user,
            index: proposed.index,
        })
    }

    /// Changes the caller's password and closes the caller's other sessions.
    ///
    /// # Errors
    /// Where the current password is wrong, too many tries failed, or it could not be decided.
    pub async fn change_password(
        &self,
        context: &Context,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        current: Password,
        new: Password,
    ) -> Result<u64, Failure> {
        let account = format!("password of {}", caller.user);
        self.by_account
            .check(&account, self.now_ms())
            .map_err(too_many)?;
        let credential = self
            .read(Some(caller), Consistency::Linearizable, |sight| {
                query::credential(sight.store, caller.user)
            })
            .await?
            .value
            .ok_or(Failure::Unauthenticated)?;
        let hash = self
            .hash(key, &format!("password {}", caller.user), new)
            .await?;
        let fingerprint = Fingerprint::of(&[b"POST /me/password", hash.expose().as_bytes()]);
        let write = Write {
            key: key.cloned(),
            fingerprint,
        };
        // A retry of a change that took effect comes with what is now the old password. That the new one hashes to
        // what is stored, with the salt that follows from the key, shows that it is such a retry.
        let is_retry = key.is_some() && hash == credential.password_hash;
        if !is_retry {
            let turn = self.passwords.turn().await?;
            let stored = Some(credential.password_hash.expose().to_owned());
            if !self.passwords.verify(turn, current, stored).await {
                // It may still be one, if the password was changed once more in between.
                let actor = Actor::Member(caller.user);
                let first = self.original(actor, &write, Failure::BadCredentials).await;
                if first.is_err() {
                    self.by_account.failed(&account, self.now_ms());
                }
                return Ok(first?.index);
            }
            self.by_account.succeeded(&account);
        }
        let command = Command::ChangePassword {
            user: caller.user,
            password_hash: hash,
            expected_credential: Some(credential.version),
            keep_session: Some(caller.session),
        };
        Ok(self
            .propose(context, Actor::Member(caller.user), &write, command)
            .await?
            .index)
    }

    /// Everything that is stored about the caller.
    ///
    /// # Errors
    /// Where the state cannot be had that fresh.
    pub async fn export(
        &self,
        caller: &Caller,
        consistency: Consistency,
    ) -> Result<Seen<Export>, Failure> {
        let seen = self.read(Some(caller), consistency, |sight| {
            let user = query::user(sight.store, caller.user)?;
            Some((user, query::sessions_of_user(sight.store, caller.user)))
        });
        let Seen { value, index } = seen.await?;
        let (user, sessions) = value.ok_or(Failure::Unauthenticated)?;
        let mut bookings = Vec::new();
        let mut before = None;
        // Page by page, so that a long history does not hold the state's lock; each page is a view of its own.
        let truncated = loop {
            let listing = Listing {
                status: None,
                before,
                limit: PAGE_ITEMS_MAX,
            };
            let (items, next) = self.look(|sight| page(sight, caller.user, listing))?.value;
            bookings.extend(items);
            before = next;
            if before.is_none() || bookings.len() >= EXPORT_BOOKINGS_MAX {
                break before.is_some();
            }
            tokio::task::yield_now().await;
        };
        Ok(Seen {
            value: Export {
                user,
                sessions,
                bookings,
                truncated,
            },
            index,
        })
    }

    /// Erases the caller's account: personal data, credential and sessions go, upcoming bookings are cancelled.
    ///
    /// # Errors
    /// Where it could not be decided; [`Failure::After`] where that happened to a later step. What a first step left
    /// can be finished by an administrator.
    pub async fn erase(
        &self,
        context: &Context,
        caller: &Caller,
        write: &Write,
    ) -> Result<u64, Failure> {
        let command = || Command::DeleteUser { user: caller.user };
        let mut proposed = self
            .propose(context, Actor::Member(caller.user), write, command())
            .await?;
        for _ in 0..ERASURE_STEPS {
            match proposed.outcome {
                Outcome::Erased { more: true, .. } => {}
                Outcome::Erased { more: false, .. } => break,
                _ => return Err(unexpected()),
            }
            // The user is gone by now and cannot act any more.
            proposed = self
                .propose(context, Actor::System, &Write::unkeyed(), command())
                .await
                .map_err(Failure::after)?;
        }
        Ok(proposed.index)
    }

    /// Who may act as an administrator: an operator's token, or an administrator's access token.
    ///
    /// # Errors
    /// Where the token is neither, by a state that must know of every role that was given before the call.
    pub async fn authenticate_admin(&self, token: &str) -> Result<Admin, Failure> {
        if self.is_operator_token(token) {
            return Ok(Admin::Operator);
        }
        let caller = self.authenticate(token).await?;
        if caller.role == Role::Admin {
            return Ok(Admin::User(caller));
        }
        // This node may not have heard yet that the role was given.
        let now = self.read(Some(&caller), Consistency::Linearizable, |sight| {
            sight.caller
        });
        let now = now.await?.value.filter(|now| now.role == Role::Admin);
        now.map(Admin::User).ok_or(Failure::Forbidden)
    }

    async fn open_session(
        &self,
        context: &Context,
        user: User,
        credential_version: u32,
    ) -> Result<Seen<SignedIn>, Failure> {
        let refresh_token = RefreshToken::random(self.entropy());
        let signing_key = self.newest_key(context).await?;
        let command = Command::OpenSession {
            user: user.id,
            credential_version,
            refresh_token_hash: TokenHash::new(refresh_token.hash()),
            ttl_ms: self.limits.refresh_token_s.saturating_mul(1_000),
        };
        let proposed = match self
            .propose(context, Actor::System, &Write::unkeyed(), command)
            .await
        {
            // The password was changed, or the account barred, while it was being checked.
            Err(Failure::Refused(refused)) if is_overtaken(&refused.refusal) => {
                return Err(Failure::BadCredentials);
            }
            other => other?,
        };
        let Outcome::Session { id, .. } = proposed.outcome else {
            return Err(unexpected());
        };
        let access_token = self.access_token(&signing_key, user.id, id)?;
        Ok(Seen {
            value: self.signed_in(access_token, refresh_token, user),
            index: proposed.index,
        })
    }

    fn signed_in(&self, access_token: Secret, refresh_token: RefreshToken, user: User) -> SignedIn {
        SignedIn {
            access_token,
            expires_in_s: self.limits.access_token_s,
            refresh_token,
            user,
        }
    }

    /// The key that signs now. To be had before a session is opened or continued, since it can take long or fail.
    async fn newest_key(&self, context: &Context) -> Result<SigningKey, Failure> {
        let newest = self.look(|sight| query::signing_keys(sight.store).pop())?;
        match newest.value {
            Some(key) => Ok(key),
            None => self.install_key(context).await,
        }
    }

    /// A token for a session that was just decided.
    fn access_token(
        &self,
        key: &SigningKey,
        user: UserId,
        session: SessionId,
    ) -> Result<Secret, Failure> {
        let now_s = self.now_ms() / 1_000;
        let claims = Claims::new(
            user.to_string(),
            session.to_string(),
            now_s,
            self.limits.access_token_s,
        );
        tokens::sign(&claims, &key.id.to_string(), key.secret.expose())
            .map(Secret)
            .map_err(|_| Failure::Internal("the signing key is of no use").after())
    }

    /// Makes the first signing key. Several nodes may try at once; the first in the log wins, and all learn of it.
    async fn install_key(&self, context: &Context) -> Result<SigningKey, Failure> {
        let command = Command::InstallSigningKey {
            secret: KeySecret::new(random(self.entropy())),
            replaces: None,
        };
        let proposed = self
            .propose(context, Actor::System, &Write::unkeyed(), command)
            .await?;
        let Outcome::SigningKey(id) = proposed.outcome else {
            return Err(unexpected());
        };
        self.find(proposed.index, |sight| query::signing_key(sight.store, id))
            .await
            .map_err(Failure::after)
    }

    /// Looks for something that exists, waiting for the index that made it where this node is behind.
    async fn find<T>(
        &self,
        index: u64,
        look: impl Fn(&Sight<'_>) -> Option<T>,
    ) -> Result<T, Failure> {
        if let Some(found) = self.look(&look)?.value {
            return Ok(found);
        }
        self.replica
            .wait_applied(index, self.read_deadline())
            .await?;
        self.look(&look)?
            .value
            .ok_or(Failure::Internal("what was just decided is not there"))
    }

    /// Looks for something that a token names by its id. An id carries the index of the log entry that made the thing:
    /// where this node has not got that far, it catches up before it says that there is none.
    async fn recent<T>(
        &self,
        id: u64,
        look: impl Fn(&Sight<'_>) -> Option<T>,
    ) -> Result<T, Failure> {
        let seen = self.look(&look)?;
        match seen.value {
            Some(found) => Ok(found),
            None if (id >> ID_ORDINAL_BITS) <= seen.index => Err(Failure::Unauthenticated),
            None => {
                self.replica.read_barrier(self.read_deadline()).await?;
                self.look(&look)?.value.ok_or(Failure::Unauthenticated)
            }
        }
    }

    async fn hash(
        &self,
        key: Option<&IdempotencyKey>,
        scope: &str,
        password: Password,
    ) -> Result<PasswordHash, Failure> {
        let salt = match key {
            None => random(self.entropy()),
            Some(key) => salt_of(scope, key),
        };
        let turn = self.passwords.turn().await?;
        let phc = self.passwords.hash(turn, password, salt).await;
        PasswordHash::new(phc)
            .map_err(|_| Failure::Internal("a password's hash is not in PHC form"))
    }

    fn check_attempts(&self, account: &str, address: &str) -> Result<(), Failure> {
        let now_ms = self.now_ms();
        self.by_account.check(account, now_ms).map_err(too_many)?;
        self.by_address.check(address, now_ms).map_err(too_many)
    }
}

impl RefreshToken {
    /// The token that takes this one's place when a client asks under a key: only who has this token can compute it.
    fn successor(&self, key: &str) -> Self {
        let mut mac: Hmac<Sha256> =
            Hmac::new_from_slice(self.expose()).expect("HMAC takes a key of any length");
        mac.update(b"mesto refresh token\0");
        mac.update(key.as_bytes());
        Self::from_bytes(mac.finalize().into_bytes().into())
    }
}

fn find_credential(sight: &Sight<'_>, email: &Email) -> Option<(User, Credential)> {
    let user = query::user_by_email(sight.store, email)?;
    let credential = query::credential(sight.store, user.id)?;
    Some((user, credential))
}

fn from_token(error: TokenError) -> Failure {
    match error {
        TokenError::Invalid => Failure::Unauthenticated,
        TokenError::Expired => Failure::TokenExpired,
    }
}

fn too_many(retry_after_s: u64) -> Failure {
    Failure::TooManyAttempts { retry_after_s }
}

fn is_overtaken(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::VersionMismatch { .. } | Refusal::Forbidden | Refusal::NotFound(_)
    )
}

fn salt_of(scope: &str, key: &IdempotencyKey) -> [u8; 16] {
    let mut hasher =
        blake3::Hasher::new_derive_key("mesto 2026 salt of a password set under a key");
    hasher.update(&u64::try_from(scope.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(scope.as_bytes());
    hasher.update(key.as_str().as_bytes());
    let mut salt = [0; 16];
    salt.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    salt
}
