//! A report, as pages show it.

use jiff::Timestamp;
use serde::Deserialize;

use crate::http::console::format::spaced;

/// What a vendor says about an attempt.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Report {
    pub(in crate::http::console) id: String,
    pub(in crate::http::console) connection: String,
    pub(in crate::http::console) kind: String,
    pub(in crate::http::console) state: String,
    pub(in crate::http::console) parked_for: Option<String>,
    pub(in crate::http::console) rejection: Option<Rejection>,
    pub(in crate::http::console) received_at: Timestamp,
    pub(in crate::http::console) as_of: Timestamp,
    pub(in crate::http::console) repeats: u64,
    pub(in crate::http::console) context: Option<ReportContext>,
    #[serde(default)]
    pub(in crate::http::console) by_hand: bool,
    pub(in crate::http::console) candidate: Option<String>,
    pub(in crate::http::console) assignment: Option<String>,
    pub(in crate::http::console) result: Option<String>,
    pub(in crate::http::console) body: Option<ReportBody>,
}

/// Why a report cannot be read.
#[derive(Deserialize)]
pub(in crate::http::console) struct Rejection {
    pub(in crate::http::console) reason: String,
    pub(in crate::http::console) field: Option<String>,
}

/// What is known of a report besides its body, in the vendor's ids.
#[derive(Deserialize)]
pub(in crate::http::console) struct ReportContext {
    pub(in crate::http::console) center: Option<String>,
    pub(in crate::http::console) participant: Option<String>,
    pub(in crate::http::console) assessment: Option<String>,
}

/// The body of a report as it came.
#[derive(Deserialize)]
pub(in crate::http::console) struct ReportBody {
    pub(in crate::http::console) encoding: String,
    pub(in crate::http::console) content: String,
}

impl Report {
    /// Returns the API's reason for its state; empty if it has none.
    pub(in crate::http::console) fn why(&self) -> String {
        let rejected = self.rejection.as_ref().map(|Rejection { reason, field }| match field {
            Some(field) => format!("{} ({field})", spaced(reason)),
            None => spaced(reason),
        });
        self.parked_for.as_deref().map(spaced).or(rejected).unwrap_or_default()
    }

    /// Returns whether a person can say whose it is.
    pub(in crate::http::console) fn can_match(&self) -> bool {
        self.state == "parked"
    }

    /// Returns whether a person can say that it is of no use.
    pub(in crate::http::console) fn can_dismiss(&self) -> bool {
        ["parked", "rejected"].contains(&self.state.as_str())
    }

    /// Says what it needs.
    pub(in crate::http::console) fn lead(&self) -> &'static str {
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
