//! Settings of a production process: a TOML file, then environment variables, which win.
//!
//! `PARLANCE_NODE__RAFT__HEARTBEAT_MS=150` is `raft.heartbeat_ms` of a node: two underscores go one level down. A
//! list is written with commas or as TOML. Unknown settings are refused by name, and all faults are told at once.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::exit::not_possible;

/// The settings of a kind of process.
pub trait Settings: Serialize + DeserializeOwned {
    /// Names the process, and with it the variables: `node` has `PARLANCE_NODE__…`.
    const NAME: &'static str;
    /// Paths of the settings that have no default.
    const REQUIRED: &'static [&'static str];
    /// Values for the required settings; only their types matter.
    fn placeholders() -> Value;
    /// What is wrong with the values, each fault with its key's path.
    fn validate(&self) -> Result<(), Vec<String>>;
}

/// Reads the file, if one is named, and the environment.
pub fn load<S: Settings>(file: Option<&Path>) -> anyhow::Result<S> {
    let text = match file {
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("read config file {}", file.display()))?,
        None => String::new(),
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| {
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        })
        .collect();
    let refused = |faults: Vec<String>| {
        let name = S::NAME;
        let source = file.map_or_else(
            || "the environment".to_owned(),
            |file| file.display().to_string(),
        );
        not_possible(format!(
            "invalid {name} settings in {source}:\n  {}",
            faults.join("\n  ")
        ))
    };
    merge(&text, &environment).map_err(refused)
}

/// The settings as they are in effect, as TOML. They hold no secrets: those are files, named here.
pub fn effective_toml<S: Settings>(settings: &S) -> anyhow::Result<String> {
    let mut value = serde_json::to_value(settings).context("write the settings")?;
    drop_nulls(&mut value);
    toml::to_string(&value).context("write the settings as TOML")
}

fn merge<S: Settings>(
    file: &str,
    environment: &BTreeMap<String, String>,
) -> Result<S, Vec<String>> {
    let template = S::deserialize(S::placeholders()).map_err(|e| vec![e.to_string()])?;
    let template = as_object(&template).map_err(|e| vec![e])?;
    let mut given = match toml::from_str::<toml::Table>(file).map(serde_json::to_value) {
        Ok(Ok(Value::Object(given))) => given,
        Ok(_) => Map::new(),
        Err(e) => {
            return Err(vec![format!(
                "not valid TOML: {}",
                e.to_string().trim_end()
            )]);
        }
    };
    let mut faults = Vec::new();
    let prefix = format!("PARLANCE_{}__", S::NAME.to_ascii_uppercase());
    for (name, text) in environment {
        if let Some(path) = name.strip_prefix(&prefix) {
            let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
            match typed::<S>(&template, &path, text) {
                Ok(value) => set(&mut given, &path, value),
                Err(reason) => faults.push(format!("{name}: {reason}")),
            }
        }
    }
    for path in S::REQUIRED {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        if get(&given, &path).is_none() {
            let variable = format!("{prefix}{}", path.join("__").to_ascii_uppercase());
            faults.push(format!(
                "{}: required; set it in the file or as {variable}",
                path.join(".")
            ));
        }
    }
    let mut merged = template.clone();
    lay_over::<S>(&template, &mut merged, &given, &mut Vec::new(), &mut faults);
    match S::deserialize(Value::Object(merged)) {
        Ok(settings) => {
            // What a missing setting would break is said already.
            let told = |fault: &String| {
                faults
                    .iter()
                    .any(|f| f.split(':').next() == fault.split(':').next())
            };
            let more: Vec<_> = settings
                .validate()
                .err()
                .unwrap_or_default()
                .into_iter()
                .filter(|f| !told(f))
                .collect();
            faults.extend(more);
            if faults.is_empty() {
                Ok(settings)
            } else {
                Err(faults)
            }
        }
        Err(e) if faults.is_empty() => Err(vec![e.to_string()]),
        Err(_) => Err(faults),
    }
}

/// Puts each given setting over its default, if it is known and fits.
fn lay_over<S: Settings>(
    template: &Map<String, Value>,
    merged: &mut Map<String, Value>,
    given: &Map<String, Value>,
    path: &mut Vec<String>,
    faults: &mut Vec<String>,
) {
    for (key, value) in given {
        path.push(key.clone());
        match (get(template, path), value) {
            (None, _) => faults.push(format!(
                "{}: unknown setting; {}",
                path.join("."),
                known(template, path)
            )),
            (Some(Value::Object(_)), Value::Object(inner)) => {
                lay_over::<S>(template, merged, inner, path, faults)
            }
            (Some(_), _) => match fits::<S>(template, path, value.clone()) {
                Ok(()) => set(merged, path, value.clone()),
                Err(reason) => faults.push(format!("{}: {reason}", path.join("."))),
            },
        }
        path.pop();
    }
}

/// Whether the settings take a value at a path, all else being the default.
fn fits<S: Settings>(
    template: &Map<String, Value>,
    path: &[String],
    value: Value,
) -> Result<(), String> {
    let mut alone = template.clone();
    set(&mut alone, path, value);
    S::deserialize(Value::Object(alone))
        .map(|_| ())
        .map_err(|e| e.to_string())
}

/// A variable's text as the type that its setting has.
fn typed<S: Settings>(
    template: &Map<String, Value>,
    path: &[String],
    text: &str,
) -> Result<Value, String> {
    // Below an optional part, which is null while it is not given, only the whole part can be checked.
    let below_optional =
        (1..path.len()).any(|n| get(template, &path[..n]).is_some_and(Value::is_null));
    if below_optional {
        return Ok(Value::String(text.to_owned()));
    }
    if get(template, path).is_none() {
        return Err(format!("unknown setting; {}", known(template, path)));
    }
    let string = Value::String(text.to_owned());
    let reason = match fits::<S>(template, path, string.clone()) {
        Ok(()) => return Ok(string),
        Err(reason) => reason,
    };
    let literal = toml::from_str::<toml::Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut table| serde_json::to_value(table.remove("v")?).ok());
    let list = Value::Array(
        text.split(',')
            .map(|item| Value::String(item.trim().to_owned()))
            .collect(),
    );
    let mut reasons = Vec::new();
    for candidate in literal.into_iter().chain([list]) {
        match fits::<S>(template, path, candidate.clone()) {
            Ok(()) => return Ok(candidate),
            Err(reason) => reasons.push(reason),
        }
    }
    // With a literal its own fault says more than that a string is none.
    Err(if reasons.len() > 1 {
        reasons.swap_remove(0)
    } else {
        reason
    })
}

fn known(template: &Map<String, Value>, path: &[String]) -> String {
    let parent = path.split_last().map_or(&[][..], |(_, parent)| parent);
    let siblings = if parent.is_empty() {
        Some(template)
    } else {
        get(template, parent).and_then(Value::as_object)
    };
    match siblings {
        Some(siblings) => format!(
            "known settings: {}",
            siblings.keys().cloned().collect::<Vec<_>>().join(", ")
        ),
        None => format!("{} has no settings below it", parent.join(".")),
    }
}

fn as_object(value: &impl Serialize) -> Result<Map<String, Value>, String> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the settings are not a table".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

fn get<'a>(object: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = object.get(first)?;
    if rest.is_empty() {
        Some(value)
    } else {
        get(value.as_object()?, rest)
    }
}

fn set(object: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        object.insert(first.clone(), value);
        return;
    }
    let inner = object.entry(first.clone()).or_insert(Value::Null);
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        set(inner, rest, value);
    }
}

/// TOML has no null: what is not set is left out.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|_, inner| !inner.is_null());
        object.values_mut().for_each(drop_nulls);
    }
}

#[cfg(test)]
#[path = "config_file_test.rs"]
mod tests;
