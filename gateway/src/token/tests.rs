//! Which format a token is of, and what no token may do. Formats' own tests are beside them.

use super::*;

/// Seconds since 1970 UTC: when the vendors' vectors were made.
pub(super) const THEN: i64 = 1_700_000_000;

const YEAR_MS: i64 = 366 * 24 * 3_600_000;

/// An app that is called so by a vendor, and has a secret of the format.
pub(super) fn app_with(alias: &str, format: TokenFormat, secret: &str) -> (String, App) {
    let app = App {
        id: AppId::new("demo").unwrap(),
        secrets: vec![Secret::new("s1", format, secret).unwrap()],
        policy: TokenPolicy::default(),
        disabled: false,
        token_life_max_ms: YEAR_MS,
        limits: None,
    };
    (alias.to_owned(), app)
}

/// What such an app says to credentials, `later` seconds after [`THEN`].
pub(super) fn verified(
    (alias, app): &(String, App),
    credentials: &Credentials,
    later: i64,
) -> Result<Identity, Error> {
    let apps = |name: &str| {
        let known = name == alias || name == app.id.as_str();
        known.then(|| Arc::new(app.clone()))
    };
    let verify = verify(credentials, (THEN + later) * 1000, apps);
    futures::executor::block_on(verify)
}

pub(super) fn shows(app: &str, user: &str, token: &str) -> Credentials {
    Credentials {
        app: app.to_owned(),
        user: user.to_owned(),
        token: token.to_owned(),
        extra: HashMap::new(),
    }
}

#[test]
fn what_is_no_token_is_refused_with_what_would_be_one() {
    let app = app_with("1", TokenFormat::Usersig, "key");
    for token in ["", "x", "eJy", &"a".repeat(TOKEN_BYTES_MAX + 1), "令牌"] {
        let refused = verified(&app, &shows("", "", token), 0).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::TokenInvalid, "{token:.20}");
    }
    let refused = verified(&app, &shows("", "", "x"), 0).unwrap_err();
    assert!(refused.message.contains("Token04"), "{refused:?}");
}

#[test]
fn a_secret_is_not_printed() {
    let secret = Secret::new("s1", TokenFormat::Alivc, "very secret").unwrap();
    assert!(!format!("{secret:?}").contains("very"));
}
