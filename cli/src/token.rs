//! Signs the tokens that users log in with: HS256 JWT, claims `app`, `sub`, `iat`, `exp`.
//!
//! An app's own server does the same with the secret that `parlance app create` prints.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parlance_proto::ids::{check_app_id, check_user_id};
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
pub fn issue(
    app: &str,
    user: &str,
    secret: &[u8],
    ttl: Duration,
) -> anyhow::Result<(String, Claims)> {
    check_app_id(app).map_err(|e| NotPossible(e.to_string()))?;
    check_user_id(user).map_err(|e| NotPossible(e.to_string()))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("read the clock: it is before 1970")?
        .as_secs();
    let exp = now.saturating_add(ttl.as_secs());
    let claims = Claims {
        app: app.to_owned(),
        sub: user.to_owned(),
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
        hex::decode(text.trim()).map_err(|e| NotPossible(format!("the secret is no hex: {e}")))?;
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
        let (token, claims) = issue("demo", "alice", &secret, Duration::from_secs(60)).unwrap();
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
    fn what_no_gateway_would_take_is_not_signed() {
        for (app, user) in [("Demo", "alice"), ("demo", ""), ("demo", "a\nb")] {
            assert!(
                issue(app, user, b"secret", Duration::from_secs(1)).is_err(),
                "{app:?} {user:?}"
            );
        }
        assert!(secret_from_hex("xyz").is_err());
        assert!(secret_from_hex("").is_err());
    }
}
