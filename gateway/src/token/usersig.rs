//! Tencent's UserSig, version 2.0: JSON with an HMAC-SHA256 over five of its fields, deflated, in base64 with three characters
//! of its own. It carries app and user.

use std::io::Read;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use parlance_proto::common::v1::Error;
use ring::hmac;
use serde::Deserialize;

use super::{App, Identity, Key, Role, Times, grant, invalid, known_app, user};

/// Bytes of what a token may inflate to: a user buffer is a few hundred.
const JSON_BYTES_MAX: u64 = 8 * 1024;

/// Libraries write the fields in different orders. Times are in seconds.
#[derive(Deserialize)]
struct Signed {
    #[serde(rename = "TLS.ver")]
    version: String,
    #[serde(rename = "TLS.identifier")]
    user: String,
    #[serde(rename = "TLS.sdkappid")]
    app: u64,
    #[serde(rename = "TLS.time")]
    signed_at: i64,
    #[serde(rename = "TLS.expire")]
    life: i64,
    /// Rights in rooms of another product; they mean nothing here, but they are signed, too.
    #[serde(rename = "TLS.userbuf")]
    user_buffer: Option<String>,
    #[serde(rename = "TLS.sig")]
    signature: String,
}

/// Whom a token speaks for; `apps` looks an app up.
pub(super) fn verify(
    token: &str,
    now_ms: i64,
    apps: impl Fn(&str) -> Option<Arc<App>>,
) -> Result<Identity, Error> {
    let signed = read(token).ok_or_else(|| {
        invalid("the token is none of a JWT, a UserSig 2.0, a Token04 and an alivc token")
    })?;
    let user = user(&signed.user)?;
    let app = known_app(apps, &signed.app.to_string())?;
    // Else a line break in it could end what is signed of one user and begin what is of another.
    let buffer = signed.user_buffer.as_deref().unwrap_or_default();
    if STANDARD.decode(buffer).is_err() {
        return Err(invalid("the UserSig's user buffer is not base64"));
    }
    let signature = STANDARD.decode(&signed.signature);
    let signature = signature.map_err(|_| invalid("the UserSig's signature is not base64"))?;
    let text = signed.text();
    let is_of = |key: &Key| matches!(key, Key::Usersig(key) if hmac::verify(key, text.as_bytes(), &signature).is_ok());
    let secret = app.secrets.iter().find(|s| is_of(&s.key));
    let secret = secret.ok_or_else(|| invalid("no UserSig secret of the app made this token"))?;
    let expires = signed.signed_at.saturating_add(signed.life);
    let times = Times {
        issued_ms: Some(signed.signed_at.saturating_mul(1000)),
        expires_ms: expires.saturating_mul(1000),
    };
    Ok(Identity {
        user,
        grant: grant(&app, secret, Role::User, &times, now_ms)?,
        app: app.id.clone(),
    })
}

impl Signed {
    /// What is signed.
    fn text(&self) -> String {
        let mut text = format!(
            "TLS.identifier:{}\nTLS.sdkappid:{}\nTLS.time:{}\nTLS.expire:{}\n",
            self.user, self.app, self.signed_at, self.life
        );
        if let Some(buffer) = &self.user_buffer {
            text.push_str(&format!("TLS.userbuf:{buffer}\n"));
        }
        text
    }
}

/// Takes a token apart; none if it is not of this format.
fn read(token: &str) -> Option<Signed> {
    let text: String = token
        .chars()
        .map(|c| match c {
            '*' => '+',
            '-' => '/',
            '_' => '=',
            other => other,
        })
        .collect();
    let deflated = STANDARD.decode(text).ok()?;
    let mut json = Vec::new();
    let inflated = ZlibDecoder::new(deflated.as_slice());
    inflated
        .take(JSON_BYTES_MAX + 1)
        .read_to_end(&mut json)
        .ok()?;
    if json.len() as u64 > JSON_BYTES_MAX {
        return None;
    }
    let signed: Signed = serde_json::from_slice(&json).ok()?;
    (signed.version == "2.0").then_some(signed)
}

#[cfg(test)]
mod tests;
