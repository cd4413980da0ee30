//! Tokens: garbled ones, and well-signed ones with any claims. None may speak for somebody whom it does not name.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures::executor::block_on;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use libfuzzer_sys::fuzz_target;
use parlance_proto::common::v1::Error;
use parlance_proto::ids::AppId;

#[allow(
    dead_code,
    reason = "the gateway's own file, of which this uses a part"
)]
#[path = "../../gateway/src/token/mod.rs"]
mod token;

use token::{App, Credentials, Identity, Verifier};

const SECRET: &[u8] = b"a secret of thirty-two bytes ...";
static VERIFIER: LazyLock<Verifier> = LazyLock::new(Verifier::new);

fn app(id: &str) -> Option<Arc<App>> {
    let demo = App {
        id: AppId::new("demo").ok()?,
        secrets: vec![Bytes::from_static(SECRET)],
        disabled: false,
    };
    (id == "demo").then(|| Arc::new(demo))
}

fn verify(token: &str) -> Result<Identity, Error> {
    let credentials = Credentials {
        token: token.to_owned(),
        ..Credentials::default()
    };
    block_on(VERIFIER.verify(&credentials, app))
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(verify(text).is_err(), "a token that nobody signed");
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
    if let Ok(speaker) = verify(&signed) {
        assert_eq!(speaker.app.as_str(), "demo");
        assert_eq!(
            claims.get("sub").and_then(|sub| sub.as_str()),
            Some(speaker.user.as_str())
        );
    }
});
