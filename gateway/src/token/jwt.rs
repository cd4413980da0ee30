//! HS256 JSON Web Tokens signed by an app's own server. The algorithm is pinned; `app`, `sub` and `exp` are
//! required, `nbf` is honoured.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{check_app_id, check_user_id};
use serde::Deserialize;

use super::{AppSecrets, Claims, TOKEN_BYTES_MAX, TokenVerifier};

/// Seconds that the clock of an app's server may differ from ours.
const LEEWAY_S: u64 = 5;

/// Verifies HS256 JWTs.
#[derive(Debug)]
pub struct JwtVerifier {
    validation: Validation,
}

#[derive(Deserialize)]
struct JwtClaims {
    app: String,
    sub: String,
}

#[derive(Deserialize)]
struct AppClaim {
    app: String,
}

impl JwtVerifier {
    /// A verifier with the pinned algorithm.
    pub fn new() -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        Self { validation }
    }
}

impl Default for JwtVerifier {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenVerifier for JwtVerifier {
    fn verify(
        &self,
        token: &str,
        secrets: &dyn Fn(&str) -> Option<AppSecrets>,
    ) -> Result<Claims, Error> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Err(invalid(format!("a token has 1 to {TOKEN_BYTES_MAX} bytes")));
        }
        // The app that the token claims only says which secrets to try.
        let claimed = jsonwebtoken::dangerous::insecure_decode_claims::<AppClaim>(token)
            .map_err(|_| invalid("the token is no JWT with the claim `app`"))?;
        check_app_id(&claimed.app).map_err(|e| invalid(e.to_string()))?;
        let app = secrets(&claimed.app)
            .filter(|app| !app.disabled)
            .ok_or_else(|| Error {
                field: "login.token".into(),
                ..Error::new(
                    ErrorCode::AppUnknown,
                    format!("app {:?} is unknown or disabled", claimed.app),
                )
            })?;
        let mut refusal = invalid("no secret of the app signed this token");
        for secret in &app.secrets {
            match decode::<JwtClaims>(token, &DecodingKey::from_secret(secret), &self.validation) {
                Ok(data) => {
                    check_user_id(&data.claims.sub).map_err(|e| invalid(e.to_string()))?;
                    return Ok(Claims {
                        app_id: data.claims.app,
                        user_id: data.claims.sub,
                    });
                }
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => {}
                    // The signature was good: another secret cannot do better.
                    ErrorKind::ExpiredSignature => {
                        return Err(Error {
                            field: "login.token".into(),
                            ..Error::new(ErrorCode::TokenExpired, "the token has expired")
                        });
                    }
                    _ => refusal = invalid(format!("the token is not allowed: {error}")),
                },
            }
        }
        Err(refusal)
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error {
        field: "login.token".into(),
        ..Error::new(ErrorCode::TokenInvalid, message)
    }
}

#[cfg(test)]
mod tests;
