//! The answer to a bulk that has ended: written while it is sent, a part of the rows at a time, so that it takes little
//! memory however many rows there are.

use std::io;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use crate::dispatch::{Caller, OperationView, RowResult};
use crate::domain::ids::OperationId;
use crate::domain::problem::Fault;
use crate::http::dto::bulk::BulkSummary;
use crate::http::dto::operation::OperationItem;
use crate::http::edge::Context;
use crate::http::state::App;

/// Rows of the first part, and most of any; how many there are in the others depends on how large rows turn out to be.
const PART: (usize, usize) = (50, 500);
/// How large a part should be, in bytes.
const WEIGHT: usize = 512 << 10;

/// 207 with a result for every row of the operation.
///
/// # Errors
/// Those of the first look. Later ones break the answer off: it must not look whole.
pub(super) async fn response(
    app: &App,
    context: Context,
    caller: Caller,
    view: OperationView,
) -> Result<Response, Fault> {
    let OperationView { operation, progress, .. } = view;
    let mut report = Report { app: app.clone(), context, caller, id: operation.id, from: 0, limit: PART.0, more: true };
    let summary = serde_json::to_string(&BulkSummary::from(progress)).unwrap_or_default();
    let mut text = format!(r#"{{"operation":"{}","summary":{summary},"results":["#, report.id).into_bytes();
    report.add(&mut text).await?;
    let parts = stream::try_unfold((Some(text), report), |(first, mut report)| async move {
        let mut text = first.unwrap_or_default();
        if text.is_empty() {
            if !report.more {
                return Ok(None);
            }
            report.add(&mut text).await.map_err(|fault| io::Error::other(fault.to_string()))?;
        }
        Ok::<_, io::Error>(Some((Bytes::from(text), (None, report))))
    });
    Ok((StatusCode::MULTI_STATUS, [(CONTENT_TYPE, "application/json")], Body::from_stream(parts)).into_response())
}

struct Report {
    app: App,
    context: Context,
    caller: Caller,
    id: OperationId,
    /// The position of the next row.
    from: u64,
    limit: usize,
    more: bool,
}

impl Report {
    /// Adds the next rows, and the end after the last.
    async fn add(&mut self, text: &mut Vec<u8>) -> Result<(), Fault> {
        let (caller, id, limit) = (&self.caller, &self.id, self.limit);
        let rows = self.app.gateway.operation_results(caller, id, None, self.from, limit).await?;
        self.more = rows.len() == limit;
        let (count, before) = (rows.len(), text.len());
        for row in rows {
            if self.from > 0 {
                text.push(b',');
            }
            self.from = row.index + 1;
            write(text, row, &self.context);
        }
        if let Some(each) = (text.len() - before).checked_div(count) {
            self.limit = (WEIGHT / each.max(1)).clamp(1, PART.1);
        }
        if !self.more {
            text.extend_from_slice(b"]}");
        }
        Ok(())
    }
}

fn write(text: &mut Vec<u8>, row: RowResult, context: &Context) {
    let item = OperationItem::of(row, context);
    // Writing to memory cannot fail, and nothing in the entry can be no JSON.
    let _ = item.serialize(&mut serde_json::Serializer::new(text));
}
