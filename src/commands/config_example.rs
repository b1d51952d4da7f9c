//! `config example`: prints a configuration to begin with.
//!
//! It is the documented default configuration (`config::DEFAULTS`), so that no key can be missing: what an operator has
//! to decide is set, everything else is commented out with its default.

use std::collections::BTreeSet;

use clap::Subcommand;

use super::{Failure, sandbox_config, say};
use crate::config::DEFAULTS;

/// Configuration files
#[derive(Subcommand)]
pub(super) enum Command {
    /// Print a complete, commented configuration file
    #[command(
        after_help = "Example:\n  examgate config example > examgate.toml\n\nAdapt it, set the environment variables it \
                            names, and try it with `examgate check`. For the sandbox: examgate sandbox --print-config."
    )]
    Example,
}

/// The keys that the example sets, by section; it comments out all others.
const SET: [(&str, &[&str]); 8] = [
    ("server", &["listen", "admin_listen"]),
    ("auth.clients.lms", &["key_sha256", "scopes", "connections"]),
    ("store", &["url", "encryption_key"]),
    ("connections.startexam-main", &["vendor", "account_id", "secret", "center", "profile_id"]),
    ("connections.thinkexam-main", &["vendor", "base_url"]),
    ("connections.thinkexam-main.signature", &["mode", "api_key", "secret", "url"]),
    ("connections.examtesting-main", &["vendor", "institution_id", "api_key", "api_pass"]),
    ("assessments.rust-101", &["name", "connection", "ref"]),
];

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Example => say(example().trim_end()),
    }
}

fn example() -> String {
    let mut body = String::new();
    let mut section = "";
    // The defaults begin with a paragraph about themselves.
    for line in DEFAULTS.lines().skip_while(|line| !line.trim().is_empty()) {
        let plain = line.strip_prefix('#').unwrap_or(line).trim_start();
        if let Some(heading) = plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = heading;
            // A webhook is a choice: without one, clients can create theirs.
            if section.starts_with("webhooks.") {
                body += "# ";
            }
            body += plain;
        } else if let Some(name) = assigned(plain) {
            if !is_set(section, name) {
                body += "# ";
                body += plain;
            } else if name == "scopes" {
                body += &sandbox_config::every_scope();
            } else {
                body += plain;
            }
        } else {
            body += line;
        }
        body.push('\n');
    }
    format!("{}{body}", introduction(&body))
}

fn introduction(body: &str) -> String {
    let mut text = "\
# A starting configuration for examgate, as `examgate config example` prints it. It sets what you have to decide;
# every other key is commented out with its default. Try it: examgate check --config examgate.toml
#
# Replace the zeros in key_sha256 (they match no key) with the hash that `examgate key new` prints; remove the scopes a
# client does not need, and the connections you do not have.
#
# Environment variables override the file: EXAMGATE__SERVER__LISTEN sets server.listen. A secret is a reference:
# \"env:NAME\" (environment variable), \"file:PATH\" or \"plain:VALUE\". Durations: \"300ms\", \"30s\", \"5m\", \"24h\", \"30d\".
# Sizes: \"512KiB\", \"8MiB\".
#
# Set before you start it:
"
    .to_owned();
    for name in variables(body) {
        text.extend(["#   ", name, "\n"]);
    }
    text
}

/// Returns the environment variables that the keys in force refer to.
fn variables(body: &str) -> BTreeSet<&str> {
    let set = body.lines().filter(|line| !line.starts_with('#'));
    set.filter_map(|line| line.split_once("\"env:")?.1.split_once('"')).map(|(name, _)| name).collect()
}

/// Returns the key that the line sets, if it is one.
fn assigned(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(" = ")?;
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_').then_some(name)
}

fn is_set(section: &str, name: &str) -> bool {
    // The program's id at the vendor; the other key names it in another way.
    let of_program = section.starts_with("programs.") && ["name", "connection", "ref"].contains(&name);
    of_program || SET.iter().any(|(known, keys)| *known == section && keys.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_to_set_is_in_the_defaults() {
        let text = example();
        for (section, keys) in SET {
            let (_, rest) =
                text.split_once(&format!("\n[{section}]\n")).unwrap_or_else(|| panic!("[{section}]: {text}"));
            let own = rest.split("\n[").next().unwrap_or_default();
            for key in keys {
                assert!(own.lines().any(|line| line.starts_with(&format!("{key} = "))), "{section}.{key}: {own}");
            }
        }
    }

    #[test]
    fn every_line_of_the_defaults_is_there() {
        let text = example();
        for line in DEFAULTS.lines().skip_while(|line| !line.is_empty()) {
            let plain = line.trim_start_matches('#').trim();
            assert!(text.contains(plain) || plain.starts_with("scopes = "), "{line}");
        }
    }
}
