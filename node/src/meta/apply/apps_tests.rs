//! What operators do with apps and users.

use parlance_proto::common::v1::TokenFormat;
use parlance_proto::ids::{AppId, UserId};
use parlance_proto::store::v1::{
    AppChange, AppSecret, ChangeApp, CreateApp, Kick, KickUser, app_change::Change as Wanted,
};

use super::tests::Meta;
use super::*;

const LIFE_MS: u64 = 60_000;

fn secret(id: &str) -> AppSecret {
    AppSecret {
        secret_id: id.to_owned(),
        secret: format!("psk_{id}"),
        created_ms: 1,
        format: TokenFormat::Jwt.into(),
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
    change_all(meta, [change])
}

fn change_all<const N: usize>(
    meta: &mut Meta,
    changes: [Wanted; N],
) -> Result<u64, (Reason, String)> {
    let changes = changes.map(|change| AppChange {
        change: Some(change),
    });
    meta.ask(meta_command::Body::ChangeApp(ChangeApp {
        app_id: "demo".into(),
        changes: changes.into(),
    }))
}

fn kick_of((app, user): (&str, &str), at_ms: i64, until_ms: Option<i64>, reason: &str) -> KickUser {
    let kick = Kick {
        app_id: app.to_owned(),
        user_id: user.to_owned(),
        kicked_ms: at_ms,
        until_ms: until_ms.unwrap_or(0),
        reason: reason.to_owned(),
    };
    KickUser {
        kick: Some(kick),
        keeps_until: until_ms.is_none(),
    }
}

fn kick(meta: &mut Meta, at_ms: i64, user: &str, until_ms: i64) -> Result<u64, (Reason, String)> {
    let kick = kick_of(("demo", user), at_ms, Some(until_ms), "");
    meta.ask_at(at_ms, meta_command::Body::KickUser(kick))
}

/// So many kicks of an app, all at the time 1000.
fn fill(meta: &mut Meta, app: &str, count: usize) {
    let machine = &mut meta.machine;
    let kicks = Arc::make_mut(&mut machine.kicks);
    let mut write = WriteBatch::default();
    for user in 0..count {
        let kick = kick_of((app, &user.to_string()), 1000, None, "")
            .kick
            .unwrap();
        let (app, user) = (
            AppId::new(app).unwrap(),
            UserId::new(&kick.user_id).unwrap(),
        );
        write.put(Table::Meta, key::kick(&app, &user), kick.encode_to_vec());
        kicks.insert(apps::user_of(&kick), kick);
    }
    machine.store.write(&write).unwrap();
}

fn add_app(meta: &mut Meta, id: &str) {
    let app = App {
        app_id: id.to_owned(),
        token_life_max_ms: LIFE_MS,
        ..App::default()
    };
    let create = CreateApp { app: Some(app) };
    meta.ask(meta_command::Body::CreateApp(create)).unwrap();
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
fn an_app_has_two_secrets_of_each_format() {
    let mut meta = with_app();
    let other = |id: &str| AppSecret {
        format: TokenFormat::Usersig.into(),
        ..secret(id)
    };
    change(&mut meta, Wanted::AddSecret(secret("2"))).unwrap();
    let again = change(
        &mut meta,
        Wanted::AddSecret(AppSecret {
            secret_id: "9".into(),
            ..secret("1")
        }),
    );
    assert_eq!(
        again.unwrap_err().0,
        Reason::Exists,
        "retiring one would not end it"
    );
    for id in ["3", "4"] {
        change(&mut meta, Wanted::AddSecret(other(id))).unwrap();
    }
    let fifth = change(&mut meta, Wanted::AddSecret(other("5"))).unwrap_err();
    assert!(fifth.1.contains("2 secrets of this format"), "{fifth:?}");
    for id in ["1", "2", "3"] {
        change(&mut meta, Wanted::RetireSecret(id.into())).unwrap();
    }
    let last = change(&mut meta, Wanted::RetireSecret("4".into())).unwrap_err();
    assert!(last.1.contains("only secret"), "{last:?}");
}

#[test]
fn an_alias_belongs_to_one_app_and_is_no_apps_id() {
    let mut meta = with_app();
    add_app(&mut meta, "shop");
    let add = |alias: &str| Wanted::AddAlias(alias.into());
    change_all(&mut meta, [add("1400000000"), add("Demo_1")]).unwrap();
    assert_eq!(app(&meta).aliases, ["1400000000", "Demo_1"]);
    let unchanged = app(&meta);
    for (alias, reason) in [
        ("shop", Reason::Exists),
        ("demo", Reason::Exists),
        ("a b", Reason::Forbidden),
    ] {
        let refused = change(&mut meta, add(alias)).unwrap_err();
        assert_eq!(refused.0, reason, "{alias}");
    }
    let taken = CreateApp {
        app: Some(App {
            app_id: "1400000000".into(),
            ..App::default()
        }),
    };
    let taken = meta.ask(meta_command::Body::CreateApp(taken)).unwrap_err();
    assert!(taken.1.contains("alias of app"), "{taken:?}");
    change(&mut meta, add("Demo_1")).unwrap();
    assert_eq!(app(&meta), unchanged, "the same again is no change");

    for n in 2..apps::ALIASES_MAX {
        change(&mut meta, add(&format!("x{n}"))).unwrap();
    }
    let ninth = change(&mut meta, add("one-more")).unwrap_err();
    assert_eq!(ninth.0, Reason::Forbidden);
    let none = change(&mut meta, Wanted::RemoveAlias("y".into())).unwrap_err();
    assert_eq!(none.0, Reason::NotFound);
    change(&mut meta, Wanted::RemoveAlias("Demo_1".into())).unwrap();
    change(&mut meta, add("one-more")).unwrap();
}

#[test]
fn the_token_policy_is_set_switch_by_switch() {
    let mut meta = with_app();
    change(&mut meta, Wanted::Token04GcmOnly(true)).unwrap();
    change(&mut meta, Wanted::AlivcNoncePrefix(true)).unwrap();
    change(&mut meta, Wanted::Token04GcmOnly(false)).unwrap();
    let policy = app(&meta).token_policy.unwrap();
    assert!(policy.alivc_nonce_prefix && !policy.token04_gcm_only);
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
    assert_eq!(app(&meta).token_life_ever_ms, LIFE_MS, "old tokens live on");
    meta.is_on_disk();
}

#[test]
fn changes_that_are_asked_for_together_are_made_together_or_not_at_all() {
    let mut meta = with_app();
    let before = app(&meta);
    let version = meta.machine.version_now();
    let life = Wanted::TokenLifeMaxMs(7);
    let refused = change_all(&mut meta, [life.clone(), Wanted::RetireSecret("9".into())]);
    assert_eq!(refused.unwrap_err().0, Reason::NotFound);
    assert_eq!((app(&meta), meta.machine.version_now()), (before, version));
    let changed = change_all(&mut meta, [life, Wanted::Disabled(true)]).unwrap();
    assert_eq!(changed, version + 1);
    assert!(app(&meta).disabled && app(&meta).token_life_max_ms == 7);
    meta.is_on_disk();
}

#[test]
fn a_change_of_an_app_that_this_program_does_not_know_stops_the_replica() {
    let mut meta = with_app();
    let unknown = ChangeApp {
        app_id: "demo".into(),
        changes: vec![AppChange { change: None }],
    };
    let command = MetaCommand {
        body: Some(meta_command::Body::ChangeApp(unknown)),
        ..MetaCommand::default()
    };
    let stopped = meta.command(&command);
    assert!(matches!(stopped, Err(StoreError::NeedsNewerVersion { .. })));
}

#[test]
fn only_users_of_an_app_are_thrown_out_and_the_newest_kick_counts() {
    let mut meta = with_app();
    kick(&mut meta, 1000, "ann", 5000).unwrap();
    assert_eq!(kicked(&meta, "ann"), Some((1000, 5000)));
    kick(&mut meta, 900, "ann", 0).unwrap();
    assert_eq!(
        kicked(&meta, "ann"),
        Some((1001, 0)),
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
    fill(&mut meta, "demo", apps::KICKS_OF_APP_MAX);
    kick(&mut meta, 1000, "0", 100_000).unwrap();
    let life = i64::try_from(LIFE_MS).unwrap();
    let full = kick(&mut meta, 1000 + life, "ann", 0).unwrap_err();
    assert!(full.0 == Reason::Forbidden && full.1.contains("are remembered"));
    kick(&mut meta, 2000 + life, "ann", 0).unwrap();
    assert_eq!(
        meta.machine.kicks.len(),
        2,
        "one of them is kept out for longer"
    );
    assert_eq!(kicked(&meta, "0"), Some((1001, 100_000)));
    meta.is_on_disk();
}

#[test]
fn a_kick_that_says_nothing_of_the_time_lifts_no_ban() {
    let mut meta = with_app();
    let mut ask = |at_ms, until_ms, reason: &str| {
        let kick = kick_of(("demo", "ann"), at_ms, until_ms, reason);
        meta.ask_at(at_ms, meta_command::Body::KickUser(kick))
            .unwrap();
        let kick = &meta.machine.kicks[&("demo".to_owned(), "ann".to_owned())];
        (kick.until_ms, kick.reason.clone())
    };
    assert_eq!(ask(1000, Some(5000), "spam"), (5000, "spam".into()));
    assert_eq!(ask(2000, None, ""), (5000, "spam".into()));
    assert_eq!(ask(2001, None, "again"), (5000, "again".into()));
    assert_eq!(
        ask(2002, Some(3000), ""),
        (3000, String::new()),
        "shortened"
    );
    assert_eq!(ask(3000, None, ""), (0, String::new()), "the ban is over");
    ask(3001, Some(5000), "");
    assert_eq!(ask(3002, Some(0), ""), (0, String::new()), "lifted");
    meta.is_on_disk();
}

#[test]
fn an_app_that_is_full_of_kicks_is_no_matter_to_another() {
    let mut meta = with_app();
    add_app(&mut meta, "shop");
    fill(&mut meta, "demo", apps::KICKS_OF_APP_MAX);
    let full = kick(&mut meta, 1000, "ann", 0).unwrap_err();
    assert!(full.0 == Reason::Forbidden && full.1.contains("of app \"demo\""));
    let other = kick_of(("shop", "ann"), 1000, None, "");
    meta.ask_at(1000, meta_command::Body::KickUser(other))
        .unwrap();
    meta.is_on_disk();
}

#[test]
fn all_apps_together_are_full_of_kicks_too() {
    let mut meta = with_app();
    let apps = ["one", "two", "three", "four", "five"];
    for app in apps {
        add_app(&mut meta, app);
        fill(&mut meta, app, apps::KICKS_MAX / apps.len());
    }
    let full = kick(&mut meta, 1000, "ann", 0).unwrap_err();
    assert!(full.0 == Reason::Forbidden && full.1.contains("of all apps"));
}

#[test]
fn a_cluster_has_only_so_many_apps() {
    let mut meta = with_app();
    let row = app(&meta);
    let more = (1..apps::APPS_MAX).map(|n| (format!("app{n}"), row.clone()));
    meta.machine.apps.extend(more);
    let create = |app_id: &str| {
        let app = App {
            app_id: app_id.into(),
            ..row.clone()
        };
        meta_command::Body::CreateApp(CreateApp { app: Some(app) })
    };
    let (reason, message) = meta.ask(create("another")).unwrap_err();
    assert!(
        reason == Reason::Forbidden && message.contains("no more"),
        "{message}"
    );
    assert_eq!(meta.ask(create("demo")).unwrap_err().0, Reason::Exists);
}
