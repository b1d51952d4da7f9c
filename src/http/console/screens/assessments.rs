//! The screens that sum results up: for each assessment how many people are done, sitting or too late, and one summary
//! with the distribution of the scores.

use std::collections::BTreeMap;

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use crate::domain::scope::Scope;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, List};
use crate::http::console::chart::{Chart, Mark, Shape, ceiling, columns, counted};
use crate::http::console::documents::assignment::Assignment;
use crate::http::console::format as filters;
use crate::http::console::listing::{Choice, Pager, connection_names, with_query};
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;

/// Number of assessments on a page, each with two calls of the API.
const ASSESSMENTS: &str = "10";
/// Number of bookings in a call of the API, and the maximum number of such calls for one summary.
const BOOKINGS: &str = "200";
const MAX_CALLS: usize = 10;

/// Builds the routes of the screens.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new().route("/console/results/assessments", get(list)).route("/console/results/summary", get(summary))
}

#[derive(Template)]
#[template(path = "results-assessments.html", config = "src/http/console/askama.toml")]
struct AssessmentsView {
    page: Page,
    assessments: Vec<AssessmentView>,
    pager: Pager,
    shows_bookings: bool,
}

#[derive(Template)]
#[template(path = "results-summary.html", config = "src/http/console/askama.toml")]
struct SummaryView {
    page: Page,
    assessment: String,
    connection: String,
    choices: Vec<Choice>,
    summary: Summary,
    bookings: Option<Bookings>,
    scores: Chart,
    tenths: Vec<(String, u64)>,
    /// The addresses of the results that were summed up, as a list and as a table.
    results: String,
    table: String,
}

/// An assessment of the catalogue, summed up.
struct AssessmentView {
    assessment: Assessment,
    href: String,
    summary: Summary,
    bookings: Option<Bookings>,
}

#[derive(Deserialize)]
struct Assessment {
    id: String,
    name: String,
    connection: String,
}

/// The API's summary of results.
#[derive(Deserialize)]
struct Summary {
    results: u64,
    complete: bool,
    activity: BTreeMap<String, u64>,
    grading: BTreeMap<String, u64>,
    passed: u64,
    failed: u64,
    scores: Scores,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scores {
    count: u64,
    median_percent: Option<f64>,
    tenths: Vec<u64>,
}

/// What became of bookings that no result is about.
#[derive(Default)]
struct Bookings {
    expired: u64,
    not_started: u64,
    /// The number of bookings that were looked at, the newest.
    looked_at: u64,
    /// Whether there are more.
    has_more: bool,
}

impl Summary {
    /// Returns the number of results with this activity, with a plus if there are more than were looked at.
    fn shown(&self, activity: &str) -> String {
        let number = self.activity.get(activity).copied().unwrap_or_default();
        at_least(number, !self.complete)
    }

    /// Returns the median of the scores: "71.4 %".
    fn median(&self) -> Option<String> {
        self.scores.median_percent.map(|percent| format!("{} %", (percent * 10.0).round() / 10.0))
    }
}

impl Bookings {
    /// Returns the number that have expired.
    fn expired_shown(&self) -> String {
        at_least(self.expired, self.has_more)
    }

    /// Returns the number that were not begun.
    fn not_started_shown(&self) -> String {
        at_least(self.not_started, self.has_more)
    }
}

/// Returns a number, with a plus if there are more than were looked at.
fn at_least(number: u64, has_more: bool) -> String {
    format!("{}{}", filters::grouped(&number.to_string()), if has_more { "+" } else { "" })
}

async fn list(visit: Visit) -> Result<Response, ConsoleError> {
    visit.require(Scope::ResultsRead)?;
    visit.require(Scope::CatalogueRead)?;
    let cursor = visit.query("cursor").unwrap_or_default();
    let query = [("limit", ASSESSMENTS), ("cursor", cursor)];
    let listed: List<Assessment> = visit.api.list("/assessments", &query).await?;
    let page = visit.page("Results by assessment", Area::Results);
    let path = format!("{}results/assessments", page.root);
    let pager = Pager::of(&path, &[], cursor, listed.next_cursor.as_deref());
    let mut assessments = Vec::with_capacity(listed.items.len());
    for assessment in listed.items {
        let filter = [("assessment", assessment.id.as_str()), ("connection", assessment.connection.as_str())];
        let (summary, bookings) = tokio::try_join!(summary_of(&visit, &filter), bookings_of(&visit, &filter, 1))?;
        let href = with_query(&format!("{}results/summary", page.root), &filter);
        assessments.push(AssessmentView { assessment, href, summary, bookings });
    }
    let shows_bookings = visit.may(Scope::AssignmentsRead);
    visit.render(&AssessmentsView { page, assessments, pager, shows_bookings })
}

async fn summary(visit: Visit) -> Result<Response, ConsoleError> {
    visit.require(Scope::ResultsRead)?;
    let given = |name| visit.query(name).unwrap_or_default();
    let (assessment, connection) = (given("assessment"), given("connection"));
    let filter = [("assessment", assessment), ("connection", connection)];
    let (summary, bookings, connections) = tokio::try_join!(
        summary_of(&visit, &filter),
        bookings_of(&visit, &filter, MAX_CALLS),
        connection_names(&visit)
    )?;
    let title = if assessment.is_empty() { "Results in sum".to_owned() } else { format!("Results of {assessment}") };
    let page = visit.page(&title, Area::Results);
    let path = format!("{}results", page.root);
    let tenths = (0..).zip(&summary.scores.tenths).map(|(index, number)| (tenth(index), *number)).collect();
    let view = SummaryView {
        assessment: assessment.to_owned(),
        connection: connection.to_owned(),
        choices: vec![Choice::of_names("connection", "Connection", connection, connections)],
        scores: scores_chart(&summary.scores),
        tenths,
        results: with_query(&path, &filter),
        table: with_query(&format!("{path}.csv"), &filter),
        page,
        summary,
        bookings,
    };
    visit.render(&view)
}

async fn summary_of(visit: &Visit, filter: &[(&str, &str)]) -> Result<Summary, ConsoleError> {
    visit.api.get(&with_query("/results/summary", filter)).await
}

/// Counts the bookings that have expired or were not begun, of the newest, in so many calls; `None` if the client may not
/// read bookings.
async fn bookings_of(visit: &Visit, filter: &[(&str, &str)], calls: usize) -> Result<Option<Bookings>, ConsoleError> {
    if !visit.may(Scope::AssignmentsRead) {
        return Ok(None);
    }
    let (mut found, mut cursor) = (Bookings::default(), String::new());
    for _ in 0..calls {
        let query = [filter, &[("state", "assigned"), ("limit", BOOKINGS), ("cursor", &cursor)]].concat();
        let listed: List<Assignment> = visit.api.list("/assignments", &query).await?;
        for booking in listed.items {
            found.looked_at += 1;
            match booking.progress.map(|progress| progress.activity).as_deref() {
                Some("expired") => found.expired += 1,
                Some("not_started") => found.not_started += 1,
                _ => {}
            }
        }
        found.has_more = listed.next_cursor.is_some();
        let Some(next) = listed.next_cursor else { break };
        cursor = next;
    }
    Ok(Some(found))
}

/// Returns the name of a tenth of the percentages.
fn tenth(index: u64) -> String {
    if index == 9 { "from 90 %".to_owned() } else { format!("{} to below {} %", index * 10, index * 10 + 10) }
}

fn scores_chart(scores: &Scores) -> Chart {
    let most = scores.tenths.iter().copied().max().unwrap_or_default();
    let top = ceiling(most);
    let steps: Vec<Vec<(&str, u64)>> = scores.tenths.iter().map(|number| vec![("", *number)]).collect();
    let fullest = (0..).zip(&scores.tenths).find(|(_, number)| **number == most && most > 0);
    let description = match fullest {
        Some((index, _)) => format!("Of {}, most are {}.", counted(scores.count, "score", "scores"), tenth(index)),
        None => "There are no scores.".to_owned(),
    };
    Chart {
        id: "scores",
        title: "Number of results by tenths of the score".to_owned(),
        description,
        top: counted(top, "result", "results"),
        shapes: columns(&steps, top),
        marks: ["0 %", "50 %", "100 %"].map(|text| Mark::Text(text.to_owned())).into(),
        keys: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_drawn_by_tenths() {
        let scores = Scores { count: 3, median_percent: Some(71.4), tenths: vec![0, 0, 0, 0, 0, 1, 0, 2, 0, 0] };
        let chart = scores_chart(&scores);
        let column = |x, y, height| Shape::Column { tone: "", x, y, width: 48, height };
        assert_eq!(chart.shapes, [column(372, 40, 40), column(516, 0, 80)]);
        assert_eq!(
            (chart.top.as_str(), chart.description.as_str()),
            ("2 results", "Of 3 scores, most are 70 to below 80 %.")
        );
        let none = Scores { count: 0, median_percent: None, tenths: vec![0; 10] };
        assert_eq!(scores_chart(&none).description, "There are no scores.");
    }

    #[test]
    fn a_number_that_may_be_higher_says_so() {
        assert_eq!(at_least(1_200, false), "1,200");
        assert_eq!(at_least(1_200, true), "1,200+");
    }
}
