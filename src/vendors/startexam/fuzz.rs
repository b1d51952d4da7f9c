//! Any answer of `StartExam`, for the fuzzer.
#![expect(clippy::missing_panics_doc, reason = "to panic is how the fuzzer is told")]

use std::collections::HashSet;

use super::wire::{by_row, counts, guid, is_test_list, participant_ids};

/// Most rows an answer is held against.
const MAX_ROWS: usize = 8;

/// Reads an answer to every call. No row is registered without an id of its own, or without the flag that explains why there
/// is none.
pub fn startexam(body: &[u8]) {
    let text = body.to_ascii_lowercase();
    let has = |word: &str| text.contains(&b'\\') || text.windows(word.len()).any(|part| part == word.as_bytes());
    if let Some(ids) = participant_ids(body) {
        assert!(has("participantids"), "ids nobody told");
        assert!(ids.iter().flatten().all(|id| guid(id).as_ref() == Some(id)), "an id that is none");
        for rows in 0..MAX_ROWS {
            for flagged in [false, true] {
                attributed(&ids, rows, flagged);
            }
        }
    }
    if counts(body).is_some() {
        assert!(has("employeesregistered") && has("totalemployeesinprogram"), "counts nobody told");
    }
    if is_test_list(body) {
        assert!(has("tests"), "tests nobody told");
    }
}

fn attributed(ids: &[Option<String>], rows: usize, flagged: bool) {
    let Some(by_row) = by_row(ids.to_vec(), rows, flagged) else { return };
    assert_eq!(by_row.len(), rows, "a row without an answer");
    let known: Vec<&String> = by_row.iter().flatten().collect();
    assert_eq!(known.iter().collect::<HashSet<_>>().len(), known.len(), "one id for two rows");
    assert!(flagged || known.len() == rows, "a registration without an id");
}
