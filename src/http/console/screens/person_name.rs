//! The name of a candidate, as pages show it.

use serde::Deserialize;

use crate::http::console::format::shortened;

/// A candidate's name and its parts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct PersonName {
    given_name: Option<String>,
    family_name: Option<String>,
    formatted: Option<String>,
}

/// Returns the name, or the short form of the candidate's id if there is none.
pub(in crate::http::console) fn shown(name: Option<&PersonName>, id: &str) -> String {
    let formatted = name.and_then(|name| name.formatted.clone());
    let parts = name.map(|name| [name.given_name.as_deref(), name.family_name.as_deref()]);
    let joined = parts.map(|parts| parts.into_iter().flatten().collect::<Vec<_>>().join(" "));
    formatted.or(joined).filter(|name| !name.is_empty()).unwrap_or_else(|| shortened(id))
}
