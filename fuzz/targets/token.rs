//! Tokens: garbled ones, and well-signed ones with any claims. None may speak for somebody whom it does not name.
#![no_main]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::executor::block_on;
use libfuzzer_sys::fuzz_target;
use parlance_proto::common::v1::Error;
use parlance_proto::ids::AppId;
use ring::hmac;

#[allow(
    dead_code,
    reason = "the gateway's own file, of which this uses a part"
)]
#[path = "../../gateway/src/token/mod.rs"]
mod token;

use token::{App, Credentials, Identity, Secret};

const SECRET: &str = "a secret of thirty-two bytes ...";
/// ms since 1970 UTC.
const NOW: i64 = 1_800_000_000_000;

fn app(id: &str) -> Option<Arc<App>> {
    let demo = App {
        id: AppId::new("demo").ok()?,
        secrets: vec![Secret::new("1", SECRET)],
        disabled: false,
        token_life_max_ms: 3_600_000,
    };
    (id == "demo").then(|| Arc::new(demo))
}

fn verify(token: &str) -> Result<Identity, Error> {
    let credentials = Credentials {
        token: token.to_owned(),
        ..Credentials::default()
    };
    block_on(token::verify(&credentials, NOW, app))
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(verify(text).is_err(), "a token that nobody signed");
    }
    let Ok(claims) = serde_json::from_slice::<serde_json::Value>(data) else {
        return;
    };
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"HS256"}"#), part(&claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    let signed = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    if let Ok(speaker) = verify(&signed) {
        assert_eq!(speaker.app.as_str(), "demo");
        assert_eq!(
            claims.get("sub").and_then(|sub| sub.as_str()),
            Some(speaker.user.as_str())
        );
    }
});
