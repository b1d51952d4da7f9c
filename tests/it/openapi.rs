//! The committed API description is the one the program generates.

use std::path::Path;

use examgate::http::{document, printed};

#[test]
fn the_committed_description_matches_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/examgate.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let generated = printed(&document(None)).expect("it can be written");
    let differing = committed.lines().zip(generated.lines()).position(|(committed, generated)| committed != generated);
    assert!(
        committed == generated,
        "differs from line {differing:?}; write it anew: examgate openapi > openapi/examgate.json"
    );
}
