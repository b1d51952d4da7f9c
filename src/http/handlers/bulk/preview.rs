//! Parses a table as a bulk request would, and shows for each row what the gateway would read. It sends and stores
//! nothing.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use serde_json::Value;

use crate::domain::error::{Code, Error};
use crate::domain::table::BulkItem;
use crate::http::extract::validate::fault_of;
use crate::http::handlers::bulk::chunk_reader::ChunkReader;
use crate::http::handlers::bulk::csv::read_table;
use crate::http::handlers::bulk::rows::{ConnectionConsensus, RawRow, ReadError, check_row, count_error, item_id};
use crate::http::handlers::bulk::upload::MAX_ROWS;
use crate::secret::MASK;

/// How many bytes are read at once.
const CHUNK: usize = 64 << 10;

/// How to read the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewOptions {
    /// The kind of its rows.
    pub kind: BulkItem,
    /// The connection of the bulk request, as `connection` in its query.
    pub connection: Option<String>,
    /// Whether ids that a spreadsheet has damaged are taken as they are, as `allowDamagedIds` in its query.
    pub allow_damaged_ids: bool,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviewRow {
    /// The line of the text on which it begins; the first line is 1.
    pub line: u64,
    /// Its `itemId`.
    pub item_id: Option<String>,
    /// The JSON that the gateway would read, with its password masked; or every error of the row.
    pub result: Result<Value, Error>,
}

/// What the table is as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewSummary {
    /// The number of rows.
    pub rows: u64,
    /// The connection: the one given, or the one that all rows name.
    pub connection: Option<String>,
    /// The positions, from 1, of columns without a name, whose cells are blank.
    pub ignored_columns: Vec<usize>,
}

/// Parses a table, UTF-8 with commas, and passes each row on, in order. What depends on the connection (its vendor's
/// limits, duplicate rows, people already registered) is found only when the table is sent.
///
/// # Errors
/// Every error of the table as a whole, as the gateway would return it; `internal` if `input` fails.
pub fn preview_table(
    mut input: impl Read,
    options: PreviewOptions,
    mut each: impl FnMut(PreviewRow),
) -> Result<PreviewSummary, Error> {
    // The parser takes an error for the end, since bodies never fail while they are parsed.
    let mut failed = None;
    let next = || {
        let mut chunk = vec![0; CHUNK];
        while failed.is_none() {
            match input.read(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => {
                    chunk.truncate(length);
                    return Some(Bytes::from(chunk));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => failed = Some(error),
            }
        }
        None
    };
    let read = read_rows(ChunkReader::new(next).without_mark(), options, &mut each);
    match failed {
        Some(error) => Err(unreadable(&error)),
        None => read,
    }
}

fn unreadable(error: &io::Error) -> Error {
    Error::new(Code::Internal, format!("The table cannot be read: {error}"))
}

fn read_rows(
    input: impl BufRead,
    options: PreviewOptions,
    each: &mut impl FnMut(PreviewRow),
) -> Result<PreviewSummary, Error> {
    let PreviewOptions { kind, connection, allow_damaged_ids } = options;
    let mut connections = ConnectionConsensus::of(connection.clone());
    let too_many_or_none = || fault_of(vec![count_error("", MAX_ROWS)]);
    let mut rows = 0;
    let read = read_table(input, kind, allow_damaged_ids, |row| {
        if rows == MAX_ROWS {
            return Err(too_many_or_none().into());
        }
        rows += 1;
        let RawRow { line, bytes: _, tree, errors } = row;
        let item_id = tree.as_ref().ok().and_then(item_id);
        let result = tree.and_then(|tree| {
            check_row(kind, &mut connections, &tree, errors)?;
            Ok(with_masked_password(tree))
        });
        each(PreviewRow { line: line.unwrap_or_default(), item_id, result });
        Ok(())
    });
    let columns = match read {
        Ok(columns) if rows > 0 => columns,
        Ok(_) => return Err(too_many_or_none()),
        Err(ReadError::Fault(error)) => return Err(*error),
        Err(ReadError::Closed) => return Err(Error::new(Code::Internal, "The table was not read to its end.")),
    };
    let agreed = connections.agreed(connection, "?connection");
    let connection = agreed.map_err(|error| Error::from_fields(vec![error]))?;
    Ok(PreviewSummary { rows, connection, ignored_columns: columns.unnamed() })
}

fn with_masked_password(mut tree: Value) -> Value {
    if let Some(password) = tree.get_mut("password") {
        *password = Value::from(MASK);
    }
    tree
}

#[cfg(test)]
mod tests;
