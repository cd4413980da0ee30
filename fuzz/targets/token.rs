//! Tokens: garbled ones, and well-signed ones with any claims. None may speak for somebody whom it does not name.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use libfuzzer_sys::fuzz_target;

#[allow(
    dead_code,
    reason = "the gateway's own file, of which this uses a part"
)]
#[path = "../../gateway/src/token/mod.rs"]
mod token;

use token::{AppSecrets, JwtVerifier, TokenVerifier};

const SECRET: &[u8] = b"a secret of thirty-two bytes ...";
static VERIFIER: LazyLock<JwtVerifier> = LazyLock::new(JwtVerifier::new);

fn secrets(app: &str) -> Option<AppSecrets> {
    let secrets = vec![Bytes::from_static(SECRET)];
    (app == "demo").then_some(AppSecrets {
        secrets,
        disabled: false,
    })
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(
            VERIFIER.verify(text, &secrets).is_err(),
            "a token that nobody signed"
        );
    }
    let Ok(claims) = serde_json::from_slice::<serde_json::Value>(data) else {
        return;
    };
    let Ok(signed) = encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(SECRET),
    ) else {
        return;
    };
    if let Ok(speaker) = VERIFIER.verify(&signed, &secrets) {
        assert_eq!(speaker.app_id, "demo");
        assert_eq!(
            claims.get("sub").and_then(|sub| sub.as_str()),
            Some(speaker.user_id.as_str())
        );
    }
});
