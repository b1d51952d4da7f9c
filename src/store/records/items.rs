//! Rows of operations as they stand inside their seals: what was asked for, the password apart from it so that it can go
//! first, and how it ended.

use serde::{Deserialize, Serialize};

use super::secrets::{read_secret, write_secret};
use super::{Records, unreadable};
use crate::domain::assignment::NewAssignment;
use crate::domain::candidate::{IfCandidateExists, NewCandidate, Person};
use crate::domain::operation::{Item, ItemEnd, ItemRef, ItemResult, ItemState, Row};
use crate::domain::outcome::Warning;
use crate::domain::program::EnrolmentCounts;
use crate::domain::vendor::EnrolmentCall;
use crate::secret::Secret;
use crate::store::StoreError;

const ITEMS: &str = "operation_items";

/// A row of `operation_items`, all sealing done or not undone yet.
pub(in crate::store) struct ItemRow {
    pub operation: String,
    pub index: i64,
    pub state: String,
    pub record: Option<String>,
    pub request: Vec<u8>,
    pub secret: Option<Vec<u8>>,
    pub end: Option<Vec<u8>>,
    /// Whether it could not be read. Written only: the request says so itself.
    pub refused: bool,
}

impl ItemRow {
    /// The row's position in the request.
    pub(in crate::store) fn index(&self) -> u64 {
        u64::try_from(self.index).unwrap_or(0)
    }
}

#[derive(Serialize, Deserialize)]
struct RequestRecord {
    item_id: Option<String>,
    row: Option<RowRecord>,
    with_password: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RowRecord {
    Candidate { person: Box<Person>, if_exists: IfCandidateExists },
    Assignment(Box<NewAssignment>),
    Enrolment(Box<EnrolmentCall>),
}

#[derive(Serialize, Deserialize)]
struct EndRecord {
    result: ItemResult,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
    #[serde(default, serialize_with = "write_secret", deserialize_with = "read_secret")]
    initial_password: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counts: Option<EnrolmentCounts>,
}

impl Records {
    pub(in crate::store) fn item_row(&self, item: Item) -> Result<ItemRow, StoreError> {
        let Item { at, item_id, state, record, row, password_gone, end } = item;
        let (row, password) = match row {
            Some(Row::Candidate(new)) => {
                let NewCandidate { person, password, if_exists } = *new;
                (Some(RowRecord::Candidate { person: Box::new(person), if_exists }), password)
            }
            Some(Row::Assignment(order)) => (Some(RowRecord::Assignment(order)), None),
            Some(Row::Enrolment(call)) => (Some(RowRecord::Enrolment(call)), None),
            None => (None, None),
        };
        let refused = row.is_none();
        let request = RequestRecord { item_id, row, with_password: password.is_some() || password_gone };
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
            end: end.map(|end| self.item_end(&at, end)).transpose()?,
            refused,
        })
    }

    /// The seal over how a row ended.
    pub(in crate::store) fn item_end(&self, at: &ItemRef, end: ItemEnd) -> Result<Vec<u8>, StoreError> {
        let ItemEnd { result, warnings, initial_password, counts } = end;
        self.seal(ITEMS, &place(at, "end"), &EndRecord { result, warnings, initial_password, counts })
    }

    pub(in crate::store) fn item(&self, at: ItemRef, stored: &ItemRow) -> Result<Item, StoreError> {
        let open = |part: &str, sealed: &[u8]| self.open_at(ITEMS, &place(&at, part), sealed);
        let RequestRecord { item_id, row, with_password } = read(&at, &open("request", &stored.request)?)?;
        let password = match &stored.secret {
            Some(sealed) => Some(Secret::new(read::<String>(&at, &open("secret", sealed)?)?)),
            None => None,
        };
        let end = match &stored.end {
            Some(sealed) => Some(read::<EndRecord>(&at, &open("end", sealed)?)?),
            None => None,
        };
        let password_gone = with_password && password.is_none();
        let row = row.map(|row| match row {
            RowRecord::Candidate { person, if_exists } => {
                Row::Candidate(Box::new(NewCandidate { person: *person, password, if_exists }))
            }
            RowRecord::Assignment(order) => Row::Assignment(order),
            RowRecord::Enrolment(call) => Row::Enrolment(call),
        });
        let end = end.map(|EndRecord { result, warnings, initial_password, counts }| ItemEnd {
            result,
            warnings,
            initial_password,
            counts,
        });
        let state = ItemState::parse(&stored.state).ok_or_else(|| unreadable(ITEMS, &place(&at, "state")))?;
        Ok(Item { at, item_id, state, record: stored.record.clone(), row, password_gone, end })
    }
}

/// The column of an index. An operation never has so many rows that it would not fit.
pub(in crate::store) fn index_column(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn place(at: &ItemRef, part: &str) -> String {
    format!("{}/{}/{part}", at.operation, at.index)
}

fn read<T: serde::de::DeserializeOwned>(at: &ItemRef, json: &[u8]) -> Result<T, StoreError> {
    // serde_json's own message may quote what it read.
    serde_json::from_slice(json).map_err(|_| unreadable(ITEMS, &place(at, "")))
}
