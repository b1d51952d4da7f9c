//! Claims: new candidates that want identities nobody else has, many in one transaction.

use std::collections::HashSet;

use super::candidates::{self, Form, Wish};
use super::changes;
use super::error::Failed;
use super::items;
use super::records::put_intents;
use super::transaction::Hand;
use crate::store::records::{ClaimantRow, RowChange};

/// [`crate::store::Claim`] before anything is opened.
#[derive(Debug, Clone)]
pub(super) enum Claimed {
    Written,
    /// By these candidates of the tenant; by none if they have gone in the moment between, so that it is free again.
    Held(Vec<String>),
    HeldByOthers,
    Withdrawn,
}

/// A claimant with every form of what it wants.
struct Wanting<'a> {
    row: &'a ClaimantRow,
    forms: Vec<Form>,
}

/// Writes each of these claimants unless somebody holds one of its identities or its row is not waiting any more; one
/// answer each, in order.
pub(super) async fn claim(hand: &mut Hand<'_>, rows: &[ClaimantRow], at: &[usize]) -> Result<Vec<Claimed>, Failed> {
    let wanting: Vec<Wanting<'_>> = at
        .iter()
        .filter_map(|at| rows.get(*at))
        .map(|row| Wanting { row, forms: candidates::forms(hand.records, &row.candidate.connection, &row.identities) })
        .collect();
    let mut claims = vec![Claimed::Withdrawn; wanting.len()];
    for wave in waves(&wanting) {
        let answers = claim_together(hand, wave.iter().map(|at| &wanting[*at]).collect()).await?;
        for (at, answer) in wave.into_iter().zip(answers) {
            claims[at] = answer;
        }
    }
    Ok(claims)
}

/// Those that want nothing an earlier one wants go together. Each of the others goes alone, after it is known what became
/// of the earlier one.
fn waves(wanting: &[Wanting<'_>]) -> Vec<Vec<usize>> {
    let mut wanted: HashSet<&Form> = HashSet::new();
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for (at, Wanting { forms, row: _ }) in wanting.iter().enumerate() {
        if forms.iter().any(|form| wanted.contains(form)) {
            alone.push(vec![at]);
        } else {
            together.push(at);
        }
        wanted.extend(forms);
    }
    std::iter::once(together).filter(|wave| !wave.is_empty()).chain(alone).collect()
}

async fn claim_together(hand: &mut Hand<'_>, wave: Vec<&Wanting<'_>>) -> Result<Vec<Claimed>, Failed> {
    let wishes = wave.iter().flat_map(|Wanting { row, forms }| {
        forms.iter().map(|form| Wish { form, tenant: &row.candidate.tenant, candidate: &row.candidate.id })
    });
    let taken = candidates::take_identities(hand.connection, wishes.collect()).await?;
    let won = |wanting: &Wanting<'_>| taken.get(&wanting.row.candidate.id).copied().unwrap_or(0) == wanting.forms.len();
    let (winners, losers): (Vec<&Wanting<'_>>, Vec<&Wanting<'_>>) = wave.iter().copied().partition(|one| won(one));
    let held = held(hand, &losers).await?;
    let withdrawn = withdrawn(hand, &winners).await?;
    let refused = |one: &&Wanting<'_>| withdrawn.contains(one.row.candidate.id.as_str());
    let undone: Vec<&str> =
        winners.iter().filter(|one| refused(one)).map(|one| one.row.candidate.id.as_str()).collect();
    if !undone.is_empty() {
        candidates::release_identities(hand.connection, &undone).await?;
    }
    let written: Vec<&ClaimantRow> = winners.iter().filter(|one| !refused(one)).map(|one| one.row).collect();
    write(hand, &written).await?;

    let mut held = held.into_iter();
    let claims = wave.iter().map(|one| match () {
        () if !won(one) => held.next().unwrap_or_else(|| Claimed::Held(Vec::new())),
        () if refused(one) => Claimed::Withdrawn,
        () => Claimed::Written,
    });
    Ok(claims.collect())
}

/// Who holds what the losers wanted, for each of them. What they did get is released.
async fn held(hand: &mut Hand<'_>, losers: &[&Wanting<'_>]) -> Result<Vec<Claimed>, Failed> {
    if losers.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = losers.iter().map(|loser| loser.row.candidate.id.as_str()).collect();
    candidates::release_identities(hand.connection, &ids).await?;
    let forms: Vec<&Form> = losers.iter().flat_map(|loser| &loser.forms).collect();
    // A statement of its own, so that it sees what was committed while the first one waited.
    let holders = candidates::holders(hand.connection, &forms).await?;
    let claims = losers.iter().map(|Wanting { row, forms }| {
        let mut held: Vec<String> = Vec::new();
        for Form { connection, kind, blind } in forms {
            let Some(holder) = holders.get(&(connection.clone(), (*kind).to_owned(), *blind)) else { continue };
            if holder.tenant != row.candidate.tenant {
                return Claimed::HeldByOthers;
            }
            if !held.contains(&holder.candidate) {
                held.push(holder.candidate.clone());
            }
        }
        Claimed::Held(held)
    });
    Ok(claims.collect())
}

/// The winners whose row is not waiting any more. The rows of the others are locked, so that they go on waiting.
async fn withdrawn<'a>(hand: &mut Hand<'_>, winners: &[&Wanting<'a>]) -> Result<HashSet<&'a str>, Failed> {
    let rows = winners.iter().flat_map(|one| {
        let row = one.row;
        row.with.iter().filter_map(move |change| match change {
            RowChange::ItemClaimed(at, ..) => Some((row.candidate.id.as_str(), at)),
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

async fn write(hand: &mut Hand<'_>, rows: &[&ClaimantRow]) -> Result<(), Failed> {
    if rows.is_empty() {
        return Ok(());
    }
    changes::apply(hand, rows.iter().flat_map(|row| &row.with)).await?;
    candidates::insert(hand.connection, &rows.iter().map(|row| &row.candidate).collect::<Vec<_>>()).await?;
    put_intents(hand, &rows.iter().map(|row| &row.intent).collect::<Vec<_>>()).await
}
