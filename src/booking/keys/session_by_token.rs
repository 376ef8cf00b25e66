//! Which session a refresh token belongs, or belonged, to.
//!
//! Key: `0x05`, hash of the token 32. Value: [`SessionId`]. Tokens that were exchanged stay here
//! as long as their session remembers them, so that their reuse is noticed.

use super::super::ids::SessionId;
use super::super::secret::TokenHash;
use super::super::store::{Store, StoreMut};

const KIND: u8 = 0x05;

fn key(hash: TokenHash) -> Vec<u8> {
    super::key(KIND, &[hash.expose()])
}

/// The session of a token.
pub(crate) fn get(store: &dyn Store, hash: TokenHash) -> Option<SessionId> {
    super::get(store, &key(hash))
}

/// Notes the session of a token.
pub(crate) fn put(store: &mut dyn StoreMut, hash: TokenHash, session: SessionId) {
    super::put(store, &key(hash), &session);
}

/// Forgets a token.
pub(crate) fn delete(store: &mut dyn StoreMut, hash: TokenHash) {
    store.delete(&key(hash));
}
