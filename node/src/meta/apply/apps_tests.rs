//! What operators do with apps and users.

use parlance_proto::store::v1::{
    AppSecret, ChangeApp, CreateApp, Kick, KickUser, change_app::Change as Wanted,
};

use super::tests::Meta;
use super::*;

const LIFE_MS: u64 = 60_000;

fn secret(id: &str) -> AppSecret {
    AppSecret {
        secret_id: id.to_owned(),
        secret: format!("psk_{id}"),
        created_ms: 1,
    }
}

fn with_app() -> Meta {
    let mut meta = Meta::new();
    let app = App {
        app_id: "demo".into(),
        secrets: vec![secret("1")],
        token_life_max_ms: LIFE_MS,
        ..App::default()
    };
    let create = CreateApp { app: Some(app) };
    meta.ask(meta_command::Body::CreateApp(create)).unwrap();
    meta
}

fn change(meta: &mut Meta, change: Wanted) -> Result<u64, (Reason, String)> {
    meta.ask(meta_command::Body::ChangeApp(ChangeApp {
        app_id: "demo".into(),
        change: Some(change),
    }))
}

fn kick(meta: &mut Meta, at_ms: i64, user: &str, until_ms: i64) -> Result<u64, (Reason, String)> {
    let kick = Kick {
        app_id: "demo".into(),
        user_id: user.to_owned(),
        kicked_ms: at_ms,
        until_ms,
        ..Kick::default()
    };
    let body = meta_command::Body::KickUser(KickUser { kick: Some(kick) });
    meta.ask_at(at_ms, body)
}

/// As many kicks as there is room for, all at once.
fn fill(meta: &mut Meta) {
    let machine = &mut meta.machine;
    let (mut write, kicks) = (WriteBatch::default(), Arc::make_mut(&mut machine.kicks));
    for user in 0..apps::KICKS_MAX {
        let kick = Kick {
            app_id: "demo".into(),
            user_id: user.to_string(),
            kicked_ms: 1000,
            ..Kick::default()
        };
        apps::kick(&machine.apps, kicks, kick, 1000, &mut write).unwrap();
    }
    machine.store.write(&write).unwrap();
}

fn app(meta: &Meta) -> App {
    meta.machine.apps["demo"].clone()
}

fn kicked(meta: &Meta, user: &str) -> Option<(i64, i64)> {
    let of = ("demo".to_owned(), user.to_owned());
    let kick = meta.machine.kicks.get(&of)?;
    Some((kick.kicked_ms, kick.until_ms))
}

#[test]
fn an_app_has_one_or_two_secrets() {
    let mut meta = with_app();
    let last = change(&mut meta, Wanted::RetireSecret("1".into())).unwrap_err();
    assert!(last.0 == Reason::Forbidden && last.1.contains("only secret"));
    change(&mut meta, Wanted::AddSecret(secret("2"))).unwrap();
    let third = change(&mut meta, Wanted::AddSecret(secret("3"))).unwrap_err();
    assert!(third.0 == Reason::Forbidden && third.1.contains("retire one first"));
    let strange = change(&mut meta, Wanted::RetireSecret("9".into())).unwrap_err();
    assert_eq!(strange.0, Reason::NotFound);
    change(&mut meta, Wanted::RetireSecret("1".into())).unwrap();
    assert_eq!(app(&meta).secrets, [secret("2")]);
    meta.is_on_disk();
}

#[test]
fn a_change_that_changes_nothing_is_no_new_version() {
    let mut meta = with_app();
    let disabled = change(&mut meta, Wanted::Disabled(true)).unwrap();
    assert!(app(&meta).disabled);
    assert_eq!(change(&mut meta, Wanted::Disabled(true)).unwrap(), disabled);
    assert_eq!(
        change(&mut meta, Wanted::TokenLifeMaxMs(7)).unwrap(),
        disabled + 1
    );
    assert_eq!(app(&meta).token_life_max_ms, 7);
    meta.is_on_disk();
}

#[test]
fn only_users_of_an_app_are_thrown_out_and_the_newest_kick_counts() {
    let mut meta = with_app();
    kick(&mut meta, 1000, "ann", 5000).unwrap();
    assert_eq!(kicked(&meta, "ann"), Some((1000, 5000)));
    kick(&mut meta, 900, "ann", 0).unwrap();
    assert_eq!(
        kicked(&meta, "ann"),
        Some((1000, 0)),
        "a clock that is behind"
    );
    let body = meta_command::Body::KickUser(KickUser::default());
    assert_eq!(meta.ask(body).unwrap_err().0, Reason::NotFound);
    assert_eq!(
        kick(&mut meta, 1, "a\nb", 0).unwrap_err().0,
        Reason::Forbidden
    );
    meta.is_on_disk();
}

#[test]
fn what_refuses_nobody_any_more_makes_room_and_nothing_else_does() {
    let mut meta = with_app();
    fill(&mut meta);
    kick(&mut meta, 1000, "0", 100_000).unwrap();
    let life = i64::try_from(LIFE_MS).unwrap();
    let full = kick(&mut meta, 1000 + life, "ann", 0).unwrap_err();
    assert!(full.0 == Reason::Forbidden && full.1.contains("kicks are remembered"));
    kick(&mut meta, 2000 + life, "ann", 0).unwrap();
    assert_eq!(
        meta.machine.kicks.len(),
        2,
        "one of them is kept out for longer"
    );
    assert_eq!(kicked(&meta, "0"), Some((1000, 100_000)));
    meta.is_on_disk();
}
