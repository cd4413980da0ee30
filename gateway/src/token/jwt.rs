//! HS256 JSON Web Tokens signed by an app's own server: `app`, `sub` and `exp` are required, `iat` and `nbf` are honoured.

use std::sync::Arc;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{AppId, UserId};
use serde::Deserialize;

use super::hs256::Token;
use super::{App, Credentials, Grant, Identity, LEEWAY_MS, Role, TOKEN_BYTES_MAX, refused};

/// Times are in seconds since 1970 UTC; some libraries write fractions.
#[derive(Deserialize)]
struct Claims {
    app: String,
    sub: String,
    exp: f64,
    iat: Option<f64>,
    nbf: Option<f64>,
}

/// Whom a token speaks for; `apps` looks an app up.
pub(super) fn verify(
    credentials: &Credentials,
    now_ms: i64,
    apps: impl Fn(&str) -> Option<Arc<App>>,
) -> Result<Identity, Error> {
    let token = credentials.token.as_str();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(invalid(format!("a token has 1 to {TOKEN_BYTES_MAX} bytes")));
    }
    let token =
        Token::read(token).ok_or_else(|| invalid("the token is not a JWT signed with HS256"))?;
    // Until the signature is checked, the app that is claimed only says which secrets to try.
    let claims: Claims = token
        .claims()
        .map_err(|e| invalid(format!("the token needs the claims app, sub and exp: {e}")))?;
    let id = AppId::new(&claims.app).map_err(|e| invalid(e.to_string()))?;
    let app = apps(id.as_str()).ok_or_else(|| {
        let message = format!("app {id:?} is unknown");
        refused(ErrorCode::AppUnknown, message)
    })?;
    let secret = app.secrets.iter().find(|s| token.is_signed_by(&s.key));
    let secret = secret.ok_or_else(|| invalid("no secret of the app signed this token"))?;
    let user = UserId::new(&claims.sub).map_err(|e| invalid(e.to_string()))?;
    let grant = Grant {
        secret_id: secret.id.clone(),
        ..times(&claims, &app, now_ms)?
    };
    Ok(Identity {
        app: app.id.clone(),
        user,
        role: Role::User,
        grant,
    })
}

/// From when to when the token is good, which must include now.
fn times(claims: &Claims, app: &App, now_ms: i64) -> Result<Grant, Error> {
    let ms = |seconds: f64| (seconds * 1000.0) as i64;
    let (expires_ms, life_ms) = (ms(claims.exp), app.token_life_max_ms);
    if expires_ms.saturating_add(LEEWAY_MS) <= now_ms {
        return Err(refused(ErrorCode::TokenExpired, "the token has expired"));
    }
    let latest = now_ms.saturating_add(LEEWAY_MS);
    for (claim, time) in [("nbf", claims.nbf), ("iat", claims.iat)] {
        if time.is_some_and(|time| ms(time) > latest) {
            return Err(invalid(format!("{claim} of the token is in the future")));
        }
    }
    // Without `iat` it may be as old as a token can be.
    let issued_ms = claims.iat.map_or(expires_ms.saturating_sub(life_ms), ms);
    let too_long = expires_ms.saturating_sub(issued_ms) > life_ms
        || expires_ms > latest.saturating_add(life_ms);
    if too_long {
        let life = life_ms / 1000;
        return Err(invalid(format!("a token of this app may live {life} s")));
    }
    Ok(Grant {
        secret_id: Arc::default(),
        issued_ms,
        expires_ms,
    })
}

fn invalid(message: impl Into<String>) -> Error {
    refused(ErrorCode::TokenInvalid, message)
}

#[cfg(test)]
mod tests;
