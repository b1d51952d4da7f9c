//! Tests of results: tables of cases and properties of the fold.

mod folding;
mod properties;
mod reports;
mod scoring;
mod versions;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::*;

/// A second of the vendor's clock.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_348_800 + second).unwrap()
}

fn figure(value: f64) -> Option<Figure> {
    Points::new(value).map(Figure::Points)
}

fn reported(given: f64, maximum: f64) -> ReportedScore {
    ReportedScore { given: figure(given), maximum: figure(maximum), percent: None }
}

fn part(label: &str) -> Part {
    Part { kind: PartKind::Section, label: label.to_owned(), score: None, level: None }
}

/// An attempt that started at second 0 and is not finished.
fn reading() -> Reading {
    Reading {
        series: SeriesKey::Participant("p".to_owned()),
        hints: MatchHints::default(),
        times: AttemptTimes { started: Some(at(0)), ..AttemptTimes::default() },
        finished: false,
        closed_by: None,
        score: ReportedScore::default(),
        level: None,
        parts: Vec::new(),
        warnings: Vec::new(),
    }
}

fn finished(given: f64, maximum: f64) -> Reading {
    Reading { finished: true, score: reported(given, maximum), ..reading() }
}

fn sighting(kind: ReportKind, second: i64, reading: Reading) -> Sighting {
    let mut hash = Sha256::new();
    hash.update(kind.as_str());
    hash.update(serde_json::to_vec(&reading).unwrap());
    let arrival = u64::try_from(second).unwrap();
    Sighting { kind, digest: ReportDigest(hash.finalize().into()), as_of: at(second), arrival, reading }
}

fn feed(second: i64, reading: Reading) -> Sighting {
    sighting(ReportKind::FeedItem, second, reading)
}

fn fetched(second: i64, reading: Reading) -> Sighting {
    sighting(ReportKind::FetchedReport, second, reading)
}

fn webhook(second: i64, reading: Reading) -> Sighting {
    let times = AttemptTimes::default();
    sighting(ReportKind::Webhook, second, Reading { times, ..reading })
}

fn settings(attempts: AttemptRule, regression: Regression) -> FoldSettings {
    FoldSettings {
        attempts,
        unscored: Unscored::Pending,
        regression,
        auto_closed_ends: false,
        scoring: ScoringRules::default(),
    }
}

fn by_start() -> FoldSettings {
    settings(AttemptRule::ByStart(Repetition::Attempt), Regression::Verify)
}

fn by_report(repetition: Repetition) -> FoldSettings {
    settings(AttemptRule::ByReport(repetition), Regression::Ignore)
}

fn given(attempt: &FoldedAttempt) -> Option<f64> {
    attempt.state.score.map(|score| score.given.get())
}
