//! ZEGO's Token04: `04` and base64 of expiry, iv and JSON that the app's secret encrypts. App and user are inside, and the client
//! says which they are.
//!
//! The older form, AES-CBC, is not authenticated: whoever has a token can change its bytes. So everything is checked strictly,
//! what is inside must be what the client says, nothing of it is told, and all failures look alike. The newer one is AES-GCM.

use std::sync::Arc;

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parlance_proto::common::v1::Error;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::Deserialize;

use super::{App, Credentials, Identity, Key, Role, Times, grant, invalid, known_app, user};

const PREFIX: &str = "04";
const CBC_IV_BYTES: usize = 16;
const GCM_IV_BYTES: usize = 12;
/// Follows the cipher in the newer form.
const GCM_MODE: [u8; 1] = [1];

/// What a secret's 32 bytes are a key for.
#[derive(Clone)]
pub(super) struct Keys {
    cbc: [u8; 32],
    gcm: LessSafeKey,
}

impl Keys {
    /// None if the text has not 32 bytes.
    pub(super) fn new(text: &str) -> Option<Self> {
        let cbc: [u8; 32] = text.as_bytes().try_into().ok()?;
        let gcm = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &cbc).ok()?);
        Some(Self { cbc, gcm })
    }
}

/// A token taken apart. Times are in seconds since 1970 UTC.
struct Sealed<'t> {
    expire: i64,
    iv: &'t [u8],
    cipher: &'t [u8],
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Cbc,
    Gcm,
}

/// What is encrypted; nothing else may be in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    app_id: u64,
    user_id: String,
    #[allow(dead_code, reason = "it only makes tokens differ")]
    nonce: i32,
    ctime: i64,
    expire: i64,
    /// Rights in another product; they mean nothing here.
    #[allow(dead_code, reason = "it may be there")]
    payload: Option<String>,
}

/// Whether a token can be of this format.
pub(super) fn looks_like(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// Whom a token speaks for; `apps` looks an app up.
pub(super) fn verify(
    credentials: &Credentials,
    now_ms: i64,
    apps: impl Fn(&str) -> Option<Arc<App>>,
) -> Result<Identity, Error> {
    if credentials.app.is_empty() || credentials.user.is_empty() {
        let message =
            "a Token04 does not show its app and user: login.app_id and login.user_id say it";
        return Err(invalid(message));
    }
    let app = known_app(&apps, &credentials.app)?;
    let bytes = credentials.token.strip_prefix(PREFIX).unwrap_or_default();
    let bytes = STANDARD.decode(bytes).map_err(|_| bad())?;
    let sealed = Sealed::read(&bytes).ok_or_else(bad)?;
    if app.policy.token04_gcm_only && sealed.form != Form::Gcm {
        let message = "this app takes only the form of Token04 that uses AES-GCM";
        return Err(invalid(message));
    }
    let opened = |key: &Key| match key {
        Key::Token04(keys) => sealed.open(keys),
        Key::Jwt(_) | Key::Usersig(_) | Key::Alivc(_) => None,
    };
    let mut secrets = app.secrets.iter();
    let (secret, opened) = secrets
        .find_map(|secret| Some((secret, opened(&secret.key)?)))
        .ok_or_else(bad)?;
    let same_app = apps(&opened.app_id.to_string()).is_some_and(|of| of.id == app.id);
    let same_user = credentials.user == opened.user_id;
    if opened.expire != sealed.expire || !same_app || !same_user {
        return Err(bad());
    }
    let user = user(&opened.user_id).map_err(|_| bad())?;
    let times = Times {
        issued_ms: Some(opened.ctime.saturating_mul(1000)),
        expires_ms: opened.expire.saturating_mul(1000),
    };
    Ok(Identity {
        user,
        grant: grant(&app, secret, Role::User, &times, now_ms)?,
        app: app.id.clone(),
    })
}

/// Says nothing of what is wrong: that would help to make one's own.
fn bad() -> Error {
    invalid("no Token04 secret of the app made this token for this app and user")
}

impl<'t> Sealed<'t> {
    /// None if it is of another layout.
    fn read(bytes: &'t [u8]) -> Option<Self> {
        let (expire, rest) = bytes.split_first_chunk()?;
        let (iv, rest) = with_length(rest)?;
        let (cipher, mode) = with_length(rest)?;
        let form = match (iv.len(), mode) {
            (CBC_IV_BYTES, []) => Form::Cbc,
            (GCM_IV_BYTES, mode) if mode == GCM_MODE => Form::Gcm,
            _ => return None,
        };
        Some(Self {
            expire: i64::from_be_bytes(*expire),
            iv,
            cipher,
            form,
        })
    }

    fn open(&self, keys: &Keys) -> Option<Opened> {
        let json = match self.form {
            Form::Cbc => cbc::Decryptor::<Aes256>::new_from_slices(&keys.cbc, self.iv)
                .ok()?
                .decrypt_padded_vec::<Pkcs7>(self.cipher)
                .ok()?,
            Form::Gcm => {
                let nonce = Nonce::try_assume_unique_for_key(self.iv).ok()?;
                let mut text = self.cipher.to_vec();
                let opened = keys.gcm.open_in_place(nonce, Aad::empty(), &mut text);
                opened.ok()?.to_vec()
            }
        };
        serde_json::from_slice(&json).ok()
    }
}

/// What two bytes say the length of, and what is behind it.
fn with_length(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

#[cfg(test)]
pub(super) mod tests;
