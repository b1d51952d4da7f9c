//! Statements that read. They return sealed rows and open none, unless documented.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, PgPool};

use super::candidates::{self, HeldBy, IdentityForms, IndexForm};
use super::error::TxError;
use super::statements;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::CandidateId;
use crate::store::codec::{RecordCodec, SealedRow, assignment_state};
use crate::store::columns::{FromColumns as _, RowWithPhoto};
use crate::store::encryption::BlindIndex;
use crate::store::sql::{self, AFTER_ALL, values};
use crate::store::{AssignmentFilter, Page};

type Read<T> = Result<T, sqlx::Error>;

/// Size of what [`write_probe`] writes.
pub(super) const PROBE_BYTES: usize = 32_000;

/// Checks that there is space for a write of ordinary size.
pub(super) async fn write_probe(connection: &mut PgConnection) -> Result<(), TxError> {
    sqlx::query(
        "INSERT INTO probe (id, filler) SELECT 1, string_agg(md5(random()::text), '') FROM generate_series(1, 1000)
         ON CONFLICT (id) DO UPDATE SET filler = excluded.filler",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the tenant's candidates with these ids, in the order of the ids.
pub(super) async fn candidates_by_id(pool: &PgPool, tenant: &str, ids: &[String]) -> Read<Vec<SealedRow>> {
    let rows = sqlx::query(
        "SELECT id, tenant, connection, sealed, photo FROM unnest($2::text[]) WITH ORDINALITY AS wanted (id, place)
         JOIN candidates USING (id) WHERE tenant = $1 ORDER BY place",
    );
    let rows = rows.bind(tenant).bind(ids).fetch_all(pool).await?;
    rows.iter().map(|row| Ok(RowWithPhoto::from_columns(row)?.0)).collect()
}

/// Returns the tenant's candidates with these ids without their pictures; opens each before it reads the next.
pub(super) async fn candidates_without_photos(
    pool: &PgPool,
    records: &RecordCodec,
    tenant: &str,
    ids: &[String],
) -> Result<Vec<Candidate>, TxError> {
    let values = values![tenant, ids];
    let mut rows = statements::bound(sql::CANDIDATES_WITHOUT_PHOTO, &values).fetch(pool);
    let mut found = Vec::with_capacity(ids.len());
    while let Some(row) = rows.try_next().await? {
        found.push(records.candidate_without_photo(&SealedRow::from_columns(&row)?)?);
    }
    Ok(found)
}

/// Returns the tenant's candidates with this identity, either in their record or claimed.
pub(super) async fn candidates_with_identity(
    pool: &PgPool,
    records: &RecordCodec,
    tenant: &str,
    at: Option<&str>,
    identity: &Identity,
) -> Read<Vec<SealedRow>> {
    let (kind, _) = identity.parts();
    let names = match at {
        Some(at) => vec![at.to_owned()],
        None => statements::select(pool, sql::CONNECTIONS, &[]).await?.into_iter().map(|(name,)| name).collect(),
    };
    let claimed = || {
        names.iter().flat_map(|name| records.identity_forms(name, identity).into_iter().map(move |form| (name, form)))
    };
    let found = records.lookup_forms(tenant, identity);
    // By joins only: a condition on tenant or kind alone would be enough for the server to read all of them.
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT candidate_id FROM unnest($1::text[], $2::text[], $3::bytea[]) AS wanted (tenant, kind, blind)
             JOIN lookups USING (tenant, kind, blind)
         UNION
         SELECT candidate_id FROM unnest($4::text[], $5::text[], $6::bytea[]) AS wanted (connection, kind, blind)
             JOIN identities USING (connection, kind, blind) WHERE tenant = $7",
    )
    .bind(vec![tenant; found.len()])
    .bind(vec![kind; found.len()])
    .bind(&found)
    .bind(claimed().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
    .bind(claimed().map(|_| kind).collect::<Vec<_>>())
    .bind(claimed().map(|(_, form)| form).collect::<Vec<_>>())
    .bind(tenant)
    .fetch_all(pool)
    .await?;
    let ids: Vec<String> = ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut found = candidates_by_id(pool, tenant, &ids).await?;
    found.retain(|row| at.is_none_or(|at| row.connection == at));
    Ok(found)
}

/// Returns the ids of the candidates at the connection, of all tenants, with one of these identities.
pub(super) async fn people_with(
    connection: &mut PgConnection,
    records: &RecordCodec,
    at: &str,
    identities: &[Identity],
) -> Read<Vec<String>> {
    let tenants: Vec<(String,)> = statements::select(&mut *connection, sql::TENANTS, &[]).await?;
    let mut claimed: Vec<(&str, BlindIndex)> = Vec::new();
    let mut found: Vec<(&str, &str, BlindIndex)> = Vec::new();
    for identity in identities {
        let (kind, _) = identity.parts();
        claimed.extend(records.identity_forms(at, identity).into_iter().map(|form| (kind, form)));
        for (tenant,) in &tenants {
            let forms = records.lookup_forms(tenant, identity).into_iter();
            found.extend(forms.map(|form| (tenant.as_str(), kind, form)));
        }
    }
    sqlx::query_scalar(
        "SELECT candidate_id FROM unnest($1::text[], $2::text[], $3::bytea[]) AS wanted (tenant, kind, blind)
             JOIN lookups USING (tenant, kind, blind) JOIN candidates c ON c.id = candidate_id WHERE c.connection = $4
         UNION
         SELECT candidate_id FROM unnest($5::text[], $6::text[], $7::bytea[]) AS wanted (connection, kind, blind)
             JOIN identities USING (connection, kind, blind)",
    )
    .bind(found.iter().map(|(tenant, ..)| *tenant).collect::<Vec<_>>())
    .bind(found.iter().map(|(_, kind, _)| *kind).collect::<Vec<_>>())
    .bind(found.iter().map(|(.., form)| *form).collect::<Vec<_>>())
    .bind(at)
    .bind(vec![at; claimed.len()])
    .bind(claimed.iter().map(|(kind, _)| *kind).collect::<Vec<_>>())
    .bind(claimed.iter().map(|(_, form)| *form).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
}

/// Returns the candidates at the connection, of all tenants, with one of these identities, without their pictures.
pub(super) async fn candidates_at(
    pool: &PgPool,
    records: &RecordCodec,
    at: &str,
    identities: &[Identity],
) -> Result<Vec<Candidate>, TxError> {
    let ids = people_with(&mut *pool.acquire().await?, records, at, identities).await?;
    let rows = sqlx::query("SELECT id, tenant, connection, sealed FROM candidates WHERE id = ANY($1) ORDER BY id");
    let rows = rows.bind(ids).fetch_all(pool).await?;
    let open = |row| Ok(records.candidate_without_photo(&SealedRow::from_columns(row)?)?);
    rows.iter().map(open).collect()
}

/// Returns whether a candidate of another tenant holds one of these identities.
pub(super) async fn identities_of_other_tenants(
    pool: &PgPool,
    tenant: &str,
    identities: &[IdentityForms],
) -> Read<bool> {
    let forms: Vec<&IndexForm> = identities.iter().flat_map(IdentityForms::all).collect();
    let holders = candidates::holders(pool, &forms).await?;
    Ok(identities.iter().any(|identity| matches!(identity.held_by(tenant, &holders), HeldBy::OtherTenant)))
}

/// Returns a page of the tenant's assignments, newest first: ids are in order of creation (UUID version 7).
///
/// There are two statements because one plan does not suit both: a candidate has few assignments, a tenant has many.
pub(super) async fn assignments(
    pool: &PgPool,
    tenant: &str,
    filter: &AssignmentFilter,
    unlinked: &[(String, BlindIndex)],
    page: &Page,
) -> Read<Vec<SealedRow>> {
    let AssignmentFilter { candidate, assessment, connection, state } = filter;
    // No stored text contains a NUL, which the server would reject as an error.
    let texts = [connection, &page.after];
    if texts.into_iter().flatten().chain(assessment).any(|text| text.contains('\0')) {
        return Ok(Vec::new());
    }
    let query = match candidate {
        None => sqlx::query(
            "SELECT id, tenant, connection, sealed FROM assignments
             WHERE tenant = $1 AND id < $2 AND ($3::text[] = '{}' OR assessment_ref = ANY($3) OR assessment = ANY($3))
               AND ($4::text IS NULL OR connection = $4) AND ($5::text IS NULL OR state = $5)
             ORDER BY id DESC LIMIT $6",
        ),
        Some(_) => sqlx::query(
            "SELECT id, tenant, connection, sealed FROM assignments
             WHERE tenant = $1 AND id < $2 AND ($3::text[] = '{}' OR assessment_ref = ANY($3) OR assessment = ANY($3))
               AND ($4::text IS NULL OR connection = $4) AND ($5::text IS NULL OR state = $5)
               AND id IN (
                   SELECT id FROM assignments WHERE candidate_id = ANY($7)
                   UNION SELECT booked.id FROM unnest($8::text[], $9::bytea[]) AS known (connection, person)
                       JOIN assignments AS booked USING (connection, person) WHERE booked.person IS NOT NULL)
             ORDER BY id DESC LIMIT $6",
        ),
    };
    let query = query
        .bind(tenant)
        .bind(page.after.as_deref().unwrap_or(AFTER_ALL))
        .bind(assessment)
        .bind(connection)
        .bind(state.map(assignment_state))
        .bind(i64::try_from(page.limit).unwrap_or(i64::MAX));
    let query = match candidate {
        None => query,
        Some(of) => {
            let (at, forms): (Vec<&str>, Vec<BlindIndex>) =
                unlinked.iter().map(|(connection, form)| (connection.as_str(), *form)).unzip();
            query.bind(of.ids.iter().map(CandidateId::as_str).collect::<Vec<_>>()).bind(at).bind(forms)
        }
    };
    query.fetch_all(pool).await?.iter().map(SealedRow::from_columns).collect()
}

/// Converts a number of bytes to the type of the server.
pub(super) fn bytes(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}
