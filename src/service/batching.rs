//! Batching: groups rows into the largest vendor calls that are safe, in input order.

use std::collections::HashMap;

use crate::domain::error::{Code, Error};
use crate::domain::outcome::Outcome;
use crate::domain::transition::VendorReply;
use crate::domain::vendor::{BatchGroup, RowResult};
use crate::domain::vendor_error::{RejectionScope, VendorError};
use crate::service::connections::Connection;

/// Bytes reserved for a call's fields besides its rows: account, centre, validity and the like.
const ENVELOPE_BYTES: usize = 1 << 10;

/// Limits of a batch.
#[derive(Debug, Clone, Copy)]
struct BatchLimits<R> {
    /// Function that reduces the vendor's maximum number of rows to the operator's limit.
    rows: R,
    /// Maximum body size of a call in bytes. A row that exceeds it alone gets its own call: only the vendor can decide
    /// whether to accept it, and a rejection of the size (413) then concerns that row alone.
    bytes: usize,
}

struct OpenBatch {
    position: usize,
    bytes: usize,
}

/// Groups rows into the largest batches that the connection accepts safely; `group` says which rows may share a call.
pub(super) fn into_batches<T>(connection: &Connection, rows: Vec<T>, group: impl Fn(&T) -> BatchGroup) -> Vec<Vec<T>> {
    let groups: Vec<BatchGroup> = rows.iter().map(group).collect();
    let limits = BatchLimits { rows: |most| connection.batch(most), bytes: connection.call_bytes() };
    let mut rows: Vec<Option<T>> = rows.into_iter().map(Some).collect();
    let take = |positions: Vec<usize>| positions.into_iter().filter_map(|position| rows[position].take()).collect();
    group_positions(&groups, &limits).into_iter().map(take).collect()
}

/// Returns the positions of the rows in each call.
fn group_positions<R: Fn(usize) -> usize>(rows: &[BatchGroup], limits: &BatchLimits<R>) -> Vec<Vec<usize>> {
    let limit = limits.bytes.saturating_sub(ENVELOPE_BYTES);
    let mut calls: Vec<Vec<usize>> = Vec::new();
    let mut open: HashMap<&str, OpenBatch> = HashMap::new();
    for (position, group) in rows.iter().enumerate() {
        let (key, at_most, bytes) = match group {
            BatchGroup::Keyed { key, at_most, bytes } if *bytes <= limit => (key, at_most, bytes),
            BatchGroup::Keyed { .. } | BatchGroup::Single => {
                calls.push(vec![position]);
                continue;
            }
        };
        let most = (limits.rows)(*at_most);
        match open.get_mut(key.as_str()) {
            Some(call) if calls[call.position].len() < most && call.bytes.saturating_add(*bytes) <= limit => {
                call.bytes += bytes;
                calls[call.position].push(position);
            }
            _ => {
                open.insert(key, OpenBatch { position: calls.len(), bytes: *bytes });
                calls.push(vec![position]);
            }
        }
    }
    calls
}

/// Returns the lengths of the parts of a list so that each part fits into a call of `call_bytes`; `bytes` are the
/// entries' sizes.
pub(super) fn parts(bytes: impl Iterator<Item = usize>, call_bytes: usize) -> Vec<usize> {
    let limit = call_bytes.saturating_sub(ENVELOPE_BYTES);
    let (mut lengths, mut used): (Vec<usize>, usize) = (Vec::new(), 0);
    for bytes in bytes {
        match lengths.last_mut() {
            Some(length) if used.saturating_add(bytes) <= limit => {
                *length += 1;
                used += bytes;
            }
            _ => {
                lengths.push(1);
                used = bytes;
            }
        }
    }
    lengths
}

/// Returns whether the rows are worth sending in smaller calls: the vendor rejected the whole call, regardless of
/// individual rows, and not for a transient reason.
pub(super) fn may_split(results: &[RowResult<VendorReply>]) -> bool {
    let rejects_batch =
        |error: &VendorError| error.scope == RejectionScope::Batch && error.outcome == Outcome::NotApplied;
    let all = |test: &dyn Fn(&VendorError) -> bool| results.iter().all(|result| result.as_ref().is_err_and(test));
    all(&rejects_batch) && !all(&|error| is_transient(error))
}

/// Returns whether the call had no effect for a transient reason: the rows are valid and worth retrying.
pub(super) fn is_transient(error: &Error) -> bool {
    let transient = matches!(
        error.code,
        Code::ConnectionSaturated
            | Code::VendorCircuitOpen
            | Code::VendorRateLimited
            | Code::VendorUnreachable
            // This instance had lost contact with the shared store, so it sent nothing.
            | Code::StoreUnavailable
    );
    transient && error.outcome == Outcome::NotApplied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn together(key: &str, at_most: usize) -> BatchGroup {
        of_bytes(key, at_most, 10)
    }

    fn of_bytes(key: &str, at_most: usize, bytes: usize) -> BatchGroup {
        BatchGroup::Keyed { key: key.to_owned(), at_most, bytes }
    }

    #[test]
    fn rows_share_calls_by_key_up_to_the_limit() {
        let rows = [together("a", 2), BatchGroup::Single, together("b", 2), together("a", 2), together("a", 2)];
        let bytes = usize::MAX;
        assert_eq!(
            group_positions(&rows, &BatchLimits { rows: |most| most, bytes }),
            [vec![0, 3], vec![1], vec![2], vec![4]]
        );
        assert_eq!(group_positions(&rows, &BatchLimits { rows: |_| 1, bytes }).len(), 5);
    }

    #[test]
    fn calls_are_limited_by_bytes_and_an_oversized_row_has_its_own_call() {
        let rows = [40, 500, 60, 1, 100].map(|bytes| of_bytes("a", 50, bytes));
        let limits = BatchLimits { rows: |most| most, bytes: ENVELOPE_BYTES + 100 };
        assert_eq!(group_positions(&rows, &limits), [vec![0, 2], vec![1], vec![3], vec![4]]);
        assert_eq!(group_positions(&rows, &BatchLimits { bytes: 0, ..limits }).len(), 5);
        assert_eq!(parts([40, 60, 1, 500, 100].into_iter(), ENVELOPE_BYTES + 100), [2, 1, 1, 1]);
        assert_eq!(parts([1; 5].into_iter(), usize::MAX), [5]);
        assert_eq!(parts(std::iter::empty(), 0), Vec::<usize>::new());
    }
}
