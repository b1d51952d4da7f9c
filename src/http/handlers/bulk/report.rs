//! Results of an operation's rows, written row by row into the response: as the whole report of a bulk request that has
//! ended, sent while it is written, or as one page of a list. Either way it takes little memory, however many or large
//! the rows are.

use std::io;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use crate::domain::assignment::Assignment;
use crate::domain::error::Error;
use crate::domain::ids::OperationId;
use crate::domain::results::Progress;
use crate::http::app_state::AppState;
use crate::http::dto::bulk::BulkSummary;
use crate::http::dto::operation::OperationItem;
use crate::http::exchange_context::ExchangeContext;
use crate::http::pagination::encode_cursor;
use crate::http::progress::progress_of_all;
use crate::service::{OperationStatus, RequestContext, ResultFilter, ResultRow, RowOutcome, RowResource};

/// Number of rows in the first part, and the maximum in any; the number in later parts depends on the size of the rows
/// so far.
const PART: (usize, usize) = (64, 500);
/// Target size of a part of a report, in bytes.
const PART_BYTES: usize = 128 << 10;
/// Maximum size of a page, in bytes; the page ends with the row that reaches it.
const PAGE_BYTES: usize = 256 << 10;

/// Builds the 207 response with a result for every row of the operation.
///
/// # Errors
/// Errors of the first read. Later errors abort the response, so that it cannot pass as complete.
pub(super) async fn response(
    app: &AppState,
    context: ExchangeContext,
    caller: RequestContext,
    view: OperationStatus,
) -> Result<Response, Error> {
    let OperationStatus { operation, progress, .. } = view;
    let mut rows = Rows::of(app, context, caller, operation.id, None, 0);
    let summary = serde_json::to_string(&BulkSummary::from(progress)).unwrap_or_default();
    let mut text = format!(r#"{{"operation":"{}","summary":{summary},"results":["#, rows.id).into_bytes();
    rows.report(&mut text).await?;
    let parts = stream::try_unfold((Some(text), rows), |(first, mut rows)| async move {
        let mut text = first.unwrap_or_default();
        if text.is_empty() {
            if !rows.more {
                return Ok(None);
            }
            rows.report(&mut text).await.map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok::<_, io::Error>(Some((Bytes::from(text), (None, rows))))
    });
    Ok((StatusCode::MULTI_STATUS, [(CONTENT_TYPE, "application/json")], Body::from_stream(parts)).into_response())
}

/// Builds the 200 response with a page of results: at most `limit` entries, and no more than fit a page.
///
/// # Errors
/// Errors of the service.
pub(in crate::http) async fn page(
    app: &AppState,
    (context, caller): (ExchangeContext, RequestContext),
    id: OperationId,
    outcome: Option<ResultFilter>,
    (from, limit): (u64, usize),
) -> Result<Response, Error> {
    let mut rows = Rows::of(app, context, caller, id, outcome, from);
    let mut text = br#"{"items":["#.to_vec();
    let (mut count, mut next) = (0, None);
    'parts: while rows.more {
        // Fetch one more than requested to learn whether there is a next page.
        for (row, progress) in rows.next(limit + 1 - count, PAGE_BYTES).await? {
            if count == limit || (count > 0 && text.len() >= PAGE_BYTES) {
                next = Some(encode_cursor(row.index));
                break 'parts;
            }
            rows.write(&mut text, row, progress);
            count += 1;
        }
    }
    let next = serde_json::to_string(&next).unwrap_or_default();
    text.extend_from_slice(format!(r#"],"nextCursor":{next}}}"#).as_bytes());
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

/// The rows still to be written.
struct Rows {
    app: AppState,
    context: ExchangeContext,
    caller: RequestContext,
    id: OperationId,
    outcome: Option<ResultFilter>,
    /// The position of the next row.
    from: u64,
    more: bool,
    /// Number of rows written so far, and their bytes.
    written: (usize, usize),
}

impl Rows {
    fn of(
        app: &AppState,
        context: ExchangeContext,
        caller: RequestContext,
        id: OperationId,
        outcome: Option<ResultFilter>,
        from: u64,
    ) -> Self {
        Self { app: app.clone(), context, caller, id, outcome, from, more: true, written: (0, 0) }
    }

    /// Reads the next rows, each with the progress of its assignment: at most `most`, and about `bytes` bytes of them.
    async fn next(&mut self, most: usize, bytes: usize) -> Result<Vec<(ResultRow, Option<Progress>)>, Error> {
        let (count, so_far) = self.written;
        let each = so_far.checked_div(count);
        let part = each.map_or(PART.0, |each| (bytes / each.max(1)).clamp(1, PART.1));
        let (caller, limit) = (&self.caller, part.min(most));
        let found = self.app.gateway.operation_results(caller, &self.id, self.outcome, self.from, limit).await?;
        let (rows, more) = found;
        self.more = more;
        if let Some(last) = rows.last() {
            self.from = last.index + 1;
        }
        let assignments: Vec<&Assignment> = rows.iter().filter_map(assignment_of).collect();
        let mut progress = progress_of_all(&self.app, &assignments).await?.into_iter();
        let with_progress = |row: ResultRow| {
            let progress = assignment_of(&row).and_then(|_| progress.next().flatten());
            (row, progress)
        };
        Ok(rows.into_iter().map(with_progress).collect())
    }

    /// Appends the next rows of a report, and its end after the last.
    async fn report(&mut self, text: &mut Vec<u8>) -> Result<(), Error> {
        for (row, progress) in self.next(usize::MAX, PART_BYTES).await? {
            self.write(text, row, progress);
        }
        if !self.more {
            text.extend_from_slice(b"]}");
        }
        Ok(())
    }

    fn write(&mut self, text: &mut Vec<u8>, row: ResultRow, progress: Option<Progress>) {
        let before = text.len();
        if self.written.0 > 0 {
            text.push(b',');
        }
        let item = OperationItem::of(row, &self.context, progress);
        // Writing to memory cannot fail, and every entry is serialisable.
        let _ = item.serialize(&mut serde_json::Serializer::new(&mut *text));
        self.written = (self.written.0 + 1, self.written.1 + text.len() - before);
    }
}

fn assignment_of(row: &ResultRow) -> Option<&Assignment> {
    match &row.end {
        RowOutcome::Created(RowResource::Assignment(assignment))
        | RowOutcome::Existing(RowResource::Assignment(assignment)) => Some(assignment),
        _ => None,
    }
}
