//! Finding people. What is searched for is in the form, never in an address.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List, segment};
use crate::http::console::documents::candidate::Candidate;
use crate::http::console::format as filters;
use crate::http::console::listing::connection_names;
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;

/// What a person can be found by: the API's field, and its name.
const IDENTITIES: [(&str, &str); 3] = [("externalId", "External id"), ("email", "E-mail"), ("userName", "User name")];
/// The states that the list can be limited to.
const STATES: [&str; 4] = ["registered", "pending", "failed", "unknown"];

/// Builds the routes of the screen.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new().route("/console/people", get(list).post(search))
}

#[derive(Template)]
#[template(path = "people.html", config = "src/http/console/askama.toml")]
struct PeopleView {
    page: Page,
    identities: [(&'static str, &'static str); 3],
    states: [&'static str; 4],
    connections: Vec<String>,
    /// What was searched for.
    search: Option<Search>,
    state: String,
    candidates: List<Candidate>,
}

/// A search, as the form shows it again.
struct Search {
    by: String,
    value: String,
    connection: String,
}

impl PeopleView {
    fn is_by(&self, identity: &str) -> bool {
        self.search.as_ref().is_some_and(|search| search.by == identity)
    }

    fn value(&self) -> &str {
        self.search.as_ref().map_or("", |search| &search.value)
    }

    fn is_connection(&self, name: &str) -> bool {
        self.search.as_ref().is_some_and(|search| search.connection == name)
    }
}

async fn list(visit: Visit) -> Result<Response, ConsoleError> {
    visit.require(Scope::CandidatesRead)?;
    let state = visit.query("state").filter(|state| STATES.contains(state)).unwrap_or_default();
    let query = [("state", state), ("limit", "50"), ("cursor", visit.query("cursor").unwrap_or_default())];
    let candidates = visit.api.list("/candidates", &query).await?;
    view(&visit, candidates, None, state).await
}

async fn search(visit: Visit) -> Result<Response, ConsoleError> {
    let (by, value, connection) = (visit.field("by"), visit.field("value").trim(), visit.field("connection"));
    let by = IDENTITIES.iter().map(|(field, _)| *field).find(|field| *field == by).unwrap_or("externalId");
    let mut body = json!({ by: value });
    if let Some(object) = body.as_object_mut().filter(|_| !connection.is_empty()) {
        object.insert("connection".to_owned(), connection.into());
    }
    let found: List<Candidate> = visit.api.post("/candidates/search", Some(&body), None).await?.read()?;
    if let [only] = &*found.items {
        return visit.redirect(&format!("people/{}", segment(&only.id)), "");
    }
    let search = Search { by: by.to_owned(), value: value.to_owned(), connection: connection.to_owned() };
    view(&visit, found, Some(search), "").await
}

async fn view(
    visit: &Visit,
    candidates: List<Candidate>,
    search: Option<Search>,
    state: &str,
) -> Result<Response, ConsoleError> {
    let connections = if visit.may(Scope::CatalogueRead) { connection_names(visit).await? } else { Vec::new() };
    visit.render(&PeopleView {
        page: visit.page("People", Area::People),
        identities: IDENTITIES,
        states: STATES,
        connections,
        search,
        state: state.to_owned(),
        candidates,
    })
}
