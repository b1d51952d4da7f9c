//! The import of a spreadsheet: a file is chosen, its columns and what is wrong with its rows are reviewed, and it is sent
//! as a bulk request. The server keeps nothing in between: the file travels in the form.

use std::io;

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, Method, StatusCode};
use serde::Deserialize;
use url::form_urlencoded::Serializer;

use self::carried::MAX_FILE;
use self::entered::Entered;
use self::reading::{Bulk, MAX_ROWS, Review};
use crate::domain::scope::Scope;
use crate::domain::table::columns;
use crate::http::app_state::AppState;
use crate::http::console::api::{ConsoleError, Permitted as _, Problem, segment};
use crate::http::console::documents::connection::Connection;
use crate::http::console::format as filters;
use crate::http::console::page::{Area, Page};
use crate::http::console::visit::Visit;
use crate::sheet::choices;
use crate::sheet::kind::Kind;
use crate::sheet::layout::LayoutName;
use crate::sheet::source::EncodingName;
use crate::sheet::times::DateFormat;

mod carried;
mod entered;
mod reading;

const MIB: usize = 1 << 20;

/// Builds the routes of the screen.
pub(in crate::http::console) fn routes() -> Router<AppState> {
    Router::new().route("/console/import", get(start).post(show_review)).route("/console/import/send", post(send))
}

#[derive(Template)]
#[template(path = "import.html", config = "src/http/console/askama.toml")]
struct StartView {
    page: Page,
    kinds: Vec<KindChoice>,
    connections: Option<Vec<Connection>>,
    layouts: Vec<String>,
    max_rows: usize,
    max_mib: usize,
    /// Why the file that was sent cannot be read.
    fault: Option<String>,
}

/// A kind of rows that the client may send.
struct KindChoice {
    word: &'static str,
    name: &'static str,
}

#[derive(Template)]
#[template(path = "import-review.html", config = "src/http/console/askama.toml")]
struct ReviewView {
    page: Page,
    entered: Entered,
    review: Review,
    file_name: String,
    packed: String,
    kinds: Vec<KindChoice>,
    connections: Option<Vec<Connection>>,
    layouts: Vec<String>,
    encodings: Vec<String>,
    dates: Vec<String>,
    fields: Vec<&'static str>,
    can_send: bool,
    /// Whether choices were changed after the last review.
    has_changed: bool,
}

/// A file of a form.
struct File {
    name: String,
    content: Bytes,
}

async fn start(visit: Visit) -> Result<Response, ConsoleError> {
    let view = start_view(&visit, None).await?;
    visit.render(&view)
}

async fn start_view(visit: &Visit, fault: Option<String>) -> Result<StartView, ConsoleError> {
    Ok(StartView {
        kinds: kinds(visit)?,
        connections: connections(visit).await?,
        page: visit.page("Import", Area::Import),
        layouts: choices::words::<LayoutName>(),
        max_rows: MAX_ROWS,
        max_mib: MAX_FILE / MIB,
        fault,
    })
}

async fn show_review(visit: Visit) -> Result<Response, ConsoleError> {
    let (file, entered, review) = match reviewed(&visit).await? {
        Ok(reviewed) => reviewed,
        Err(start) => return Ok(start),
    };
    let view = review_view(&visit, file, entered, review, None).await?;
    visit.render(&view)
}

async fn send(visit: Visit) -> Result<Response, ConsoleError> {
    let (file, entered, review) = match reviewed(&visit).await? {
        Ok(reviewed) => reviewed,
        Err(start) => return Ok(start),
    };
    // Only what was reviewed is sent. If choices were changed since, what they make of the rows is shown first.
    let is_reviewed = |bulk: &&Bulk| bulk.digest == visit.field("reviewed") && entered.zone_fault.is_none();
    let Some(bulk) = review.bulk.as_ref().filter(is_reviewed) else {
        return visit.render_as(StatusCode::BAD_REQUEST, &review_view(&visit, file, entered, review, None).await?);
    };
    match submit(&visit, &entered, bulk).await {
        Ok(operation) => visit.redirect(&format!("operations/{}", segment(&operation)), ""),
        Err(ConsoleError::Problem(problem)) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            visit.render_as(status, &review_view(&visit, file, entered, review, Some(*problem)).await?)
        }
        Err(error) => Err(error),
    }
}

/// Reviews the file of the form; returns the start instead if the file cannot be read.
async fn reviewed(visit: &Visit) -> Result<Result<(File, Entered, Review), Response>, ConsoleError> {
    kinds(visit)?;
    let file = match file_of(visit).await {
        Ok(file) => file,
        Err(fault) => {
            let start = start_view(visit, Some(fault)).await?;
            return visit.render_as(StatusCode::BAD_REQUEST, &start).map(Err);
        }
    };
    let entered = Entered::of(visit);
    let review = reading::review(file.content.clone(), entered.clone()).await?;
    Ok(Ok((file, entered, review)))
}

/// Sends the bulk request and returns the operation's id.
async fn submit(visit: &Visit, entered: &Entered, bulk: &Bulk) -> Result<String, ConsoleError> {
    const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
    const PREFER: HeaderName = HeaderName::from_static("prefer");

    /// The operation, or the report of one that has ended if the form was sent twice.
    #[derive(Deserialize)]
    struct Accepted {
        #[serde(alias = "operation")]
        id: String,
    }

    let damaged = if entered.allows_damaged_ids { "true" } else { "" };
    let query = [
        ("connection", entered.connection.as_str()),
        ("failOnErrors", &entered.fail_on_errors),
        ("allowDamagedIds", damaged),
    ];
    let query =
        Serializer::new(String::new()).extend_pairs(query.iter().filter(|(_, value)| !value.is_empty())).finish();
    let path = format!("/{}/bulk?{query}", entered.kind.word());
    let mut headers = vec![(CONTENT_TYPE, "text/csv; charset=utf-8"), (PREFER, "respond-async")];
    headers.extend(visit.key().map(|key| (IDEMPOTENCY_KEY, key)));
    let reply = visit.api.send_body(Method::POST, &path, &headers, bulk.content.clone()).await?;
    Ok(reply.read::<Accepted>()?.id)
}

/// Returns the file of the form: the one just chosen, else the one carried along.
async fn file_of(visit: &Visit) -> Result<File, String> {
    if let Some(upload) = visit.upload("file").filter(|upload| !upload.bytes.is_empty()) {
        if upload.bytes.len() > MAX_FILE {
            return Err(format!("The file is larger than {} MiB.", MAX_FILE / MIB));
        }
        return Ok(File { name: upload.file_name.clone(), content: upload.bytes.clone() });
    }
    let packed = visit.field("packed").to_owned();
    if packed.is_empty() {
        return Err("Choose a file that is not empty.".to_owned());
    }
    // Inflating takes long enough to keep other requests waiting.
    let unpacked = tokio::task::spawn_blocking(move || carried::unpack(&packed)).await;
    let content = unpacked.ok().flatten().ok_or("The form was damaged on its way. Choose the file again.")?;
    Ok(File { name: visit.field("name").to_owned(), content })
}

async fn review_view(
    visit: &Visit,
    file: File,
    entered: Entered,
    review: Review,
    problem: Option<Problem>,
) -> Result<ReviewView, ConsoleError> {
    let page = visit.page("Import", Area::Import);
    let content = file.content;
    let packed = tokio::task::spawn_blocking(move || carried::pack(&content)).await.map_err(io::Error::from).flatten();
    let packed = packed.map_err(|error| ConsoleError::Internal(format!("a file could not be packed: {error}")))?;
    let reviewed = visit.field("reviewed");
    let has_changed =
        !reviewed.is_empty() && review.bulk.as_ref().is_some_and(|bulk| bulk.digest != reviewed) && problem.is_none();
    let can_send = review.bulk.as_ref().is_some_and(|bulk| bulk.accepted() > 0) && entered.zone_fault.is_none();
    Ok(ReviewView {
        page: match problem {
            Some(problem) => page.with_problem(problem),
            None => page,
        },
        kinds: kinds(visit)?,
        connections: connections(visit).await?,
        layouts: choices::words::<LayoutName>(),
        encodings: choices::words::<EncodingName>(),
        dates: choices::words::<DateFormat>(),
        fields: columns::names(entered.kind.bulk_item()).collect(),
        file_name: file.name,
        entered,
        review,
        packed,
        can_send,
        has_changed,
    })
}

/// Returns the kinds of rows that the client may send.
fn kinds(visit: &Visit) -> Result<Vec<KindChoice>, ConsoleError> {
    let all = [
        (Scope::CandidatesWrite, Kind::Candidates, "Candidates"),
        (Scope::AssignmentsWrite, Kind::Assignments, "Bookings"),
    ];
    let permitted: Vec<_> = all
        .into_iter()
        .filter(|(scope, ..)| visit.may(*scope))
        .map(|(_, kind, name)| KindChoice { word: kind.word(), name })
        .collect();
    if permitted.is_empty() { Err(ConsoleError::Scope(Scope::CandidatesWrite)) } else { Ok(permitted) }
}

/// Returns the connections to choose from; `None` if the client may not list them.
async fn connections(visit: &Visit) -> Result<Option<Vec<Connection>>, ConsoleError> {
    let listed = visit.api.list::<Connection>("/connections", &[("limit", "200")]).await.permitted()?;
    Ok(listed.map(|listed| listed.items))
}
