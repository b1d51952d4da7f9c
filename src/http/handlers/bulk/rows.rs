//! Converts a row's JSON to the stored row, the same for all formats of a bulk body. An invalid row keeps its position
//! and its errors.

use serde_json::Value;

use crate::domain::error::{Error, FieldError};
use crate::domain::operation::ItemRequest;
pub(super) use crate::domain::table::BulkItem;
use crate::domain::table::records::MAX_RECORD_BYTES;
use crate::http::dto::assignment_input::{AssignmentItem, ValidOrder};
use crate::http::dto::candidate::{CandidateItem, ValidRegistration};
use crate::http::extract::validate::{fault_of, merge_errors, parse};
use crate::service::BulkRow;

/// Maximum length of a row, in bytes of the body, whatever its format.
pub(super) const MAX_LENGTH: usize = MAX_RECORD_BYTES;
/// Maximum number of JSON values in a row.
pub(super) const MAX_VALUES: usize = 10_000;
/// Rows are passed on in batches of this many rows or bytes.
const BATCH: (usize, usize) = (256, 512 << 10);

/// A row as a parser found it.
#[derive(Debug)]
pub(super) struct RawRow {
    /// The line of the body on which the row begins; a row of a JSON document has none.
    pub(super) line: Option<u64>,
    /// Its length, in bytes of the body.
    pub(super) bytes: usize,
    /// Its JSON.
    pub(super) tree: Result<Value, Error>,
    /// The errors that only the parser sees.
    pub(super) errors: Vec<FieldError>,
}

impl RawRow {
    /// Creates a row with its JSON, or the error of finding it.
    pub(super) const fn new(line: Option<u64>, bytes: usize, tree: Result<Value, Error>) -> Self {
        Self { line, bytes, tree, errors: Vec::new() }
    }
}

/// Why parsing a bulk body stopped early.
#[derive(Debug, PartialEq)]
pub(super) enum ReadError {
    /// The bulk request is invalid as a whole.
    Fault(Box<Error>),
    /// The receiver takes no more rows, and knows the reason.
    Closed,
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Fault(Box::new(error))
    }
}

/// Passes rows from a parser to their receiver, in batches.
pub(super) struct RowSink<S> {
    kind: BulkItem,
    most: u64,
    taken: u64,
    pub(super) connections: ConnectionConsensus,
    batch: Vec<BulkRow>,
    weight: usize,
    send: S,
}

impl<S: FnMut(Vec<BulkRow>) -> bool> RowSink<S> {
    /// Creates a sink for at most `most` rows of this kind. `send` receives each batch and returns whether it wants
    /// more.
    pub(super) fn new(kind: BulkItem, most: u64, connections: ConnectionConsensus, send: S) -> Self {
        Self { kind, most, taken: 0, connections, batch: Vec::new(), weight: 0, send }
    }

    pub(super) const fn kind(&self) -> BulkItem {
        self.kind
    }

    /// Returns the number of rows taken.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns the error of a bulk request with too many rows, or with none.
    pub(super) fn count_error(&self, pointer: &str) -> FieldError {
        count_error(pointer, self.most)
    }

    /// Takes a row; returns false if the limit on rows was already reached.
    ///
    /// # Errors
    /// [`ReadError::Closed`].
    pub(super) fn take(&mut self, row: RawRow) -> Result<bool, ReadError> {
        if self.taken == self.most {
            return Ok(false);
        }
        self.taken += 1;
        let RawRow { line, bytes, tree, errors } = row;
        let (item_id, row) = match tree {
            Ok(tree) => (item_id(&tree), check_row(self.kind, &mut self.connections, &tree, errors)),
            Err(error) => (None, Err(error)),
        };
        self.batch.push(BulkRow { item_id, line, row });
        self.weight += bytes;
        if self.batch.len() >= BATCH.0 || self.weight >= BATCH.1 {
            self.flush()?;
        }
        Ok(true)
    }

    /// Passes on the remaining rows.
    ///
    /// # Errors
    /// [`ReadError::Closed`].
    pub(super) fn flush(&mut self) -> Result<(), ReadError> {
        self.weight = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() || (self.send)(batch) { Ok(()) } else { Err(ReadError::Closed) }
    }
}

/// Builds the error of a bulk request with too many rows, or with none.
pub(super) fn count_error(pointer: &str, most: u64) -> FieldError {
    FieldError::invalid(pointer, format!("must have 1 to {most} rows"))
}

/// Returns the caller's label of a row, as far as it helps to find the row: an invalid one is an error of the row.
pub(super) fn item_id(tree: &Value) -> Option<String> {
    tree.get("itemId").and_then(Value::as_str).filter(|id| id.len() <= 800).map(str::to_owned)
}

/// Checks a row: its fields, besides the errors already found in it, and its connection.
///
/// # Errors
/// Every error of the row.
pub(super) fn check_row(
    kind: BulkItem,
    connections: &mut ConnectionConsensus,
    tree: &Value,
    errors: Vec<FieldError>,
) -> Result<ItemRequest, Error> {
    let read = match kind {
        BulkItem::Candidates => parse::<CandidateItem>(tree)
            .map(|ValidRegistration { connection, new }| (connection, ItemRequest::Candidate(Box::new(new)))),
        BulkItem::Assignments => parse::<AssignmentItem>(tree)
            .map(|ValidOrder { connection, order }| (connection, ItemRequest::Assignment(Box::new(order)))),
    };
    match read {
        Ok((own, row)) if errors.is_empty() => connections.row(own).map(|()| row),
        Ok(_) => Err(fault_of(errors)),
        Err(fault) if errors.is_empty() => Err(fault),
        Err(fault) => Err(fault_of(merge_errors(errors, fault.errors))),
    }
}

/// The connection of a bulk request. Either the request names it, or all its rows name the same one, or none does; some
/// rows never decide for the others.
#[derive(Debug, Default)]
pub(super) struct ConnectionConsensus {
    bulk: Option<String>,
    /// The first connection a row names while the request's own is unknown.
    named: Option<String>,
    /// Whether a row names none.
    unnamed: bool,
}

impl ConnectionConsensus {
    /// Starts with the bulk request's own connection, if known.
    pub(super) fn of(bulk: Option<String>) -> Self {
        Self { bulk, named: None, unnamed: false }
    }

    /// Records the bulk request's own connection.
    pub(super) fn set_bulk(&mut self, bulk: &str) {
        self.bulk = Some(bulk.to_owned());
    }

    fn row(&mut self, own: Option<String>) -> Result<(), Error> {
        let Some(own) = own else {
            self.unnamed = true;
            return Ok(());
        };
        let expected = self.bulk.as_ref().or(self.named.as_ref());
        if expected.is_some_and(|expected| *expected != own) {
            let detail = "differs from the bulk request's connection; all its rows go to one connection";
            return Err(fault_of(vec![FieldError::invalid("/connection", detail)]));
        }
        if self.bulk.is_none() {
            self.named = Some(own);
        }
        Ok(())
    }

    /// Returns the connection of the whole bulk request, which names this one.
    ///
    /// # Errors
    /// An error of the bulk request, if its rows were checked under the assumption of another connection.
    pub(super) fn agreed(&mut self, bulk: Option<String>, pointer: &str) -> Result<Option<String>, FieldError> {
        match (bulk, self.named.take()) {
            (Some(bulk), Some(named)) if bulk != named => {
                let detail = format!("differs from `{named}`, which earlier rows name");
                Err(FieldError::invalid(pointer, detail))
            }
            (Some(bulk), _) => Ok(Some(bulk)),
            (None, Some(named)) if self.unnamed => {
                let detail = format!("is required: some rows name `{named}`, others none");
                Err(FieldError::missing(pointer, detail))
            }
            (None, named) => Ok(named),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use serde_json::json;

    use super::*;

    type Kept = Rc<RefCell<Vec<BulkRow>>>;

    /// Collects rows for the tests.
    pub(in crate::http::handlers::bulk) fn kept(
        kind: BulkItem,
        most: u64,
        connection: Option<&str>,
    ) -> (Kept, RowSink<impl FnMut(Vec<BulkRow>) -> bool>) {
        let kept = Kept::default();
        let to = Rc::clone(&kept);
        let rows = RowSink::new(kind, most, ConnectionConsensus::of(connection.map(str::to_owned)), move |batch| {
            to.borrow_mut().extend(batch);
            true
        });
        (kept, rows)
    }

    /// Returns the result of each row: its label, and `pointer code` of its errors (or the code alone).
    pub(in crate::http::handlers::bulk) fn summary(kept: &Kept) -> Vec<(Option<String>, Vec<String>)> {
        let faults = |fault: &Error| match fault.errors.as_slice() {
            [] => vec![fault.code.as_str().to_owned()],
            errors => errors.iter().map(|error| format!("{} {}", error.pointer, error.code)).collect(),
        };
        let kept = kept.borrow();
        kept.iter().map(|row| (row.item_id.clone(), row.row.as_ref().err().map(faults).unwrap_or_default())).collect()
    }

    fn pointers(rows: &[Value], connection: Option<&str>) -> Vec<Vec<String>> {
        let (kept, mut rows_in) = kept(BulkItem::Candidates, 100, connection);
        for row in rows {
            assert_eq!(rows_in.take(RawRow::new(None, 1, Ok(row.clone()))), Ok(true));
        }
        rows_in.flush().unwrap();
        summary(&kept).into_iter().map(|(_, errors)| errors).collect()
    }

    #[test]
    fn invalid_row_fails_alone() {
        let rows = [
            json!({ "itemId": "1", "externalId": "x" }),
            json!({ "itemId": "2", "externalId": "", "odd": 1 }),
            json!(7),
            json!({ "connection": "b", "externalId": "y" }),
            json!({ "connection": "a", "externalId": "z" }),
        ];
        let expected: [&[&str]; 5] = [
            &[],
            &["/odd unknown_field", "/externalId invalid_field"],
            &[" invalid_field"],
            &["/connection invalid_field"],
            &[],
        ];
        assert_eq!(pointers(&rows, Some("a")), expected);
    }

    #[test]
    fn all_rows_go_to_one_connection() {
        let named = |name: &str| json!({ "connection": name, "externalId": "x" });
        let none: &[&str] = &[];
        let wrong: &[&str] = &["/connection invalid_field"];
        assert_eq!(pointers(&[named("a"), named("b"), named("a")], None), [none, wrong, none]);
        assert_eq!(pointers(&[named("a"), named("b"), json!({})], Some("b")), [wrong, none, none]);
    }

    #[test]
    fn rows_choose_the_connection_only_unanimously() {
        let agreed = |rows: &[Option<&str>], bulk: Option<&str>| {
            let mut connections = ConnectionConsensus::of(None);
            for row in rows {
                connections.row(row.map(str::to_owned)).unwrap();
            }
            let agreed = connections.agreed(bulk.map(str::to_owned), "/connection");
            agreed.map_err(|error| error.code.into_owned())
        };
        let ok = |name: Option<&str>| Ok(name.map(str::to_owned));
        assert_eq!(agreed(&[None, None], None), ok(None));
        assert_eq!(agreed(&[Some("a"), Some("a")], None), ok(Some("a")));
        assert_eq!(agreed(&[Some("a"), None], None), Err("missing_field".to_owned()));
        assert_eq!(agreed(&[None, Some("a")], Some("a")), ok(Some("a")));
        assert_eq!(agreed(&[Some("a")], Some("b")), Err("invalid_field".to_owned()));
        assert_eq!(agreed(&[None], Some("b")), ok(Some("b")));
    }

    #[test]
    fn rows_are_passed_on_in_batches_and_not_after_the_end() {
        let mut sizes = Vec::new();
        let mut rows = RowSink::new(BulkItem::Candidates, 600, ConnectionConsensus::default(), |batch| {
            sizes.push(batch.len());
            sizes.len() < 4
        });
        for _ in 0..600 {
            assert_eq!(rows.take(RawRow::new(None, 10, Ok(json!({})))), Ok(true));
        }
        assert_eq!(rows.take(RawRow::new(None, 10, Ok(json!({})))), Ok(false));
        rows.flush().unwrap();
        rows.flush().unwrap();
        rows.most = u64::MAX;
        assert_eq!(rows.take(RawRow::new(None, BATCH.1, Ok(json!({})))), Err(ReadError::Closed));
        drop(rows);
        assert_eq!(sizes, [256, 256, 88, 1]);
    }
}
