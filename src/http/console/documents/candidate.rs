//! A candidate, as pages show it.

use serde::Deserialize;

use super::record::{LastProblem, Meta, Warning};
use crate::http::console::format::shortened;

/// A person as the gateway knows them at one connection.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct Candidate {
    pub(in crate::http::console) id: String,
    pub(in crate::http::console) connection: String,
    pub(in crate::http::console) state: String,
    pub(in crate::http::console) outcome: String,
    pub(in crate::http::console) external_id: Option<String>,
    pub(in crate::http::console) user_name: Option<String>,
    name: Option<PersonName>,
    pub(in crate::http::console) email: Option<String>,
    pub(in crate::http::console) active: bool,
    pub(in crate::http::console) group: Option<String>,
    pub(in crate::http::console) problem: Option<LastProblem>,
    #[serde(default)]
    pub(in crate::http::console) warnings: Vec<Warning>,
    pub(in crate::http::console) meta: Meta,
}

/// A name and its parts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PersonName {
    given_name: Option<String>,
    family_name: Option<String>,
    formatted: Option<String>,
}

impl Candidate {
    /// Returns the name, or the short form of the id if there is none.
    pub(in crate::http::console) fn shown_name(&self) -> String {
        let formatted = self.name.as_ref().and_then(|name| name.formatted.clone());
        let parts = self.name.as_ref().map(|name| [name.given_name.as_deref(), name.family_name.as_deref()]);
        let joined = parts.map(|parts| parts.into_iter().flatten().collect::<Vec<_>>().join(" "));
        formatted.or(joined).filter(|name| !name.is_empty()).unwrap_or_else(|| shortened(&self.id))
    }

    /// Returns name, external id and address, as far as they are known.
    pub(in crate::http::console) fn about(&self) -> String {
        let parts = [Some(self.shown_name()), self.external_id.clone(), self.email.clone()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}
