//! The fields of the API's documents that the screens of reports show.

use jiff::Timestamp;
use serde::Deserialize;

use crate::http::console::format::spaced;
use crate::http::console::screens::person_name::{PersonName, shown};

/// A report.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) id: String,
    pub(super) connection: String,
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) parked_for: Option<String>,
    pub(super) rejection: Option<Rejection>,
    pub(super) received_at: Timestamp,
    pub(super) as_of: Timestamp,
    pub(super) repeats: u64,
    pub(super) context: Option<Context>,
    #[serde(default)]
    pub(super) by_hand: bool,
    pub(super) candidate: Option<String>,
    pub(super) assignment: Option<String>,
    pub(super) result: Option<String>,
    pub(super) body: Option<Body>,
}

/// Why a report cannot be read.
#[derive(Deserialize)]
pub(super) struct Rejection {
    pub(super) reason: String,
    pub(super) field: Option<String>,
}

/// What is known of a report besides its body, in the vendor's ids.
#[derive(Deserialize)]
pub(super) struct Context {
    pub(super) center: Option<String>,
    pub(super) participant: Option<String>,
    pub(super) assessment: Option<String>,
}

/// The body of a report as it came.
#[derive(Deserialize)]
pub(super) struct Body {
    pub(super) encoding: String,
    pub(super) content: String,
}

impl Report {
    /// Returns the API's reason for its state; empty if it has none.
    pub(super) fn why(&self) -> String {
        let rejected = self.rejection.as_ref().map(|Rejection { reason, field }| match field {
            Some(field) => format!("{} ({field})", spaced(reason)),
            None => spaced(reason),
        });
        self.parked_for.as_deref().map(spaced).or(rejected).unwrap_or_default()
    }

    /// Returns whether a person can say whose it is.
    pub(super) fn can_match(&self) -> bool {
        self.state == "parked"
    }

    /// Returns whether a person can say that it is of no use.
    pub(super) fn can_dismiss(&self) -> bool {
        ["parked", "rejected"].contains(&self.state.as_str())
    }

    /// Says what it needs.
    pub(super) fn lead(&self) -> &'static str {
        match (self.state.as_str(), self.parked_for.as_deref()) {
            ("parked", Some("unknown_candidate")) => {
                "It fits no candidate of the connection. Find out whose it is, or dismiss it."
            }
            ("parked", Some("several_candidates")) => "It fits several candidates. Say which one it is about.",
            ("parked", Some("no_open_booking")) => {
                "It names no test, and its candidate has no open booking. Say which booking it belongs to."
            }
            ("parked", Some("several_open_bookings")) => {
                "It fits several open bookings. Say which one it belongs to, or dismiss it."
            }
            ("parked", _) => "It is not known whose it is.",
            ("rejected", _) => {
                "It cannot be read, so no result can be made from it. If the connection's settings are wrong, have its \
                 reports read again once they are right; otherwise dismiss it."
            }
            ("applied", _) => "A result is made from it.",
            ("repeated", _) => "It is the same as an earlier one.",
            ("dismissed", _) => "It is of no use.",
            _ => "",
        }
    }
}

/// A candidate that may be the report's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) external_id: Option<String>,
    pub(super) email: Option<String>,
    pub(super) name: Option<PersonName>,
}

impl Candidate {
    /// Returns name, external id and address, as far as they are known.
    pub(super) fn about(&self) -> String {
        let name = Some(shown(self.name.as_ref(), &self.id));
        let parts = [name, self.external_id.clone(), self.email.clone()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}

/// A booking that the report may belong to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Assignment {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) assessment: String,
    pub(super) candidate: Owner,
    pub(super) valid_from: Option<Timestamp>,
    pub(super) valid_until: Option<Timestamp>,
    pub(super) reference: Option<String>,
    pub(super) vendor_ref: Option<serde_json::Value>,
    pub(super) progress: Option<Progress>,
}

/// The candidate of a booking.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner {
    pub(super) id: Option<String>,
    pub(super) external_id: Option<String>,
}

/// How far a booking has got.
#[derive(Deserialize)]
pub(super) struct Progress {
    pub(super) activity: String,
}

impl Assignment {
    /// Returns whether a first report about it is still to come.
    pub(super) fn is_open(&self) -> bool {
        self.progress
            .as_ref()
            .is_none_or(|progress| ["not_started", "in_progress"].contains(&progress.activity.as_str()))
    }

    /// Returns whether the vendor knows it by this id.
    pub(super) fn is_registered_as(&self, participant: &str) -> bool {
        self.vendor_ref.as_ref().and_then(|vendor_ref| vendor_ref["id"].as_str()) == Some(participant)
    }

    /// Returns the caller's order id, and how far it has got.
    pub(super) fn about(&self) -> String {
        let activity = self.progress.as_ref().map(|progress| spaced(&progress.activity));
        let parts = [self.reference.clone(), Some(spaced(&self.state)), activity];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}
