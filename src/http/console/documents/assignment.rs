//! A booking, as pages show it.

use jiff::Timestamp;
use serde::Deserialize;

use super::record::{LastProblem, Meta, Warning};
use crate::http::console::format::spaced;

/// A booking of one candidate for one assessment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Assignment {
    pub(in crate::http::console) id: String,
    pub(in crate::http::console) connection: String,
    pub(in crate::http::console) state: String,
    pub(in crate::http::console) outcome: String,
    pub(in crate::http::console) candidate: AssignmentCandidate,
    pub(in crate::http::console) assessment: String,
    pub(in crate::http::console) valid_from: Option<Timestamp>,
    pub(in crate::http::console) valid_until: Option<Timestamp>,
    pub(in crate::http::console) reference: Option<String>,
    vendor_ref: Option<serde_json::Value>,
    pub(in crate::http::console) progress: Option<AssignmentProgress>,
    pub(in crate::http::console) problem: Option<LastProblem>,
    #[serde(default)]
    pub(in crate::http::console) warnings: Vec<Warning>,
    pub(in crate::http::console) meta: Meta,
}

/// The candidate of a booking.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct AssignmentCandidate {
    pub(in crate::http::console) id: Option<String>,
    pub(in crate::http::console) external_id: Option<String>,
}

/// How far a booking has got.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct AssignmentProgress {
    pub(in crate::http::console) activity: String,
    pub(in crate::http::console) attempts: u64,
    pub(in crate::http::console) result: Option<String>,
    pub(in crate::http::console) as_of: Option<Timestamp>,
}

impl Assignment {
    /// Returns whether a first report about it is still to come.
    pub(in crate::http::console) fn is_open(&self) -> bool {
        self.progress
            .as_ref()
            .is_none_or(|progress| ["not_started", "in_progress"].contains(&progress.activity.as_str()))
    }

    /// Returns whether the vendor knows it by this id.
    pub(in crate::http::console) fn is_registered_as(&self, participant: &str) -> bool {
        self.vendor_ref.as_ref().and_then(|vendor_ref| vendor_ref["id"].as_str()) == Some(participant)
    }

    /// Returns the caller's order id, and how far it has got.
    pub(in crate::http::console) fn about(&self) -> String {
        let activity = self.progress.as_ref().map(|progress| spaced(&progress.activity));
        let parts = [self.reference.clone(), Some(spaced(&self.state)), activity];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}
