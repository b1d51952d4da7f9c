//! A webhook of the vendor's (article `webhook`; older form: page `webhook.php`).
//!
//! Current form: `{"result": {…}}` with lower-case names; older form: a flat object with upper-case names, all values text.
//! Names are read in any case. A person is known by e-mail address, else by enrolment number.

use jiff::tz::TimeZone;

use super::exam_date::DateFormat;
use super::reader_settings::{BodyForm, MatchStep, ReaderSettings};
use crate::domain::identity::{EmailAddress, ExternalId};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::results::{
    AttemptTimes, Figure, MatchHints, Part, PartKind, ReadReport, Reading, Rejection, RejectionReason, ReportedScore,
    SeriesKey, TimeName,
};
use crate::domain::validation::sanitize_for_display;
use crate::vendors::report_tree::{Fields, Tree, part_score};
use crate::vendors::thinkexam::plan::assessment_ref;

/// What the vendor writes where it has no text.
const NOTHING: &str = "NA";

/// Reads a webhook; `path_test` is the vendor's id of the test that the address names. It is part of the content: where the body
/// names no test, the same figures at two tests are two reports.
#[must_use]
pub fn read_webhook(body: &[u8], path_test: Option<&str>, settings: &ReaderSettings) -> ReadReport {
    let tree = Tree::parse(body);
    let mut canonical = tree.as_ref().map_or_else(|_| body.trim_ascii().to_vec(), Tree::canonical);
    if let Some(test) = path_test {
        canonical.splice(..0, format!("{test}\n").into_bytes());
    }
    let reading = tree.and_then(|tree| read(&tree, path_test, settings));
    ReadReport { body: body.to_vec(), canonical, reading }
}

fn read(tree: &Tree, path_test: Option<&str>, settings: &ReaderSettings) -> Result<Reading, Rejection> {
    let outer = Fields::of(tree)?;
    let inner = match settings.form {
        BodyForm::Older => None,
        BodyForm::Current => Some(outer.require("result", opened)?),
        BodyForm::Auto => outer.read("result", opened)?,
    };
    match &inner {
        Some(inner) => current(Fields::of(inner)?, path_test, settings),
        None => older(outer, path_test, settings),
    }
}

/// Returns the object, also one that is JSON in text, as PHP servers are known to send.
fn opened(value: &Tree) -> Option<Tree> {
    let tree = match value {
        Tree::Text(text) => Tree::parse(text.as_bytes()).ok()?,
        other => other.clone(),
    };
    matches!(tree, Tree::Object(_)).then_some(tree)
}

fn current(fields: Fields<'_>, path_test: Option<&str>, settings: &ReaderSettings) -> Result<Reading, Rejection> {
    let hints = hints(fields, ["email", "enrollment_no"], path_test, "test_id", settings)?;
    let status = fields.require("status", Tree::scalar)?;
    let finished = settings.completes.iter().any(|word| word.eq_ignore_ascii_case(&status));
    let score = ReportedScore {
        given: fields.get("marks_scored").and_then(Tree::figure),
        maximum: fields.get("total_marks").and_then(Tree::figure),
        percent: fields.get("percentage").and_then(Tree::figure),
    };
    let (parts, warnings) = subjects(fields);
    Ok(Reading { parts, warnings, ..reading(hints, finished, score) })
}

fn older(fields: Fields<'_>, path_test: Option<&str>, settings: &ReaderSettings) -> Result<Reading, Rejection> {
    let hints = hints(fields, ["EMAIL", "ENROLLMENT_NO"], path_test, "TEST_ID", settings)?;
    let score = ReportedScore {
        given: Some(&settings.older_score_member)
            .filter(|name| !name.is_empty())
            .and_then(|name| fields.get(name)?.figure()),
        maximum: fields.get("TOTAL_MARKS").and_then(Tree::figure),
        percent: None,
    };
    let times = match &settings.exam_date {
        None => AttemptTimes::default(),
        Some(format) => exam_date(fields, format)?,
    };
    // The page names no status: the form is sent when a test is finished.
    Ok(Reading { times, ..reading(hints, true, score) })
}

fn reading(hints: MatchHints, finished: bool, score: ReportedScore) -> Reading {
    let email = hints.email.as_ref().map(|email| format!("email:{}", email.identity()));
    let number = || hints.external_id.as_ref().map(|id| format!("enrolment:{}", id.identity()));
    let candidate = email.or_else(number).unwrap_or_default();
    Reading {
        series: SeriesKey::CandidateAtTest { candidate, test: hints.test.clone() },
        hints,
        times: AttemptTimes::default(),
        finished,
        closed_by: None,
        score,
        level: None,
        parts: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Reads who it is and which test.
fn hints(
    fields: Fields<'_>,
    [email, number]: [&'static str; 2],
    path_test: Option<&str>,
    test: &'static str,
    settings: &ReaderSettings,
) -> Result<MatchHints, Rejection> {
    let known = |name| fields.get(name).and_then(Tree::scalar).filter(|text| !text.eq_ignore_ascii_case(NOTHING));
    let address = known(email).map(|text| EmailAddress::parse(&text));
    let external_id = known(number).and_then(|text| ExternalId::parse(&text).ok());
    let email = match address {
        None if external_id.is_none() => return Err(Rejection::field(RejectionReason::MissingField, email)),
        Some(Err(_)) if external_id.is_none() => return Err(Rejection::field(RejectionReason::InvalidField, email)),
        address => address.and_then(Result::ok),
    };
    let body_test = fields.read(test, |value| assessment_ref(&value.scalar()?))?;
    let mut sources = settings.test_from.iter().map(|step| match step {
        MatchStep::Path => path_test.map(str::to_owned),
        MatchStep::TestId => body_test.clone(),
        MatchStep::OnlyOpen => None,
    });
    let test = sources.find_map(|test| test);
    Ok(MatchHints { participant: None, test, center: None, external_id, email })
}

/// Reads the day of the exam, which is its start; the end of an attempt is somewhere on that day.
fn exam_date(fields: Fields<'_>, format: &DateFormat) -> Result<AttemptTimes, Rejection> {
    let day = fields.read("EXAM_DATE", |value| format.read(&value.scalar()?)?.to_zoned(TimeZone::UTC).ok())?;
    let completed = day.map(|day| day.timestamp());
    let approximate = completed.map(|_| TimeName::CompletedAt).into_iter().collect();
    Ok(AttemptTimes { completed, approximate, ..AttemptTimes::default() })
}

/// Reads the subjects, whose names and marks are two lists. If the lists do not fit, no name belongs to a mark.
fn subjects(fields: Fields<'_>) -> (Vec<Part>, Vec<Warning>) {
    let list = |name| fields.get(name).map_or(Some(&[][..]), Tree::list);
    let (mut parts, mut complete) = (Vec::new(), false);
    if let (Some(names), Some(marks)) = (list("subject_name"), list("subject_marks"))
        && names.len() == marks.len()
    {
        complete = names.len() <= Reading::MAX_PARTS;
        for (name, mark) in names.iter().zip(marks).take(Reading::MAX_PARTS) {
            let figure: Option<Figure> = mark.figure();
            let (score, readable) = part_score(ReportedScore { given: figure, ..ReportedScore::default() });
            complete &= readable;
            let label = sanitize_for_display(&name.scalar().unwrap_or_default(), Reading::MAX_TEXT);
            parts.push(Part { kind: PartKind::Subject, label, score, level: None });
        }
    }
    let warning = || {
        let detail = "ThinkExam reports subjects and marks that do not fit, or more of them than are kept.";
        Warning::with_pointer(WarningCode::PartsIncomplete, "/parts", detail)
    };
    (parts, if complete { Vec::new() } else { vec![warning()] })
}
