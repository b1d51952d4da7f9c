//! Fuzz target that loads arbitrary configurations.
#![expect(clippy::missing_panics_doc, reason = "a panic is how a fuzz target reports a failure")]

use std::path::PathBuf;

use super::{Sources, load};

/// Marker that the corpus uses in secrets only.
const PLANTED: &str = "hushhushdonttellthis";

/// Loads a file; after its first NUL byte come environment variables, one per line. No error may show a secret.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, variables) = text.split_once('\0').unwrap_or((&text, ""));
    let environment = variables.lines().filter_map(|line| line.split_once('='));
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let file = Some((PathBuf::from("examgate.toml"), file.to_owned()));
    let Err(faults) = load(&Sources { file, environment }) else { return };
    assert!(!faults.is_empty(), "rejected without an error");
    // An error may quote the marker if it is used as a name.
    let hidden = text.matches(PLANTED).count() == text.matches(&format!("= \"plain:{PLANTED}")).count();
    assert!(!hidden || !faults.iter().any(|fault| fault.to_string().contains(PLANTED)), "an error shows a secret");
}
