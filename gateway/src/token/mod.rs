//! Who a token speaks for. One file a format: another format is another file, and a line in [`verify`] and [`Secret::new`].

mod alivc;
mod hs256;
mod jwt;
mod token04;
mod usersig;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parlance_proto::common::v1::{AppLimits, Error, ErrorCode, TokenFormat, TokenPolicy};
use parlance_proto::ids::{AppAlias, AppId, UserId};
use ring::hmac;

/// A token is a few hundred bytes.
const TOKEN_BYTES_MAX: usize = 4096;
/// How much the clock of an app's server may differ from ours.
pub const LEEWAY_MS: i64 = 5000;

/// What a client shows to log in. Formats that carry app and user in the token itself leave the other fields empty.
#[derive(Default)]
pub struct Credentials {
    /// The app's id or an alias, or empty.
    pub app: String,
    /// The user, or empty.
    pub user: String,
    /// The token.
    pub token: String,
    /// What else the format needs, by name.
    pub extra: HashMap<String, String>,
}

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub app: AppId,
    pub user: UserId,
    /// What for, for how long, and by what.
    pub grant: Grant,
}

/// A token's own part in a login. Times are in ms since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The secret that signed it.
    pub secret_id: Arc<str>,
    /// What the user may do.
    pub role: Role,
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
    /// Everything in the app.
    Admin,
}

/// An app, as the cluster's state has it.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Any of these may have signed a token of its format.
    pub secrets: Vec<Secret>,
    /// How strict it is.
    pub policy: TokenPolicy,
    /// No one may be logged in.
    pub disabled: bool,
    /// A token may not live longer.
    pub token_life_max_ms: i64,
    /// The longest that it ever was.
    pub token_life_ever_ms: i64,
    /// What its users may do at most.
    pub limits: Option<AppLimits>,
}

/// What makes and checks an app's tokens of one format.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its id.
    pub id: Arc<str>,
    key: Key,
}

#[derive(Clone)]
enum Key {
    Jwt(hmac::Key),
    Usersig(hmac::Key),
    Token04(Box<token04::Keys>),
    Alivc(Box<str>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Secret {
    /// A secret as operators see it; none if this gateway does not know the format, or the text is no secret of it.
    pub fn new(id: &str, format: TokenFormat, text: &str) -> Option<Self> {
        let signs = || hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes());
        let key = match format {
            TokenFormat::Unspecified | TokenFormat::Jwt => Key::Jwt(signs()),
            TokenFormat::Usersig => Key::Usersig(signs()),
            TokenFormat::Token04 => Key::Token04(Box::new(token04::Keys::new(text)?)),
            TokenFormat::Alivc => Key::Alivc(text.into()),
        };
        let id = id.into();
        Some(Self { id, key })
    }
}

/// Whom the credentials speak for; `apps` looks an app up by its id or an alias. The error is for the client.
#[allow(
    clippy::unused_async,
    reason = "formats that ask the app's own server wait here"
)]
pub async fn verify(
    credentials: &Credentials,
    now_ms: i64,
    apps: impl Fn(&str) -> Option<Arc<App>>,
) -> Result<Identity, Error> {
    let token = credentials.token.as_str();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(invalid(format!("a token has 1 to {TOKEN_BYTES_MAX} bytes")));
    }
    // Each format has a shape that none of the others can have.
    let identity = if token.contains('.') {
        jwt::verify(token, now_ms, &apps)
    } else if alivc::looks_like(token) {
        alivc::verify(credentials, now_ms, &apps)
    } else if token04::looks_like(token) {
        token04::verify(credentials, now_ms, &apps)
    } else {
        usersig::verify(token, now_ms, &apps)
    }?;
    let said = (credentials.app.as_str(), credentials.user.as_str());
    let same_app = said.0.is_empty() || apps(said.0).is_some_and(|app| app.id == identity.app);
    let same_user = said.1.is_empty() || said.1 == identity.user.as_str();
    for (field, same) in [("login.app_id", same_app), ("login.user_id", same_user)] {
        if !same {
            return Err(Error {
                field: field.into(),
                ..Error::new(ErrorCode::TokenInvalid, "the token is for another one")
            });
        }
    }
    Ok(identity)
}

/// What a token says of its time. In ms since 1970 UTC.
struct Times {
    /// When it was signed, if it says so.
    issued_ms: Option<i64>,
    expires_ms: i64,
}

/// A token is good now, and does not live too long.
fn grant(
    app: &App,
    secret: &Secret,
    role: Role,
    times: &Times,
    now_ms: i64,
) -> Result<Grant, Error> {
    let (expires_ms, life_ms) = (times.expires_ms, app.token_life_max_ms);
    if expires_ms.saturating_add(LEEWAY_MS) <= now_ms {
        return Err(refused(ErrorCode::TokenExpired, "the token has expired"));
    }
    let latest = now_ms.saturating_add(LEEWAY_MS);
    if times.issued_ms.is_some_and(|issued_ms| issued_ms > latest) {
        return Err(invalid("the token was signed in the future"));
    }
    let lives = |issued_ms: i64| expires_ms.saturating_sub(issued_ms);
    let too_long = times.issued_ms.is_some_and(|at| lives(at) > life_ms)
        || expires_ms > latest.saturating_add(life_ms);
    if too_long {
        let life = life_ms / 1000;
        return Err(invalid(format!("a token of this app may live {life} s")));
    }
    // If it does not say, it may be as old as a token can be.
    let oldest = || expires_ms.saturating_sub(app.token_life_ever_ms.max(life_ms));
    let issued_ms = times.issued_ms.unwrap_or_else(oldest);
    Ok(Grant {
        secret_id: secret.id.clone(),
        role,
        issued_ms,
        expires_ms,
    })
}

/// An app by what a token or a client calls it.
fn known_app(apps: impl Fn(&str) -> Option<Arc<App>>, name: &str) -> Result<Arc<App>, Error> {
    AppAlias::new(name).map_err(|e| invalid(e.to_string()))?;
    apps(name).ok_or_else(|| {
        let message = format!("app {name:?} is unknown");
        refused(ErrorCode::AppUnknown, message)
    })
}

fn user(id: &str) -> Result<UserId, Error> {
    UserId::new(id).map_err(|e| invalid(e.to_string()))
}

fn invalid(message: impl Into<String>) -> Error {
    refused(ErrorCode::TokenInvalid, message)
}

fn refused(code: ErrorCode, message: impl Into<String>) -> Error {
    Error {
        field: "login.token".into(),
        ..Error::new(code, message)
    }
}

#[cfg(test)]
mod tests;
