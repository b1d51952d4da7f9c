//! The screens of results: the list, its table, and one result with its versions.

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::header::ACCEPT;

use crate::domain::results::{Activity, Grading};
use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List, segment};
use crate::http::console::documents::result::{ExamResult, ResultVersion};
use crate::http::console::format as filters;
use crate::http::console::listing::{Choice, Pager, connection_names, with_query};
use crate::http::console::page::{Area, Page};
use crate::http::console::screens::result_versions::VersionView;
use crate::http::console::visit::Visit;

/// Number of results on a page, and of versions.
const RESULTS: &str = "50";
const VERSIONS: &str = "200";

/// Builds the routes of the screens.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new()
        .route("/console/results", get(list))
        .route("/console/results.csv", get(table))
        .route("/console/results/{id}", get(one))
}

#[derive(Template)]
#[template(path = "results.html", config = "src/http/console/askama.toml")]
struct ListView {
    page: Page,
    assessment: String,
    choices: Vec<Choice>,
    /// The addresses of the summary and of the table of what is listed.
    summary: String,
    table: String,
    results: List<ExamResult>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "result.html", config = "src/http/console/askama.toml")]
struct ResultView {
    page: Page,
    result: ExamResult,
    versions: Vec<VersionView>,
    has_more_versions: bool,
}

/// Returns the filter that the query asks for.
fn filter(visit: &Visit) -> [(&'static str, &str); 5] {
    ["connection", "assessment", "activity", "grading", "counts"]
        .map(|name| (name, visit.query(name).unwrap_or_default()))
}

async fn list(visit: Visit) -> Result<Response, ConsoleError> {
    visit.require(Scope::ResultsRead)?;
    let filter = filter(&visit);
    let [(_, connection), (_, assessment), (_, activity), (_, grading), (_, counts)] = filter;
    let cursor = visit.query("cursor").unwrap_or_default();
    let query = [&filter[..], &[("limit", RESULTS), ("cursor", cursor)]].concat();
    let (results, connections) =
        tokio::try_join!(visit.api.list::<ExamResult>("/results", &query), connection_names(&visit))?;
    let activities: Vec<&str> = Activity::ALL.iter().map(|word| word.as_str()).collect();
    let gradings: Vec<&str> = Grading::ALL.iter().map(|word| word.as_str()).collect();
    let yes_no = [("true", "the attempt that counts"), ("false", "other attempts")];
    let counting = Choice {
        name: "counts",
        label: "Attempts",
        current: counts.to_owned(),
        options: yes_no.map(|(value, shown)| (value.to_owned(), shown.to_owned())).into(),
    };
    let choices = vec![
        Choice::of_names("connection", "Connection", connection, connections),
        Choice::of_words("activity", "Activity", activity, &activities),
        Choice::of_words("grading", "Grading", grading, &gradings),
        counting,
    ];
    let page = visit.page("Results", Area::Results);
    let path = format!("{}results", page.root);
    let summary = with_query(&format!("{path}/summary"), &[("assessment", assessment), ("connection", connection)]);
    let table = with_query(&format!("{path}.csv"), &filter);
    let pager = Pager::of(&path, &filter, cursor, results.next_cursor.as_deref());
    visit.render(&ListView { page, assessment: assessment.to_owned(), choices, summary, table, results, pager })
}

/// Passes on the API's table of all results that match.
async fn table(visit: Visit) -> Result<Response, ConsoleError> {
    visit.api.forward(&with_query("/results", &filter(&visit)), &[(ACCEPT, "text/csv")]).await
}

async fn one(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    visit.require(Scope::ResultsRead)?;
    let path = format!("/results/{}", segment(&id));
    let (versions_path, query) = (format!("{path}/versions"), [("limit", VERSIONS)]);
    let (result, versions) =
        tokio::try_join!(visit.api.get::<ExamResult>(&path), visit.api.list(&versions_path, &query))?;
    let versions: List<ResultVersion> = versions;
    let has_more_versions = versions.next_cursor.is_some();
    let page = visit.page(&result.id, Area::Results);
    visit.render(&ResultView { page, result, versions: VersionView::newest_first(versions.items), has_more_versions })
}
