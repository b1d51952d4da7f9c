//! Any configuration, for the fuzzer.
#![expect(clippy::missing_panics_doc, reason = "to panic is how the fuzzer is told")]

use std::path::PathBuf;

use super::{Sources, load};

/// Stands in secrets of the corpus, and nowhere else.
const PLANTED: &str = "hushhushdonttellthis";

/// Loads a file; what comes after its first NUL are environment variables, one a line. No fault shows a secret.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, variables) = text.split_once('\0').unwrap_or((&text, ""));
    let environment = variables.lines().filter_map(|line| line.split_once('='));
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let file = Some((PathBuf::from("examgate.toml"), file.to_owned()));
    let Err(faults) = load(&Sources { file, environment }) else { return };
    assert!(!faults.is_empty(), "refused without a reason");
    // As a name it would be told with every right.
    let hidden = text.matches(PLANTED).count() == text.matches(&format!("= \"plain:{PLANTED}")).count();
    assert!(!hidden || !faults.iter().any(|fault| fault.to_string().contains(PLANTED)), "a secret was told");
}
