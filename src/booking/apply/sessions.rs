//! Sessions and the keys that sign access tokens.

use super::{Entry, check_version};
use crate::MAX_SESSION_TTL_MS;
use crate::account::{Session, SigningKey};
use crate::command::Actor;
use crate::ids::{KeyId, SessionId, UserId};
use crate::keys;
use crate::reply::{Invalid, Kind, Outcome, Refusal};
use crate::secret::{KeySecret, TokenHash};

/// The most sessions of one user; opening one more closes the oldest.
const MAX_SESSIONS_PER_USER: usize = 200;
/// How many of a user's oldest sessions are looked at for having expired when one is opened.
const SWEPT_SESSIONS: usize = 4;
/// How many exchanged tokens a session remembers.
const MAX_RETIRED_TOKENS: usize = 8;
/// The most signing keys; installing one more drops the oldest.
const MAX_SIGNING_KEYS: usize = 8;

impl Entry<'_> {
    pub(super) fn install_signing_key(
        &mut self,
        secret: KeySecret,
        replaces: Option<KeyId>,
    ) -> Result<Outcome, Refusal> {
        if matches!(self.actor, Actor::Member(_)) {
            return Err(Refusal::Forbidden);
        }
        let mut present = keys::signing_key::all(self.store);
        let current = present.last().map(|key| key.id);
        if let Some(current) = current.filter(|current| Some(*current) != replaces) {
            return Ok(Outcome::SigningKey(current));
        }
        if let Some(old) = present.last_mut() {
            old.retired_at = Some(self.now());
            keys::signing_key::put(self.store, old);
        }
        if present.len() >= MAX_SIGNING_KEYS {
            keys::signing_key::delete(self.store, present[0].id);
        }
        let id = KeyId::assigned(self.stamp.index, self.ordinal());
        let key = SigningKey {
            id,
            secret,
            created_at: self.now(),
            retired_at: None,
        };
        keys::signing_key::put(self.store, &key);
        Ok(Outcome::SigningKey(id))
    }

    pub(super) fn open_session(
        &mut self,
        user: UserId,
        credential_version: u32,
        refresh_token_hash: TokenHash,
        ttl_ms: u64,
    ) -> Result<Outcome, Refusal> {
        if !self.account(user)?.is_active() {
            return Err(Refusal::Forbidden);
        }
        check_ttl(ttl_ms)?;
        let credential = keys::credential::get(self.store, user);
        let current = credential
            .expect("an account that isn't erased has a credential")
            .version;
        check_version(Some(credential_version), current)?;
        self.check_unused(refresh_token_hash)?;
        self.make_room_for_session(user);
        let session = Session {
            id: SessionId::assigned(self.stamp.index, self.ordinal()),
            user,
            refresh_token_hash,
            retired_token_hashes: Vec::new(),
            created_at: self.now(),
            rotated_at: self.now(),
            expires_at: self.now().plus_ms(ttl_ms),
        };
        keys::session_of_user::put(self.store, user, session.id);
        keys::totals::change(self.store, |totals| totals.sessions += 1);
        Ok(self.save_session(&session))
    }

    pub(super) fn rotate_refresh_token(
        &mut self,
        old: TokenHash,
        new: TokenHash,
        ttl_ms: u64,
    ) -> Result<Outcome, Refusal> {
        check_ttl(ttl_ms)?;
        let mut session = keys::session_by_token::get(self.store, old)
            .and_then(|id| keys::session::get(self.store, id))
            .filter(|session| session.expires_at > self.now())
            .ok_or(Refusal::SessionUnknown)?;
        if session.refresh_token_hash != old {
            // Two hold a copy of the token, and nobody can tell which of them is the user.
            self.drop_session(&session);
            return Err(Refusal::RefreshTokenReused);
        }
        self.check_unused(new)?;
        session.retired_token_hashes.push(old);
        if session.retired_token_hashes.len() > MAX_RETIRED_TOKENS {
            let forgotten = session.retired_token_hashes.remove(0);
            keys::session_by_token::delete(self.store, forgotten);
        }
        session.refresh_token_hash = new;
        session.rotated_at = self.now();
        session.expires_at = self.now().plus_ms(ttl_ms);
        Ok(self.save_session(&session))
    }

    pub(super) fn close_session(&mut self, id: SessionId) -> Result<Outcome, Refusal> {
        let authority = self.authority()?;
        if let Some(session) = keys::session::get(self.store, id) {
            if !authority.covers(session.user) {
                return Err(Refusal::NotFound(Kind::Session));
            }
            self.drop_session(&session);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn close_all_sessions(&mut self, user: UserId) -> Result<Outcome, Refusal> {
        self.account(user)?;
        self.drop_sessions_of(user, None);
        Ok(Outcome::Done)
    }

    /// Closes a user's sessions, except one.
    pub(super) fn drop_sessions_of(&mut self, user: UserId, keep: Option<SessionId>) {
        for id in keys::session_of_user::all(self.store, user) {
            if Some(id) != keep {
                self.drop_session_by_id(id);
            }
        }
    }

    fn make_room_for_session(&mut self, user: UserId) {
        let open = keys::session_of_user::all(self.store, user);
        let too_many = (open.len() + 1).saturating_sub(MAX_SESSIONS_PER_USER);
        for (at, id) in open
            .into_iter()
            .take(SWEPT_SESSIONS.max(too_many))
            .enumerate()
        {
            let session = keys::session::get(self.store, id);
            let expired = session.is_some_and(|session| session.expires_at <= self.now());
            if at < too_many || expired {
                self.drop_session_by_id(id);
            }
        }
    }

    fn drop_session_by_id(&mut self, id: SessionId) {
        let session = keys::session::get(self.store, id);
        self.drop_session(&session.expect("the index of a user's sessions names them"));
    }

    fn drop_session(&mut self, session: &Session) {
        keys::session_by_token::delete(self.store, session.refresh_token_hash);
        for hash in &session.retired_token_hashes {
            keys::session_by_token::delete(self.store, *hash);
        }
        keys::session_of_user::delete(self.store, session.user, session.id);
        keys::session::delete(self.store, session.id);
        keys::totals::change(self.store, |totals| totals.sessions -= 1);
    }

    fn save_session(&mut self, session: &Session) -> Outcome {
        keys::session_by_token::put(self.store, session.refresh_token_hash, session.id);
        keys::session::put(self.store, session);
        Outcome::Session {
            id: session.id,
            user: session.user,
            expires_at: session.expires_at,
        }
    }

    fn check_unused(&self, hash: TokenHash) -> Result<(), Refusal> {
        match keys::session_by_token::get(self.store, hash) {
            None => Ok(()),
            Some(_) => Err(Refusal::BadCommand),
        }
    }
}

fn check_ttl(ttl_ms: u64) -> Result<(), Refusal> {
    if (1..=MAX_SESSION_TTL_MS).contains(&ttl_ms) {
        Ok(())
    } else {
        Err(Refusal::Invalid(Invalid::SessionTtl))
    }
}
