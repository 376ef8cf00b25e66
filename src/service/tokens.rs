//! Access tokens and refresh tokens.
//!
//! An access token is a JSON Web Token signed with HMAC-SHA256 by a key of the replicated state, so that every node can
//! check what any node has signed; `kid` names the key. It lives for minutes and is worth nothing once its session is
//! closed: its holder is looked up in the state at each request. A refresh token is thirty-two random bytes; only its
//! SHA-256 is stored.
//!
//! The library takes its cryptography as a parameter. The provider here knows HMAC-SHA256 and nothing else, so no other
//! algorithm can be talked into use. Expiry is compared against the clock that the service was given, not in the library.

use std::{fmt, sync::Once};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, new_error},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::entropy::{Entropy, random};
use crate::limits::TOKEN_BYTES;

const ISSUER: &str = "mesto";

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it; always the same.
    pub iss: String,
    /// The user's id.
    pub sub: String,
    /// The session's id.
    pub sid: String,
    /// When it was issued, in seconds since the epoch.
    pub iat: u64,
    /// When it ends, in seconds since the epoch.
    pub exp: u64,
}

impl Claims {
    /// Claims of a token that is issued now.
    #[must_use]
    pub fn new(user: String, session: String, now_s: u64, life_s: u64) -> Self {
        Self {
            iss: ISSUER.to_owned(),
            sub: user,
            sid: session,
            iat: now_s,
            exp: now_s.saturating_add(life_s),
        }
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not one of ours, or altered.
    #[error("the token is not valid")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// Signs claims with a key of the state.
///
/// # Errors
/// Fails only where the key is of no use.
pub fn sign(claims: &Claims, kid: &str, secret: &[u8]) -> Result<String, TokenError> {
    install_provider();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(kid.to_owned());
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret))
        .map_err(|_| TokenError::Invalid)
}

/// The id of the key that a token says it was signed with. Nothing of the token is proved yet.
///
/// # Errors
/// Refuses what is no token, is over-long, or names another algorithm.
pub fn key_id(token: &str) -> Result<String, TokenError> {
    if token.len() > TOKEN_BYTES {
        return Err(TokenError::Invalid);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
    if header.alg != Algorithm::HS256 {
        return Err(TokenError::Invalid);
    }
    header.kid.ok_or(TokenError::Invalid)
}

/// The claims of a token, if its signature is right and its time is not over.
///
/// # Errors
/// Says which of the two is wrong.
pub fn verify(token: &str, secret: &[u8], now_s: u64) -> Result<Claims, TokenError> {
    install_provider();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    let claims =
        jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_secret(secret), &validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
    if now_s >= claims.exp {
        Err(TokenError::Expired)
    } else {
        Ok(claims)
    }
}

/// A refresh token, as its holder has it. It shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken([u8; 32]);

impl RefreshToken {
    /// A new one.
    #[must_use]
    pub fn random(entropy: &dyn Entropy) -> Self {
        Self(random(entropy))
    }

    /// Parses what [`RefreshToken::reveal`] gave.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 43 {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The text for its holder.
    #[must_use]
    pub fn reveal(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the state keeps.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(redacted)")
    }
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => Ok(Box::new(HmacSha256::new(key.as_bytes())?)),
        _ => Err(new_error(ErrorKind::InvalidAlgorithm)),
    },
    verifier_factory: |algorithm, key| match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => {
            Ok(Box::new(HmacSha256::new(key.try_get_as_bytes()?)?))
        }
        _ => Err(new_error(ErrorKind::InvalidAlgorithm)),
    },
    key_utils: KeyUtils::new_unimplemented(),
};

fn install_provider() {
    static ONCE: Once = Once::new();
    // Another provider can only have been installed by this process itself, and nothing else in it does so.
    ONCE.call_once(|| {
        PROVIDER
            .install_default()
            .expect("no other provider is installed in this process");
    });
}

struct HmacSha256(Hmac<Sha256>);

impl HmacSha256 {
    fn new(secret: &[u8]) -> Result<Self, jsonwebtoken::errors::Error> {
        Hmac::new_from_slice(secret)
            .map(Self)
            .map_err(|_| new_error(ErrorKind::InvalidKeyFormat))
    }
}

impl signature::Signer<Vec<u8>> for HmacSha256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mut mac = self.0.clone();
        mac.update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

impl signature::Verifier<Vec<u8>> for HmacSha256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let mut mac = self.0.clone();
        mac.update(message);
        mac.verify_slice(signature)
            .map_err(signature::Error::from_source)
    }
}

impl JwtSigner for HmacSha256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for HmacSha256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::entropy::SeededEntropy;

    const SECRET: &[u8] = &[9; 32];

    fn token() -> String {
        let claims = Claims::new("usr_1".to_owned(), "ses_1".to_owned(), 1_000, 900);
        sign(&claims, "key_1", SECRET).expect("the key is of use")
    }

    #[test]
    fn what_was_signed_is_accepted_until_it_expires() {
        let token = token();
        assert_eq!(key_id(&token), Ok("key_1".to_owned()));
        let claims = verify(&token, SECRET, 1_899).expect("still valid");
        assert_eq!(
            (claims.sub.as_str(), claims.sid.as_str(), claims.exp),
            ("usr_1", "ses_1", 1_900)
        );
        assert_eq!(verify(&token, SECRET, 1_900), Err(TokenError::Expired));
    }

    #[test]
    fn any_altered_character_is_noticed() {
        let token = token();
        assert_eq!(verify(&token, &[8; 32], 1_000), Err(TokenError::Invalid));
        for position in (0..token.len()).step_by(7) {
            let mut altered = token.clone().into_bytes();
            altered[position] = if altered[position] == b'A' {
                b'B'
            } else {
                b'A'
            };
            let altered = String::from_utf8(altered).expect("still ASCII");
            assert_eq!(
                verify(&altered, SECRET, 1_000),
                Err(TokenError::Invalid),
                "at {position}"
            );
        }
    }

    #[test]
    fn other_algorithms_and_nonsense_are_refused() {
        let none = format!(
            "{}.{}.",
            BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"key_1"}"#),
            BASE64_URL_SAFE_NO_PAD
                .encode(r#"{"iss":"mesto","sub":"usr_1","sid":"ses_1","iat":0,"exp":99999999999}"#)
        );
        let hs512 = format!(
            "{}.e30.AAAA",
            BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS512","kid":"key_1"}"#)
        );
        let keyless = format!(
            "{}.e30.AAAA",
            BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#)
        );
        for bad in [
            "",
            ".",
            "..",
            "a.b.c",
            "🦀.🦀.🦀",
            &none,
            &hs512,
            &keyless,
            &"x".repeat(5_000),
        ] {
            assert_eq!(key_id(bad), Err(TokenError::Invalid), "{bad}");
            assert_eq!(
                verify(bad, SECRET, 1_000),
                Err(TokenError::Invalid),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_refresh_token_is_read_back_and_hides_itself() {
        let token = RefreshToken::random(&SeededEntropy::new(1));
        let text = token.reveal();
        assert_eq!(RefreshToken::parse(&text), Some(token.clone()));
        assert!(!format!("{token:?}").contains(&text));
        for bad in [
            "",
            "short",
            &format!("{text}A"),
            &text.replace(&text[..1], "*"),
            &"я".repeat(43),
        ] {
            assert_eq!(RefreshToken::parse(bad), None, "{bad}");
        }
    }
}
