//! Apps, and who was thrown out of them, as the cluster's state has them; and what of them has changed, for those who make
//! sessions obey.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parlance_proto::common::v1::TokenFormat;
use parlance_proto::ids::{AppId, UserId};
use parlance_proto::link::v1::{App as AppRow, Kick as KickRow};

use crate::token::{App, Secret};

/// All apps and kicks.
#[derive(Debug, Default)]
pub struct Apps {
    apps: HashMap<AppId, Known<AppRow, Arc<App>>>,
    /// Other names of apps.
    aliases: HashMap<String, AppId>,
    kicks: HashMap<(AppId, UserId), Known<KickRow, Arc<Kick>>>,
    /// Counts changes.
    changes: u64,
}

/// A row, what it means, and the change that it came with.
#[derive(Debug)]
struct Known<R, T> {
    row: R,
    value: T,
    change: u64,
}

/// A user was thrown out. Times are in ms since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kick {
    /// Tokens that were signed before do not count.
    pub kicked_ms: i64,
    /// Until then nobody logs in as this user.
    pub until_ms: i64,
    /// For the user.
    pub reason: String,
    /// The change that this gateway heard of it with.
    pub change: u64,
}

/// Whose sessions must be looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Up to which change this is.
    pub change: u64,
    /// All users of these apps.
    pub apps: Vec<AppId>,
    /// And these users.
    pub users: Vec<(AppId, UserId)>,
}

impl Apps {
    /// Takes rows; what is whole has all of them.
    pub(super) fn merge(&mut self, whole: bool, apps: Vec<AppRow>, kicks: Vec<KickRow>) {
        self.changes += 1;
        if whole {
            let stay: HashSet<_> = apps.iter().map(|row| row.app_id.as_str()).collect();
            self.apps.retain(|id, _| stay.contains(id.as_str()));
            self.aliases.retain(|_, id| stay.contains(id.as_str()));
            // What is known stays as it is: only a new kick ends sessions.
            let stay: HashSet<_> = (kicks.iter())
                .map(|row| (row.app_id.as_str(), row.user_id.as_str()))
                .collect();
            self.kicks
                .retain(|(app, user), _| stay.contains(&(app.as_str(), user.as_str())));
        }
        for row in apps {
            self.add_app(row);
        }
        for row in kicks {
            self.add_kick(row);
        }
    }

    fn add_app(&mut self, row: AppRow) {
        let Ok(id) = AppId::new(&row.app_id) else {
            return;
        };
        if self.apps.get(&id).is_some_and(|known| known.row == row) {
            return;
        }
        // A name that went from one app to another may come with either of them first.
        self.aliases
            .retain(|alias, of| *of != id || row.aliases.contains(alias));
        for alias in &row.aliases {
            self.aliases.insert(alias.clone(), id.clone());
        }
        let secrets = row.secrets.iter();
        let app = App {
            id: id.clone(),
            secrets: secrets
                .filter_map(|s| {
                    // Of a format that only newer gateways know; what it is a key for, nobody here can say.
                    let format = TokenFormat::try_from(s.format).ok()?;
                    Secret::new(&s.secret_id, format, &s.secret)
                })
                .collect(),
            policy: row.token_policy.unwrap_or_default(),
            disabled: row.disabled,
            limits: row.limits,
            token_life_max_ms: i64::try_from(row.token_life_max_ms).unwrap_or(i64::MAX),
            token_life_ever_ms: i64::try_from(row.token_life_ever_ms).unwrap_or(i64::MAX),
        };
        let (value, change) = (Arc::new(app), self.changes);
        self.apps.insert(id, Known { row, value, change });
    }

    fn add_kick(&mut self, row: KickRow) {
        let (Ok(app), Ok(user)) = (AppId::new(&row.app_id), UserId::new(&row.user_id)) else {
            return;
        };
        let of = (app, user);
        if row.kicked_ms == 0 {
            self.kicks.remove(&of);
            return;
        }
        if self.kicks.get(&of).is_some_and(|known| known.row == row) {
            return;
        }
        let kick = Kick {
            kicked_ms: row.kicked_ms,
            until_ms: row.until_ms,
            reason: row.reason.clone(),
            change: self.changes,
        };
        let (value, change) = (Arc::new(kick), self.changes);
        self.kicks.insert(of, Known { row, value, change });
    }

    /// An app by its id.
    pub fn app(&self, id: &str) -> Option<Arc<App>> {
        self.apps.get(id).map(|known| known.value.clone())
    }

    /// An app by its id or an alias.
    pub fn app_called(&self, name: &str) -> Option<Arc<App>> {
        let by_alias = || self.app(self.aliases.get(name)?.as_str());
        self.app(name).or_else(by_alias)
    }

    /// The newest kick of a user.
    pub fn kick(&self, app: &AppId, user: &UserId) -> Option<Arc<Kick>> {
        let known = self.kicks.get(&(app.clone(), user.clone()));
        known.map(|known| known.value.clone())
    }

    /// The newest change.
    pub fn change(&self) -> u64 {
        self.changes
    }

    /// What has changed behind a change.
    pub fn changed_since(&self, change: u64) -> Changed {
        if self.changes == change {
            return Changed {
                change,
                ..Changed::default()
            };
        }
        let apps = self.apps.iter().filter(|(_, known)| known.change > change);
        let kicks = self.kicks.iter().filter(|(_, known)| known.change > change);
        Changed {
            change: self.changes,
            apps: apps.map(|(id, _)| id.clone()).collect(),
            users: kicks.map(|(of, _)| of.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::link::v1::AppSecret;

    use super::*;

    fn app(id: &str, disabled: bool) -> AppRow {
        AppRow {
            app_id: id.into(),
            disabled,
            ..AppRow::default()
        }
    }

    fn kick(user: &str, kicked_ms: i64) -> KickRow {
        KickRow {
            app_id: "demo".into(),
            user_id: user.into(),
            kicked_ms,
            ..KickRow::default()
        }
    }

    #[test]
    fn only_what_has_changed_is_looked_at_again() {
        let mut apps = Apps::default();
        let rows = || vec![app("demo", false), app("shop", false)];
        apps.merge(true, rows(), vec![kick("ann", 5)]);
        let first = apps.changed_since(0);
        assert_eq!((first.apps.len(), first.users.len()), (2, 1));
        assert_eq!(apps.changed_since(first.change).apps, []);

        apps.merge(false, vec![app("shop", true), app("demo", false)], vec![]);
        let second = apps.changed_since(first.change);
        assert_eq!(second.apps, [AppId::new("shop").unwrap()]);
        assert_eq!(second.users, []);
        assert!(apps.app("shop").unwrap().disabled);

        apps.merge(false, vec![], vec![kick("bob", 7), kick("ann", 0)]);
        let third = apps.changed_since(second.change);
        let of = |user| (AppId::new("demo").unwrap(), UserId::new(user).unwrap());
        assert_eq!((third.apps, third.users), (vec![], vec![of("bob")]));
        let known = |user| apps.kick(&of(user).0, &of(user).1).map(|k| k.kicked_ms);
        assert_eq!(
            (known("ann"), known("bob")),
            (None, Some(7)),
            "ann's is forgotten"
        );
    }

    #[test]
    fn a_secret_of_an_unknown_format_makes_no_tokens() {
        let mut apps = Apps::default();
        let row = AppRow {
            secrets: [0, 1, 99]
                .map(|format| AppSecret {
                    secret_id: format.to_string(),
                    secret: "a secret".into(),
                    format,
                })
                .into(),
            ..app("demo", false)
        };
        apps.merge(true, vec![row], vec![]);
        let app = apps.app("demo").unwrap();
        let known: Vec<&str> = app.secrets.iter().map(|s| &*s.id).collect();
        assert_eq!(known, ["0", "1"]);
    }

    #[test]
    fn an_app_is_found_by_its_aliases_as_they_are_now() {
        let mut apps = Apps::default();
        let called = |apps: &Apps, name: &str| apps.app_called(name).map(|app| app.id.to_string());
        let with = |id: &str, aliases: &[&str]| AppRow {
            aliases: aliases.iter().map(ToString::to_string).collect(),
            ..app(id, false)
        };
        apps.merge(
            true,
            vec![with("demo", &["1", "2"]), app("shop", false)],
            vec![],
        );
        assert_eq!(called(&apps, "1").as_deref(), Some("demo"));
        assert_eq!(called(&apps, "demo").as_deref(), Some("demo"));
        assert!(apps.app("1").is_none(), "an alias is no id");

        apps.merge(
            false,
            vec![with("shop", &["1"]), with("demo", &["2"])],
            vec![],
        );
        assert_eq!(called(&apps, "1").as_deref(), Some("shop"));
        assert_eq!(called(&apps, "2").as_deref(), Some("demo"));
        apps.merge(true, vec![with("demo", &["2"])], vec![]);
        assert_eq!(called(&apps, "1"), None, "its app is gone");
    }

    #[test]
    fn the_whole_state_replaces_what_was_known() {
        let mut apps = Apps::default();
        apps.merge(
            true,
            vec![app("demo", false), app("gone", false)],
            vec![kick("ann", 5)],
        );
        let known = apps.change();
        apps.merge(true, vec![app("demo", false)], vec![kick("ann", 5)]);
        assert!(apps.app("gone").is_none());
        assert_eq!(apps.changed_since(known).users, [], "told once more");
        apps.merge(true, vec![app("demo", false)], vec![]);
        let (demo, ann) = (AppId::new("demo").unwrap(), UserId::new("ann").unwrap());
        assert!(apps.kick(&demo, &ann).is_none());
    }
}
