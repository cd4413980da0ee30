//! Tokens computed by the published layout; the fourth by the vendor's own generator with a fixed clock.

use parlance_proto::common::v1::{ErrorCode, TokenFormat};

use super::super::tests::{THEN, app_with, shows, verified};
use super::*;

const SECRET: &str = "fa94dd0f974cf2e293728a526b028271";
/// Of demo, an hour, AES-CBC.
pub(in crate::token) const FIRST: &str = "04AAAAAGVT/xAAEDAxMjM0NTY3ODlhYmNkZWYAcPDOWcZeMCPxbh1dpHzCTREIwK2oIO5x78Qlcu9iUMPYkqBI5TvjB3JwCxC9+klE8/eu//t2uE7+o7gQ53yB/JkIFUA6xyD5rb5rd5NER5knvdDJH2auGOam8ZKJG5qT/1t+UUUnbL8ghIsUgkbwAAg=";
/// The same, its JSON in another order.
const OTHER_ORDER: &str = "04AAAAAGVT/xAAEDAxMjM0NTY3ODlhYmNkZWYAcPDOWcZeMCPxbh1dpHzCTRH0tbs1JDwaSloPPpfrCE29tUW/QA7cBUDbJW7EPsVPsGpO/KyXwgxISYw5q52prPMSDPSd273V+GccmQjr86yJzXgjAi1WOIdNYImOOK+KUyRl6LN2rT4pm+K4yG/IxH0=";
/// Of alice and app 1234567890, a day, with a payload.
const WITH_PAYLOAD: &str = "04AAAAAGVVQoAAEGFiY2RlZmdoaWprbG1ub3AAwC7/sygoeB+K4A1E02Jut1voBXPS9uO/g5hEcSe3lk4nsKKRmpC3Rno8UknBSytI/Tn5dSMl/3VAret39EHLU4bzJeOs70fNvfjJ94UXL6z94z6Ce5z+PhVulDcnEQZkfDECV3vo2MrQlbs5VWsspwIkiOQSxD056kXiECZrvqDiDlXTuQJPHcFB52cJSeBxHrPSKSXpDd6EsTOS2nTt3+Uc59lx8KpEnQUMTFSa6GQ/yFSMSF7A6cfHuaH9jBncrQ==";
/// As the first, made by the vendor's own generator.
const OF_THE_VENDOR: &str = "04AAAAAGVT/xAAEDAxMjM0NTY3ODlhYmNkZWYAcPDOWcZeMCPxbh1dpHzCTREIwK2oIO5x78Qlcu9iUMPY/5uYpYwfiJm7uxNwazZPHsq4UUNnMhWXja29L45pgMuMQYoVrKJndP6hs3QRTU9usMP1YMQ5uhSQ466BDjzsJWqMcmlF270h86d/6n93g+0=";
/// As the first, AES-GCM.
const GCM: &str = "04AAAAAGVT/xAADDAxMjM0NTY3ODlhYgBzCyp4BFmXo9vH6W67++pmKSYP/GBrslcVz6p0LJgT/ryXLGlZoAbYSE1TjBsrJ/wnDmG/PTJ4VpLooXluwbBY+WGMypjYwBLEUfjBkFvC4TS7+Xq55Fd1ePOxlAUibUcZLDgammc9E2EfQ9gJuU2pmMVDVwE=";

const HOUR: i64 = 3600;

fn app_of(alias: &str) -> (String, App) {
    app_with(alias, TokenFormat::Token04, SECRET)
}

#[test]
fn tokens_of_all_generators_speak_for_their_users() {
    for (token, app, user, seconds) in [
        (FIRST, "1", "demo", HOUR),
        (OTHER_ORDER, "1", "demo", HOUR),
        (WITH_PAYLOAD, "1234567890", "alice", 24 * HOUR),
        (OF_THE_VENDOR, "1", "demo", HOUR),
        (GCM, "1", "demo", HOUR),
    ] {
        for (said_app, said_user) in [(app, user), ("demo", user)] {
            let who = verified(&app_of(app), &shows(said_app, said_user, token), 10).unwrap();
            assert_eq!((who.app.as_str(), who.user.as_str()), ("demo", user));
            assert_eq!(who.grant.issued_ms, THEN * 1000);
            assert_eq!(who.grant.expires_ms, (THEN + seconds) * 1000);
        }
    }
}

#[test]
fn an_expired_token_and_one_of_others_are_refused() {
    let code = |app: &(String, App), credentials, later| {
        verified(app, &credentials, later).unwrap_err().code()
    };
    let (invalid, app) = (ErrorCode::TokenInvalid, app_of("1"));
    let expired = code(&app, shows("1", "demo", FIRST), HOUR + 5);
    assert_eq!(expired, ErrorCode::TokenExpired);
    assert_eq!(code(&app, shows("1", "demo", FIRST), -60), invalid);
    assert_eq!(code(&app, shows("", "demo", FIRST), 10), invalid, "no app");
    assert_eq!(code(&app, shows("1", "", FIRST), 10), invalid, "no user");
    assert_eq!(code(&app, shows("1", "alice", FIRST), 10), invalid);
    assert_eq!(
        code(&app, shows("2", "demo", FIRST), 10),
        ErrorCode::AppUnknown
    );
    assert_eq!(
        code(&app_of("7"), shows("demo", "demo", FIRST), 10),
        invalid
    );
    let other = app_with("1", TokenFormat::Token04, &SECRET.replace('f', "e"));
    assert_eq!(code(&other, shows("1", "demo", FIRST), 10), invalid);
}

#[test]
fn an_app_can_take_the_authenticated_form_only() {
    let mut app = app_of("1");
    app.1.policy.token04_gcm_only = true;
    assert!(verified(&app, &shows("1", "demo", GCM), 10).is_ok());
    let refused = verified(&app, &shows("1", "demo", FIRST), 10).unwrap_err();
    assert!(refused.message.contains("AES-GCM"), "{refused:?}");
}

fn bytes(token: &str) -> Vec<u8> {
    STANDARD.decode(&token[2..]).unwrap()
}

fn token(bytes: &[u8]) -> String {
    format!("04{}", STANDARD.encode(bytes))
}

#[test]
fn whatever_byte_is_changed_nobody_gets_more() {
    let app = app_of("1");
    for (original, authenticated) in [(FIRST, false), (GCM, true)] {
        let original = bytes(original);
        for at in 0..original.len() {
            for bit in 0..8 {
                let mut changed = original.clone();
                changed[at] ^= 1 << bit;
                let Ok(who) = verified(&app, &shows("1", "demo", &token(&changed)), 10) else {
                    continue;
                };
                assert!(!authenticated, "byte {at} bit {bit}");
                assert_eq!((who.app.as_str(), who.user.as_str()), ("demo", "demo"));
                assert_eq!(who.grant.expires_ms, (THEN + HOUR) * 1000);
            }
        }
    }
}

#[test]
fn another_layout_is_no_token() {
    let app = app_of("1");
    let original = bytes(FIRST);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = original.clone();
        change(&mut changed);
        token(&changed)
    };
    let iv_length = 8..10;
    let cipher_length = 26..28;
    let rows = [
        ("prefix 03", FIRST.replacen("04", "03", 1)),
        ("expiry outside", with(&|b| b[7] += 1)),
        (
            "iv beyond the end",
            with(&|b| b[iv_length.clone()].fill(255)),
        ),
        ("no cipher", with(&|b| b.truncate(28))),
        (
            "an empty cipher",
            with(&|b| {
                b[cipher_length.clone()].fill(0);
                b.truncate(28);
            }),
        ),
        (
            "a cipher of 15 bytes",
            with(&|b| {
                b[cipher_length.clone()].copy_from_slice(&[0, 15]);
                b.truncate(28 + 15);
            }),
        ),
        ("bytes behind the end", with(&|b| b.push(1))),
        ("a line break", FIRST.replace("AAAAAG", "AAAAAG\n")),
        ("base64 of URLs", FIRST.replace('/', "_").replace('+', "-")),
        ("nothing", "04".to_owned()),
    ];
    for (what, token) in rows {
        let refused = verified(&app, &shows("1", "demo", &token), 10);
        assert!(refused.is_err(), "{what}");
    }
}
