//! Rows of operations in their sealed form: the request, the password sealed separately so that it can be removed
//! first, and the outcome.

use serde::{Deserialize, Serialize};

use crate::domain::assignment::NewAssignment;
use crate::domain::candidate::{IfCandidateExists, NewCandidate, Person};
use crate::domain::ids::OperationId;
use crate::domain::operation::{Item, ItemId, ItemOutcome, ItemReport, ItemRequest, ItemState, ItemStatus};
use crate::domain::outcome::Warning;
use crate::domain::program::EnrolmentCounts;
use crate::domain::vendor::EnrolmentBatch;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::store::codec::secrets::{read_secret, write_secret};
use crate::store::codec::{RecordCodec, unknown_format};
use crate::store::columns::{Columns, FromColumns};

const ITEMS: &str = "operation_items";

/// A row of `operation_items` with its content sealed.
pub(in crate::store) struct ItemRow {
    pub operation: String,
    pub index: i64,
    pub state: String,
    pub record: Option<String>,
    pub request: Vec<u8>,
    pub secret: Option<Vec<u8>>,
    pub end: Option<Vec<u8>>,
    /// The caller's mark, separate from the request, which may be long: a report needs only the mark.
    pub mark: Vec<u8>,
    /// Whether the request of the row could not be read.
    pub refused: bool,
}

impl FromColumns for ItemRow {
    fn from_columns<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self {
            operation: row.column(0)?,
            index: row.column(1)?,
            state: row.column(2)?,
            record: row.column(3)?,
            request: row.column(4)?,
            secret: row.column(5)?,
            end: row.column(6)?,
            mark: Vec::new(),
            refused: row.column(7)?,
        })
    }
}

/// Columns read for the report of a row; borrowed, because they are opened at once.
pub(in crate::store) struct ReportRow<'a> {
    pub index: i64,
    pub state: &'a str,
    pub record: Option<String>,
    pub end: Option<&'a [u8]>,
    pub mark: Option<&'a [u8]>,
    /// The request of a row written by a version that knew no `mark`.
    pub request: Option<&'a [u8]>,
    /// Whether the request of the row could not be read.
    pub refused: bool,
}

impl ReportRow<'_> {
    /// Estimates the memory its report takes.
    pub(in crate::store) fn bytes(&self) -> usize {
        size_of::<ItemReport>() + self.end.map_or(0, <[u8]>::len) + self.mark.map_or(0, <[u8]>::len)
    }
}

impl ItemRow {
    /// Returns the row's position in the request.
    pub(in crate::store) fn index(&self) -> u64 {
        u64::try_from(self.index).unwrap_or(0)
    }
}

/// The part of a [`RequestRecord`] that identifies the row to its caller.
#[derive(Deserialize)]
struct RequestMark {
    item_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RequestRecord {
    item_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    row: Option<RowRecord>,
    with_password: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RowRecord {
    Candidate { person: Box<Person>, if_exists: IfCandidateExists },
    Assignment(Box<NewAssignment>),
    Enrolment(Box<EnrolmentBatch>),
}

#[derive(Serialize, Deserialize)]
struct OutcomeRecord {
    result: ItemStatus,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
    #[serde(default, serialize_with = "write_secret", deserialize_with = "read_secret")]
    initial_password: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counts: Option<EnrolmentCounts>,
}

impl RecordCodec {
    pub(in crate::store) fn item_row(&self, item: Item) -> Result<ItemRow, StoreError> {
        let Item { id: at, item_id, line, state, record, request: row, password_gone, outcome: end } = item;
        let (row, password) = match row {
            Some(ItemRequest::Candidate(new)) => {
                let NewCandidate { person, password, if_exists } = *new;
                // As given: the row is checked again before it is sent, by this version or an earlier one.
                (Some(RowRecord::Candidate { person: Box::new(person.as_given()), if_exists }), password)
            }
            Some(ItemRequest::Assignment(order)) => (Some(RowRecord::Assignment(Box::new(order.as_given()))), None),
            Some(ItemRequest::Enrolment(call)) => (Some(RowRecord::Enrolment(call)), None),
            None => (None, None),
        };
        let mark = self.seal(ITEMS, &place(&at, "mark"), &item_id)?;
        let refused = row.is_none();
        let request = RequestRecord { item_id, line, row, with_password: password.is_some() || password_gone };
        let secret = match &password {
            Some(password) => Some(self.seal(ITEMS, &place(&at, "secret"), &password.expose())?),
            None => None,
        };
        Ok(ItemRow {
            operation: at.operation.to_string(),
            index: index_column(at.index),
            state: state.as_str().to_owned(),
            record,
            request: self.seal(ITEMS, &place(&at, "request"), &request)?,
            secret,
            end: end.map(|end| self.seal_outcome(&at, end)).transpose()?,
            mark,
            refused,
        })
    }

    /// Seals the outcome of a row.
    pub(in crate::store) fn seal_outcome(&self, at: &ItemId, end: ItemOutcome) -> Result<Vec<u8>, StoreError> {
        let ItemOutcome { result, warnings, initial_password, counts } = end;
        self.seal(ITEMS, &place(at, "end"), &OutcomeRecord { result, warnings, initial_password, counts })
    }

    pub(in crate::store) fn item(&self, at: ItemId, stored: &ItemRow) -> Result<Item, StoreError> {
        let open = |part: &str, sealed: &[u8]| self.open_at(ITEMS, &place(&at, part), sealed);
        let RequestRecord { item_id, line, row, with_password } = read(&at, &open("request", &stored.request)?)?;
        let password = match &stored.secret {
            Some(sealed) => Some(Secret::new(read::<String>(&at, &open("secret", sealed)?)?)),
            None => None,
        };
        let end = stored.end.as_deref().map(|sealed| self.open_outcome(&at, sealed)).transpose()?;
        let password_gone = with_password && password.is_none();
        let row = row.map(|row| match row {
            RowRecord::Candidate { person, if_exists } => {
                ItemRequest::Candidate(Box::new(NewCandidate { person: *person, password, if_exists }))
            }
            RowRecord::Assignment(order) => ItemRequest::Assignment(order),
            RowRecord::Enrolment(call) => ItemRequest::Enrolment(call),
        });
        let state = state(&at, &stored.state)?;
        let record = stored.record.clone();
        Ok(Item { id: at, item_id, line, state, record, request: row, password_gone, outcome: end })
    }

    pub(in crate::store) fn item_report(
        &self,
        operation: &OperationId,
        stored: ReportRow<'_>,
    ) -> Result<ItemReport, StoreError> {
        let ReportRow { index, state: word, record, end, mark, request, refused } = stored;
        let at = ItemId { operation: operation.clone(), index: u64::try_from(index).unwrap_or(0) };
        let open = |part: &str, sealed: &[u8]| self.open_at(ITEMS, &place(&at, part), sealed);
        let item_id = match (mark, request) {
            (Some(sealed), _) => read::<Option<String>>(&at, &open("mark", sealed)?)?,
            (None, Some(sealed)) => read::<RequestMark>(&at, &open("request", sealed)?)?.item_id,
            (None, None) => None,
        };
        let end = end.map(|sealed| self.open_outcome(&at, sealed)).transpose()?;
        Ok(ItemReport { item_id, state: state(&at, word)?, record, refused, outcome: end, id: at })
    }

    fn open_outcome(&self, at: &ItemId, sealed: &[u8]) -> Result<ItemOutcome, StoreError> {
        let OutcomeRecord { result, warnings, initial_password, counts } =
            read(at, &self.open_at(ITEMS, &place(at, "end"), sealed)?)?;
        Ok(ItemOutcome { result, warnings, initial_password, counts })
    }
}

/// Converts an index to its column. No operation has enough rows to overflow it.
pub(in crate::store) fn index_column(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn state(at: &ItemId, word: &str) -> Result<ItemState, StoreError> {
    ItemState::parse(word).ok_or_else(|| unknown_format(ITEMS, &place(at, "state")))
}

fn place(at: &ItemId, part: &str) -> String {
    format!("{}/{}/{part}", at.operation, at.index)
}

fn read<T: serde::de::DeserializeOwned>(at: &ItemId, json: &[u8]) -> Result<T, StoreError> {
    // The message of serde_json may quote its input.
    serde_json::from_slice(json).map_err(|_| unknown_format(ITEMS, &place(at, "")))
}
