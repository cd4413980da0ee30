//! HS256 JSON Web Tokens signed by an app's own server: `app`, `sub` and `exp` are required, `iat`, `nbf` and `role` are
//! honoured.

use std::sync::Arc;

use parlance_proto::common::v1::Error;
use serde::Deserialize;

use super::hs256::Token;
use super::{App, Identity, Key, LEEWAY_MS, Role, Times, grant, invalid, known_app, user};

/// Times are in seconds since 1970 UTC; some libraries write fractions.
#[derive(Deserialize)]
struct Claims {
    app: String,
    sub: String,
    exp: f64,
    iat: Option<f64>,
    nbf: Option<f64>,
    role: Option<ClaimedRole>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ClaimedRole {
    User,
    Admin,
}

/// Whom a token speaks for; `apps` looks an app up.
pub(super) fn verify(
    token: &str,
    now_ms: i64,
    apps: impl Fn(&str) -> Option<Arc<App>>,
) -> Result<Identity, Error> {
    let token =
        Token::read(token).ok_or_else(|| invalid("the token is not a JWT signed with HS256"))?;
    // Until the signature is checked, the app that is claimed only says which secrets to try.
    let claims: Claims = token.claims().map_err(|e| {
        let needs = "the token needs the claims app, sub and exp; role is user or admin";
        invalid(format!("{needs}: {e}"))
    })?;
    let app = known_app(apps, &claims.app)?;
    let signed = |key: &Key| matches!(key, Key::Jwt(key) if token.is_signed_by(key));
    let secret = app.secrets.iter().find(|s| signed(&s.key));
    let secret = secret.ok_or_else(|| invalid("no secret of the app signed this token"))?;
    let ms = |seconds: f64| (seconds * 1000.0) as i64;
    let early = |nbf: f64| ms(nbf) > now_ms.saturating_add(LEEWAY_MS);
    if claims.nbf.is_some_and(early) {
        return Err(invalid("nbf of the token is in the future"));
    }
    let times = Times {
        issued_ms: claims.iat.map(ms),
        expires_ms: ms(claims.exp),
    };
    let role = match claims.role {
        Some(ClaimedRole::Admin) => Role::Admin,
        Some(ClaimedRole::User) | None => Role::User,
    };
    Ok(Identity {
        user: user(&claims.sub)?,
        grant: grant(&app, secret, role, &times, now_ms)?,
        app: app.id.clone(),
    })
}

#[cfg(test)]
pub(super) mod tests;
