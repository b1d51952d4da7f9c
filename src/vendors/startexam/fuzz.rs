//! Fuzz target that reads arbitrary responses of `StartExam`.
#![expect(clippy::missing_panics_doc, reason = "a panic is how a fuzz target reports a failure")]

use std::collections::HashSet;

use super::guid::guid;
use super::wire::{by_row, counts, is_test_list, participant_ids};

/// Maximum number of rows a response is matched with.
const MAX_ROWS: usize = 8;

/// Reads the bytes as a response to every call. A row counts as registered only with an id of its own, or with the flag
/// that explains why it has none.
pub fn startexam(body: &[u8]) {
    let text = body.to_ascii_lowercase();
    let has = |word: &str| text.contains(&b'\\') || text.windows(word.len()).any(|part| part == word.as_bytes());
    if let Some(ids) = participant_ids(body) {
        assert!(has("participantids"), "ids without a source");
        assert!(ids.iter().flatten().all(|id| guid(id).as_ref() == Some(id)), "an invalid id");
        for rows in 0..MAX_ROWS {
            for flagged in [false, true] {
                attributed(&ids, rows, flagged);
            }
        }
    }
    if counts(body).is_some() {
        assert!(has("employeesregistered") && has("totalemployeesinprogram"), "counts without a source");
    }
    if is_test_list(body) {
        assert!(has("tests"), "tests without a source");
    }
}

fn attributed(ids: &[Option<String>], rows: usize, flagged: bool) {
    let Some(by_row) = by_row(ids.to_vec(), rows, flagged) else { return };
    assert_eq!(by_row.len(), rows, "a row without a result");
    let known: Vec<&String> = by_row.iter().flatten().collect();
    assert_eq!(known.iter().collect::<HashSet<_>>().len(), known.len(), "one id for two rows");
    assert!(flagged || known.len() == rows, "a registration without an id");
}
