//! What the pages of lists share: addresses with a query, filters, states as tabs, and links from page to page.

use url::form_urlencoded::Serializer;

use crate::http::console::api::{ConsoleError, Permitted as _};
use crate::http::console::documents::connection::Connection;
use crate::http::console::format::spaced;
use crate::http::console::visit::Visit;

/// Returns an address with those parameters that have a value.
pub(in crate::http::console) fn with_query(path: &str, parameters: &[(&str, &str)]) -> String {
    let given = parameters.iter().filter(|(_, value)| !value.is_empty());
    let query = Serializer::new(String::new()).extend_pairs(given).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// A filter with a few values.
pub(in crate::http::console) struct Choice {
    /// The parameter of the query.
    pub(in crate::http::console) name: &'static str,
    /// Its name for people.
    pub(in crate::http::console) label: &'static str,
    /// The chosen value; empty for all.
    pub(in crate::http::console) current: String,
    /// The values, each as it is shown.
    pub(in crate::http::console) options: Vec<(String, String)>,
}

impl Choice {
    /// Creates a filter by words of the API.
    pub(in crate::http::console) fn of_words(
        name: &'static str,
        label: &'static str,
        current: &str,
        words: &[&str],
    ) -> Self {
        let options = words.iter().map(|word| ((*word).to_owned(), spaced(word))).collect();
        Self { name, label, current: current.to_owned(), options }
    }

    /// Creates a filter by names; one that is not among them can still be the chosen one.
    pub(in crate::http::console) fn of_names(
        name: &'static str,
        label: &'static str,
        current: &str,
        names: Vec<String>,
    ) -> Self {
        let other = Some(current.to_owned()).filter(|name| !name.is_empty() && !names.contains(name));
        let options = names.into_iter().chain(other).map(|name| (name.clone(), name)).collect();
        Self { name, label, current: current.to_owned(), options }
    }
}

/// Returns the names of the connections that the client may use; none if it may not list them.
///
/// # Errors
/// Any other problem of the API.
pub(in crate::http::console) async fn connection_names(visit: &Visit) -> Result<Vec<String>, ConsoleError> {
    let listed = visit.api.list::<Connection>("/connections", &[("limit", "200")]).await.permitted()?;
    Ok(listed.map(|list| list.items.into_iter().map(|connection| connection.name).collect()).unwrap_or_default())
}

/// A part of a list, as a link.
pub(in crate::http::console) struct Tab {
    /// What the part is called.
    pub(in crate::http::console) label: String,
    /// Its relative address.
    pub(in crate::http::console) href: String,
    /// Whether it is the part that is shown.
    pub(in crate::http::console) is_current: bool,
}

/// The links to other pages of a list.
pub(in crate::http::console) struct Pager {
    /// The first page, unless it is shown.
    pub(in crate::http::console) first: Option<String>,
    /// The page after this one.
    pub(in crate::http::console) next: Option<String>,
}

impl Pager {
    /// Creates the links; `parameters` are those of the list without its cursor.
    pub(in crate::http::console) fn of(
        path: &str,
        parameters: &[(&str, &str)],
        cursor: &str,
        next: Option<&str>,
    ) -> Self {
        let after = |cursor| with_query(path, &[parameters, &[("cursor", cursor)]].concat());
        Self { first: (!cursor.is_empty()).then(|| with_query(path, parameters)), next: next.map(after) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_the_parameters_that_have_a_value() {
        assert_eq!(with_query("../results", &[]), "../results");
        assert_eq!(with_query("../results", &[("a", ""), ("b", "x&y"), ("c", "ä 1")]), "../results?b=x%26y&c=%C3%A4+1");
    }

    #[test]
    fn pages_keep_the_filter_and_lead_back_to_the_first() {
        let filter = [("state", "running"), ("kind", "")];
        let only = Pager::of("./operations", &filter, "", None);
        assert_eq!((only.first, only.next), (None, None));
        let second = Pager::of("./operations", &filter, "op_1", Some("op_2"));
        assert_eq!(second.first.as_deref(), Some("./operations?state=running"));
        assert_eq!(second.next.as_deref(), Some("./operations?state=running&cursor=op_2"));
    }

    #[test]
    fn a_name_that_is_not_listed_stays_chosen() {
        let choice = Choice::of_names("connection", "Connection", "gone", vec!["main".to_owned()]);
        assert_eq!(choice.options.iter().map(|(value, _)| value.as_str()).collect::<Vec<_>>(), ["main", "gone"]);
        assert_eq!(Choice::of_names("connection", "Connection", "", vec!["main".to_owned()]).options.len(), 1);
    }
}
