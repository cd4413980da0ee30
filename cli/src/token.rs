//! Signs the tokens that users log in with: HS256 JWT, claims `app`, `sub`, `iat`, `exp`.
//!
//! An app's own server does the same with the secret that `parlance app create` prints.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parlance_proto::ids::{AppId, UserId};
use serde::{Deserialize, Serialize};

use crate::exit::NotPossible;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The app.
    pub app: String,
    /// The user.
    pub sub: String,
    /// When it was signed, in seconds since 1970 UTC.
    pub iat: u64,
    /// When it ends, in seconds since 1970 UTC.
    pub exp: u64,
}

/// Signs a token that is good from now on.
#[allow(
    clippy::disallowed_methods,
    reason = "a token is valid from now on by the machine's clock"
)]
pub fn issue(
    app: &AppId,
    user: &UserId,
    secret: &[u8],
    ttl: Duration,
) -> anyhow::Result<(String, Claims)> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("read the clock: it is before 1970")?
        .as_secs();
    let exp = now.saturating_add(ttl.as_secs());
    let claims = Claims {
        app: app.into(),
        sub: user.into(),
        iat: now,
        exp,
    };
    let key = EncodingKey::from_secret(secret);
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .context("sign the token")?;
    Ok((token, claims))
}

/// The bytes of a secret as `parlance app create` prints it.
pub fn secret_from_hex(text: &str) -> anyhow::Result<Vec<u8>> {
    let bytes =
        hex::decode(text.trim()).map_err(|e| NotPossible(format!("the secret is not hex: {e}")))?;
    if bytes.is_empty() {
        return Err(NotPossible("the secret is empty".to_owned()).into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};

    #[test]
    fn a_token_verifies_with_its_secret_only() {
        let secret = secret_from_hex("00ff10\n").unwrap();
        let (app, user) = (AppId::new("demo").unwrap(), UserId::new("alice").unwrap());
        let (token, claims) = issue(&app, &user, &secret, Duration::from_secs(60)).unwrap();
        let validation = Validation::new(Algorithm::HS256);
        let key = DecodingKey::from_secret(&secret);
        let read = jsonwebtoken::decode::<Claims>(&token, &key, &validation)
            .unwrap()
            .claims;
        assert_eq!(read, claims);
        assert_eq!(
            (read.app.as_str(), read.sub.as_str(), read.exp - read.iat),
            ("demo", "alice", 60)
        );
        let wrong = DecodingKey::from_secret(b"another");
        assert!(jsonwebtoken::decode::<Claims>(&token, &wrong, &validation).is_err());
    }

    #[test]
    fn a_secret_is_hex_and_not_empty() {
        assert!(secret_from_hex("xyz").is_err());
        assert!(secret_from_hex("").is_err());
    }
}
