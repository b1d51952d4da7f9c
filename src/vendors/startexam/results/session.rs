//! A session: the answer of `GET /v2/session` (vendor page `/Methods/GetSessionReportV2`) and an entry of the feed.
//!
//! Names are read in any case, since the vendor's pages and its older version differ (`testID`, `testId`), with the older
//! names `key` and `max`. Numbers may be text; an absent field and `null` are the same.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::elapsed_time::parse_elapsed_time;
use crate::domain::identity::{EmailAddress, ExternalId};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::results::{
    AttemptTimes, ClosedBy, MatchHints, Part, PartKind, ReadReport, Reading, Rejection, RejectionReason, ReportedScore,
    SeriesKey, TimeName,
};
use crate::vendors::report_tree::{Fields, Tree, part_score};
use crate::vendors::startexam::guid::guid;

/// The earliest time that the vendor can mean: an earlier one means none.
const EARLIEST: &str = "2000-01-01T00:00:00Z";

/// How reports are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReaderSettings {
    /// Name of the feed's list; empty for `sessions`, else the only list.
    pub list_member: String,
    /// The field of `participantData` that holds the candidate's external id; empty for none.
    pub candidate_field: String,
    /// The field of `participantData` that holds the e-mail address; empty for none.
    pub email_field: String,
}

/// Reads an entry of the feed.
#[must_use]
pub fn read_item(text: &str, center: Option<&str>, settings: &ReaderSettings) -> ReadReport {
    read_report(text.as_bytes(), None, center, settings)
}

/// Reads a report; if it was asked for, it must be that of this participant.
#[must_use]
pub fn read_report(
    body: &[u8],
    participant: Option<&str>,
    center: Option<&str>,
    settings: &ReaderSettings,
) -> ReadReport {
    let tree = Tree::parse(body);
    let canonical = tree.as_ref().map_or_else(|_| body.trim_ascii().to_vec(), Tree::canonical);
    let reading = tree.and_then(|tree| session(Fields::of(&tree)?, center, settings));
    let reading = reading.and_then(|reading| {
        let mismatch = Rejection::field(RejectionReason::Mismatch, PARTICIPANT);
        let expected = participant.map(|id| SeriesKey::Participant(id.to_owned()));
        if expected.is_none_or(|expected| expected == reading.series) { Ok(reading) } else { Err(mismatch) }
    });
    ReadReport { body: body.to_vec(), canonical, reading }
}

const PARTICIPANT: &str = "participantId";

fn session(fields: Fields<'_>, center: Option<&str>, settings: &ReaderSettings) -> Result<Reading, Rejection> {
    let participant = fields.require(PARTICIPANT, id)?;
    let test = fields.read("testId", id)?;
    let finished = fields.require("isFinished", Tree::flag)?;
    let auto_closed = fields.read("autoClosed", Tree::flag)?.unwrap_or(false);
    let data = fields.get("participantData");
    let hints = MatchHints {
        participant: Some(participant.clone()),
        test,
        center: center.map(str::to_owned),
        external_id: person_value(data, &settings.candidate_field).and_then(|text| ExternalId::parse(&text).ok()),
        email: person_value(data, &settings.email_field).and_then(|text| EmailAddress::parse(&text).ok()),
    };
    let score = ReportedScore {
        given: fields.get("score").and_then(Tree::figure),
        maximum: fields.either("maxScore", "max")?.and_then(Tree::figure),
        percent: fields.get("percent").and_then(Tree::figure),
    };
    let (parts, warnings) = parts(fields)?;
    Ok(Reading {
        series: SeriesKey::Participant(participant),
        hints,
        times: times(fields, finished || auto_closed)?,
        finished,
        closed_by: match (auto_closed, finished) {
            (true, _) => Some(ClosedBy::Timeout),
            (false, true) => Some(ClosedBy::Candidate),
            (false, false) => None,
        },
        score,
        level: fields.label("scaleLevel"),
        parts,
        warnings,
    })
}

fn id(value: &Tree) -> Option<String> {
    guid(&value.scalar()?)
}

/// Reads the times. The vendor says when a session started and how long it took, but not when it ended.
fn times(fields: Fields<'_>, ended: bool) -> Result<AttemptTimes, Rejection> {
    // Whole seconds, as documented: a start with and without a fraction is the same start.
    let second = |time: Timestamp| Timestamp::from_second(time.as_second()).ok();
    let started = fields.read("started", |value| time(&value.scalar()?).and_then(second))?;
    let elapsed_seconds = fields.read("elapsedTime", |value| parse_elapsed_time(&value.scalar()?))?;
    let length = elapsed_seconds.and_then(|seconds| i64::try_from(seconds).ok()).map(SignedDuration::from_secs);
    let completed = started.zip(length).filter(|_| ended).and_then(|(start, length)| start.checked_add(length).ok());
    let approximate = completed.map(|_| TimeName::CompletedAt).into_iter().collect();
    Ok(AttemptTimes { started, completed, elapsed_seconds, approximate })
}

/// Parses a time of the vendor's: UTC, whether it says so or not.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let utc = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp());
    let earliest: Timestamp = EARLIEST.parse().ok()?;
    text.parse::<Timestamp>().ok().or_else(utc).filter(|time| *time >= earliest)
}

/// Returns what `participantData` says under this name; `None` if it says nothing or several things.
fn person_value(data: Option<&Tree>, wanted: &str) -> Option<String> {
    if wanted.is_empty() {
        return None;
    }
    let entries = data?.list()?.iter().filter_map(|entry| Fields::of(entry).ok());
    let named = entries.filter(|entry| {
        let name = entry.either("name", "key").ok().flatten().and_then(Tree::scalar);
        name.is_some_and(|name| name.eq_ignore_ascii_case(wanted))
    });
    let mut values = named.filter_map(|entry| entry.get("value")?.scalar());
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// Reads the sections, and the scales of a psychological test.
fn parts(fields: Fields<'_>) -> Result<(Vec<Part>, Vec<Warning>), Rejection> {
    let sections = fields.read("sections", Tree::list)?.unwrap_or_default();
    let scales = fields.read("outcomes", Tree::list)?.unwrap_or_default();
    let kinds = sections.iter().map(|entry| (PartKind::Section, entry));
    let mut parts = Vec::new();
    let mut complete = sections.len() + scales.len() <= Reading::MAX_PARTS;
    for (kind, entry) in kinds.chain(scales.iter().map(|entry| (PartKind::Scale, entry))).take(Reading::MAX_PARTS) {
        let entry = Fields::of(entry)?;
        let (score, readable) = part_score(ReportedScore {
            given: entry.get("score").and_then(Tree::figure),
            maximum: entry.either("maxScore", "max")?.and_then(Tree::figure),
            percent: None,
        });
        complete &= readable;
        let label = entry.label("title").or_else(|| entry.label("name")).unwrap_or_default();
        parts.push(Part { kind, label, score, level: entry.label("level") });
    }
    let warning = || {
        let detail = "StartExam reports more parts than are kept, or figures of a part that cannot be.";
        Warning::with_pointer(WarningCode::PartsIncomplete, "/parts", detail)
    };
    Ok((parts, if complete { Vec::new() } else { vec![warning()] }))
}
