//! Inserts new candidates whose identities must be free, many in one transaction.

use std::collections::HashSet;

use crate::store::codec::{CandidateInsertRow, EncodedMutation};
use crate::store::postgres::candidates;
use crate::store::postgres::candidates::{IdentityRequest, IndexForm};
use crate::store::postgres::error::TxError;
use crate::store::postgres::items;
use crate::store::postgres::mutations;
use crate::store::postgres::records::put_intents;
use crate::store::postgres::transaction::WriteContext;

/// [`crate::store::InsertResult`] before the holders are read and opened.
#[derive(Debug, Clone)]
pub(super) enum InsertedCandidates {
    Written,
    /// The holders, all of this tenant; empty if they have gone in the meantime, so that the identity is free again.
    Held(Vec<String>),
    HeldByOthers,
    Withdrawn,
}

/// A candidate to insert, with every form of its identities.
struct IdentityRequests<'a> {
    row: &'a CandidateInsertRow,
    forms: Vec<IndexForm>,
}

/// Inserts each of these candidates unless one of its identities is held or its row is no longer waiting. Returns one
/// result each, in order.
pub(super) async fn insert_candidates(
    hand: &mut WriteContext<'_>,
    rows: &[CandidateInsertRow],
    at: &[usize],
) -> Result<Vec<InsertedCandidates>, TxError> {
    let wanting: Vec<IdentityRequests<'_>> = at
        .iter()
        .filter_map(|at| rows.get(*at))
        .map(|row| IdentityRequests {
            row,
            forms: candidates::forms(hand.records, &row.candidate.connection, &row.identities),
        })
        .collect();
    let mut claims = vec![InsertedCandidates::Withdrawn; wanting.len()];
    for wave in group_requests(&wanting) {
        let answers = insert_group(hand, wave.iter().map(|at| &wanting[*at]).collect()).await?;
        for (at, answer) in wave.into_iter().zip(answers) {
            claims[at] = answer;
        }
    }
    Ok(claims)
}

/// Groups the requests: those that share no identity with an earlier one go together. Each of the others goes alone,
/// after the result of the earlier one is known.
fn group_requests(wanting: &[IdentityRequests<'_>]) -> Vec<Vec<usize>> {
    let mut wanted: HashSet<&IndexForm> = HashSet::new();
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for (at, IdentityRequests { forms, row: _ }) in wanting.iter().enumerate() {
        if forms.iter().any(|form| wanted.contains(form)) {
            alone.push(vec![at]);
        } else {
            together.push(at);
        }
        wanted.extend(forms);
    }
    std::iter::once(together).filter(|wave| !wave.is_empty()).chain(alone).collect()
}

async fn insert_group(
    hand: &mut WriteContext<'_>,
    wave: Vec<&IdentityRequests<'_>>,
) -> Result<Vec<InsertedCandidates>, TxError> {
    let wishes = wave.iter().flat_map(|IdentityRequests { row, forms }| {
        forms.iter().map(|form| IdentityRequest { form, tenant: &row.candidate.tenant, candidate: &row.candidate.id })
    });
    let taken = candidates::insert_identities(hand.connection, wishes.collect()).await?;
    let won = |wanting: &IdentityRequests<'_>| {
        taken.get(&wanting.row.candidate.id).copied().unwrap_or(0) == wanting.forms.len()
    };
    let (winners, losers): (Vec<&IdentityRequests<'_>>, Vec<&IdentityRequests<'_>>) =
        wave.iter().copied().partition(|one| won(one));
    let held = find_holders(hand, &losers).await?;
    let withdrawn = withdrawn(hand, &winners).await?;
    let refused = |one: &&IdentityRequests<'_>| withdrawn.contains(one.row.candidate.id.as_str());
    let undone: Vec<&str> =
        winners.iter().filter(|one| refused(one)).map(|one| one.row.candidate.id.as_str()).collect();
    if !undone.is_empty() {
        candidates::release_identities(hand.connection, &undone).await?;
    }
    let written: Vec<&CandidateInsertRow> = winners.iter().filter(|one| !refused(one)).map(|one| one.row).collect();
    write(hand, &written).await?;

    let mut held = held.into_iter();
    let claims = wave.iter().map(|one| match () {
        () if !won(one) => held.next().unwrap_or_else(|| InsertedCandidates::Held(Vec::new())),
        () if refused(one) => InsertedCandidates::Withdrawn,
        () => InsertedCandidates::Written,
    });
    Ok(claims.collect())
}

/// Returns the holders of the identities for each loser, and releases the identities that the losers did get.
async fn find_holders(
    hand: &mut WriteContext<'_>,
    losers: &[&IdentityRequests<'_>],
) -> Result<Vec<InsertedCandidates>, TxError> {
    if losers.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = losers.iter().map(|loser| loser.row.candidate.id.as_str()).collect();
    candidates::release_identities(hand.connection, &ids).await?;
    let forms: Vec<&IndexForm> = losers.iter().flat_map(|loser| &loser.forms).collect();
    // A separate statement, so that it sees commits made while the first one waited.
    let holders = candidates::holders(hand.connection, &forms).await?;
    let claims = losers.iter().map(|IdentityRequests { row, forms }| {
        let mut held: Vec<String> = Vec::new();
        for IndexForm { connection, kind, blind } in forms {
            let Some(holder) = holders.get(&(connection.clone(), (*kind).to_owned(), *blind)) else { continue };
            if holder.tenant != row.candidate.tenant {
                return InsertedCandidates::HeldByOthers;
            }
            if !held.contains(&holder.candidate) {
                held.push(holder.candidate.clone());
            }
        }
        InsertedCandidates::Held(held)
    });
    Ok(claims.collect())
}

/// Returns the winners whose row is no longer waiting. Locks the rows of the others, so that they keep waiting.
async fn withdrawn<'a>(
    hand: &mut WriteContext<'_>,
    winners: &[&IdentityRequests<'a>],
) -> Result<HashSet<&'a str>, TxError> {
    let rows = winners.iter().flat_map(|one| {
        let row = one.row;
        row.with.iter().filter_map(move |change| match change {
            EncodedMutation::ItemClaimed(at, ..) => Some((row.candidate.id.as_str(), at)),
            _ => None,
        })
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let waiting = items::waiting(hand.connection, rows.iter().map(|(_, at)| *at)).await?;
    let gone = rows.into_iter().filter(|(_, at)| !waiting.contains(&(at.operation.to_string(), at.index)));
    Ok(gone.map(|(candidate, _)| candidate).collect())
}

async fn write(hand: &mut WriteContext<'_>, rows: &[&CandidateInsertRow]) -> Result<(), TxError> {
    if rows.is_empty() {
        return Ok(());
    }
    mutations::apply(hand, rows.iter().flat_map(|row| &row.with)).await?;
    candidates::insert(hand.connection, &rows.iter().map(|row| &row.candidate).collect::<Vec<_>>()).await?;
    put_intents(hand, &rows.iter().map(|row| &row.intent).collect::<Vec<_>>()).await
}
