//! Who a token speaks for. One file a format: another format is another file, and a line in [`verify`].

mod hs256;
mod jwt;

use std::collections::HashMap;
use std::sync::Arc;

use parlance_proto::common::v1::{AppLimits, Error, ErrorCode};
use parlance_proto::ids::{AppId, UserId};

use hs256::Key;

/// A token is a few hundred bytes.
const TOKEN_BYTES_MAX: usize = 4096;
/// How much the clock of an app's server may differ from ours.
pub const LEEWAY_MS: i64 = 5000;

/// What a client shows to log in. Formats that carry app and user in the token itself leave the other fields empty.
#[derive(Default)]
pub struct Credentials {
    /// The app, or empty.
    pub app: String,
    /// The user, or empty.
    pub user: String,
    /// The token.
    pub token: String,
    /// What else the format needs, by name.
    #[allow(dead_code, reason = "JWTs need nothing else; other formats do")]
    pub extra: HashMap<String, String>,
}

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub app: AppId,
    pub user: UserId,
    /// What the user may do.
    pub role: Role,
    /// For how long, and by what.
    pub grant: Grant,
}

/// A token's own part in a login. Times are in ms since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The secret that signed it.
    pub secret_id: Arc<str>,
    /// When it was signed, or the earliest time that it can have been.
    pub issued_ms: i64,
    /// When it ends.
    pub expires_ms: i64,
}

/// What a caller may do beyond what its memberships say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing more.
    User,
}

/// An app, as the cluster's state has it.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Any of these may have signed a token.
    pub secrets: Vec<Secret>,
    /// No one may be logged in.
    pub disabled: bool,
    /// A token may not live longer.
    pub token_life_max_ms: i64,
    /// What its users may do at most.
    pub limits: Option<AppLimits>,
}

/// What signs an app's tokens.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its id.
    pub id: Arc<str>,
    key: Key,
}

impl Secret {
    /// A secret as operators see it: tokens are signed with the bytes of the text.
    pub fn new(id: &str, text: &str) -> Self {
        Self {
            id: id.into(),
            key: Key::new(text),
        }
    }
}

/// Whom the credentials speak for; `apps` looks an app up. The error is for the client.
#[allow(
    clippy::unused_async,
    reason = "formats that ask the app's own server wait here"
)]
pub async fn verify(
    credentials: &Credentials,
    now_ms: i64,
    apps: impl Fn(&str) -> Option<Arc<App>>,
) -> Result<Identity, Error> {
    let identity = jwt::verify(credentials, now_ms, &apps)?;
    for (field, said, meant) in [
        ("login.app_id", &credentials.app, identity.app.as_str()),
        ("login.user_id", &credentials.user, identity.user.as_str()),
    ] {
        if !said.is_empty() && said != meant {
            return Err(Error {
                field: field.into(),
                ..Error::new(ErrorCode::TokenInvalid, "the token is for another one")
            });
        }
    }
    Ok(identity)
}

fn refused(code: ErrorCode, message: impl Into<String>) -> Error {
    Error {
        field: "login.token".into(),
        ..Error::new(code, message)
    }
}
