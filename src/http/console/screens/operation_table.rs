//! The rows of an operation as a table (CSV) for a spreadsheet: what became of each row, why, and the ids of what it is
//! about. It is read from the API page by page while it is sent, so it takes little memory, however many rows there are.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use crate::domain::table::formulas::guard;
use crate::http::console::api::{Api, ConsoleError, List, segment};
use crate::http::console::screens::operation_rows::{Row, RowProblem};
use crate::http::console::visit::Visit;
use crate::http::dto::result_table::{BYTE_ORDER_MARK, writer};

const COLUMNS: [&str; 9] =
    ["row", "itemId", "outcome", "status", "code", "detail", "candidate.id", "assignment.id", "duplicateOf"];
/// Number of rows that are read at once.
const PART: &str = "200";
/// How often a part is asked for again if the client's rate is exceeded, and the longest pause before.
const ATTEMPTS: u32 = 20;
const LONGEST_PAUSE: u64 = 60;

/// Sends the table; `outcome` of the query is that of the API.
pub(in crate::http::console) async fn table(visit: Visit, Path(id): Path<String>) -> Result<Response, ConsoleError> {
    let id = segment(&id);
    let outcome = visit.query("outcome").unwrap_or_default().to_owned();
    let rows = Rows { api: visit.api.clone(), path: format!("/operations/{id}/items"), outcome };
    let first = rows.read("").await?;
    let failed = |error: io::Error| ConsoleError::Internal(format!("the table cannot be written: {error}"));
    let text = written(&first.items, true).map_err(failed)?;
    let parts = stream::try_unfold((Some(text), first.next_cursor, rows), |(text, next, rows)| async move {
        if let Some(text) = text {
            return Ok(Some((Bytes::from(text), (None, next, rows))));
        }
        let Some(cursor) = next else { return Ok(None) };
        let part = rows.read_patiently(&cursor).await.map_err(|error| broken_off(&error))?;
        let text = written(&part.items, false)?;
        Ok::<_, io::Error>(Some((Bytes::from(text), (None, part.next_cursor, rows))))
    });
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.csv\"")),
    ];
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// The rows of an operation with an outcome, or all.
struct Rows {
    api: Api,
    path: String,
    outcome: String,
}

impl Rows {
    async fn read(&self, cursor: &str) -> Result<List<Row>, ConsoleError> {
        self.api.list(&self.path, &[("outcome", &self.outcome), ("limit", PART), ("cursor", cursor)]).await
    }

    /// Reads a part as soon as the client's rate permits it.
    async fn read_patiently(&self, cursor: &str) -> Result<List<Row>, ConsoleError> {
        for _ in 0..ATTEMPTS {
            let seconds = match self.read(cursor).await {
                Err(ConsoleError::Problem(problem)) if problem.status == 429 => problem.retry_after,
                result => return result,
            };
            let seconds = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
            tokio::time::sleep(Duration::from_secs(LONGEST_PAUSE.min(seconds))).await;
        }
        self.read(cursor).await
    }
}

/// Logs why the table ends too early. The download then fails: the table must not pass as complete.
fn broken_off(error: &ConsoleError) -> io::Error {
    let code = match error {
        ConsoleError::Problem(problem) => problem.code.as_str(),
        ConsoleError::Ended => "unauthorized",
        _ => "internal",
    };
    tracing::error!(code, "streaming the rows of an operation failed");
    io::Error::other("reading the rows failed")
}

fn written(rows: &[Row], with_header: bool) -> io::Result<Vec<u8>> {
    let mut table = writer(if with_header { BYTE_ORDER_MARK.to_vec() } else { Vec::new() });
    if with_header {
        table.write_record(COLUMNS)?;
    }
    for row in rows {
        table.write_record(cells(row))?;
    }
    table.into_inner().map_err(csv::IntoInnerError::into_error)
}

/// Returns the cells of a row. Texts that a spreadsheet would evaluate get an apostrophe.
fn cells(row: &Row) -> [String; COLUMNS.len()] {
    let text = |text: Option<&str>| text.map(|text| guard(text).into_owned()).unwrap_or_default();
    let problem = row.problem.as_ref();
    [
        row.index.to_string(),
        text(row.item_id.as_deref()),
        row.outcome.clone(),
        row.status.to_string(),
        text(problem.map(|problem| problem.code.as_str())),
        text(problem.map(details).as_deref()),
        text(row.candidate()),
        text(row.assignment()),
        problem.and_then(|problem| problem.duplicate_of).map(|index| index.to_string()).unwrap_or_default(),
    ]
}

/// Returns everything that is said of a problem, in one text.
fn details(problem: &RowProblem) -> String {
    let errors = problem.errors.iter().map(|error| format!("{} {}", error.pointer, error.detail));
    let vendor = problem.vendor_message().map(|message| format!("The vendor: {message}"));
    let parts: Vec<String> = [problem.detail.clone()].into_iter().chain(errors).chain(vendor).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_says_of_each_row_what_became_of_it_and_evaluates_nothing() {
        let row = json!({
            "index": 3, "itemId": "=1+1", "status": 422, "outcome": "not_applied",
            "problem": {
                "code": "validation_failed", "detail": "A field is wrong.", "duplicateOf": 1,
                "errors": [{ "pointer": "/email", "detail": "is no address" }],
                "vendor": { "message": "no" },
            },
        });
        let rows = [serde_json::from_value(row).unwrap()];
        let text = String::from_utf8(written(&rows, true).unwrap()).unwrap();
        let expected = "\u{feff}\"row\",\"itemId\",\"outcome\",\"status\",\"code\",\"detail\",\"candidate.id\",\
                        \"assignment.id\",\"duplicateOf\"\r\n\
                        \"3\",\"'=1+1\",\"not_applied\",\"422\",\"validation_failed\",\
                        \"A field is wrong.; /email is no address; The vendor: no\",\"\",\"\",\"1\"\r\n";
        assert_eq!(text, expected);
        let later = String::from_utf8(written(&rows, false).unwrap()).unwrap();
        assert_eq!(later.lines().count(), 1);
    }
}
