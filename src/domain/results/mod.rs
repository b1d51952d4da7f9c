//! Results: what became of an exam, made from the vendors' reports and from nothing else.
//!
//! A vendor's *report* is read into a [`Reading`]: what it says of one attempt, and hints for whose attempt it is. The
//! readings of one series (what the vendor identifies) are folded into attempts by [`fold()`], a pure function of the
//! readings, their order and the settings; [`ExamResult`] is an attempt with its owner and its versions.
//!
//! Nothing here may invent: a score is in a report or is absent, and what is absent is never zero.

pub mod attempt_pairs;
pub mod exam_result;
pub mod fold;
pub mod points;
pub mod progress;
pub mod reading;
pub mod report;
pub mod scoring;
pub mod source;
#[cfg(test)]
mod tests;

pub use attempt_pairs::{AttemptPairs, pair_attempts};
pub use exam_result::{
    ExamResult, Match, NumberedAttempt, Provenance, ResultMember, ResultOwner, ResultState, ResultVersion,
};
pub use fold::{
    Activity, AttemptKey, AttemptRule, AttemptState, FoldSettings, FoldedAttempt, Grading, Regression, Repetition,
    Sighting, StepBack, Unscored, fold,
};
pub use points::Points;
pub use progress::{BookingWindow, Progress, ProgressActivity, counting_attempt, number_attempts};
pub use reading::{AttemptTimes, ClosedBy, MatchHints, Part, PartKind, Reading, SeriesKey, TimeName};
pub use report::{
    ParkReason, ReadReport, Rejection, RejectionReason, Report, ReportContext, ReportDigest, ReportKind, ReportState,
    digest_input,
};
pub use scoring::{Counts, Figure, PartScore, PassRule, ReportedScore, Score, ScoreVerdict, ScoringRules};
pub use source::{
    ChangesPage, ChangesQuery, Continuation, FeedPlan, FetchRule, FetchedReport, ReceiverPlan, ReportChannel,
    ReportSource,
};
