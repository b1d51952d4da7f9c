//! Fuzz targets that read arbitrary responses of `ThinkExam`.
#![expect(clippy::missing_panics_doc, reason = "a panic is how a fuzz target reports a failure")]

use std::collections::HashSet;

use super::results::{BodyForm, DateFormat, MatchStep, ReaderSettings, read_webhook};
use super::wire::{Reply, ReplyResult, places};
use crate::domain::results::{Reading, SeriesKey};

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

/// Reads the bytes as a webhook in each form. What is read names a person, says the same in canonical form, and stays
/// within its bounds.
pub fn thinkexam_webhook(body: &[u8]) {
    for form in [BodyForm::Auto, BodyForm::Current, BodyForm::Older] {
        let settings = ReaderSettings {
            form,
            test_from: vec![MatchStep::Path, MatchStep::TestId],
            completes: vec!["COMPLETED".to_owned()],
            older_score_member: "CORRECT_MARKS".to_owned(),
            exam_date: DateFormat::parse("DD-MM-YY").ok(),
        };
        let report = read_webhook(body, None, &settings);
        let Ok(reading) = &report.reading else { continue };
        let again = read_webhook(&report.canonical, None, &settings);
        assert_eq!(
            (&again.canonical, &again.reading),
            (&report.canonical, &report.reading),
            "another canonical content"
        );
        assert!(reading.hints.email.is_some() || reading.hints.external_id.is_some(), "a result of no person");
        let SeriesKey::CandidateAtTest { candidate, test } = &reading.series else {
            unreachable!("a series of another vendor")
        };
        assert!(candidate.contains(':') && *test == reading.hints.test, "a series without a person");
        assert!(reading.parts.len() <= Reading::MAX_PARTS, "too many parts");
        let stored =
            serde_json::to_vec(reading).ok().and_then(|stored| serde_json::from_slice::<Reading>(&stored).ok());
        assert_eq!(stored.as_ref(), Some(reading), "a reading that does not survive the store");
    }
}
