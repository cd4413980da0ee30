//! Tokens made by the vendor's reference package with a fixed clock.

use parlance_proto::common::v1::{ErrorCode, TokenFormat};

use super::super::tests::{THEN, app_with, shows, verified};
use super::*;

const APP: &str = "1400000000";
/// The vendor's public sample key.
const KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";
/// Of xiaojun, for 180 days.
const XIAOJUN: &str = "eJyrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwhWZiflZpXlQqeKU7MSCgswUJStDEwMogMiUZOamKlkZmqOKplYUZBaBxE1NTY3gosWZ6UpWSj5ljuYp*p7l5unBxXnF2WVhVU4uAf7Ozi5JpX7O5SbuHuUhzgZJmQXaTia2SrUAohcx8g__";
/// Of alice, for a day.
const ALICE: &str = "eJyrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwok5mcmpUInilOzEgoLMFCUrQxMDKIDIlGTmpipZGZqjiqZWFGQWpSpZWZiZwISKM9OVrJTM3HOzsrxyPA2i0spSspwNCr0q3bI8svN8Cj3DUos8zYoKvPzTwyvS0g2zbZVqAZcSMWk_";
/// Of xiaojun, with a user buffer for the room 10000.
const WITH_ROOM: &str = "eJxVjc0KgkAYRd-l2xb*kVQDLb5CVJCwEoJ2jo7TpKn410j07qFZ0N1c7jmL*4TAOykdq4CAoWgwH7eIWd6IRIxYirC4tfmk6jgNy1LEQPSFNuVjGnFnQPTlP2WyFNXATdM0frStWUXbBAggosPs7EqNUqfZvg84Iu6iwyW1VBzir8b63gsOBPo1dtSUD4e7vMAttcPUCy1N1rNOjb3I9Rmn5ySiR8-dwOsNn*tDuQ__";
/// Of xiaojun, with a user buffer for a room with a text as its id.
const WITH_TEXT_ROOM: &str = "eJxVzk0LgkAQBuD-MteiVLKPhQ5bmglZSeWhm*Jqk*lu2qoR-fdIK*iFgZnnvcwD9qtdr2Q5ENB6CnSbG0OW3TDChmv0*Vlmn6oIE18IDIGoA*WTtrlhyoCoo39ltcD87bquaz*VBcsDGQEB6tIlsy6nQBNqcFnf9zFtckzMfrNsxy1QXjsGrdpxq*87GAMBKYW-Se0reofC43OjTP0ktQ7joWW6M0*x2dDtTKxFwCtnCs8XEF9Ing__";

const DAY: i64 = 24 * 3600;

fn app() -> (String, App) {
    app_with(APP, TokenFormat::Usersig, KEY)
}

#[test]
fn tokens_of_the_vendors_package_speak_for_their_users() {
    for (token, user, days) in [
        (XIAOJUN, "xiaojun", 180),
        (ALICE, "alice", 1),
        (WITH_ROOM, "xiaojun", 180),
        (WITH_TEXT_ROOM, "xiaojun", 180),
    ] {
        for (said_app, said_user) in [("", ""), (APP, user), ("demo", user)] {
            let who = verified(&app(), &shows(said_app, said_user, token), 10).unwrap();
            assert_eq!((who.app.as_str(), who.user.as_str()), ("demo", user));
            assert_eq!(who.grant.issued_ms, THEN * 1000);
            assert_eq!(who.grant.expires_ms, (THEN + days * DAY) * 1000);
        }
    }
}

#[test]
fn an_expired_token_and_one_of_others_are_refused() {
    let code = |credentials, later| {
        let refused = verified(&app(), &credentials, later);
        refused.unwrap_err().code()
    };
    assert_eq!(code(shows("", "", ALICE), DAY + 5), ErrorCode::TokenExpired);
    assert_eq!(code(shows("", "", ALICE), -60), ErrorCode::TokenInvalid);
    for (said_app, said_user) in [("2", ""), ("", "bob"), (APP, "xiaojun")] {
        let refused = code(shows(said_app, said_user, ALICE), 10);
        assert_eq!(refused, ErrorCode::TokenInvalid, "{said_app} {said_user}");
    }
    let other_key = app_with(APP, TokenFormat::Usersig, &KEY.replace('5', "6"));
    assert!(verified(&other_key, &shows("", "", ALICE), 10).is_err());
    let other_format = app_with(APP, TokenFormat::Jwt, KEY);
    assert!(verified(&other_format, &shows("", "", ALICE), 10).is_err());
    let other_app = app_with("7", TokenFormat::Usersig, KEY);
    let refused = verified(&other_app, &shows("", "", ALICE), 10).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::AppUnknown);
}

fn packed(json: &str) -> String {
    use std::io::Write;
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(json.as_bytes()).unwrap();
    STANDARD
        .encode(deflate.finish().unwrap())
        .replace('+', "*")
        .replace('/', "-")
        .replace('=', "_")
}

#[test]
fn what_is_signed_cannot_be_changed_and_other_orders_are_read() {
    let signature = "6GmjjJlI0ZfvdjC0qJyFjHknLqIVerI6rpJOgWxfg1k=";
    let json = |ver: &str, user: &str, app: u64, expire: i64, more: &str| {
        packed(&format!(
            r#"{{ "TLS.sig": "{signature}", "TLS.expire": {expire}, "TLS.time": {THEN},
            "TLS.sdkappid": {app}, "TLS.identifier": "{user}", "TLS.ver": "{ver}"{more} }}"#
        ))
    };
    let good = |token: &str| verified(&app(), &shows("", "", token), 10).is_ok();
    let sdk_app = 1_400_000_000;
    assert!(good(&json("2.0", "alice", sdk_app, DAY, "")));
    assert!(!good(&json("1.0", "alice", sdk_app, DAY, "")));
    assert!(!good(&json("2.0", "alicf", sdk_app, DAY, "")));
    assert!(!good(&json("2.0", "alice", sdk_app, DAY + 1, "")));
    assert!(!good(&json("2.0", "alice", sdk_app + 1, DAY, "")));
    let with_buffer = r#", "TLS.userbuf": "AAA=""#;
    assert!(!good(&json("2.0", "alice", sdk_app, DAY, with_buffer)));
}

#[test]
fn a_user_buffer_is_no_place_for_what_was_signed_of_another() {
    let name =
        format!("bob\nTLS.sdkappid:1400000000\nTLS.time:{THEN}\nTLS.expire:{DAY}\nTLS.userbuf:");
    let rest = format!("\nTLS.sdkappid:1400000000\nTLS.time:{THEN}\nTLS.expire:60\n");
    let text = format!("TLS.identifier:{name}{rest}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    let json = serde_json::json!({
        "TLS.ver": "2.0", "TLS.identifier": "bob", "TLS.sdkappid": 1_400_000_000, "TLS.time": THEN,
        "TLS.expire": DAY, "TLS.userbuf": rest.strip_suffix('\n').unwrap(),
        "TLS.sig": STANDARD.encode(hmac::sign(&key, text.as_bytes())),
    });
    let refused = verified(&app(), &shows("", "", &packed(&json.to_string())), 10).unwrap_err();
    assert!(refused.message.contains("user buffer"), "{refused:?}");
}

#[test]
fn a_token_that_would_fill_memory_is_not_unpacked() {
    let bomb = packed(&format!(r#"{{"TLS.ver": "{}"}}"#, "2".repeat(2_000_000)));
    assert!(bomb.len() < 4096);
    assert!(verified(&app(), &shows("", "", &bomb), 10).is_err());
    assert!(read(&bomb).is_none());
}

#[test]
fn no_single_changed_character_logs_in_as_somebody_else() {
    for at in 0..ALICE.len() {
        for with in ['A', 'z', '*', '_', ' '] {
            let mut changed: Vec<char> = ALICE.chars().collect();
            changed[at] = with;
            let changed: String = changed.into_iter().collect();
            if let Ok(who) = verified(&app(), &shows("", "", &changed), 10) {
                assert_eq!(who.user.as_str(), "alice");
                assert_eq!(who.grant.expires_ms, (THEN + DAY) * 1000);
            }
        }
    }
}
