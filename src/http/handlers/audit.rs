//! `/audit`: the audit entries of a tenant.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::{self, TryStreamExt as _};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::domain::audit::ChainedEntry;
use crate::domain::error::{Code, Error};
use crate::http::app_state::AppState;
use crate::http::dto::audit::{AuditLine, AuditList, example_line};
use crate::http::extract::accept;
use crate::http::extract::request_parts::{AuthenticatedCaller, QueryParams};
use crate::http::pagination::{cursor_position, encode_cursor};
use crate::http::problem::ApiError;
use crate::service::RequestContext;

/// Number of entries read at once when streaming all of them.
const STREAM_BATCH: usize = 500;

/// Read the audit log
///
/// Who requested what, on which resource, and the outcome: one entry for each write a client of the tenant requested,
/// and one for work that ended later, oldest first. Entries contain ids, never personal data, and are kept for ever.
/// They form a chain: each contains the hash of the previous entry, so that an altered or removed entry is detectable.
///
/// With `Accept: application/x-ndjson` the response contains all entries, one document per line.
#[utoipa::path(
    get, path = "/audit", operation_id = "readAudit", tag = "Audit",
    params(
        ("after" = Option<u64>, Query, description = "Return only entries after the one with this `seq`.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response. Not with NDJSON.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page. Not with NDJSON.", nullable = false),
    ),
    responses((status = 200, description = "A page of audit entries, or all of them.", content(
        (AuditList = "application/json"),
        (String = "application/x-ndjson", example = json!(example_line())),
    ))),
)]
pub(in crate::http) async fn read(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    headers: HeaderMap,
    mut query: QueryParams,
) -> Result<Response, ApiError> {
    // Documented as int64: a larger number is not a valid `seq`.
    let number = |text: &str| text.parse::<u64>().ok().filter(|seq| i64::try_from(*seq).is_ok());
    let after = query.parsed("after", "the `seq` of an entry", number).unwrap_or(0);
    if accept::requests(&headers, accept::LINES) {
        for name in ["limit", "cursor"] {
            if query.text(name).is_some() {
                query.add_error(name, "is only valid with JSON");
            }
        }
        query.finish()?;
        return Ok(all(app, caller, after).await?);
    }
    let (limit, cursor) = query.page();
    query.finish()?;
    let from = cursor_position(cursor.as_deref())?.max(after);
    // Fetch one more than requested to learn whether there is a next page.
    let mut entries = app.gateway.audit(&caller, from, limit + 1).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next_cursor = entries.last().filter(|_| more).map(|last| encode_cursor(last.seq));
    let items: Result<Vec<AuditLine>, Error> = entries.iter().map(parse).collect();
    Ok(Json(AuditList { items: items?, next_cursor }).into_response())
}

fn parse(entry: &ChainedEntry) -> Result<AuditLine, Error> {
    serde_json::from_str(&entry.text).map_err(|_| {
        Error::new(Code::Internal, format!("Audit entry {} has a format this version does not know.", entry.seq))
    })
}

/// Streams all entries, one batch at a time. An unreadable entry aborts the response: the gap must be noticed.
async fn all(app: AppState, caller: Arc<RequestContext>, after: u64) -> Result<Response, Error> {
    let first = app.gateway.audit(&caller, after, STREAM_BATCH).await?;
    let parts = stream::try_unfold(Some(first), move |part| {
        let (app, caller) = (app.clone(), Arc::clone(&caller));
        async move {
            let Some(entries) = part else { return Ok(None) };
            let next = match entries.last() {
                Some(last) if entries.len() == STREAM_BATCH => {
                    Some(app.gateway.audit(&caller, last.seq, STREAM_BATCH).await?)
                }
                _ => None,
            };
            let mut text = String::new();
            for entry in &entries {
                text.push_str(&entry.text);
                text.push('\n');
            }
            Ok(Some((Bytes::from(text), next)))
        }
    });
    let failed = |error: Error| {
        tracing::error!(code = error.code.as_str(), "streaming the audit entries failed");
        io::Error::other("reading the audit entries failed")
    };
    let body = Body::from_stream(parts.map_err(failed));
    Ok(([(CONTENT_TYPE, accept::LINES)], body).into_response())
}
