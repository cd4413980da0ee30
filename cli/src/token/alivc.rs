//! Alibaba's interactive messaging: a hash of what the client says beside it.

use anyhow::anyhow;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use super::{ADMIN, Wanted};

/// The hash, and the nonce in it.
pub(super) fn sign(wanted: &Wanted<'_>, secret: &str) -> anyhow::Result<(String, String)> {
    let mut random = [0; 16];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| anyhow!("the system gives no random bytes"))?;
    let nonce = format!("AK-{}", hex::encode(random));
    let role = if wanted.admin { ADMIN } else { "" };
    let text = format!(
        "{}{secret}{}{nonce}{}{role}",
        wanted.app,
        wanted.user.as_str(),
        wanted.expires
    );
    let hash = digest(&SHA256, text.as_bytes());
    Ok((hex::encode(hash), nonce))
}
