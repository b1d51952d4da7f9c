//! Results and their versions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fold::{Activity, AttemptKey, AttemptState, Grading};
use super::reading::{AttemptTimes, ClosedBy, Part, SeriesKey};
use super::report::ReportKind;
use super::scoring::Score;
use crate::domain::ids::{AssignmentId, CandidateId, ResultId};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::words::words;

/// An attempt with its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedAttempt {
    /// The number within the assignment, else within candidate and assessment; from 1.
    pub number: u32,
    /// When it took place.
    #[serde(flatten)]
    pub times: AttemptTimes,
    /// Who ended it, if the vendor says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<ClosedBy>,
}

/// What a version of a result says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultState {
    /// The vendor's own id of the assessment.
    pub assessment_ref: String,
    /// The candidate.
    pub candidate: CandidateId,
    /// The assignment that claims the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<AssignmentId>,
    /// The attempt.
    pub attempt: NumberedAttempt,
    /// How far it has got.
    pub activity: Activity,
    /// What is known of its score.
    pub grading: Grading,
    /// The score; only of a finished attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// The vendor's word for the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Whether it passed, if the catalogue says what passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// Its parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Whether another result now holds this attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
    /// Warnings for the caller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// The vendor's identifiers of the attempt.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub vendor_ref: Map<String, Value>,
}

words! {
    /// A member of a result that makes a version when it changes.
    pub enum ResultMember {
        /// The assessment.
        Assessment "assessment",
        /// The candidate.
        Candidate "candidate",
        /// The assignment that claims the attempt.
        Assignment "assignment",
        /// Number, times and end of the attempt.
        Attempt "attempt",
        /// How far the attempt has got.
        Activity "activity",
        /// What is known of the score.
        Grading "grading",
        /// The score.
        Score "score",
        /// The vendor's word for the score.
        Level "level",
        /// Whether it passed.
        Passed "passed",
        /// The parts.
        Parts "parts",
        /// Whether another result holds the attempt.
        Superseded "superseded",
        /// The warnings.
        Warnings "warnings",
        /// The vendor's identifiers.
        VendorRef "vendorRef",
    }
}

impl ResultMember {
    /// Returns whether a change of it corrects a result that was published: warnings and the vendor's identifiers only
    /// explain it.
    #[must_use]
    pub const fn is_content(self) -> bool {
        !matches!(self, Self::Warnings | Self::VendorRef)
    }
}

/// What a series is about, as matching has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The vendor's own id of the assessment.
    pub assessment_ref: String,
    /// The candidate.
    pub candidate: CandidateId,
    /// The assignment that claims the attempts.
    pub assignment: Option<AssignmentId>,
    /// The vendor's identifiers of the attempts.
    pub vendor_ref: Map<String, Value>,
    /// How weak the match is, and what else is odd about it.
    pub warnings: Vec<Warning>,
}

impl ResultState {
    /// Creates the state of an attempt of a matched series; for its number see [`super::progress::number_attempts`].
    #[must_use]
    pub fn of(attempt: AttemptState, number: u32, matched: Match) -> Self {
        let AttemptState { times, closed_by, activity, grading, score, level, passed, parts, warnings: of_attempt } =
            attempt;
        let Match { assessment_ref, candidate, assignment, vendor_ref, mut warnings } = matched;
        if number > 1 {
            let detail = "The vendor does not number attempts; this is the order in which they took place.";
            warnings.push(Warning::with_pointer(WarningCode::AttemptNumberAssumed, "/attempt/number", detail));
        }
        warnings.extend(of_attempt);
        Self {
            assessment_ref,
            candidate,
            assignment,
            attempt: NumberedAttempt { number, times, closed_by },
            activity,
            grading,
            score,
            level,
            passed,
            parts,
            superseded: false,
            warnings,
            vendor_ref,
        }
    }

    /// Returns whether nothing more is expected: the attempt is fully graded, or has no score.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self.grading, Grading::FullyGraded | Grading::NotGraded)
    }

    /// Returns the members in which this state differs from an earlier one; against none, those that it has. Until when
    /// the state is known, its source and whether it counts are no members, so that they make no version.
    #[must_use]
    pub fn changed_since(&self, earlier: Option<&Self>) -> Vec<ResultMember> {
        let Some(then) = earlier else { return self.members() };
        let Self {
            assessment_ref,
            candidate,
            assignment,
            attempt,
            activity,
            grading,
            score,
            level,
            passed,
            parts,
            superseded,
            warnings,
            vendor_ref,
        } = self;
        listed([
            (ResultMember::Assessment, *assessment_ref != then.assessment_ref),
            (ResultMember::Candidate, *candidate != then.candidate),
            (ResultMember::Assignment, *assignment != then.assignment),
            (ResultMember::Attempt, *attempt != then.attempt),
            (ResultMember::Activity, *activity != then.activity),
            (ResultMember::Grading, *grading != then.grading),
            (ResultMember::Score, *score != then.score),
            (ResultMember::Level, *level != then.level),
            (ResultMember::Passed, *passed != then.passed),
            (ResultMember::Parts, *parts != then.parts),
            (ResultMember::Superseded, *superseded != then.superseded),
            (ResultMember::Warnings, *warnings != then.warnings),
            (ResultMember::VendorRef, *vendor_ref != then.vendor_ref),
        ])
    }

    fn members(&self) -> Vec<ResultMember> {
        listed([
            (ResultMember::Assessment, true),
            (ResultMember::Candidate, true),
            (ResultMember::Assignment, self.assignment.is_some()),
            (ResultMember::Attempt, true),
            (ResultMember::Activity, true),
            (ResultMember::Grading, true),
            (ResultMember::Score, self.score.is_some()),
            (ResultMember::Level, self.level.is_some()),
            (ResultMember::Passed, self.passed.is_some()),
            (ResultMember::Parts, !self.parts.is_empty()),
            (ResultMember::Superseded, self.superseded),
            (ResultMember::Warnings, !self.warnings.is_empty()),
            (ResultMember::VendorRef, !self.vendor_ref.is_empty()),
        ])
    }
}

fn listed(members: [(ResultMember, bool); ResultMember::ALL.len()]) -> Vec<ResultMember> {
    members.into_iter().filter(|(_, listed)| *listed).map(|(member, _)| member).collect()
}

/// A version of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultVersion {
    /// The number; from 1, without gaps.
    pub version: u32,
    /// What it says.
    pub state: ResultState,
    /// What it changes.
    pub changed: Vec<ResultMember>,
    /// When it was made, by the gateway's clock.
    pub recorded: Timestamp,
}

/// What is known of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExamResult {
    /// The gateway's identifier.
    pub id: ResultId,
    /// The tenant that owns it.
    pub tenant: String,
    /// The connection.
    pub connection: String,
    /// The series whose reports it is made from.
    pub series: SeriesKey,
    /// The attempt within the series.
    pub key: AttemptKey,
    /// The number of the latest version.
    pub version: u32,
    /// What the latest version says.
    pub state: ResultState,
    /// Whether an earlier version was final.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub published: bool,
    /// Until when the vendor's state is known.
    pub as_of: Timestamp,
    /// How the latest report that agrees reached the gateway.
    pub source: ReportKind,
    /// When it was created, by the gateway's clock.
    pub created: Timestamp,
    /// When its latest version was made.
    pub last_modified: Timestamp,
}

/// Where a state comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provenance {
    /// Until when the vendor's state is known.
    pub as_of: Timestamp,
    /// How the report reached the gateway.
    pub source: ReportKind,
}

/// What a new result belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultOwner {
    /// The gateway's identifier of the result.
    pub id: ResultId,
    /// The tenant that owns it.
    pub tenant: String,
    /// The connection.
    pub connection: String,
    /// The series whose reports it is made from.
    pub series: SeriesKey,
}

impl ExamResult {
    /// Creates a result with its first version.
    #[must_use]
    pub fn create(
        owner: ResultOwner,
        key: AttemptKey,
        state: ResultState,
        provenance: Provenance,
        now: Timestamp,
    ) -> (Self, ResultVersion) {
        let ResultOwner { id, tenant, connection, series } = owner;
        let changed = state.changed_since(None);
        let first = ResultVersion { version: 1, state: state.clone(), changed, recorded: now };
        let Provenance { as_of, source } = provenance;
        let (created, last_modified) = (now, now);
        let result = Self {
            id,
            tenant,
            connection,
            series,
            key,
            version: 1,
            state,
            published: false,
            as_of,
            source,
            created,
            last_modified,
        };
        (result, first)
    }

    /// Returns whether a version was final, so that clients may have acted on it.
    #[must_use]
    pub const fn is_published(&self) -> bool {
        self.published || self.state.is_final()
    }

    /// Takes over a state; returns the version it makes, or `None` if it changes no member.
    pub fn revise(
        &mut self,
        key: AttemptKey,
        state: ResultState,
        provenance: Provenance,
        now: Timestamp,
    ) -> Option<ResultVersion> {
        let changed = state.changed_since(Some(&self.state));
        self.key = key;
        self.as_of = provenance.as_of;
        self.source = provenance.source;
        if changed.is_empty() {
            return None;
        }
        self.version += 1;
        self.published = self.is_published();
        self.state = state;
        self.last_modified = now;
        Some(ResultVersion { version: self.version, state: self.state.clone(), changed, recorded: now })
    }
}
