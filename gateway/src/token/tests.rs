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
        token_life_ever_ms: YEAR_MS,
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
fn a_token_of_one_app_is_none_of_another_with_the_same_secret() {
    let secret = "fa94dd0f974cf2e293728a526b028271";
    let named = |id: &str, alias: &str| {
        let secret = |format| Secret::new("s1", format, secret).unwrap();
        let formats = [
            TokenFormat::Jwt,
            TokenFormat::Usersig,
            TokenFormat::Token04,
            TokenFormat::Alivc,
        ];
        let (_, app) = app_with(alias, TokenFormat::Jwt, "unused");
        let app = App {
            id: AppId::new(id).unwrap(),
            secrets: formats.map(secret).into(),
            ..app
        };
        (alias.to_owned(), Arc::new(app))
    };
    let both = [named("demo", "1"), named("shop", "2")];
    let verified = |credentials: &Credentials| {
        let apps = |name: &str| {
            let mut both = both.iter();
            let called = both.find(|(alias, app)| alias == name || app.id.as_str() == name);
            called.map(|(_, app)| app.clone())
        };
        futures::executor::block_on(verify(credentials, (THEN + 10) * 1000, apps))
    };
    let jwt = jwt::tests::signed_by(secret, "demo", "demo", THEN + 60);
    // Of app 1 and user demo.
    let token04 = token04::tests::FIRST;
    for token in [jwt.as_str(), token04] {
        for mine in ["1", "demo"] {
            let who = verified(&shows(mine, "demo", token)).unwrap();
            assert_eq!(who.app.as_str(), "demo");
        }
        for others in ["2", "shop"] {
            assert!(verified(&shows(others, "demo", token)).is_err());
        }
    }
    // What a hash is of is said beside it, so that it is a token of whichever app was hashed, and of no other.
    let hashed = |name: &str| {
        let expires = (THEN + 60).to_string();
        let text = format!("{name}{secret}demo{expires}");
        let token = alivc::tests::hash_of(&text);
        (token, HashMap::from([("timestamp".to_owned(), expires)]))
    };
    let (token, extra) = hashed("1");
    for (said, app) in [
        ("1", Some("demo")),
        ("2", None),
        ("demo", None),
        ("shop", None),
    ] {
        let credentials = Credentials {
            extra: extra.clone(),
            ..shows(said, "demo", &token)
        };
        let who = verified(&credentials).ok();
        assert_eq!(who.as_ref().map(|who| who.app.as_str()), app, "{said}");
    }
}

#[test]
fn a_secret_is_not_printed() {
    let secret = Secret::new("s1", TokenFormat::Alivc, "very secret").unwrap();
    assert!(!format!("{secret:?}").contains("very"));
}
