//! Who a token speaks for: the one seam through which other token formats come in later.

mod jwt;

use parlance_proto::common::v1::Error;

pub use jwt::JwtVerifier;

/// A token of ours is a few hundred bytes.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Whom a token speaks for. Checked at login only: a session whose token runs out stays until it reconnects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The app.
    pub app_id: String,
    /// The user.
    pub user_id: String,
}

/// The secrets of an app, as the cluster's state has them.
#[derive(Debug, Clone, Default)]
pub struct AppSecrets {
    /// Any of these may have signed.
    pub secrets: Vec<bytes::Bytes>,
    /// No one may log in.
    pub disabled: bool,
}

/// Verifies tokens.
pub trait TokenVerifier: Send + Sync {
    /// Whom the token speaks for; `secrets` looks an app up. The error is for the client.
    fn verify(
        &self,
        token: &str,
        secrets: &dyn Fn(&str) -> Option<AppSecrets>,
    ) -> Result<Claims, Error>;
}
