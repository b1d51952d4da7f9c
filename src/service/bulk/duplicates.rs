//! Finds rows of a bulk that are about the same person or booking as an earlier row of it: only the first is sent.

use std::collections::HashMap;
use std::num::NonZeroU32;

use crate::domain::candidate::Identity;
use crate::domain::error::{Code, Error};
use crate::domain::ids::OperationId;
use crate::domain::operation::{Item, ItemId};
use crate::service::Gateway;
use crate::service::errors::StoreResultExt as _;
use crate::store::SubjectHash;

/// The rows of an operation that were planned so far, by what they are about.
pub(super) struct PlannedRows {
    gateway: Gateway,
    places: HashMap<SubjectHash, RowPlace>,
}

/// Where a row is in its request; small, because each row of an operation has one for each of its subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowPlace {
    index: u32,
    /// The line, if the request has lines and the row was planned in this run.
    line: Option<NonZeroU32>,
}

impl RowPlace {
    fn new(index: u64, line: Option<u64>) -> Self {
        // No request has that many rows.
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Self { index, line: line.and_then(|line| u32::try_from(line).ok()).and_then(NonZeroU32::new) }
    }
}

impl PlannedRows {
    /// Loads the rows that earlier runs of the operation have planned.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn load(gateway: &Gateway, operation: &OperationId) -> Result<Self, Error> {
        let known = gateway.0.store.item_subjects(operation).await.or_not_applied()?;
        let places = known.into_iter().map(|(subject, index)| (subject, RowPlace::new(index, None))).collect();
        Ok(Self { gateway: gateway.clone(), places })
    }

    /// Records a candidate's row.
    ///
    /// # Errors
    /// `duplicate_item` if an earlier row has one of its identities.
    pub(super) async fn add_candidate(
        &mut self,
        item: &Item,
        identities: &[Identity],
        subjects: &[SubjectHash],
    ) -> Result<(), Error> {
        let Some((position, earlier)) = self.find_earlier(item, subjects) else { return Ok(()) };
        let field = identities.get(position).map_or("identity", |identity| identity.parts().0);
        Err(self.duplicate(item, earlier, &format!("has the same {field} as")).await)
    }

    /// Records a booking's row.
    ///
    /// # Errors
    /// `duplicate_item` if an earlier row is the same booking.
    pub(super) async fn add_booking(&mut self, item: &Item, subject: SubjectHash) -> Result<(), Error> {
        match self.find_earlier(item, &[subject]) {
            Some((_, earlier)) => {
                Err(self.duplicate(item, earlier, "books the same candidate and assessment as").await)
            }
            None => Ok(()),
        }
    }

    /// Returns the earlier row with one of these subjects, and the subject's position; records the row otherwise.
    fn find_earlier(&mut self, item: &Item, subjects: &[SubjectHash]) -> Option<(usize, RowPlace)> {
        let own = RowPlace::new(item.id.index, item.line);
        let found = subjects.iter().enumerate().find_map(|(position, subject)| {
            let earlier = self.places.get(subject).filter(|earlier| earlier.index != own.index);
            earlier.map(|earlier| (position, *earlier))
        });
        if found.is_none() {
            self.places.extend(subjects.iter().map(|subject| (*subject, own)));
        }
        found
    }

    /// Builds the error of a row, counting as its sender does: lines of a table, entries of `items`.
    async fn duplicate(&self, item: &Item, earlier: RowPlace, relation: &str) -> Error {
        let index = u64::from(earlier.index);
        let line = match (item.line, earlier.line) {
            (Some(_), None) => self.line_of(ItemId { index, ..item.id.clone() }).await,
            (_, known) => known.map(|line| u64::from(line.get())),
        };
        let detail = match (item.line, line) {
            (Some(own), Some(line)) => format!("Line {own} {relation} line {line}; it was not sent."),
            _ => format!("items/{} {relation} items/{}; it was not sent.", item.id.index, index),
        };
        Error::new(Code::DuplicateItem, detail).with_duplicate_of(index)
    }

    /// Returns the line of a row that an earlier run has planned. Without it the error is only less readable, so a store
    /// that cannot be read is no obstacle.
    async fn line_of(&self, at: ItemId) -> Option<u64> {
        let found = self.gateway.0.store.items(&at.operation, &[], at.index, 1).await.ok()?;
        found.into_iter().find(|item| item.id == at)?.line
    }
}
