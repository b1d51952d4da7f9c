//! Fuzz target that reads arbitrary responses of `ThinkExam`.
#![expect(clippy::missing_panics_doc, reason = "a panic is how a fuzz target reports a failure")]

use std::collections::HashSet;

use super::wire::{Reply, ReplyResult, places};

/// Maximum number of rows a response is matched with.
const MAX_ROWS: usize = 8;

/// Reads a response; the first line of the data lists the enrolment numbers sent, separated by commas, empty where none
/// was sent. A response counts as a success only if it says so, and no item is assigned to two rows.
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
        items.iter().map(|item| &item.said).chain([&reply.said]).filter(|said| matches!(said, ReplyResult::Success));
    assert!(successes.count() == 0 || states_success, "a success the response does not state");

    let items = reply.items.unwrap_or_default();
    let found = places(&rows, &items);
    assert_eq!(found.len(), rows.len());
    assert!(found.iter().flatten().all(|place| *place < items.len()), "an item that does not exist");
    let numbers: Vec<&str> = rows.iter().flatten().copied().collect();
    if numbers.iter().collect::<HashSet<_>>().len() == numbers.len() {
        let taken: Vec<&usize> = found.iter().flatten().collect();
        assert_eq!(taken.iter().collect::<HashSet<_>>().len(), taken.len(), "one item for two rows");
    }
}
