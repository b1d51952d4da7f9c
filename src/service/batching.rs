//! Batching: groups rows into the largest vendor calls that are safe, in input order.

use std::collections::HashMap;

use crate::domain::vendor::BatchGroup;

/// Bytes reserved for a call's fields besides its rows: account, centre, validity and the like.
const ENVELOPE_BYTES: usize = 1 << 10;

/// Limits of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits<R> {
    /// Function that reduces the vendor's maximum number of rows to the operator's limit.
    pub(super) rows: R,
    /// Maximum body size of a call in bytes. A row that exceeds it alone gets its own call: only the vendor can decide
    /// whether to accept it, and a rejection of the size (413) then concerns that row alone.
    pub(super) bytes: usize,
}

struct OpenBatch {
    position: usize,
    bytes: usize,
}

/// Returns the positions of the rows in each call.
pub(super) fn into_batches<R: Fn(usize) -> usize>(rows: &[BatchGroup], limits: &BatchLimits<R>) -> Vec<Vec<usize>> {
    let room = limits.bytes.saturating_sub(ENVELOPE_BYTES);
    let mut calls: Vec<Vec<usize>> = Vec::new();
    let mut open: HashMap<&str, OpenBatch> = HashMap::new();
    for (position, packing) in rows.iter().enumerate() {
        let (key, at_most, bytes) = match packing {
            BatchGroup::Keyed { key, at_most, bytes } if *bytes <= room => (key, at_most, bytes),
            BatchGroup::Keyed { .. } | BatchGroup::Single => {
                calls.push(vec![position]);
                continue;
            }
        };
        let most = (limits.rows)(*at_most);
        match open.get_mut(key.as_str()) {
            Some(call) if calls[call.position].len() < most && call.bytes.saturating_add(*bytes) <= room => {
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
    let room = call_bytes.saturating_sub(ENVELOPE_BYTES);
    let (mut lengths, mut used): (Vec<usize>, usize) = (Vec::new(), 0);
    for bytes in bytes {
        match lengths.last_mut() {
            Some(length) if used.saturating_add(bytes) <= room => {
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
            into_batches(&rows, &BatchLimits { rows: |most| most, bytes }),
            [vec![0, 3], vec![1], vec![2], vec![4]]
        );
        assert_eq!(into_batches(&rows, &BatchLimits { rows: |_| 1, bytes }).len(), 5);
    }

    #[test]
    fn calls_are_limited_by_bytes_and_an_oversized_row_has_its_own_call() {
        let rows = [40, 500, 60, 1, 100].map(|bytes| of_bytes("a", 50, bytes));
        let limits = BatchLimits { rows: |most| most, bytes: ENVELOPE_BYTES + 100 };
        assert_eq!(into_batches(&rows, &limits), [vec![0, 2], vec![1], vec![3], vec![4]]);
        assert_eq!(into_batches(&rows, &BatchLimits { bytes: 0, ..limits }).len(), 5);
        assert_eq!(parts([40, 60, 1, 500, 100].into_iter(), ENVELOPE_BYTES + 100), [2, 1, 1, 1]);
        assert_eq!(parts([1; 5].into_iter(), usize::MAX), [5]);
        assert_eq!(parts(std::iter::empty(), 0), Vec::<usize>::new());
    }
}
