//! HS256 JWT, claims `app`, `sub`, `iat`, `exp`, and `role` for admins.
//!
//! An app's own server does the same, by any JWT library, with the secret that `parlance app create` prints.

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Serialize;

use super::{ADMIN, Wanted};

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[derive(Serialize)]
struct Claims<'a> {
    app: &'a str,
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
}

pub(super) fn sign(wanted: &Wanted<'_>, secret: &str) -> anyhow::Result<String> {
    let claims = Claims {
        app: wanted.app,
        sub: wanted.user.as_str(),
        iat: wanted.issued,
        exp: wanted.expires,
        role: wanted.admin.then_some(ADMIN),
    };
    let body = serde_json::to_vec(&claims).context("write the token's claims")?;
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(HEADER),
        URL_SAFE_NO_PAD.encode(body)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
