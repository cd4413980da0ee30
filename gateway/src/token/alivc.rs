//! Alibaba's interactive messaging: the SHA-256, in hex, of app id, AppKey, user id, nonce, expiry and role written one behind
//! the other. The token itself is only the hash; the client says the rest (`extra`: `nonce`, `timestamp`, `role`).
//!
//! Nothing separates the fields, so one token fits several splits of the same text. The expiry has exactly ten digits, which
//! keeps a nonce's last digits out of it; an app may ask for nonces that begin with `AK-`, which keeps user ids apart from them.

use std::sync::Arc;

use parlance_proto::common::v1::{Error, ErrorCode};
use ring::digest::{SHA256, digest};

use super::{App, Credentials, Identity, Key, Role, Times, grant, invalid, known_app, user};

const HEX_DIGITS: usize = 64;
const NONCE_BYTES_MAX: usize = 64;
const NONCE_PREFIX: &str = "AK-";
const TIMESTAMP_DIGITS: usize = 10;

/// Whether a token can be of this format.
pub(super) fn looks_like(token: &str) -> bool {
    let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    token.len() == HEX_DIGITS && token.bytes().all(is_hex)
}

/// Whom a token speaks for; `apps` looks an app up.
pub(super) fn verify(
    credentials: &Credentials,
    now_ms: i64,
    apps: impl Fn(&str) -> Option<Arc<App>>,
) -> Result<Identity, Error> {
    let extra = |name: &str| credentials.extra.get(name).map_or("", String::as_str);
    let (nonce, timestamp) = (extra("nonce"), extra("timestamp"));
    for (field, said) in [
        ("login.app_id", &credentials.app),
        ("login.user_id", &credentials.user),
    ] {
        if said.is_empty() {
            let message = "an alivc token does not carry it: it is needed";
            return Err(Error {
                field: field.into(),
                ..Error::new(ErrorCode::TokenInvalid, message)
            });
        }
    }
    let digits = timestamp.bytes().all(|b| b.is_ascii_digit());
    let expires: Option<i64> = timestamp.parse().ok();
    let (Some(expires), true, TIMESTAMP_DIGITS) = (expires, digits, timestamp.len()) else {
        return Err(invalid(
            "extra.timestamp is the expiry in seconds since 1970: 10 digits",
        ));
    };
    let role = match extra("role") {
        "" => Role::User,
        "admin" => Role::Admin,
        _ => return Err(invalid("extra.role is admin or empty")),
    };
    // Nothing else: what SHA-256 pads with could be said to be a part of it.
    let of_nonce = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if nonce.len() > NONCE_BYTES_MAX || !nonce.bytes().all(of_nonce) {
        let message =
            format!("extra.nonce has at most {NONCE_BYTES_MAX} of A-Z, a-z, 0-9, - and _");
        return Err(invalid(message));
    }
    let user = user(&credentials.user)?;
    let app = known_app(&apps, &credentials.app)?;
    let apart = nonce.starts_with(NONCE_PREFIX) && !credentials.user.contains(NONCE_PREFIX);
    if app.policy.alivc_nonce_prefix && !apart {
        let message = format!(
            "this app takes only nonces that begin with {NONCE_PREFIX}, and user ids without it"
        );
        return Err(invalid(message));
    }
    let made = |key: &Key| {
        let Key::Alivc(app_key) = key else {
            return false;
        };
        let fields = [
            &*credentials.app,
            app_key,
            &credentials.user,
            nonce,
            timestamp,
            extra("role"),
        ];
        let hash = digest(&SHA256, fields.concat().as_bytes());
        is_hex_of(&credentials.token, hash.as_ref())
    };
    let secret = app.secrets.iter().find(|s| made(&s.key));
    let secret = secret.ok_or_else(|| invalid("no alivc secret of the app made this token"))?;
    let times = Times {
        issued_ms: None,
        expires_ms: expires.saturating_mul(1000),
    };
    Ok(Identity {
        user,
        grant: grant(&app, secret, role, &times, now_ms)?,
        app: app.id.clone(),
    })
}

/// Takes the same time wherever they differ.
fn is_hex_of(text: &str, bytes: &[u8]) -> bool {
    let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    constant_time_eq::constant_time_eq(text.as_bytes(), expected.as_bytes())
}

#[cfg(test)]
pub(super) mod tests;
