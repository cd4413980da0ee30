//! The table under `## Code map` in docs/architecture.md is the code: what a row lists is used, what is used is listed, and no
//! arrows make a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::{code, files, root};

/// The crates whose modules have a row each.
const CRATES: &[&str] = &["node/src/", "gateway/src/", "cli/src/"];

type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_code_map_is_the_code() {
    let document = std::fs::read_to_string(root().join("docs/architecture.md"));
    let rows = rows(&document.expect("docs/architecture.md"));
    let sources = files(".rs");
    let mut faults = Vec::new();
    for folder in CRATES {
        let found = uses_of_crate(folder, &sources);
        assert!(found.len() > 3, "{folder}: the modules were not found");
        faults.extend(compare(folder, &found, &rows));
        faults.extend(circle(&found).map(|circle| format!("{folder}: {circle}")));
    }
    assert!(
        faults.is_empty(),
        "the code map in docs/architecture.md and the code differ:\n{}",
        faults.join("\n")
    );
}

/// What each row allows, by the row's path without its ending.
fn rows(document: &str) -> Uses {
    let section = document.split("\n## Code map\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut rows = Uses::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [path, .., allowed] = cells.as_slice() else {
            continue;
        };
        let quoted = |cell: &str| -> Vec<String> {
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect()
        };
        for path in quoted(path) {
            let path = path.trim_end_matches('/').trim_end_matches(".rs");
            rows.insert(path.to_owned(), quoted(allowed).into_iter().collect());
        }
    }
    rows
}

/// The modules of a crate and which others of the crate each uses, outside tests.
fn uses_of_crate(folder: &str, sources: &[(String, String)]) -> Uses {
    let inside = || {
        sources
            .iter()
            .filter_map(|(name, text)| Some((name.strip_prefix(folder)?, text)))
    };
    let module_of = |path: &str| {
        path.split('/')
            .next()
            .unwrap_or(path)
            .trim_end_matches(".rs")
            .to_owned()
    };
    let only_tests: BTreeSet<String> = inside()
        .filter(|(path, _)| matches!(*path, "lib.rs" | "main.rs"))
        .flat_map(|(_, text)| test_modules(text))
        .collect();
    let mut found = Uses::new();
    for (path, text) in inside() {
        let module = module_of(path);
        let is_test = path.ends_with("tests.rs")
            || path.ends_with("_test.rs")
            || path.contains("/tests/")
            || only_tests.contains(&module);
        if !is_test && !matches!(path, "lib.rs" | "main.rs") {
            let text: Vec<&str> = code(text).map(|(_, line)| line).collect();
            let depth = path.split('/').filter(|part| *part != "mod.rs").count();
            found
                .entry(module)
                .or_default()
                .extend(uses(&text.join("\n"), depth));
        }
    }
    let modules: BTreeSet<String> = found.keys().cloned().collect();
    for (module, used) in &mut found {
        used.retain(|name| modules.contains(name) && name != module);
    }
    found
}

/// Modules that a root declares for tests alone.
fn test_modules(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    declared
        .filter_map(|pair| pair[1].split("mod ").nth(1))
        .map(|name| name.trim_end_matches(';').to_owned())
        .collect()
}

/// The first names of all paths from the crate's root: `crate::name`, `crate::{name, …}`, and `super::` as often as the file
/// is deep.
fn uses(text: &str, depth: usize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for start in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in text.match_indices(&start) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = &text[at + start.len()..];
            match rest.strip_prefix('{') {
                Some(list) => names.extend(first_names(list)),
                None => names.extend(name(rest)),
            }
        }
    }
    names
}

/// The names at the start of each item of `a::b, c::{d, e}}`.
fn first_names(list: &str) -> Vec<String> {
    let (mut names, mut level, mut at_start) = (Vec::new(), 1, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level == 1 => break,
            '}' => level -= 1,
            ',' if level == 1 => at_start = true,
            c if at_start && level == 1 && !c.is_whitespace() => {
                names.extend(name(&list[at..]));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

fn name(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

fn compare(folder: &str, found: &Uses, rows: &Uses) -> Vec<String> {
    let mut faults = Vec::new();
    for (module, used) in found {
        let path = format!("{folder}{module}");
        let Some(allowed) = rows.get(&path) else {
            faults.push(format!("{path}: has no row"));
            continue;
        };
        for name in used.difference(allowed) {
            faults.push(format!(
                "{path}: uses `{name}`, which its row does not list"
            ));
        }
        for name in allowed.difference(used) {
            faults.push(format!(
                "{path}: its row lists `{name}`, which it does not use"
            ));
        }
    }
    let gone = rows.keys().filter(|path| {
        let module = path.strip_prefix(folder);
        module.is_some_and(|module| !found.contains_key(module))
    });
    faults.extend(gone.map(|path| format!("{path}: has a row, but is not there")));
    faults
}

/// A way from a module back to itself.
fn circle(found: &Uses) -> Option<String> {
    let mut done = BTreeSet::new();
    found
        .keys()
        .find_map(|module| walk(module, found, &mut Vec::new(), &mut done))
}

fn walk<'a>(
    module: &'a str,
    found: &'a Uses,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<String> {
    if let Some(start) = path.iter().position(|on| *on == module) {
        return Some(format!(
            "a circle: {} → {module}",
            path[start..].join(" → ")
        ));
    }
    if !done.insert(module) {
        return None;
    }
    path.push(module);
    let used = found.get(module).into_iter().flatten();
    let circle = used
        .into_iter()
        .find_map(|next| walk(next, found, path, done));
    path.pop();
    circle
}

#[test]
fn a_difference_in_either_direction_is_a_fault() {
    let document = "# x\n\n## Code map\n\n| folder | what | may use |\n| --- | --- | --- |\n\
                    | `node/src/a` | first | `b`, `c` |\n| `node/src/b.rs` | second | – |\n\n## Next\n| `node/src/z` | | `a` |\n";
    let rows = rows(document);
    let source = |name: &str, text: &str| (format!("node/src/{name}"), text.to_owned());
    let sources = [
        source("lib.rs", "mod a;\n#[cfg(test)]\nmod probe;\n"),
        source(
            "a/mod.rs",
            "#[cfg(test)]\nmod tests;\nuse crate::b::X;\nuse super::d::Y;\n",
        ),
        source("a/tests.rs", "use crate::d::Z;\n"),
        source(
            "b.rs",
            "use crate::{\n    c::{One, Two},\n    a,\n};\n#[cfg(test)]\nmod tests {\n    use crate::d::Z;\n}\n",
        ),
        source("c.rs", "// crate::a::X is not used\n"),
        source("d.rs", ""),
        source("probe.rs", "use crate::a::X;\n"),
    ];
    let found = uses_of_crate("node/src/", &sources);
    let faults = compare("node/src/", &found, &rows);
    assert_eq!(
        faults,
        [
            "node/src/a: uses `d`, which its row does not list",
            "node/src/a: its row lists `c`, which it does not use",
            "node/src/b: uses `a`, which its row does not list",
            "node/src/b: uses `c`, which its row does not list",
            "node/src/c: has no row",
            "node/src/d: has no row",
        ]
    );
    assert_eq!(circle(&found).unwrap(), "a circle: a → b → a");
}
