//! Tokens computed by the published rule.

use std::collections::HashMap;

use parlance_proto::common::v1::TokenFormat;

use super::super::tests::{THEN, app_with, verified};
use super::*;

const APP: &str = "demoapp";
const APP_KEY: &str = "demokey0123456789";
/// Of alice, an admin, with the nonce AK-abc123.
const ALICE: &str = "873ce37c4b041d210d26981e028c94ec274f8e9bbfccd2b110e868df82a0837d";
/// Of bob, without nonce and role.
const BOB: &str = "b11806637dafc1d3bda5da90f4175f27cf1f7d21437331cfcdb43f404ca794a0";
const EXPIRES: &str = "1700086400";

fn app() -> (String, App) {
    app_with(APP, TokenFormat::Alivc, APP_KEY)
}

fn shows(user: &str, token: &str, extra: [&str; 3]) -> Credentials {
    let names = ["nonce", "timestamp", "role"];
    let named = names.into_iter().zip(extra);
    Credentials {
        app: APP.to_owned(),
        user: user.to_owned(),
        token: token.to_owned(),
        extra: named
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<HashMap<_, _>>(),
    }
}

pub(in crate::token) fn hash_of(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_hash_is_the_one_that_the_vendor_shows() {
    let shown = "3c9ee8d9f8734f0b7560ed8022a0590659113955819724fc9345ab8eedf84f31";
    assert_eq!(hash_of("abcabckeyabcChannelabcUser1699423634"), shown);
}

#[test]
fn a_token_speaks_for_its_user_and_role() {
    for (user, token, extra, role) in [
        ("alice", ALICE, ["AK-abc123", EXPIRES, "admin"], Role::Admin),
        ("bob", BOB, ["", EXPIRES, ""], Role::User),
    ] {
        let who = verified(&app(), &shows(user, token, extra), 10).unwrap();
        assert_eq!((who.app.as_str(), who.user.as_str()), ("demo", user));
        assert_eq!(who.grant.role, role);
        assert_eq!(who.grant.expires_ms, (THEN + 86_400) * 1000);
        let late = verified(&app(), &shows(user, token, extra), 86_405).unwrap_err();
        assert_eq!(late.code(), ErrorCode::TokenExpired);
    }
}

#[test]
fn nothing_of_what_is_hashed_can_be_changed() {
    for (user, extra) in [
        ("alicf", ["AK-abc123", EXPIRES, "admin"]),
        ("alice", ["AK-abc124", EXPIRES, "admin"]),
        ("alice", ["AK-abc123", "1700086401", "admin"]),
        ("alice", ["AK-abc123", EXPIRES, ""]),
        ("alice", ["AK-abc123", EXPIRES, "root"]),
        ("alice", ["AK-abc123", "", "admin"]),
        ("", ["AK-abc123", EXPIRES, "admin"]),
    ] {
        let refused = verified(&app(), &shows(user, ALICE, extra), 10);
        assert!(refused.is_err(), "{user} {extra:?}");
    }
    let other = app_with(APP, TokenFormat::Alivc, "demokey0123456780");
    let alice = shows("alice", ALICE, ["AK-abc123", EXPIRES, "admin"]);
    assert!(verified(&other, &alice, 10).is_err());
}

#[test]
fn a_nonces_last_digit_does_not_stretch_the_expiry() {
    let nonce = "AK-x1";
    let token = hash_of(&format!("{APP}{APP_KEY}bob{nonce}{EXPIRES}"));
    assert!(verified(&app(), &shows("bob", &token, [nonce, EXPIRES, ""]), 10).is_ok());
    let stretched = [&nonce[..4], &format!("1{EXPIRES}"), ""];
    assert!(verified(&app(), &shows("bob", &token, stretched), 10).is_err());
}

#[test]
fn where_a_user_id_ends_is_told_by_the_nonces_prefix_if_the_app_asks_for_it() {
    let token = hash_of(&format!("{APP}{APP_KEY}bobAK-1{EXPIRES}"));
    let mut app = app();
    let taken = |app: &(String, App), user: &str, nonce: &str| {
        let shows = shows(user, &token, [nonce, EXPIRES, ""]);
        verified(app, &shows, 10).is_ok()
    };
    assert!(taken(&app, "bob", "AK-1") && taken(&app, "bo", "bAK-1"));
    app.1.policy.alivc_nonce_prefix = true;
    assert!(taken(&app, "bob", "AK-1"));
    assert!(!taken(&app, "bo", "bAK-1") && !taken(&app, "bobAK-", "1"));
}

#[test]
fn only_lower_case_hex_of_64_digits_looks_like_one() {
    assert!(looks_like(ALICE) && !looks_like(&ALICE.to_uppercase()) && !looks_like(&ALICE[1..]));
}
