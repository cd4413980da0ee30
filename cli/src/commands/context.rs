//! `parlance context add|use|list|show|remove`.

use serde::Serialize;

use crate::args::ContextCommand;
use crate::ca::operator_files;
use crate::commands::Session;
use crate::context::{ClusterContext, DEV, Resolved, Running, Store};
use crate::exit::not_possible;
use crate::output::{Output, say};

#[derive(Serialize)]
struct View {
    name: String,
    current: bool,
    #[serde(flatten)]
    context: ClusterContext,
}

#[derive(Serialize)]
struct List {
    contexts: Vec<View>,
}

pub fn run(session: &Session, command: ContextCommand) -> anyhow::Result<()> {
    match command {
        ContextCommand::Add {
            name,
            app,
            gateway_ca,
        } => {
            let globals = &session.globals;
            let tls = match &globals.tls_dir {
                Some(dir) => Some(operator_files(&std::path::absolute(dir)?)?),
                None => None,
            };
            let gateway_ca = gateway_ca.map(std::path::absolute).transpose()?;
            let context = ClusterContext {
                nodes: globals.server.clone(),
                gateways: globals.via.clone(),
                app: app.as_ref().map(String::from),
                gateway_ca,
                tls,
            };
            add(name, context)
        }
        ContextCommand::Use { name } => choose(name),
        ContextCommand::List => list(session),
        ContextCommand::Show { name } => show(session, name),
        ContextCommand::Remove { name } => remove(&name),
    }
}

fn add(name: String, context: ClusterContext) -> anyhow::Result<()> {
    if name.is_empty() || name.contains('/') || name.ends_with(".toml") || name == DEV {
        return Err(not_possible(format!(
            "{name:?} is not a name for a context: it must not be empty, {DEV:?}, hold a slash or end in .toml"
        )));
    }
    if context.nodes.is_empty() && context.gateways.is_empty() {
        return Err(not_possible(
            "a context needs an address: give --server HOST:PORT, --via URL or both",
        ));
    }
    if let Some(tls) = &context.tls {
        for file in [&tls.ca, &tls.cert, &tls.key] {
            if !file.is_file() {
                return Err(not_possible(format!(
                    "there is no {}: `parlance ca` makes it",
                    file.display()
                )));
            }
        }
    }
    let mut store = Store::load_default()?;
    let first = store.contexts.is_empty() && store.current.is_none();
    store.contexts.insert(name.clone(), context);
    if first {
        store.current = Some(name.clone());
    }
    store.save_default()?;
    say(format!(
        "kept context {name} in {}{}",
        Store::path()?.display(),
        if first { "; it is the current one" } else { "" }
    ));
    Ok(())
}

fn choose(name: String) -> anyhow::Result<()> {
    let mut store = Store::load_default()?;
    // With none chosen a running dev cluster is found by itself.
    store.current = if name == DEV {
        None
    } else if store.contexts.contains_key(&name) {
        Some(name.clone())
    } else {
        return Err(not_possible(format!(
            "there is no context {name:?}; see `parlance context list`"
        )));
    };
    store.save_default()?;
    say(format!("commands now use context {name}"));
    Ok(())
}

fn remove(name: &str) -> anyhow::Result<()> {
    let mut store = Store::load_default()?;
    if store.contexts.remove(name).is_none() {
        return Err(not_possible(format!(
            "there is no context {name:?}; see `parlance context list`"
        )));
    }
    if store.current.as_deref() == Some(name) {
        store.current = None;
    }
    store.save_default()?;
    say(format!("forgot context {name}"));
    Ok(())
}

fn list(session: &Session) -> anyhow::Result<()> {
    let store = Store::load_default()?;
    let running = Running::in_default_folder().alive();
    let chosen = session.resolve().ok().map(|r: Resolved| r.name);
    let kept = store.contexts.into_iter();
    let all = kept.chain(running.into_iter().map(|r| (DEV.to_owned(), r.context)));
    let view = |(name, context): (String, ClusterContext)| View {
        current: chosen.as_ref() == Some(&name),
        name,
        context,
    };
    let list = List {
        contexts: all.map(view).collect(),
    };
    session
        .output
        .print(&list, |output, list| table(output, &list.contexts))
}

fn show(session: &Session, name: Option<String>) -> anyhow::Result<()> {
    let mut globals = session.globals.clone();
    let current = name.is_none();
    globals.context = name.or(globals.context);
    let Resolved { name, context } = crate::context::resolve(&globals)?;
    let view = View {
        name,
        current,
        context,
    };
    session.output.print(&view, |_, view| {
        let text = toml::to_string(&view.context).unwrap_or_default();
        format!("# {}\n{text}", view.name)
    })
}

fn table(output: &Output, contexts: &[View]) -> String {
    let mut table = output.table(&["", "NAME", "APP", "NODES", "GATEWAYS"]);
    for view in contexts {
        let mark = if view.current { "*" } else { "" };
        let app = view.context.app.as_deref().unwrap_or("-");
        table.add_row([
            mark,
            &view.name,
            app,
            &view.context.nodes.join(" "),
            &view.context.gateways.join(" "),
        ]);
    }
    table.to_string()
}
