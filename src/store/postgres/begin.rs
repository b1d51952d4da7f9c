//! Begins writes: inserts what must be committed before they are sent, many in one transaction.

use std::collections::HashSet;
use std::sync::Arc;

use crate::domain::operation::ItemId;
use crate::store::codec::{CandidateRow, EncodedMutation, KeyRow, PreparedWriteRow, RecordCodec};
use crate::store::postgres::candidates::{self, HeldBy, IdentityForms, IdentityRequest, IndexForm};
use crate::store::postgres::error::TxError;
use crate::store::postgres::items;
use crate::store::postgres::keys::{self, KeyRequest};
use crate::store::postgres::mutations::Target;
use crate::store::postgres::transaction::WriteContext;

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

/// Writes that one caller wants to begin.
pub(super) struct BeginJob {
    /// The key to acquire for the first of them, with the number of the acquisition.
    pub(super) key: Option<(Arc<KeyRow>, i64)>,
    rows: Arc<Vec<PreparedWriteRow>>,
    open: Vec<OpenRow>,
}

/// A write to begin, by its place in the call, with the identities it needs: none, unless its candidate is new.
struct OpenRow {
    place: usize,
    identities: Vec<IdentityForms>,
}

impl BeginJob {
    /// Prepares the writes at these places of a call.
    pub(super) fn new(
        records: &RecordCodec,
        key: Option<(Arc<KeyRow>, i64)>,
        rows: Arc<Vec<PreparedWriteRow>>,
        open: &[usize],
    ) -> Self {
        let forms = |row: &PreparedWriteRow| {
            let new = row.new.as_ref();
            new.map(|(candidate, identities)| candidates::identity_forms(records, &candidate.connection, identities))
        };
        let open = open.iter().filter_map(|place| rows.get(*place).map(|row| (*place, row)));
        let open = open.map(|(place, row)| OpenRow { place, identities: forms(row).unwrap_or_default() }).collect();
        Self { key, rows, open }
    }

    /// Returns the writes to begin.
    pub(super) fn open_rows(&self) -> impl Iterator<Item = &PreparedWriteRow> {
        self.open.iter().map(|open| &self.rows[open.place])
    }

    /// Returns the objects that the writes depend on.
    pub(super) fn targets(&self) -> Vec<Target<'_>> {
        let scopes = self.key.iter().flat_map(|(key, _)| &key.scopes).map(Target::Scope);
        let identities = self.open.iter().flat_map(|open| &open.identities).flat_map(|identity| &identity.forms);
        let records = self.open_rows().flat_map(|row| {
            let item = row.item.iter().map(|(item, _)| Target::Item(item));
            std::iter::once(Target::Record(&row.record)).chain(item).chain(row.mutations.iter().map(Target::of))
        });
        scopes.chain(identities.map(Target::Identity)).chain(records).collect()
    }
}

/// A write of a job.
#[derive(Clone, Copy)]
struct Request<'a> {
    /// Place of its job, and its place in the job.
    at: (usize, usize),
    row: &'a PreparedWriteRow,
    identities: &'a [IdentityForms],
}

impl<'a> Request<'a> {
    /// Returns every form of its identities, without duplicates.
    fn forms(&self) -> Vec<&'a IndexForm> {
        let mut seen = HashSet::new();
        let forms = self.identities.iter().flat_map(|identity| &identity.forms);
        forms.filter(|form| seen.insert(*form)).collect()
    }
}

/// Begins each of these writes unless an identity is held or its row is no longer waiting, and acquires each key with
/// the first write of its job. Returns one result each, in order, and the mutations that remain to be applied for those
/// that have begun.
pub(super) async fn begin_writes<'a>(
    tx: &mut WriteContext<'_>,
    jobs: &[&'a BeginJob],
) -> Result<(Vec<Vec<BegunWrite>>, Vec<&'a EncodedMutation>), TxError> {
    let mut results: Vec<Vec<BegunWrite>> =
        jobs.iter().map(|job| vec![BegunWrite::ItemCancelled; job.open.len()]).collect();
    let claims = jobs.iter().filter_map(|job| {
        let (claim, take) = job.key.as_ref()?;
        let record = job.open_rows().next().map(|row| row.record.as_str());
        Some(KeyRequest { claim, take: *take, record })
    });
    let acquired = keys::begin(tx, claims.collect()).await?;
    let is_refused = |job: &BeginJob| job.key.as_ref().is_some_and(|(key, _)| !acquired.contains(&key.token));
    let mut requests: Vec<Request<'a>> = Vec::new();
    for (index, job) in jobs.iter().copied().enumerate() {
        if is_refused(job) {
            results[index].fill(BegunWrite::KeyInUse);
            continue;
        }
        requests.extend(job.open.iter().enumerate().map(|(place, OpenRow { place: row, identities })| Request {
            at: (index, place),
            row: &job.rows[*row],
            identities,
        }));
    }
    let mut mutations = Vec::new();
    for group in group_requests(&requests) {
        for (request, begun) in group.iter().zip(begin_group(tx, &group).await?) {
            if matches!(begun, BegunWrite::Written) {
                mutations.extend(&request.row.mutations);
            }
            results[request.at.0][request.at.1] = begun;
        }
    }
    let unused = jobs.iter().zip(&results).filter_map(|(job, results)| {
        let (key, _) = job.key.as_ref()?;
        let is_unused = acquired.contains(&key.token) && !matches!(results.first(), Some(BegunWrite::Written));
        is_unused.then_some(key.token.as_str())
    });
    keys::free(tx, unused.collect()).await?;
    Ok((results, mutations))
}

/// Groups the requests: those that share no identity with an earlier one go together. Each of the others goes alone,
/// after the result of the earlier one is known.
fn group_requests<'a>(requests: &[Request<'a>]) -> Vec<Vec<Request<'a>>> {
    let mut wanted: HashSet<&IndexForm> = HashSet::new();
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for request in requests {
        let forms = request.forms();
        if forms.iter().any(|form| wanted.contains(form)) {
            alone.push(vec![*request]);
        } else {
            together.push(*request);
        }
        wanted.extend(forms);
    }
    std::iter::once(together).filter(|group| !group.is_empty()).chain(alone).collect()
}

async fn begin_group(tx: &mut WriteContext<'_>, group: &[Request<'_>]) -> Result<Vec<BegunWrite>, TxError> {
    let wanted = group.iter().flat_map(|request| {
        let row = request.row;
        let wish = move |form| IdentityRequest { form, tenant: &row.tenant, candidate: &row.record };
        request.forms().into_iter().map(wish)
    });
    let inserted = candidates::insert_identities(tx.connection, wanted.collect()).await?;
    let has_all =
        |request: &Request<'_>| inserted.get(&request.row.record).copied().unwrap_or(0) == request.forms().len();
    let (winners, losers): (Vec<Request<'_>>, Vec<Request<'_>>) = group.iter().partition(|request| has_all(request));
    let mut held = find_holders(tx, &losers).await?.into_iter();
    let cancelled = claim_items(tx, &winners).await?;
    let is_cancelled = |request: &Request<'_>| cancelled.contains(request.row.record.as_str());
    let undone: Vec<&str> = cancelled.iter().copied().collect();
    candidates::release_identities(tx.connection, &undone).await?;
    let begun = winners.iter().filter(|request| !is_cancelled(request));
    let new: Vec<&CandidateRow> = begun.filter_map(|begun| begun.row.new.as_ref().map(|(row, _)| row)).collect();
    candidates::insert(tx.connection, &new).await?;

    let results = group.iter().map(|request| match () {
        () if !has_all(request) => held.next().unwrap_or_else(|| BegunWrite::Held(Vec::new())),
        () if is_cancelled(request) => BegunWrite::ItemCancelled,
        () => BegunWrite::Written,
    });
    Ok(results.collect())
}

/// Returns the holders of the identities for each loser, and releases the identities that the losers did get.
async fn find_holders(tx: &mut WriteContext<'_>, losers: &[Request<'_>]) -> Result<Vec<BegunWrite>, TxError> {
    if losers.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = losers.iter().map(|loser| loser.row.record.as_str()).collect();
    candidates::release_identities(tx.connection, &ids).await?;
    // A separate statement, so that it sees commits made while the first one waited.
    let forms = losers.iter().flat_map(|loser| loser.identities).flat_map(IdentityForms::all);
    let holders = candidates::holders(&mut *tx.connection, &forms.collect::<Vec<_>>()).await?;
    let results = losers.iter().map(|Request { at: _, row, identities }| {
        let mut held: Vec<String> = Vec::new();
        for identity in *identities {
            match identity.held_by(&row.tenant, &holders) {
                HeldBy::OtherTenant => return BegunWrite::HeldByOtherTenant,
                HeldBy::Tenant(candidates) => {
                    for candidate in candidates {
                        if !held.iter().any(|known| known == candidate) {
                            held.push(candidate.to_owned());
                        }
                    }
                }
            }
        }
        BegunWrite::Held(held)
    });
    Ok(results.collect())
}

/// Claims the rows of these writes, and returns the records of those whose row is no longer waiting.
async fn claim_items<'a>(tx: &mut WriteContext<'_>, requests: &[Request<'a>]) -> Result<HashSet<&'a str>, TxError> {
    let rows = requests.iter().filter_map(|request| {
        let (item, subjects) = request.row.item.as_ref()?;
        Some((item, request.row.record.as_str(), subjects.as_slice()))
    });
    let rows: Vec<(&ItemId, &str, &[u8])> = rows.collect();
    let claimed = items::claim(tx.connection, &rows).await?;
    let gone = rows.into_iter().filter(|(item, ..)| !claimed.contains(&(item.operation.to_string(), item.index)));
    Ok(gone.map(|(_, record, _)| record).collect())
}
