//! Begins writes: inserts what must be committed before they are sent, many in one transaction.

use std::collections::HashSet;

use crate::domain::operation::ItemId;
use crate::store::codec::{CandidateRow, KeyRow, PreparedWriteRow};
use crate::store::postgres::candidates;
use crate::store::postgres::candidates::{IdentityRequest, IndexForm};
use crate::store::postgres::error::TxError;
use crate::store::postgres::items;
use crate::store::postgres::keys;
use crate::store::postgres::mutations;
use crate::store::postgres::statements;
use crate::store::postgres::transaction::WriteContext;
use crate::store::sql::{self, values};

/// [`crate::store::BeginResult`] before the holders are read and opened.
#[derive(Debug, Clone)]
pub(super) enum BegunWrite {
    Written,
    /// The holders, all of this tenant; empty if they have gone in the meantime, so that the identity is free again.
    Held(Vec<String>),
    HeldByOtherTenant,
    ItemCancelled,
    KeyInUse,
}

/// A write with every form of the identities it needs: none, unless its candidate is new.
struct Request<'a> {
    row: &'a PreparedWriteRow,
    forms: Vec<IndexForm>,
}

/// Begins each of these writes unless an identity is held or its row is no longer waiting. Returns one result each, in
/// order. Acquires the key, given with the number of the acquisition, for the first write.
pub(super) async fn begin_writes(
    tx: &mut WriteContext<'_>,
    key: Option<(&KeyRow, i64)>,
    rows: Vec<&PreparedWriteRow>,
) -> Result<Vec<BegunWrite>, TxError> {
    let first = rows.first().map(|row| row.record.as_str());
    if let Some((key, take)) = key
        && !keys::take_free(tx, key, take, first).await?
    {
        return Ok(vec![BegunWrite::KeyInUse; rows.len()]);
    }
    let requests: Vec<Request<'_>> = rows.into_iter().map(|row| request(tx, row)).collect();
    let mut results = vec![BegunWrite::ItemCancelled; requests.len()];
    for group in group_requests(&requests) {
        let begun = begin_group(tx, group.iter().map(|index| &requests[*index]).collect()).await?;
        for (index, begun) in group.into_iter().zip(begun) {
            results[index] = begun;
        }
    }
    if let Some((key, _)) = key
        && !matches!(results.first(), Some(BegunWrite::Written))
    {
        statements::execute(&mut *tx.connection, sql::FREE_KEY, &values![&key.token]).await?;
    }
    Ok(results)
}

fn request<'a>(tx: &WriteContext<'_>, row: &'a PreparedWriteRow) -> Request<'a> {
    let forms = row
        .new
        .as_ref()
        .map(|(candidate, identities)| candidates::forms(tx.records, &candidate.connection, identities));
    Request { row, forms: forms.unwrap_or_default() }
}

/// Groups the requests: those that share no identity with an earlier one go together. Each of the others goes alone,
/// after the result of the earlier one is known.
fn group_requests(requests: &[Request<'_>]) -> Vec<Vec<usize>> {
    let mut wanted: HashSet<&IndexForm> = HashSet::new();
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for (index, Request { forms, row: _ }) in requests.iter().enumerate() {
        if forms.iter().any(|form| wanted.contains(form)) {
            alone.push(vec![index]);
        } else {
            together.push(index);
        }
        wanted.extend(forms);
    }
    std::iter::once(together).filter(|group| !group.is_empty()).chain(alone).collect()
}

async fn begin_group(tx: &mut WriteContext<'_>, group: Vec<&Request<'_>>) -> Result<Vec<BegunWrite>, TxError> {
    let wanted = group.iter().flat_map(|Request { row, forms }| {
        forms.iter().map(|form| IdentityRequest { form, tenant: &row.tenant, candidate: &row.record })
    });
    let inserted = candidates::insert_identities(tx.connection, wanted.collect()).await?;
    let has_all =
        |request: &Request<'_>| inserted.get(&request.row.record).copied().unwrap_or(0) == request.forms.len();
    let (winners, losers): (Vec<&Request<'_>>, Vec<&Request<'_>>) = group.iter().partition(|request| has_all(request));
    let mut held = find_holders(tx, &losers).await?.into_iter();
    let cancelled = claim_items(tx, &winners).await?;
    let is_cancelled = |request: &Request<'_>| cancelled.contains(request.row.record.as_str());
    let undone: Vec<&str> = cancelled.iter().copied().collect();
    candidates::release_identities(tx.connection, &undone).await?;
    let begun: Vec<&PreparedWriteRow> =
        winners.iter().filter(|request| !is_cancelled(request)).map(|request| request.row).collect();
    let new: Vec<&CandidateRow> = begun.iter().filter_map(|row| row.new.as_ref().map(|(row, _)| row)).collect();
    candidates::insert(tx.connection, &new).await?;
    mutations::apply(tx, begun.iter().flat_map(|row| &row.mutations)).await?;

    let results = group.iter().map(|request| match () {
        () if !has_all(request) => held.next().unwrap_or_else(|| BegunWrite::Held(Vec::new())),
        () if is_cancelled(request) => BegunWrite::ItemCancelled,
        () => BegunWrite::Written,
    });
    Ok(results.collect())
}

/// Returns the holders of the identities for each loser, and releases the identities that the losers did get.
async fn find_holders(tx: &mut WriteContext<'_>, losers: &[&Request<'_>]) -> Result<Vec<BegunWrite>, TxError> {
    if losers.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = losers.iter().map(|loser| loser.row.record.as_str()).collect();
    candidates::release_identities(tx.connection, &ids).await?;
    let forms: Vec<&IndexForm> = losers.iter().flat_map(|loser| &loser.forms).collect();
    // A separate statement, so that it sees commits made while the first one waited.
    let holders = candidates::holders(tx.connection, &forms).await?;
    let results = losers.iter().map(|Request { row, forms }| {
        let mut held: Vec<String> = Vec::new();
        for IndexForm { connection, kind, blind } in forms {
            let Some(holder) = holders.get(&(connection.clone(), (*kind).to_owned(), *blind)) else { continue };
            if holder.tenant != row.tenant {
                return BegunWrite::HeldByOtherTenant;
            }
            if !held.contains(&holder.candidate) {
                held.push(holder.candidate.clone());
            }
        }
        BegunWrite::Held(held)
    });
    Ok(results.collect())
}

/// Claims the rows of these writes, and returns the records of those whose row is no longer waiting.
async fn claim_items<'a>(tx: &mut WriteContext<'_>, requests: &[&Request<'a>]) -> Result<HashSet<&'a str>, TxError> {
    let rows = requests.iter().filter_map(|request| {
        let (item, subjects) = request.row.item.as_ref()?;
        Some((item, request.row.record.as_str(), subjects.as_slice()))
    });
    let rows: Vec<(&ItemId, &str, &[u8])> = rows.collect();
    let claimed = items::claim(tx.connection, &rows).await?;
    let gone = rows.into_iter().filter(|(item, ..)| !claimed.contains(&(item.operation.to_string(), item.index)));
    Ok(gone.map(|(_, record, _)| record).collect())
}
