//! ZEGO's Token04, in the form that uses AES-256-GCM.

use anyhow::{Context, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;

use super::{Wanted, number};
use crate::exit::NotPossible;

/// Says that AES-GCM was used.
const GCM_MODE: u8 = 1;

#[derive(Serialize)]
struct Sealed<'a> {
    app_id: u64,
    user_id: &'a str,
    nonce: i32,
    ctime: u64,
    expire: u64,
    payload: &'a str,
}

pub(super) fn sign(wanted: &Wanted<'_>, secret: &str) -> anyhow::Result<String> {
    let key = UnboundKey::new(&AES_256_GCM, secret.as_bytes())
        .map_err(|_| NotPossible("a secret of token04 has 32 characters".to_owned()))?;
    let mut random = [0; NONCE_LEN + 4];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| anyhow!("the system gives no random bytes"))?;
    let (iv, nonce) = random.split_first_chunk().context("no random bytes")?;
    let nonce = nonce.first_chunk().context("too few random bytes")?;
    let sealed = Sealed {
        app_id: number(wanted.app)?,
        user_id: wanted.user.as_str(),
        nonce: i32::from_be_bytes(*nonce),
        ctime: wanted.issued,
        expire: wanted.expires,
        payload: "",
    };
    let mut cipher = serde_json::to_vec(&sealed).context("write the token's fields")?;
    let iv_of_key = Nonce::assume_unique_for_key(*iv);
    LessSafeKey::new(key)
        .seal_in_place_append_tag(iv_of_key, Aad::empty(), &mut cipher)
        .map_err(|_| anyhow!("the token could not be encrypted"))?;
    let mut token = wanted.expires.to_be_bytes().to_vec();
    for part in [iv.as_slice(), &cipher] {
        let bytes = u16::try_from(part.len()).context("the token is too long")?;
        token.extend(bytes.to_be_bytes());
        token.extend(part);
    }
    token.push(GCM_MODE);
    Ok(format!("04{}", STANDARD.encode(token)))
}
