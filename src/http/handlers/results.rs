//! `/results`: what became of exams.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use crate::domain::date_time::parse_date_time;
use crate::domain::error::{Code, Error};
use crate::domain::ids::{AssignmentId, CandidateId, ResultId};
use crate::domain::results::{Activity, Grading};
use crate::http::app_state::AppState;
use crate::http::dto::result::{ExamResult, ExamResultList, ResultVersion, ResultVersionList};
use crate::http::dto::result_summary::ResultSummary;
use crate::http::dto::result_table::{ResultTable, result_table_example};
use crate::http::extract::accept;
use crate::http::extract::request_parts::{AuthenticatedCaller, Id, QueryParams, one_of};
use crate::http::pagination::paginate;
use crate::http::problem::ApiError;
use crate::service::{ListPart, Page, RequestContext, ResultQuery, ResultView};

/// Number of results read at once for a table.
const TABLE_PART: usize = 500;

/// List results
///
/// What is known of the attempts of the tenant's candidates, made from the vendors' reports. `asOf` says until when the
/// vendor's state is known: what is not there had not happened by then.
///
/// With `Accept: text/csv` the response is a table of all results that match, one row each, for a spreadsheet: UTF-8 with
/// a byte order mark, every cell quoted, and an apostrophe before text that a spreadsheet would evaluate. A table that
/// breaks off is incomplete.
#[utoipa::path(
    get, path = "/results", operation_id = "listResults", tag = "Results",
    params(
        ("assignment" = Option<String>, Query, description = "Return only results of this assignment.", nullable = false),
        ("candidate" = Option<String>, Query, description = "Return only results of this candidate.", nullable = false),
        ("externalId" = Option<String>, Query, description = "Return only results of candidates with this id of the caller's own; must match exactly.", nullable = false, max_length = 250),
        ("assessment" = Option<String>, Query, description = "Return only results of this assessment: its catalogue id or the vendor's own id.", nullable = false),
        ("connection" = Option<String>, Query, description = "Return only results on this connection.", nullable = false),
        ("activity" = Option<Activity>, Query, description = "Return only attempts that have got this far.", nullable = false),
        ("grading" = Option<Grading>, Query, description = "Return only results with this grading.", nullable = false),
        ("counts" = Option<bool>, Query, description = "Return only attempts that count, or only those that do not.", nullable = false),
        ("modifiedSince" = Option<String>, Query, description = "Return only results whose latest version was made at or after this time (RFC 3339).", nullable = false, format = DateTime),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response. Not with CSV.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page. Not with CSV.", nullable = false),
    ),
    responses((status = 200, description = "A page of results, newest first, or a table of all of them.", content(
        (ExamResultList = "application/json"),
        (String = "text/csv", example = json!(result_table_example())),
    ))),
)]
pub(in crate::http) async fn list(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    headers: HeaderMap,
    mut query: QueryParams,
) -> Result<Response, ApiError> {
    let filter = filter(&mut query);
    if accept::requests(&headers, accept::TABLE) {
        for name in ["limit", "cursor"] {
            if query.text(name).is_some() {
                query.add_error(name, "is only valid with JSON");
            }
        }
        query.finish()?;
        return Ok(table(app, caller, filter).await?);
    }
    let (limit, after) = page_of(&mut query, |cursor| ResultId::parse(cursor).is_ok());
    query.finish()?;
    let ListPart { items, next } = app.gateway.results(&caller, &filter, &Page { limit, after }).await?;
    let items = items.into_iter().map(Into::into).collect();
    Ok(Json(ExamResultList { items, next_cursor: next }).into_response())
}

/// Reads `limit` and `cursor` of a list whose cursors are the ids of its entries.
pub(super) fn page_of(query: &mut QueryParams, is_id: fn(&str) -> bool) -> (usize, Option<String>) {
    let (limit, cursor) = query.page();
    if cursor.as_deref().is_some_and(|cursor| !is_id(cursor)) {
        query.add_refusal("cursor", "is not a valid cursor for this list");
    }
    (limit, cursor)
}

fn filter(query: &mut QueryParams) -> ResultQuery {
    let counts = |text: &str| text.parse::<bool>().ok();
    ResultQuery {
        assignment: query.parsed("assignment", "an assignment's identifier", |text| AssignmentId::parse(text).ok()),
        candidate: query.parsed("candidate", "a candidate's identifier", |text| CandidateId::parse(text).ok()),
        external_id: query.external_id(),
        assessment: query.text("assessment"),
        connection: query.text("connection"),
        activity: query.parsed("activity", &one_of(Activity::ALL, Activity::as_str), Activity::parse),
        grading: query.parsed("grading", &one_of(Grading::ALL, Grading::as_str), Grading::parse),
        counts: query.parsed("counts", "true or false", counts),
        modified_since: modified_since(query),
    }
}

/// Reads a date-time. A `+` of its offset arrives as a space unless it is escaped.
fn modified_since(query: &mut QueryParams) -> Option<jiff::Timestamp> {
    let text = query.text("modifiedSince")?;
    let hint = if text.contains(' ') { "; in a query, `+` is written `%2B`" } else { "" };
    parse_date_time(&text).inspect_err(|detail| query.add_refusal("modifiedSince", &format!("{detail}{hint}"))).ok()
}

/// Streams the table of all results that match, one part at a time. An error aborts the response: the gap must be noticed.
async fn table(app: AppState, caller: Arc<RequestContext>, filter: ResultQuery) -> Result<Response, Error> {
    let failed = |error: io::Error| Error::new(Code::Internal, format!("The table cannot be written: {error}"));
    let page = |after| Page { limit: TABLE_PART, after };
    let first = app.gateway.results(&caller, &filter, &page(None)).await?;
    let text = ResultTable::begin().and_then(|table| finished(table, first.items)).map_err(failed)?;
    let parts = stream::try_unfold((Some(text), first.next), move |(text, next)| {
        let (app, caller, filter) = (app.clone(), Arc::clone(&caller), filter.clone());
        async move {
            if let Some(text) = text {
                return Ok(Some((Bytes::from(text), (None, next))));
            }
            let Some(after) = next else { return Ok(None) };
            let part =
                app.gateway.results(&caller, &filter, &page(Some(after))).await.map_err(|error| broken_off(&error))?;
            let text = finished(ResultTable::proceed(), part.items)?;
            Ok::<_, io::Error>(Some((Bytes::from(text), (None, part.next))))
        }
    });
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (CONTENT_DISPOSITION, "attachment; filename=\"results.csv\""),
    ];
    Ok((headers, Body::from_stream(parts)).into_response())
}

fn finished(mut table: ResultTable, results: Vec<ResultView>) -> io::Result<Vec<u8>> {
    for result in results {
        table.add(&ExamResult::from(result))?;
    }
    table.into_text()
}

fn broken_off(error: &Error) -> io::Error {
    tracing::error!(code = error.code.as_str(), "streaming the results failed");
    io::Error::other("reading the results failed")
}

/// Summarise results
///
/// How many results there are of each kind, and how their scores are distributed; of more than 5,000 results, the newest.
/// A booking of which no report has come yet has no result: see `progress` of assignments.
#[utoipa::path(
    get, path = "/results/summary", operation_id = "summariseResults", tag = "Results",
    params(
        ("assessment" = Option<String>, Query, description = "Count only results of this assessment: its catalogue id or the vendor's own id.", nullable = false),
        ("connection" = Option<String>, Query, description = "Count only results on this connection.", nullable = false),
    ),
    responses((status = 200, description = "The summary.", body = ResultSummary)),
)]
pub(in crate::http) async fn summary(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    mut query: QueryParams,
) -> Result<Json<ResultSummary>, ApiError> {
    let (assessment, connection) = (query.text("assessment"), query.text("connection"));
    query.finish()?;
    let filter = ResultQuery { assessment, connection, ..ResultQuery::default() };
    Ok(Json(app.gateway.result_summary(&caller, &filter).await?.into()))
}

/// Read a result
#[utoipa::path(
    get, path = "/results/{id}", operation_id = "getResult", tag = "Results",
    params(("id" = String, Path, description = "The result's identifier.", example = "res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73")),
    responses((status = 200, description = "The result.", body = ExamResult)),
)]
pub(in crate::http) async fn read(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<ResultId>,
) -> Result<Json<ExamResult>, ApiError> {
    Ok(Json(app.gateway.result(&caller, &id).await?.into()))
}

/// List the versions of a result
///
/// What was known of the attempt, when it was recorded, and what each version changed. A later version is a correction or
/// more that became known; `asOf`, `source` and `counts` make none.
#[utoipa::path(
    get, path = "/results/{id}/versions", operation_id = "listResultVersions", tag = "Results",
    params(
        ("id" = String, Path, description = "The result's identifier.", example = "res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73"),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of versions, oldest first.", body = ResultVersionList)),
)]
pub(in crate::http) async fn versions(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<ResultId>,
    mut query: QueryParams,
) -> Result<Json<ResultVersionList>, ApiError> {
    let (limit, cursor) = query.page();
    query.finish()?;
    let (view, versions) = app.gateway.result_versions(&caller, &id).await?;
    let (versions, next_cursor) = paginate(versions, limit, cursor.as_deref())?;
    Ok(Json(ResultVersionList { items: ResultVersion::all(&view, versions), next_cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> (ResultQuery, Vec<String>) {
        let mut params = QueryParams::of(&format!("/results?{query}").parse().unwrap());
        let filter = filter(&mut params);
        let errors = params.finish().err().map(|error| error.errors).unwrap_or_default();
        (filter, errors.into_iter().map(|error| format!("{}: {}", error.pointer, error.detail)).collect())
    }

    #[test]
    fn every_filter_is_read() {
        let (filter, errors) = read(
            "assignment=asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70&candidate=cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f&externalId=e-1\
             &assessment=rust-101&connection=main&activity=completed&grading=fully_graded&counts=true\
             &modifiedSince=2026-11-22T09:30:00%2B02:00",
        );
        assert_eq!(errors, Vec::<String>::new());
        assert!(filter.assignment.is_some() && filter.candidate.is_some());
        assert_eq!(filter.external_id.as_deref(), Some("e-1"));
        assert_eq!((filter.assessment.as_deref(), filter.connection.as_deref()), (Some("rust-101"), Some("main")));
        assert_eq!((filter.activity, filter.grading), (Some(Activity::Completed), Some(Grading::FullyGraded)));
        assert_eq!(filter.counts, Some(true));
        assert_eq!(filter.modified_since, "2026-11-22T07:30:00Z".parse().ok());
    }

    #[test]
    fn every_faulty_filter_is_named_with_what_is_expected() {
        let (_, errors) = read("assignment=a&candidate=b&activity=done&grading=ok&counts=1&modifiedSince=2026&test=x");
        let pointers: Vec<&str> = errors.iter().filter_map(|error| error.split(':').next()).collect();
        let expected = ["?assignment", "?candidate", "?activity", "?grading", "?counts", "?modifiedSince", "?test"];
        assert_eq!(pointers, expected);
        assert!(errors.contains(&"?activity: must be one of in_progress, completed".to_owned()), "{errors:?}");
        let (_, errors) = read("modifiedSince=2026-11-22T09:30:00+02:00");
        assert!(errors.len() == 1 && errors[0].ends_with("; in a query, `+` is written `%2B`"), "{errors:?}");
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let is_id = |cursor: &str| ResultId::parse(cursor).is_ok();
        for (cursor, fits) in
            [("res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73", true), ("rep_0192f0c1a3b47c8d9e0f1a2b3c4d5e73", false)]
        {
            let mut query = QueryParams::of(&format!("/results?cursor={cursor}").parse().unwrap());
            page_of(&mut query, is_id);
            assert_eq!(query.finish().is_ok(), fits, "{cursor}");
        }
    }
}
