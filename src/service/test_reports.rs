//! What the vendors of the tests say of attempts, and what they have in common with each other otherwise.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::assignment::NewAssignment;
use crate::domain::ids::AssignmentId;
use crate::domain::results::{
    AttemptTimes, Figure, MatchHints, Part, PartKind, Points, ReadReport, Reading, Rejection, RejectionReason,
    ReportContext, ReportedScore, SeriesKey,
};
use crate::domain::vendor::{Booking, VendorKey};

/// What the vendor says of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Said {
    pub(super) participant: Option<String>,
    pub(super) test: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) email: Option<String>,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: bool,
    pub(super) given: Option<f64>,
    pub(super) maximum: Option<f64>,
    /// Points under another name, which only a setting makes the points.
    pub(super) other_points: Option<f64>,
    pub(super) parts: Vec<String>,
}

impl Said {
    pub(super) fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap()
    }

    /// Returns what this says of one attempt.
    pub(super) fn into_reading(self, context: &ReportContext) -> Reading {
        let figure = |value: Option<f64>| value.and_then(Points::new).map(Figure::Points);
        let test = context.assessment.clone().or(self.test);
        let hints = MatchHints {
            participant: self.participant.clone(),
            test: test.clone(),
            center: context.center.clone(),
            external_id: self.external_id.map(Into::into),
            email: self.email.clone().map(Into::into),
        };
        let series = match self.participant {
            Some(participant) => SeriesKey::Participant(participant),
            None => SeriesKey::CandidateAtTest { candidate: self.email.unwrap_or_default(), test },
        };
        let part = |label| Part { kind: PartKind::Section, label, score: None, level: None };
        Reading {
            series,
            hints,
            times: AttemptTimes { started: self.started, ..AttemptTimes::default() },
            finished: self.finished,
            closed_by: None,
            score: ReportedScore { given: figure(self.given), maximum: figure(self.maximum), percent: None },
            level: None,
            parts: self.parts.into_iter().map(part).collect(),
            warnings: Vec::new(),
        }
    }
}

/// Reads a report; `settle` applies what the operator has set.
pub(super) fn read_said(body: &[u8], context: &ReportContext, settle: impl FnOnce(&mut Said)) -> ReadReport {
    let reading = serde_json::from_slice(body).map(|mut said: Said| {
        settle(&mut said);
        said.into_reading(context)
    });
    let reading = reading.map_err(|_| Rejection::whole(RejectionReason::NotJson));
    ReadReport { body: body.to_vec(), canonical: body.to_vec(), reading }
}

/// Returns the booking as it was ordered.
pub(super) fn booking_of(
    id: &AssignmentId,
    order: &NewAssignment,
    candidate: VendorKey,
    private: BTreeMap<String, String>,
    assessment: String,
) -> Booking {
    Booking {
        id: id.clone(),
        candidate,
        private,
        assessment,
        center: order.center.clone(),
        valid_from: order.valid_from,
        valid_until: order.valid_until,
        notify: order.notify,
        passwordless: order.passwordless,
        proctoring: order.proctoring.clone(),
        if_exists: order.if_exists,
        first_booking: false,
    }
}
