//! Any answer of `ThinkExam`, for the fuzzer.
#![expect(clippy::missing_panics_doc, reason = "to panic is how the fuzzer is told")]

use std::collections::HashSet;

use super::wire::{ParsedReply, Reply, places};

/// Most rows an answer is held against.
const MAX_ROWS: usize = 8;

/// Reads an answer: its first line is the enrolment numbers that were sent, with commas between them and nothing where none
/// was. No answer is a success that does not say so, and none is given to two rows.
pub fn thinkexam(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (head, body) = data.split_at(end);
    let numbers = String::from_utf8_lossy(head);
    let rows: Vec<Option<&str>> =
        numbers.split(',').take(MAX_ROWS).map(|number| Some(number.trim()).filter(|it| !it.is_empty())).collect();
    let text = body.to_ascii_lowercase();
    let states_success = text.contains(&b'\\') || text.windows(7).any(|part| part == b"success");
    let reply = Reply::read(body);
    let items: Vec<_> = reply.items.iter().flatten().cloned().chain(reply.single.clone()).collect();
    let successes =
        items.iter().map(|item| &item.said).chain([&reply.said]).filter(|said| matches!(said, ParsedReply::Success));
    assert!(successes.count() == 0 || states_success, "a success nobody stated");

    let items = reply.items.unwrap_or_default();
    let found = places(&rows, &items);
    assert_eq!(found.len(), rows.len());
    assert!(found.iter().flatten().all(|place| *place < items.len()), "an item that is not there");
    let numbers: Vec<&str> = rows.iter().flatten().copied().collect();
    if numbers.iter().collect::<HashSet<_>>().len() == numbers.len() {
        let taken: Vec<&usize> = found.iter().flatten().collect();
        assert_eq!(taken.iter().collect::<HashSet<_>>().len(), taken.len(), "one item for two rows");
    }
}
