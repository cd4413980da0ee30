//! Signs the tokens that users log in with: HS256 JWT, claims `app`, `sub`, `iat`, `exp`.
//!
//! An app's own server does the same, by any JWT library, with the secret that `parlance app create` prints.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parlance_proto::ids::{AppId, UserId};
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::exit::NotPossible;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

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
    secret: &str,
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
    let body = serde_json::to_vec(&claims).context("write the token's claims")?;
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(HEADER),
        URL_SAFE_NO_PAD.encode(body)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    Ok((token, claims))
}

/// The secret in a file: its text without the line end.
pub fn secret_of_file(text: &str) -> anyhow::Result<String> {
    let secret = text.trim();
    if secret.is_empty() {
        return Err(NotPossible("the secret is empty".to_owned()).into());
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_with_the_secret_as_it_is() {
        let secret = secret_of_file("psk_00ff10\n").unwrap();
        let (app, user) = (AppId::new("demo").unwrap(), UserId::new("alice").unwrap());
        let (token, claims) = issue(&app, &user, &secret, Duration::from_secs(60)).unwrap();
        assert_eq!(
            (
                claims.app.as_str(),
                claims.sub.as_str(),
                claims.exp - claims.iat
            ),
            ("demo", "alice", 60)
        );
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let is_of = |secret: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
        };
        assert!(is_of("psk_00ff10") && !is_of("another"));
        let body = URL_SAFE_NO_PAD
            .decode(signed.split_once('.').unwrap().1)
            .unwrap();
        assert_eq!(serde_json::from_slice::<Claims>(&body).unwrap(), claims);
    }

    #[test]
    fn a_secret_is_not_empty() {
        assert!(secret_of_file(" \n").is_err());
    }
}
