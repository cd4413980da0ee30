//! Messages that carry secrets or tokens do not show them, whoever prints them into a log or an error.

use std::fmt;

use crate::{admin, client, link, store};

macro_rules! shows_only {
    ($($message:path, $name:literal: $($field:ident)*;)*) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name)
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    )*};
}

shows_only! {
    admin::v1::AddAppSecretRequest, "AddAppSecretRequest": app_id format;
    admin::v1::AppSecret, "AppSecret": secret_id created_ms format;
    link::v1::AppSecret, "AppSecret": secret_id format;
    store::v1::AppSecret, "AppSecret": secret_id created_ms format;
    client::v1::LoginRequest, "LoginRequest": platform device_id client_version app_id user_id protocol capabilities;
    client::v1::RenewRequest, "RenewRequest":;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_in_what_is_printed() {
        let secret = "psk_1".to_owned();
        let app = store::v1::App {
            secrets: vec![store::v1::AppSecret {
                secret_id: "k1".into(),
                secret: secret.clone(),
                created_ms: 1,
                format: 1,
            }],
            ..store::v1::App::default()
        };
        let update = link::v1::AppSecret {
            secret_id: "k1".into(),
            secret: secret.clone(),
            format: 1,
        };
        let login = client::v1::LoginRequest {
            token: secret.clone(),
            device_id: "phone".into(),
            ..client::v1::LoginRequest::default()
        };
        let renew = client::v1::RenewRequest {
            token: secret.clone(),
            ..client::v1::RenewRequest::default()
        };
        let printed = format!("{app:?} {update:?} {login:?} {renew:?}");
        assert!(!printed.contains(&secret), "{printed}");
        assert!(
            printed.contains("k1") && printed.contains("phone"),
            "{printed}"
        );
    }
}
