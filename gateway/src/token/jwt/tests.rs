//! Which tokens are good, and why each of the others is not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parlance_proto::common::v1::{ErrorCode, TokenFormat, TokenPolicy};
use parlance_proto::ids::AppId;
use ring::hmac;
use serde_json::{Value, json};

use super::super::{Secret, TOKEN_BYTES_MAX};
use super::*;

/// Seconds since 1970 UTC.
const NOW: i64 = 1_800_000_000;

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn assembled(header: &Value, claims: &Value, secret: &str) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn signed(claims: &Value, secret: &str) -> String {
    assembled(&json!({"alg": "HS256", "typ": "JWT"}), claims, secret)
}

/// A good token of another app and user.
pub(in crate::token) fn signed_by(secret: &str, app: &str, user: &str, exp: i64) -> String {
    signed(&json!({"app": app, "sub": user, "exp": exp}), secret)
}

fn verified(token: &str) -> Result<Identity, Error> {
    let apps = |id: &str| {
        (id == "demo").then(|| {
            Arc::new(App {
                id: AppId::new(id).unwrap(),
                secrets: [("1", "old"), ("2", "new")]
                    .map(|(id, text)| Secret::new(id, TokenFormat::Jwt, text).unwrap())
                    .into(),
                policy: TokenPolicy::default(),
                disabled: false,
                token_life_max_ms: 3_600_000,
                token_life_ever_ms: 7_200_000,
                limits: None,
            })
        })
    };
    verify(token, NOW * 1000, apps)
}

fn refusal(token: &str) -> ErrorCode {
    verified(token).unwrap_err().code()
}

#[test]
fn any_secret_of_the_app_may_have_signed_and_it_is_known_which() {
    let claims = json!({"app": "demo", "sub": "alice", "iat": NOW - 5, "exp": NOW + 60});
    for (id, secret) in [("1", "old"), ("2", "new")] {
        let who = verified(&signed(&claims, secret)).unwrap();
        assert_eq!((who.app.as_str(), who.user.as_str()), ("demo", "alice"));
        assert_eq!(&*who.grant.secret_id, id);
        assert_eq!(who.grant.issued_ms, (NOW - 5) * 1000);
        assert_eq!(who.grant.expires_ms, (NOW + 60) * 1000);
    }
}

#[test]
fn a_token_without_iat_counts_as_old_as_it_may_be() {
    let claims = json!({"app": "demo", "sub": "alice", "exp": NOW as f64 + 60.5});
    let grant = verified(&signed(&claims, "new")).unwrap().grant;
    assert_eq!(grant.expires_ms, NOW * 1000 + 60_500);
    assert_eq!(
        grant.issued_ms,
        grant.expires_ms - 7_200_000,
        "as it ever was"
    );
}

#[test]
fn clocks_may_differ_by_seconds() {
    let with = |claim: &str, time: i64| {
        let mut claims = json!({"app": "demo", "sub": "alice", "exp": NOW + 60});
        claims[claim] = time.into();
        verified(&signed(&claims, "new")).is_ok()
    };
    for (claim, sign) in [("iat", 1), ("nbf", 1), ("exp", -1)] {
        assert!(with(claim, NOW + sign * 4), "{claim}");
        assert!(!with(claim, NOW + sign * 6), "{claim}");
    }
}

#[test]
fn bad_tokens_get_their_code() {
    let good = json!({"app": "demo", "sub": "alice", "exp": NOW + 60});
    let token = signed(&good, "new");
    let (head, signature) = token.rsplit_once('.').unwrap();
    let with = |claims: Value| signed(&claims, "new");
    let header = |alg: &str| assembled(&json!({"alg": alg}), &good, "new");
    let none = header("none");
    let rows = [
        ("empty", String::new()),
        ("garbled", "a.b.c".into()),
        ("cut", head.into()),
        ("without a signature", format!("{head}.")),
        (
            "with half a signature",
            format!("{head}.{}", &signature[..20]),
        ),
        ("padded", format!("{token}=")),
        ("too long", "a".repeat(TOKEN_BYTES_MAX + 1)),
        ("other secret", signed(&good, "guess")),
        ("HS512", header("HS512")),
        ("alg none with a signature", none.clone()),
        ("alg none", format!("{}.", none.rsplit_once('.').unwrap().0)),
        ("no exp", with(json!({"app": "demo", "sub": "alice"}))),
        ("no sub", with(json!({"app": "demo", "exp": NOW + 60}))),
        ("no app", with(json!({"sub": "alice", "exp": NOW + 60}))),
        (
            "exp is a text",
            with(json!({"app": "demo", "sub": "a", "exp": "soon"})),
        ),
        (
            "sub is no id",
            with(json!({"app": "demo", "sub": "a\nb", "exp": NOW + 60})),
        ),
        (
            "not yet",
            with(json!({"app": "demo", "sub": "a", "exp": NOW + 60, "nbf": NOW + 50})),
        ),
        (
            "of tomorrow",
            with(json!({"app": "demo", "sub": "a", "exp": NOW + 60, "iat": NOW + 50})),
        ),
        (
            "lives too long",
            with(json!({"app": "demo", "sub": "a", "exp": NOW + 3600, "iat": NOW - 1})),
        ),
        (
            "ends too late",
            with(json!({"app": "demo", "sub": "a", "exp": NOW + 3700})),
        ),
        (
            "never ends",
            with(json!({"app": "demo", "sub": "a", "exp": 1e300})),
        ),
    ];
    for (name, token) in rows {
        assert_eq!(refusal(&token), ErrorCode::TokenInvalid, "{name}");
    }
    let expired = json!({"app": "demo", "sub": "alice", "exp": NOW - 60});
    assert_eq!(refusal(&with(expired)), ErrorCode::TokenExpired);
    let foreign = json!({"app": "other", "sub": "alice", "exp": NOW + 60});
    assert_eq!(refusal(&with(foreign)), ErrorCode::AppUnknown);
}
