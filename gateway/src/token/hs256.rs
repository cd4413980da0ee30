//! JSON Web Tokens signed with HMAC-SHA256 (RFC 7515 and 7519): header, claims and signature in base64url, joined by dots. No
//! other algorithm is spoken, and what a header says beyond its algorithm is ignored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A token that nobody has verified yet.
pub(super) struct Token<'t> {
    /// Header and claims as they came: what is signed.
    signed: &'t str,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that a reader must understand; there are none here.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

impl<'t> Token<'t> {
    /// Takes a token apart; none if it is not of this format.
    pub(super) fn read(token: &'t str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        (header.alg == "HS256" && header.crit.is_none()).then_some(())?;
        Some(Self {
            signed,
            claims: decode(claims)?,
            signature: decode(signature)?,
        })
    }

    /// What it claims, true or not.
    pub(super) fn claims<C: DeserializeOwned>(&self) -> Result<C, serde_json::Error> {
        serde_json::from_slice(&self.claims)
    }

    /// Whether this key signed it; takes the same time whatever is wrong with the signature.
    pub(super) fn is_signed_by(&self, key: &hmac::Key) -> bool {
        hmac::verify(key, self.signed.as_bytes(), &self.signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token that was made by another implementation.
    #[test]
    fn a_token_of_another_library_verifies_with_its_secret_as_it_is() {
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c";
        let token = Token::read(token).unwrap();
        let key = |text: &str| hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes());
        assert!(token.is_signed_by(&key("your-256-bit-secret")));
        assert!(!token.is_signed_by(&key("your-256-bit-secret\n")));
        let claims: serde_json::Value = token.claims().unwrap();
        assert_eq!(claims["name"], "John Doe");
    }

    #[test]
    fn other_algorithms_and_what_must_be_understood_are_not_read() {
        let token = |header: &str| format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header));
        assert!(Token::read(&token(r#"{"alg":"HS256"}"#)).is_some());
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            r#"{"typ":"JWT"}"#,
            "HS256",
        ] {
            assert!(Token::read(&token(header)).is_none(), "{header}");
        }
        for other in ["", ".", "..", "e30.e30", "a.b.c.d"] {
            assert!(Token::read(other).is_none(), "{other:?}");
        }
    }
}
