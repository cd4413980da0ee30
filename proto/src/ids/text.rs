//! Ids that are texts.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::{IdError, refused};
use crate::limits::{
    APP_ALIAS_BYTES_MAX, APP_ID_BYTES_MAX, CLIENT_MESSAGE_ID_BYTES_MAX, GROUP_ID_BYTES_MAX,
    USER_ID_BYTES_MAX,
};
use crate::visible::hidden_in;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $error:ident, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                let allowed: fn(&str) -> bool = $allowed;
                if allowed(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(refused(text, IdError::$error))
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&$name> for String {
            fn from(id: &$name) -> String {
                id.as_str().to_owned()
            }
        }
    };
}

/// 1 to `max` bytes that are all seen; no zero byte in particular, which ends ids in keys.
pub(super) fn is_plain(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && hidden_in(text).is_none()
}

text_id!(
    /// A user of an app: 1 to 64 bytes, all of whose characters are seen.
    UserId,
    User,
    |text| is_plain(text, USER_ID_BYTES_MAX)
);

text_id!(
    /// An app: 1 to 32 of `a-z`, `0-9` and `-`.
    AppId,
    App,
    |text| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !text.is_empty() && text.len() <= APP_ID_BYTES_MAX && text.bytes().all(allowed)
    }
);

text_id!(
    /// Another name of an app, as a vendor's number for it: 1 to 64 of `A-Z`, `a-z`, `0-9`, `_` and `-`.
    AppAlias,
    Alias,
    |text| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        !text.is_empty() && text.len() <= APP_ALIAS_BYTES_MAX && text.bytes().all(allowed)
    }
);

text_id!(
    /// A message as its sender named it: 1 to 64 bytes, all of whose characters are seen.
    ClientMessageId,
    ClientMessage,
    |text| is_plain(text, CLIENT_MESSAGE_ID_BYTES_MAX)
);

pub(super) fn is_group_id(text: &str) -> bool {
    is_plain(text, GROUP_ID_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_ids_are_small_letters_digits_and_dashes() {
        assert!(AppId::new("demo-1").is_ok());
        for id in ["", "Demo", "a_b", "a/b", &"a".repeat(33)] {
            assert!(AppId::new(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn aliases_are_what_vendors_call_apps() {
        assert!(AppAlias::new("1400000000").is_ok() && AppAlias::new("Ab_c-1").is_ok());
        for alias in ["", "a b", "a.b", &"a".repeat(65)] {
            assert!(AppAlias::new(alias).is_err(), "{alias:?}");
        }
    }

    #[test]
    fn user_ids_are_short_and_have_no_characters_that_nobody_sees() {
        assert_eq!(UserId::new("用户").unwrap().as_str(), "用户");
        for id in ["", "a\0b", "a\nb", &"x".repeat(65)] {
            assert!(UserId::new(id).is_err(), "{id:?}");
        }
        let error = UserId::new("ali\u{202e}ce").unwrap_err();
        assert_eq!(
            error,
            IdError::Hidden {
                id: "ali\u{202e}ce".into(),
                character: '\u{202e}'
            }
        );
        assert_eq!(
            error.to_string(),
            r#"id "ali\u{202e}ce" is not allowed: U+202E is a control character or invisible"#
        );
        for (id, character) in [("a\u{200d}", '\u{200d}'), ("\u{200b}", '\u{200b}')] {
            let id = id.to_owned();
            let error = ClientMessageId::new(&id).unwrap_err();
            assert_eq!(error, IdError::Hidden { id, character });
        }
    }
}
