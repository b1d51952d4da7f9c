//! The files of a room form no cycles, so that they can be read one after the other. The remaining cycles are listed
//! here; the list may only shrink.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Module = Vec<String>;

/// The cycles that are still to be broken.
const KNOWN: &[&[&str]] = &[
    &["commands::import::input_file", "commands::import::options", "commands::import::result_file"],
    &["config::env", "config::layers"],
    &["http::dto::common", "http::middleware::request_context", "http::openapi::components", "http::problem"],
    &["http::middleware::audit", "http::response"],
    &["http::openapi", "http::routes"],
    &["sandbox::control", "sandbox::fault_kinds", "sandbox::server", "sandbox::simulator"],
    &[
        "service::assignments",
        "service::audit",
        "service::bulk::batch_sender",
        "service::bulk::enrolments",
        "service::bulk::run",
        "service::candidates",
        "service::programs",
        "service::write::executor",
        "service::write::idempotency",
        "service::write::reconciler",
    ],
    &["store::sqlite::audit", "store::sqlite::mutations"],
    &["transport::client", "transport::http_client", "transport::response_error"],
    &["transport::redaction", "transport::request"],
    &[
        "vendors::examtesting::error",
        "vendors::examtesting::response_fields",
        "vendors::examtesting::response_parser",
        "vendors::examtesting::wire",
    ],
    &["vendors::startexam::settings", "vendors::startexam::wire"],
];

/// Reads the module files below a folder, except tests, fuzz targets and the hubs (`mod.rs`), which only name their
/// parts.
fn read_modules(folder: &Path, parents: &[String], modules: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let module: Module = parents.iter().cloned().chain([name.clone()]).collect();
        if ["tests", "fuzz", "simulation", "conformance"].contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            read_modules(&path, &module, modules);
        } else if path.extension().is_some_and(|end| end == "rs") && name != "mod" {
            let text = fs::read_to_string(&path).expect("a readable source");
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
            modules.insert(module, code.join("\n"));
        }
    }
}

/// Parses the paths that begin here, each as the segments after `prefix`; a group in braces is several paths.
fn parse_paths(text: &str, prefix: &[String], paths: &mut Vec<Module>) -> usize {
    let mut at = text.len() - text.trim_start().len();
    if text[at..].starts_with('{') {
        at += 1;
        while at < text.len() && !text[at..].starts_with('}') {
            let read = parse_paths(&text[at..], prefix, paths);
            at += read.max(1);
        }
        return at + 1;
    }
    let segment: String = text[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if segment.is_empty() {
        return at;
    }
    at += segment.len();
    let path: Module = prefix.iter().cloned().chain([segment]).collect();
    if let Some(rest) = text[at..].strip_prefix("::") {
        return at + 2 + parse_paths(rest, &path, paths);
    }
    paths.push(path);
    at
}

/// Returns the modules of the same room that this one names.
fn named_modules(module: &Module, code: &str, modules: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut named = BTreeSet::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut paths = Vec::new();
            parse_paths(&code[at..], &[], &mut paths);
            for path in paths {
                let mut base: Module = match path[0].as_str() {
                    "crate" => Vec::new(),
                    "super" => module[..module.len() - 1].to_vec(),
                    _ => module.clone(),
                };
                for segment in &path[1..] {
                    if segment == "super" {
                        base.pop();
                    } else {
                        base.push(segment.clone());
                    }
                }
                let target = (1..=base.len()).rev().map(|length| base[..length].to_vec());
                named.extend(target.into_iter().find(|target| modules.contains_key(target)));
            }
        }
    }
    named.retain(|other| other != module && other[0] == module[0]);
    named
}

fn reachable(from: &Module, edges: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = open.pop() {
        for next in &edges[&module] {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

#[test]
fn no_new_cycle_appears_among_the_files_of_a_room() {
    let mut modules = BTreeMap::new();
    read_modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut modules);
    let edges: BTreeMap<Module, BTreeSet<Module>> =
        modules.iter().map(|(module, code)| (module.clone(), named_modules(module, code, &modules))).collect();
    assert!(edges.values().any(|named| !named.is_empty()), "the sources name each other somewhere");
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        edges.keys().map(|module| (module, reachable(module, &edges))).collect();
    let mut cycles = BTreeSet::new();
    for (module, others) in &reach {
        if others.contains(*module) {
            let mutual = others.iter().filter(|other| reach[*other].contains(*module));
            cycles.insert(mutual.map(|module| module.join("::")).collect::<Vec<_>>());
        }
    }
    let known: BTreeSet<Vec<String>> =
        KNOWN.iter().map(|cycle| cycle.iter().map(|module| (*module).to_owned()).collect()).collect();
    assert_eq!(cycles, known, "a new cycle has to be broken; one that is broken leaves the list");
}
