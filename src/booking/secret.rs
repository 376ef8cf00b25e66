//! Values that must not appear in a log line: their `Debug` shows a placeholder, and they have
//! no `Display`.

use super::text::TextError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A password's hash in PHC string form (`$argon2id$…`), made before the proposal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash(String);

impl PasswordHash {
    /// The longest PHC string that is kept, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Takes a PHC string.
    ///
    /// # Errors
    /// It is longer than [`Self::MAX_BYTES`], or isn't visible ASCII starting with `$`.
    pub fn new(phc: String) -> Result<PasswordHash, TextError> {
        if phc.len() > Self::MAX_BYTES {
            return Err(TextError::TooLong {
                max_chars: Self::MAX_BYTES,
            });
        }
        if !phc.starts_with('$') || !phc.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TextError::Malformed);
        }
        Ok(PasswordHash(phc))
    }

    /// The PHC string, for the verifier.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = TextError;

    fn try_from(phc: String) -> Result<PasswordHash, TextError> {
        PasswordHash::new(phc)
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> String {
        hash.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// A 256-bit hash of a refresh token; the token itself is known to the client alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> TokenHash {
        TokenHash(bytes)
    }

    /// The bytes of the hash.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// The 256-bit secret that signs access tokens (HS256).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySecret([u8; 32]);

impl KeySecret {
    /// The secret with these bytes, which the proposer drew at random.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> KeySecret {
        KeySecret(bytes)
    }

    /// The bytes, for the signer.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(…)")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let hash = PasswordHash::new("$argon2id$v=19$secret".to_owned()).unwrap();
        let shown = format!(
            "{hash:?} {:?} {:?}",
            TokenHash::new([7; 32]),
            KeySecret::new([7; 32])
        );
        assert_eq!(shown, "PasswordHash(…) TokenHash(…) KeySecret(…)");
    }

    #[test]
    fn what_verifies_and_signs_gets_what_was_put_in() {
        let longest = format!("${}", "a".repeat(PasswordHash::MAX_BYTES - 1));
        let hash = PasswordHash::new(longest.clone()).unwrap();
        assert_eq!(hash.expose(), longest);
        assert_eq!(TokenHash::new([7; 32]).expose(), &[7; 32]);
        assert_eq!(KeySecret::new([8; 32]).expose(), &[8; 32]);
    }

    #[test]
    fn a_plain_password_is_not_taken_for_a_hash() {
        assert!(PasswordHash::new("hunter2".to_owned()).is_err());
        assert!(PasswordHash::new("$with space".to_owned()).is_err());
        assert!(PasswordHash::new(format!("${}", "a".repeat(256))).is_err());
    }
}
