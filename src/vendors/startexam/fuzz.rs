//! Fuzz targets that read arbitrary responses of `StartExam`.
#![expect(clippy::missing_panics_doc, reason = "a panic is how a fuzz target reports a failure")]

use std::collections::HashSet;

use super::guid::guid;
use super::results::{ReaderSettings, continuation, parse_elapsed_time, read_item, read_page, read_report};
use super::wire::{by_row, counts, is_test_list, participant_ids};
use crate::domain::results::{ChangesPage, Continuation, ReadReport, Reading, SeriesKey};

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

fn reader() -> ReaderSettings {
    let (candidate_field, email_field) = ("Employee".to_owned(), "Email".to_owned());
    ReaderSettings { list_member: String::new(), candidate_field, email_field }
}

/// Reads the bytes as a page of the feed: it ends or continues, and each entry is read as it is by itself.
pub fn startexam_feed(body: &[u8]) {
    let Ok(ChangesPage { items, next }) = read_page(body, None, &reader()) else { return };
    assert_eq!(continuation(body).as_ref(), Some(&next), "a page that continues in two ways");
    if let Continuation::Token(token) = next {
        assert!(!token.trim().is_empty(), "no token");
    }
    for item in items {
        let text = str::from_utf8(&item.body).unwrap_or_default();
        assert_eq!(read_item(text, None, &reader()), item, "an entry that depends on others");
        check_report(&item);
    }
}

/// Reads the bytes as an entry of the feed and as a report.
pub fn startexam_session(body: &[u8]) {
    let Ok(text) = str::from_utf8(body) else { return };
    let item = read_item(text, None, &reader());
    check_report(&item);
    if let Ok(Reading { series: SeriesKey::Participant(id), .. }) = &item.reading {
        assert_eq!(read_report(body, Some(id), None, &reader()), item, "a report that is read otherwise than an entry");
    }
}

/// Checks what holds for every report that is read: it says the same in canonical form, and stays within its bounds.
fn check_report(report: &ReadReport) {
    let Ok(reading) = &report.reading else { return };
    let canonical = str::from_utf8(&report.canonical).unwrap_or_default();
    let again = read_item(canonical, None, &reader());
    assert_eq!((&again.canonical, &again.reading), (&report.canonical, &report.reading), "another canonical content");
    assert!(reading.parts.len() <= Reading::MAX_PARTS, "too many parts");
    let labels = reading.parts.iter().map(|part| &part.label).chain(&reading.level);
    assert!(labels.into_iter().all(|label| label.chars().count() <= Reading::MAX_TEXT), "a label that is too long");
    let times = &reading.times;
    assert!(
        times.completed.is_none_or(|end| times.started.is_some_and(|start| start <= end)),
        "an end before the start"
    );
    let stored = serde_json::to_vec(reading).ok().and_then(|stored| serde_json::from_slice::<Reading>(&stored).ok());
    assert_eq!(stored.as_ref(), Some(reading), "a reading that does not survive the store");
}

/// Reads the bytes as a duration: what is read is written in the same way but for a fraction.
pub fn elapsed_time(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(seconds) = parse_elapsed_time(text) else { return };
    let clock = |seconds: u64| format!("{:02}:{:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let days = seconds / 86_400;
    let (before, rest) = text.split_once('.').filter(|(days, _)| !days.contains(':')).unwrap_or(("0", text));
    assert_eq!(before.parse(), Ok(days), "other days");
    assert_eq!(rest.split('.').next(), Some(clock(seconds).as_str()), "another time");
}
