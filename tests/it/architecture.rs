//! Each room names only rooms to its left (docs/ARCHITECTURE.md), so there are no cycles and the rooms can be read one
//! after the other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const STRATA: [&str; 11] = [
    "secret",
    "telemetry",
    "domain",
    "sheet",
    "transport",
    "vendors",
    "store",
    "service",
    "config",
    "http",
    "commands",
];

/// Libraries a room must not name, and why.
const FORBIDDEN: [(&str, &[&str]); 5] = [
    ("domain", &["tokio", "reqwest", "axum", "hyper", "rusqlite", "sqlx", "std::fs", "std::net", "std::env"]),
    ("sheet", &["tokio", "reqwest", "axum", "hyper", "rusqlite", "sqlx", "tracing", "std::net", "std::env"]),
    ("transport", &["axum", "rusqlite", "sqlx"]),
    ("vendors", &["axum", "rusqlite", "sqlx", "reqwest"]),
    ("http", &["reqwest", "rusqlite", "sqlx", "crate::vendors", "crate::transport", "crate::store"]),
];

fn find_sources(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find_sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Returns every source file with its room and its code without comments.
fn rooms() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    find_sources(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&root).expect("below src");
            let first = inside.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("a readable source");
            (first, path, without_comments(&text))
        })
        .collect()
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Returns the rooms named by `crate::room` or `use crate::{room, …}`.
fn named_rooms(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `pub(in crate::room)` and a macro's `$crate::` name rooms, too.
        let rest = &code[at + "crate::".len()..];
        let names = rest.strip_prefix('{').map_or(rest, |inside| inside.split('}').next().unwrap_or(""));
        let first_only = !rest.starts_with('{');
        for name in names.split(',') {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            rooms.insert(name);
            if first_only {
                break;
            }
        }
    }
    rooms
}

#[test]
fn a_room_names_only_rooms_to_its_left() {
    let mut wrong = Vec::new();
    for (room, path, code) in rooms() {
        let Some(position) = STRATA.iter().position(|known| *known == room) else { continue };
        for name in named_rooms(&code) {
            let allowed = STRATA.iter().position(|known| *known == name).is_none_or(|other| other <= position)
                && (name != "sandbox" || room == "commands");
            if !allowed {
                wrong.push(format!("{} names {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_room_is_one_of_the_strata() {
    let known: BTreeSet<&str> = STRATA.into_iter().chain(["sandbox", "fuzz", "main", "lib"]).collect();
    let unknown: BTreeSet<String> =
        rooms().into_iter().map(|(room, ..)| room).filter(|room| !known.contains(&**room)).collect();
    assert!(unknown.is_empty(), "rooms without a stratum: {unknown:?}");
    let present: BTreeSet<String> = rooms().into_iter().map(|(room, ..)| room).collect();
    let missing: Vec<_> = STRATA.iter().filter(|room| !present.contains(**room)).collect();
    assert!(missing.is_empty(), "rooms without a source file: {missing:?}");
}

#[test]
fn rooms_do_not_use_forbidden_libraries() {
    let mut wrong = Vec::new();
    for (room, path, code) in rooms() {
        for (_, libraries) in FORBIDDEN.iter().filter(|(name, _)| *name == room) {
            for library in *libraries {
                let names = code.match_indices(library).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    let after = code[at + library.len()..].chars().next();
                    before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '.')
                        && after.is_none_or(|c| c == ':' || c == ';')
                });
                if names {
                    wrong.push(format!("{} names {library}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_sandbox_shares_nothing_with_the_rest() {
    for (room, path, code) in rooms() {
        if room == "sandbox" {
            let others: Vec<String> = named_rooms(&code).into_iter().filter(|name| name != "sandbox").collect();
            assert!(others.is_empty(), "{} names {others:?}", path.display());
        }
    }
}

#[test]
fn vendors_do_not_know_each_other() {
    for (room, path, code) in rooms() {
        if room != "vendors" || path.ends_with("vendors/mod.rs") {
            continue;
        }
        for other in examgate::vendors::DESCRIPTORS.iter().map(|vendor| vendor.kind) {
            let own = path.iter().any(|part| part == other);
            assert!(own || !code.contains(&format!("{other}::")), "{} names {other}", path.display());
        }
    }
}
