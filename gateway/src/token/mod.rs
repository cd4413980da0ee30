//! Who a token speaks for. One file a format: another format is another file, and a line in [`Verifier::verify`].

mod jwt;

use std::collections::HashMap;
use std::sync::Arc;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{AppId, UserId};

use jwt::JwtVerifier;

/// A token is a few hundred bytes.
const TOKEN_BYTES_MAX: usize = 4096;

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
    /// When the token ends, in ms since 1970 UTC. Checked at login only: a session stays until it reconnects.
    pub expires_ms: i64,
}

/// What a caller may do beyond what its memberships say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing more.
    User,
}

/// An app, as the cluster's state has it.
#[derive(Clone)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Any of these may have signed a token.
    pub secrets: Vec<bytes::Bytes>,
    /// No one may log in.
    pub disabled: bool,
}

/// Without the secrets.
impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("id", &self.id)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// Verifies what clients show.
#[derive(Debug)]
pub struct Verifier {
    jwt: JwtVerifier,
}

impl Verifier {
    /// A verifier of all formats.
    pub fn new() -> Self {
        Self {
            jwt: JwtVerifier::new(),
        }
    }

    /// Whom the credentials speak for; `apps` looks an app up. The error is for the client.
    #[allow(
        clippy::unused_async,
        reason = "formats that ask the app's own server wait here"
    )]
    pub async fn verify(
        &self,
        credentials: &Credentials,
        apps: impl Fn(&str) -> Option<Arc<App>>,
    ) -> Result<Identity, Error> {
        let identity = self.jwt.verify(credentials, &apps)?;
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
}

/// The app, if its users may log in.
fn enabled_app(id: &str, apps: impl Fn(&str) -> Option<Arc<App>>) -> Result<Arc<App>, Error> {
    apps(id).filter(|app| !app.disabled).ok_or_else(|| {
        let message = format!("app {id:?} is unknown or disabled");
        refused(ErrorCode::AppUnknown, message)
    })
}

fn refused(code: ErrorCode, message: impl Into<String>) -> Error {
    Error {
        field: "login.token".into(),
        ..Error::new(code, message)
    }
}
