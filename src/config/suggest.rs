//! "Did you mean" for configuration keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::layers::DEFAULTS;
use crate::domain::suggest::word;

/// Suggests a key of the same section for an unknown one, see [`word`]; else the section to which a key of this name
/// belongs.
pub(super) fn key(path: &[String]) -> String {
    let Some((last, section)) = path.split_last() else { return String::new() };
    let near = KEYS.get(&general(section)).map_or_else(String::new, |known| word(last, known.iter().copied()));
    let elsewhere = || {
        let section = KEYS.iter().find(|(section, keys)| !section.is_empty() && keys.contains(last.as_str()))?.0;
        Some(format!(" (it belongs to [{}])", section.replace('*', "<name>")))
    };
    if near.is_empty() { elsewhere().unwrap_or_default() } else { near }
}

/// Keys of each section, parsed from the embedded defaults (examples in comments included), so that there is no second
/// list to maintain.
static KEYS: LazyLock<BTreeMap<String, BTreeSet<&'static str>>> = LazyLock::new(|| {
    let mut keys: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    let mut section = String::new();
    for line in DEFAULTS.lines() {
        let line = line.trim_start_matches('#').trim();
        if let Some(heading) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let names: Vec<&str> = heading.split('.').collect();
            section = general(&names);
            for (index, name) in names.iter().enumerate() {
                // Names that the operator chooses (`startexam-main`) are not keys.
                if general(&names[..=index]).split('.').next_back() == Some(name) {
                    keys.entry(general(&names[..index])).or_default().insert(name);
                }
            }
        } else if let Some((name, value)) = assignment(line) {
            keys.entry(section.clone()).or_default().insert(name);
            let inner = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let members = inner.into_iter().flat_map(|inner| inner.split(',')).filter_map(assignment);
            let below = [section.as_str(), name].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>();
            for (member, _) in members {
                keys.entry(below.join(".")).or_default().insert(member);
            }
        }
    }
    keys
});

fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(" = ")?;
    let name = name.trim();
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    plain.then(|| (name, value.trim()))
}

/// Replaces names that the operator chooses: `connections.*.retry`.
fn general(section: &[impl AsRef<str>]) -> String {
    let named = match section {
        [first, ..] if ["connections", "assessments", "programs", "webhooks"].contains(&first.as_ref()) => 1,
        [first, second, ..] if first.as_ref() == "auth" && second.as_ref() == "clients" => 2,
        _ => usize::MAX,
    };
    let parts = section.iter().enumerate().map(|(index, name)| if index == named { "*" } else { name.as_ref() });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn near_keys_of_the_same_section_are_suggested() {
        for (typo, meant) in [
            ("server.listn", "listen"),
            ("serber", "server"),
            ("auth.cleints", "clients"),
            ("auth.clients.lms.scope", "scopes"),
            ("connections.a.time_out", "timeout"),
            ("connections.a.retry.atempts", "attempts"),
            ("connections.a.signature.apikey", "api_key"),
            ("programs.p.externalref", "external_ref"),
        ] {
            assert_eq!(key(&path(typo)), format!(" (did you mean {meant}?)"), "{typo}");
        }
    }

    #[test]
    fn distant_keys_get_no_suggestion() {
        for far in ["server.zzz", "zzz.listen.zzz", "auth.startexam-main"] {
            assert_eq!(key(&path(far)), "", "{far}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_section_is_sent_to_its_own() {
        for (wrong, section) in [
            ("connections.a.retention", "store"),
            ("connections.a.tls", "server"),
            ("server.key_sha256", "auth.clients.<name>"),
            ("store.settle_grace", "connections.<name>"),
        ] {
            assert_eq!(key(&path(wrong)), format!(" (it belongs to [{section}])"), "{wrong}");
        }
    }
}
