//! Which tokens are good, and why each of the others is not.

use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};

use super::*;

fn signed(algorithm: Algorithm, claims: &Value, secret: &[u8]) -> String {
    encode(
        &Header::new(algorithm),
        claims,
        &EncodingKey::from_secret(secret),
    )
    .unwrap()
}

fn verify(token: &str) -> Result<Identity, ErrorCode> {
    let apps = |id: &str| {
        let secrets: Vec<bytes::Bytes> = match id {
            "demo" => vec!["old".into(), "new".into()],
            "off" => vec!["new".into()],
            _ => return None,
        };
        Some(Arc::new(App {
            id: AppId::new(id).unwrap(),
            secrets,
            disabled: id == "off",
        }))
    };
    let credentials = Credentials {
        token: token.to_owned(),
        ..Credentials::default()
    };
    JwtVerifier::new()
        .verify(&credentials, apps)
        .map_err(|e| e.code())
}

#[test]
fn any_secret_of_the_app_may_have_signed() {
    let claims = json!({"app": "demo", "sub": "alice", "exp": get_current_timestamp() + 60});
    for secret in ["old", "new"] {
        let who = verify(&signed(Algorithm::HS256, &claims, secret.as_bytes())).unwrap();
        assert_eq!((who.app.as_str(), who.user.as_str()), ("demo", "alice"));
        assert!(who.expires_ms > 1000 * i64::try_from(get_current_timestamp()).unwrap());
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn bad_tokens_get_their_code() {
    let now = get_current_timestamp();
    let good = json!({"app": "demo", "sub": "alice", "exp": now + 60});
    let token = signed(Algorithm::HS256, &good, b"new");
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (_, body) = head.split_once('.').unwrap();
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
    let with = |claims: Value| signed(Algorithm::HS256, &claims, b"new");
    let rows = [
        ("empty", String::new(), ErrorCode::TokenInvalid),
        ("garbled", "a.b.c".into(), ErrorCode::TokenInvalid),
        ("cut", head.into(), ErrorCode::TokenInvalid),
        (
            "too long",
            "a".repeat(TOKEN_BYTES_MAX + 1),
            ErrorCode::TokenInvalid,
        ),
        (
            "other secret",
            signed(Algorithm::HS256, &good, b"guess"),
            ErrorCode::TokenInvalid,
        ),
        (
            "HS512",
            signed(Algorithm::HS512, &good, b"new"),
            ErrorCode::TokenInvalid,
        ),
        ("alg none", none.clone(), ErrorCode::TokenInvalid),
        (
            "alg none with a signature",
            format!("{none}{signature}"),
            ErrorCode::TokenInvalid,
        ),
        (
            "no exp",
            with(json!({"app": "demo", "sub": "alice"})),
            ErrorCode::TokenInvalid,
        ),
        (
            "no sub",
            with(json!({"app": "demo", "exp": now + 60})),
            ErrorCode::TokenInvalid,
        ),
        (
            "no app",
            with(json!({"sub": "alice", "exp": now + 60})),
            ErrorCode::TokenInvalid,
        ),
        (
            "sub is no id",
            with(json!({"app": "demo", "sub": "a\nb", "exp": now + 60})),
            ErrorCode::TokenInvalid,
        ),
        (
            "not yet",
            with(json!({"app": "demo", "sub": "a", "exp": now + 60, "nbf": now + 50})),
            ErrorCode::TokenInvalid,
        ),
        (
            "expired",
            with(json!({"app": "demo", "sub": "alice", "exp": now - 60})),
            ErrorCode::TokenExpired,
        ),
        (
            "foreign app",
            with(json!({"app": "other", "sub": "alice", "exp": now + 60})),
            ErrorCode::AppUnknown,
        ),
        (
            "disabled app",
            with(json!({"app": "off", "sub": "alice", "exp": now + 60})),
            ErrorCode::AppUnknown,
        ),
    ];
    for (name, token, code) in rows {
        assert_eq!(verify(&token).unwrap_err(), code, "{name}");
    }
}
