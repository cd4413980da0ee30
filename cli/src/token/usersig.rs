//! Tencent's UserSig, version 2.0.

use std::io::Write;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use ring::hmac;
use serde::Serialize;

use super::{Wanted, number};

#[derive(Serialize)]
struct Signed<'a> {
    #[serde(rename = "TLS.ver")]
    version: &'a str,
    #[serde(rename = "TLS.identifier")]
    user: &'a str,
    #[serde(rename = "TLS.sdkappid")]
    app: u64,
    #[serde(rename = "TLS.expire")]
    life: u64,
    #[serde(rename = "TLS.time")]
    issued: u64,
    #[serde(rename = "TLS.sig")]
    signature: String,
}

pub(super) fn sign(wanted: &Wanted<'_>, secret: &str) -> anyhow::Result<String> {
    let (app, user) = (number(wanted.app)?, wanted.user.as_str());
    let (issued, life) = (wanted.issued, wanted.expires.saturating_sub(wanted.issued));
    let text = format!(
        "TLS.identifier:{user}\nTLS.sdkappid:{app}\nTLS.time:{issued}\nTLS.expire:{life}\n"
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = Signed {
        version: "2.0",
        user,
        app,
        life,
        issued,
        signature: STANDARD.encode(hmac::sign(&key, text.as_bytes())),
    };
    let json = serde_json::to_vec(&signed).context("write the token's fields")?;
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
    let packed = deflate
        .write_all(&json)
        .and_then(|()| deflate.finish())
        .context("deflate the token")?;
    Ok(STANDARD
        .encode(packed)
        .replace('+', "*")
        .replace('/', "-")
        .replace('=', "_"))
}
