//! HS256 JSON Web Tokens signed by an app's own server. The algorithm is pinned; `app`, `sub` and `exp` are
//! required, `nbf` is honoured.

use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{AppId, UserId};
use serde::Deserialize;

use super::{App, Credentials, Identity, Role, TOKEN_BYTES_MAX, enabled_app, refused};

/// Seconds that the clock of an app's server may differ from ours.
const LEEWAY_S: u64 = 5;

/// Verifies HS256 JWTs.
#[derive(Debug)]
pub(super) struct JwtVerifier {
    validation: Validation,
}

#[derive(Deserialize)]
struct JwtClaims {
    sub: String,
    /// Seconds since 1970 UTC; some libraries write fractions.
    exp: f64,
}

#[derive(Deserialize)]
struct AppClaim {
    app: String,
}

impl JwtVerifier {
    /// A verifier with the pinned algorithm.
    pub(super) fn new() -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        Self { validation }
    }

    pub(super) fn verify(
        &self,
        credentials: &Credentials,
        apps: impl Fn(&str) -> Option<Arc<App>>,
    ) -> Result<Identity, Error> {
        let token = credentials.token.as_str();
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Err(invalid(format!("a token has 1 to {TOKEN_BYTES_MAX} bytes")));
        }
        // The app that the token claims only says which secrets to try.
        let claimed = jsonwebtoken::dangerous::insecure_decode_claims::<AppClaim>(token)
            .map_err(|_| invalid("the token is not a JWT with the claim `app`"))?;
        let id = AppId::new(claimed.app).map_err(|e| invalid(e.to_string()))?;
        let app = enabled_app(id.as_str(), apps)?;
        let mut refusal = invalid("no secret of the app signed this token");
        for secret in &app.secrets {
            match decode::<JwtClaims>(token, &DecodingKey::from_secret(secret), &self.validation) {
                Ok(data) => {
                    let user = UserId::new(&data.claims.sub).map_err(|e| invalid(e.to_string()))?;
                    return Ok(Identity {
                        app: app.id.clone(),
                        user,
                        role: Role::User,
                        expires_ms: (data.claims.exp * 1000.0) as i64,
                    });
                }
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => {}
                    // The signature was good: another secret cannot do better.
                    ErrorKind::ExpiredSignature => {
                        return Err(refused(ErrorCode::TokenExpired, "the token has expired"));
                    }
                    _ => refusal = invalid(format!("the token is not allowed: {error}")),
                },
            }
        }
        Err(refusal)
    }
}

fn invalid(message: impl Into<String>) -> Error {
    refused(ErrorCode::TokenInvalid, message)
}

#[cfg(test)]
mod tests;
