//! Statements that write candidates with their look-ups and identities, many rows at once.
//!
//! An identity is written under every key of the ring. A look-up before writing suffices only for an engine with a
//! single writer: two replicas that write under different keys would both look before the other has written. Here the
//! primary key decides; since two rings always share a key in use, two replicas cannot both win.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, Row as _};

use super::error::TxError;
use super::transaction::WriteContext;
use crate::domain::candidate::Identity;
use crate::domain::ids::CandidateId;
use crate::store::StoreError;
use crate::store::codec::{CandidateRow, RecordCodec, SealedRow};
use crate::store::columns::FromColumns as _;
use crate::store::encryption::BlindIndex;

/// One form of an identity as stored. The ordering is the order in which all transactions write identities, to avoid
/// deadlocks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct IndexForm {
    pub(super) connection: String,
    pub(super) kind: &'static str,
    pub(super) blind: BlindIndex,
}

/// The holder of an identity.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) tenant: String,
    pub(super) candidate: String,
}

/// The forms of one identity.
#[derive(Debug, Clone)]
pub(super) struct IdentityForms {
    /// Every form that it is written in.
    pub(super) forms: Vec<IndexForm>,
    /// Those that only earlier versions wrote; `forms` may have them too.
    former: Vec<IndexForm>,
}

/// Who holds an identity, from a tenant's point of view.
pub(super) enum HeldBy<'a> {
    /// These candidates of the tenant; none if the identity is free.
    Tenant(Vec<&'a str>),
    OtherTenant,
}

impl IdentityForms {
    /// Returns every form, those of earlier versions included.
    pub(super) fn all(&self) -> impl Iterator<Item = &IndexForm> {
        self.forms.iter().chain(&self.former)
    }

    /// Returns who holds the identity. An entry of an earlier version comes first: that version may have registered two
    /// spellings of one identity as people of two tenants, each of whom still is the tenant's own.
    pub(super) fn held_by<'a>(&self, tenant: &str, holders: &'a HashMap<BlindIndex, Holder>) -> HeldBy<'a> {
        let holder = |form: &IndexForm| holders.get(&form.blind);
        if let Some(own) = self.former.iter().filter_map(holder).find(|holder| holder.tenant == tenant) {
            return HeldBy::Tenant(vec![&own.candidate]);
        }
        let all: Vec<&Holder> = self.all().filter_map(holder).collect();
        if all.iter().any(|holder| holder.tenant != tenant) {
            return HeldBy::OtherTenant;
        }
        HeldBy::Tenant(all.into_iter().map(|holder| holder.candidate.as_str()).collect())
    }
}

/// Returns the forms of each of these identities.
pub(super) fn identity_forms(records: &RecordCodec, connection: &str, identities: &[Identity]) -> Vec<IdentityForms> {
    let forms = identities.iter().map(|identity| {
        let kind = identity.kind().as_str();
        let form = |blind| IndexForm { connection: connection.to_owned(), kind, blind };
        let forms = records.identity_forms(connection, identity).into_iter().map(form).collect();
        IdentityForms { forms, former: former_forms(records, connection, identity) }
    });
    forms.collect()
}

/// An identity that a candidate claims.
pub(super) struct IdentityRequest<'a> {
    pub(super) form: &'a IndexForm,
    pub(super) tenant: &'a str,
    pub(super) candidate: &'a str,
}

/// Inserts the identities that are free and returns how many each candidate got. Waits for concurrent transactions that
/// write the same identity.
pub(super) async fn insert_identities(
    connection: &mut PgConnection,
    mut wishes: Vec<IdentityRequest<'_>>,
) -> Result<HashMap<String, usize>, TxError> {
    if wishes.is_empty() {
        return Ok(HashMap::new());
    }
    wishes.sort_by(|one, other| one.form.cmp(other.form));
    let taken: Vec<String> = sqlx::query_scalar(
        "INSERT INTO identities (connection, kind, blind, tenant, candidate_id)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[])
         ON CONFLICT (connection, kind, blind) DO NOTHING RETURNING candidate_id",
    )
    .bind(wishes.iter().map(|wish| wish.form.connection.as_str()).collect::<Vec<_>>())
    .bind(wishes.iter().map(|wish| wish.form.kind).collect::<Vec<_>>())
    .bind(wishes.iter().map(|wish| wish.form.blind).collect::<Vec<_>>())
    .bind(wishes.iter().map(|wish| wish.tenant).collect::<Vec<_>>())
    .bind(wishes.iter().map(|wish| wish.candidate).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut counts = HashMap::new();
    for candidate in taken {
        *counts.entry(candidate).or_insert(0) += 1;
    }
    Ok(counts)
}

/// Releases all identities of these candidates.
pub(super) async fn release_identities(connection: &mut PgConnection, candidates: &[&str]) -> Result<(), TxError> {
    if candidates.is_empty() {
        return Ok(());
    }
    sqlx::query("DELETE FROM identities WHERE candidate_id = ANY($1)").bind(candidates).execute(connection).await?;
    Ok(())
}

/// Returns the holder of each of these identities by its index value, which is different at each connection.
pub(super) async fn holders(
    connection: impl PgExecutor<'_>,
    forms: &[&IndexForm],
) -> Result<HashMap<BlindIndex, Holder>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT held.blind, held.tenant, held.candidate_id
         FROM unnest($1::text[], $2::text[], $3::bytea[]) AS wanted (connection, kind, blind)
         JOIN identities held USING (connection, kind, blind)",
    )
    .bind(forms.iter().map(|form| form.connection.as_str()).collect::<Vec<_>>())
    .bind(forms.iter().map(|form| form.kind).collect::<Vec<_>>())
    .bind(forms.iter().map(|form| form.blind).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let holder = |row: PgRow| Ok((row.try_get(0)?, Holder { tenant: row.try_get(1)?, candidate: row.try_get(2)? }));
    rows.into_iter().map(holder).collect()
}

/// Replaces the candidate's identities. Does nothing if the candidate is gone.
pub(super) async fn set_identities(
    tx: &mut WriteContext<'_>,
    id: &CandidateId,
    identities: &[Identity],
) -> Result<(), TxError> {
    // Lock the row, so that no other transaction erases it or sets its identities meanwhile.
    let owner = sqlx::query("SELECT id, tenant, connection, sealed FROM candidates WHERE id = $1 FOR NO KEY UPDATE")
        .bind(id.as_str())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let Some(owner) = owner else { return Ok(()) };
    let owner = SealedRow::from_columns(&owner)?;
    let SealedRow { tenant, connection, .. } = &owner;
    // In one statement with the removal.
    let held = sqlx::query("DELETE FROM identities WHERE candidate_id = $1 RETURNING kind, blind")
        .bind(id.as_str())
        .fetch_all(&mut *tx.connection)
        .await?;
    let held: Vec<(String, BlindIndex)> =
        held.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    for (identity, wanted) in identities.iter().zip(identity_forms(tx.records, connection, identities)) {
        let mut wanted = wanted.forms;
        wanted.sort_unstable();
        wanted.dedup();
        if has_taken_all(tx.connection, id, tenant, &wanted).await? {
            continue;
        }
        let kept = kept_entries(tx.records, &owner, &held, identity)?;
        if kept.is_empty() {
            return Err(StoreError::Conflict.into());
        }
        release_forms(tx.connection, id, &wanted).await?;
        if !has_taken_all(tx.connection, id, tenant, &kept).await? {
            return Err(StoreError::Conflict.into());
        }
    }
    Ok(())
}

/// Returns the entries that a candidate keeps of an identity that another one holds: those of the earlier form, since an
/// earlier version registered the two spellings as two people. If that version has also changed the spelling at the vendor
/// to the other's, they are all of that kind.
fn kept_entries(
    records: &RecordCodec,
    owner: &SealedRow,
    held: &[(String, BlindIndex)],
    identity: &Identity,
) -> Result<Vec<IndexForm>, StoreError> {
    let kind = identity.kind().as_str();
    let form = |blind: BlindIndex| IndexForm { connection: owner.connection.clone(), kind, blind };
    let own = held.iter().filter(|(held, _)| held == kind).map(|(_, blind)| *blind);
    let former = records.former_forms(&owner.connection, identity);
    let kept: Vec<IndexForm> = own.clone().filter(|blind| former.contains(blind)).map(form).collect();
    if !kept.is_empty() {
        return Ok(kept);
    }
    let recorded = records.candidate(owner)?.person;
    let is_recorded = Identity::of(&recorded, &[identity.kind()]).contains(identity);
    Ok(own.filter(|_| is_recorded).map(form).collect())
}

/// Returns the forms of the identity that earlier versions wrote, if they are not those of its key.
pub(super) fn former_forms(records: &RecordCodec, connection: &str, identity: &Identity) -> Vec<IndexForm> {
    let form = |blind| IndexForm { connection: connection.to_owned(), kind: identity.kind().as_str(), blind };
    records.former_forms(connection, identity).into_iter().map(form).collect()
}

/// Returns the index values that the candidate holds.
pub(super) async fn held_forms(
    connection: &mut PgConnection,
    id: &CandidateId,
) -> Result<HashSet<BlindIndex>, sqlx::Error> {
    let held = sqlx::query_scalar("SELECT blind FROM identities WHERE candidate_id = $1").bind(id.as_str());
    Ok(held.fetch_all(connection).await?.into_iter().collect())
}

/// Inserts these entries; returns whether all of them were free.
pub(super) async fn has_taken_all(
    connection: &mut PgConnection,
    id: &CandidateId,
    tenant: &str,
    forms: &[IndexForm],
) -> Result<bool, TxError> {
    let wishes = forms.iter().map(|form| IdentityRequest { form, tenant, candidate: id.as_str() }).collect();
    let taken = insert_identities(connection, wishes).await?;
    Ok(taken.get(id.as_str()).copied().unwrap_or(0) == forms.len())
}

/// Releases these entries, as far as they are the candidate's.
pub(super) async fn release_forms(
    connection: &mut PgConnection,
    id: &CandidateId,
    forms: &[IndexForm],
) -> Result<(), TxError> {
    sqlx::query("DELETE FROM identities WHERE candidate_id = $1 AND blind = ANY($2)")
        .bind(id.as_str())
        .bind(forms.iter().map(|form| form.blind).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Inserts new candidates and their look-ups.
pub(super) async fn insert(connection: &mut PgConnection, candidates: &[&CandidateRow]) -> Result<(), TxError> {
    if candidates.is_empty() {
        return Ok(());
    }
    let lookups = || candidates.iter().flat_map(|row| row.lookups.iter().map(move |lookup| (row, lookup)));
    // The reference of a look-up to its candidate is checked at the end of the statement.
    sqlx::query(
        "WITH new AS (
             INSERT INTO candidates (id, tenant, connection, state, created, modified, sealed, photo, group_index)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
                 $7::bytea[], $8::bytea[], $9::bytea[]))
         INSERT INTO lookups (candidate_id, kind, blind, tenant)
         SELECT * FROM unnest($10::text[], $11::text[], $12::bytea[], $13::text[]) ON CONFLICT DO NOTHING",
    )
    .bind(candidates.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.connection.as_str()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.state).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.created).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.modified).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.sealed.as_slice()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.photo.as_deref()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.group.as_slice()).collect::<Vec<_>>())
    .bind(lookups().map(|(row, _)| row.id.as_str()).collect::<Vec<_>>())
    .bind(lookups().map(|(_, lookup)| lookup.kind).collect::<Vec<_>>())
    .bind(lookups().map(|(_, lookup)| lookup.blind).collect::<Vec<_>>())
    .bind(lookups().map(|(row, _)| row.tenant.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Updates candidates. A candidate that is gone stays gone: a late outcome must not restore an erased person.
pub(super) async fn update(connection: &mut PgConnection, candidates: &[&CandidateRow]) -> Result<(), TxError> {
    let updated: HashSet<String> = sqlx::query_scalar(
        "UPDATE candidates AS known SET state = given.state, modified = given.modified, sealed = given.sealed,
             photo = given.photo, group_index = given.group_index
         FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[])
             AS given (id, tenant, state, modified, sealed, photo, group_index)
         WHERE known.id = given.id AND known.tenant = given.tenant RETURNING known.id",
    )
    .bind(candidates.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.state).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.modified).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.sealed.as_slice()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.photo.as_deref()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|row| row.group.as_slice()).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .collect();
    let present: Vec<&CandidateRow> = candidates.iter().copied().filter(|row| updated.contains(&row.id)).collect();
    let changed = with_other_lookups(connection, present).await?;
    if changed.is_empty() {
        return Ok(());
    }
    replace_lookups(connection, &changed).await
}

/// Returns the candidates whose stored look-ups are not those of the row: an outcome rarely changes any. A statement of
/// its own, after the one that locks the candidates, so that it sees the look-ups as they stay.
async fn with_other_lookups<'a>(
    connection: &mut PgConnection,
    candidates: Vec<&'a CandidateRow>,
) -> Result<Vec<&'a CandidateRow>, TxError> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, String, BlindIndex)> =
        sqlx::query_as("SELECT candidate_id, kind, blind FROM lookups WHERE candidate_id = ANY($1)")
            .bind(candidates.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    let mut stored: HashMap<&str, HashSet<(&str, &BlindIndex)>> = HashMap::new();
    for (candidate, kind, blind) in &rows {
        stored.entry(candidate).or_default().insert((kind, blind));
    }
    let is_other = |row: &&CandidateRow| {
        let wanted: HashSet<(&str, &BlindIndex)> = row.lookups.iter().map(|it| (it.kind, &it.blind)).collect();
        stored.get(row.id.as_str()).map_or(!wanted.is_empty(), |stored| *stored != wanted)
    };
    Ok(candidates.into_iter().filter(is_other).collect())
}

async fn replace_lookups(connection: &mut PgConnection, candidates: &[&CandidateRow]) -> Result<(), TxError> {
    let lookups = || candidates.iter().flat_map(|row| row.lookups.iter().map(move |lookup| (row, lookup)));
    sqlx::query(
        "DELETE FROM lookups WHERE candidate_id = ANY($1) AND (candidate_id, kind, blind) NOT IN (
             SELECT * FROM unnest($2::text[], $3::text[], $4::bytea[]))",
    )
    .bind(candidates.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
    .bind(lookups().map(|(row, _)| row.id.as_str()).collect::<Vec<_>>())
    .bind(lookups().map(|(_, lookup)| lookup.kind).collect::<Vec<_>>())
    .bind(lookups().map(|(_, lookup)| lookup.blind).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO lookups (candidate_id, kind, blind, tenant)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[]) ON CONFLICT DO NOTHING",
    )
    .bind(lookups().map(|(row, _)| row.id.as_str()).collect::<Vec<_>>())
    .bind(lookups().map(|(_, lookup)| lookup.kind).collect::<Vec<_>>())
    .bind(lookups().map(|(_, lookup)| lookup.blind).collect::<Vec<_>>())
    .bind(lookups().map(|(row, _)| row.tenant.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
