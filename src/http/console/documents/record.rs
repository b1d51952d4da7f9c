//! What the documents of several kinds of records have in common.

use jiff::Timestamp;
use serde::Deserialize;

use crate::http::console::api::segment;

/// When a record was created and last changed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Meta {
    pub(in crate::http::console) created: Timestamp,
    pub(in crate::http::console) last_modified: Timestamp,
}

/// Why the last write to a record failed or has an unknown outcome.
#[derive(Deserialize)]
pub(in crate::http::console) struct LastProblem {
    pub(in crate::http::console) code: String,
    pub(in crate::http::console) title: String,
    pub(in crate::http::console) detail: String,
    /// The path of the exchange with the vendor.
    pub(in crate::http::console) instance: Option<String>,
}

/// A remark on a record.
#[derive(Deserialize)]
pub(in crate::http::console) struct Warning {
    pub(in crate::http::console) code: String,
    pub(in crate::http::console) detail: String,
}

/// Returns the page about a resource of the API, below `console/`; empty if there is none.
pub(in crate::http::console) fn page_of(resource: &str) -> String {
    let Some((kind, id)) = resource.trim_start_matches('/').split_once('/') else { return String::new() };
    let screen = match kind {
        "candidates" => "people",
        "assignments" | "operations" | "reports" | "webhooks" | "connections" | "results" | "exchanges" => kind,
        _ => return String::new(),
    };
    format!("{screen}/{}", segment(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_lead_to_their_pages() {
        for (resource, page) in [
            ("/candidates/cand_1", "people/cand_1"),
            ("/operations/op_1", "operations/op_1"),
            ("/connections/a b", "connections/a%20b"),
            ("/deliveries/del_1", ""),
            ("/problems", ""),
        ] {
            assert_eq!(page_of(resource), page, "{resource}");
        }
    }
}
