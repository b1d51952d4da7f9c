//! Statements that read. They return sealed rows and open none, unless documented.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};

use super::candidates::IndexForm;
use super::error::TxError;
use crate::domain::candidate::{Candidate, Identity};
use crate::store::codec::{RecordCodec, SealedRow, assignment_state};
use crate::store::encryption::BlindIndex;
use crate::store::{AssignmentFilter, MAX_INTENT_BYTES, Page, UnsettledCount};

type Read<T> = Result<T, sqlx::Error>;

/// Text that sorts after every id.
const AFTER_ALL: &str = "~";

/// Checks that the schema can be read.
pub(super) async fn ping(pool: &PgPool) -> Read<()> {
    sqlx::query("SELECT count(*) FROM keys").execute(pool).await.map(|_| ())
}

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
    rows.bind(tenant).bind(ids).fetch_all(pool).await?.iter().map(with_photo).collect()
}

/// As [`candidates_by_id`], without pictures; opens each candidate before it reads the next.
pub(super) async fn candidates_without_photos(
    pool: &PgPool,
    records: &RecordCodec,
    tenant: &str,
    ids: &[String],
) -> Result<Vec<Candidate>, TxError> {
    let mut rows = sqlx::query(
        "SELECT id, tenant, connection, sealed FROM unnest($2::text[]) WITH ORDINALITY AS wanted (id, place)
         JOIN candidates USING (id) WHERE tenant = $1 ORDER BY place",
    )
    .bind(tenant)
    .bind(ids)
    .fetch(pool);
    let mut found = Vec::with_capacity(ids.len());
    while let Some(row) = rows.try_next().await? {
        found.push(records.candidate_without_photo(&sealed_row(&row)?)?);
    }
    Ok(found)
}

pub(super) async fn candidate(pool: &PgPool, tenant: &str, id: &str) -> Read<Option<SealedRow>> {
    let row = sqlx::query("SELECT id, tenant, connection, sealed, photo FROM candidates WHERE id = $1 AND tenant = $2");
    row.bind(id).bind(tenant).fetch_optional(pool).await?.as_ref().map(with_photo).transpose()
}

/// Returns the tenant's candidates with this identity, either in their record or claimed.
pub(super) async fn candidates(
    pool: &PgPool,
    records: &RecordCodec,
    tenant: &str,
    at: Option<&str>,
    identity: &Identity,
) -> Read<Vec<SealedRow>> {
    let (kind, _) = identity.parts();
    let names = match at {
        Some(at) => vec![at.to_owned()],
        None => connections(pool).await?,
    };
    let claimed = || {
        names.iter().flat_map(|name| records.identity_forms(name, identity).into_iter().map(move |form| (name, form)))
    };
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT candidate_id FROM lookups WHERE tenant = $1 AND kind = $2 AND blind = ANY($3)
         UNION
         SELECT candidate_id FROM unnest($4::text[], $5::bytea[]) AS wanted (connection, blind)
             JOIN identities USING (connection, blind) WHERE kind = $2 AND tenant = $1",
    )
    .bind(tenant)
    .bind(kind)
    .bind(records.lookup_forms(tenant, identity))
    .bind(claimed().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
    .bind(claimed().map(|(_, form)| form).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let ids: Vec<String> = ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut found = candidates_by_id(pool, tenant, &ids).await?;
    found.retain(|row| at.is_none_or(|at| row.connection == at));
    Ok(found)
}

/// Returns every connection that has identities: one index step per connection, whereas `DISTINCT` would scan the whole
/// primary key.
async fn connections(pool: &PgPool) -> Read<Vec<String>> {
    sqlx::query_scalar(
        "WITH RECURSIVE step (name) AS (
             SELECT min(connection) FROM identities
             UNION ALL
             SELECT (SELECT min(connection) FROM identities WHERE connection > name) FROM step WHERE name IS NOT NULL
         )
         SELECT name FROM step WHERE name IS NOT NULL",
    )
    .fetch_all(pool)
    .await
}

/// Returns whether a candidate of another tenant holds one of these identities.
pub(super) async fn identities_of_other_tenants(pool: &PgPool, tenant: &str, forms: &[IndexForm]) -> Read<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT 1 FROM unnest($1::text[], $2::text[], $3::bytea[]) AS wanted (connection, kind, blind)
             JOIN identities USING (connection, kind, blind) WHERE tenant <> $4)",
    )
    .bind(forms.iter().map(|form| form.connection.as_str()).collect::<Vec<_>>())
    .bind(forms.iter().map(|form| form.kind).collect::<Vec<_>>())
    .bind(forms.iter().map(|form| form.blind).collect::<Vec<_>>())
    .bind(tenant)
    .fetch_one(pool)
    .await
}

pub(super) async fn assignment(pool: &PgPool, tenant: &str, id: &str) -> Read<Option<SealedRow>> {
    let row = sqlx::query("SELECT id, tenant, connection, sealed FROM assignments WHERE id = $1 AND tenant = $2");
    row.bind(id).bind(tenant).fetch_optional(pool).await?.as_ref().map(sealed_row).transpose()
}

pub(super) async fn assignments_by_id(pool: &PgPool, tenant: &str, ids: &[String]) -> Read<Vec<SealedRow>> {
    let rows = sqlx::query("SELECT id, tenant, connection, sealed FROM assignments WHERE id = ANY($2) AND tenant = $1");
    sealed(&rows.bind(tenant).bind(ids).fetch_all(pool).await?)
}

/// Returns the tenant's assignments of a subject in any of its forms, newest first.
pub(super) async fn bookings(pool: &PgPool, tenant: &str, at: &str, subject: &[BlindIndex]) -> Read<Vec<SealedRow>> {
    let rows = sqlx::query(
        "SELECT id, tenant, connection, sealed FROM assignments
         WHERE connection = $1 AND subject = ANY($2) AND tenant = $3 ORDER BY id DESC",
    );
    sealed(&rows.bind(at).bind(subject).bind(tenant).fetch_all(pool).await?)
}

/// Returns whether any tenant has an assignment of a subject in any of its forms.
pub(super) async fn subject_known(pool: &PgPool, at: &str, subject: &[BlindIndex]) -> Read<bool> {
    let known = "SELECT EXISTS (SELECT 1 FROM assignments WHERE connection = $1 AND subject = ANY($2))";
    sqlx::query_scalar(known).bind(at).bind(subject).fetch_one(pool).await
}

/// Returns a page of the tenant's assignments, newest first: ids are in order of creation (UUID version 7).
///
/// There are two statements because one plan does not suit both: a candidate has few assignments, a tenant has many.
pub(super) async fn assignments(
    pool: &PgPool,
    tenant: &str,
    filter: &AssignmentFilter,
    unlinked: &[BlindIndex],
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
                   SELECT id FROM assignments WHERE candidate_id = $7
                   UNION SELECT id FROM assignments WHERE connection = $8 AND person IS NOT NULL AND person = ANY($9))
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
            let at = of.known_as.as_ref().map(|(connection, _)| connection.as_str());
            query.bind(of.id.as_str()).bind(at).bind(unlinked)
        }
    };
    sealed(&query.fetch_all(pool).await?)
}

/// Returns candidates that are gone while assignments still name them.
pub(super) async fn half_erased(pool: &PgPool, after: &str, limit: usize) -> Read<Vec<String>> {
    let gone = sqlx::query_scalar(
        "SELECT DISTINCT candidate_id FROM assignments AS booked
         WHERE candidate_id > $1 AND NOT EXISTS (SELECT 1 FROM candidates WHERE id = booked.candidate_id)
         ORDER BY candidate_id LIMIT $2",
    );
    gone.bind(after).bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(pool).await
}

pub(super) async fn intent(pool: &PgPool, record: &str) -> Read<Option<SealedRow>> {
    let row = sqlx::query("SELECT record, tenant, connection, sealed FROM intents WHERE record = $1");
    row.bind(record).fetch_optional(pool).await?.as_ref().map(sealed_row).transpose()
}

/// Returns the open intents of a subject in any of its forms, oldest first.
pub(super) async fn intents_of(pool: &PgPool, subject: &[BlindIndex]) -> Read<Vec<SealedRow>> {
    let rows = sqlx::query(
        "SELECT record, tenant, connection, sealed FROM intents WHERE subject = ANY($1) ORDER BY started, record",
    );
    sealed(&rows.bind(subject).fetch_all(pool).await?)
}

/// Returns a connection's open intents that change a program's employees, oldest first; an index supports the query.
pub(super) async fn enrolment_intents(pool: &PgPool, at: &str) -> Read<Vec<SealedRow>> {
    let rows = sqlx::query(
        "SELECT record, tenant, connection, sealed FROM intents
         WHERE connection = $1 AND operation = 'programs.employees' ORDER BY started, record",
    );
    sealed(&rows.bind(at).fetch_all(pool).await?)
}

/// Returns due open intents that no instance is sending, the longest due first.
pub(super) async fn due_intents(
    pool: &PgPool,
    at: &str,
    (now, horizon): (i64, i64),
    limit: usize,
) -> Read<Vec<SealedRow>> {
    let rows = sqlx::query(
        "WITH part AS (
             SELECT record, due, octet_length(sealed) AS bytes FROM intents
             WHERE connection = $1 AND owner IS NULL AND due IS NOT NULL AND (due <= $2 OR due > $3)
             ORDER BY due LIMIT $4
         ), measured AS (SELECT record, due, sum(bytes) OVER (ORDER BY due, record) - bytes AS before FROM part)
         SELECT record, tenant, connection, sealed FROM measured JOIN intents USING (record)
         WHERE before < $5 ORDER BY measured.due, record",
    );
    let (rows, limit) = (rows.bind(at).bind(now).bind(horizon), i64::try_from(limit).unwrap_or(i64::MAX));
    sealed(&rows.bind(limit).bind(bytes(MAX_INTENT_BYTES)).fetch_all(pool).await?)
}

/// Returns the most recently recorded time at which the database was in use.
pub(super) async fn remembered_time(pool: &PgPool) -> Read<Option<Timestamp>> {
    let seen: Option<i64> = sqlx::query_scalar("SELECT seen FROM clock").fetch_optional(pool).await?;
    Ok(seen.and_then(|seen| Timestamp::from_microsecond(seen).ok()))
}

/// Returns open intents that an instance was sending when it ended.
pub(super) async fn orphans(pool: &PgPool, limit: usize) -> Read<Vec<SealedRow>> {
    let rows = sqlx::query(
        "WITH part AS (
             SELECT record, started, octet_length(sealed) AS bytes FROM intents
             WHERE owner IN (SELECT id FROM instances WHERE ended) ORDER BY started, record LIMIT $1
         ), measured AS (SELECT record, started, sum(bytes) OVER (ORDER BY started, record) - bytes AS before FROM part)
         SELECT record, tenant, connection, sealed FROM measured JOIN intents USING (record)
         WHERE before < $2 ORDER BY measured.started, record",
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    sealed(&rows.bind(limit).bind(bytes(MAX_INTENT_BYTES)).fetch_all(pool).await?)
}

/// Returns open intents that this instance is sending, ordered by record, after this one.
pub(super) async fn own_intents(pool: &PgPool, instance: &str, after: &str, limit: usize) -> Read<Vec<SealedRow>> {
    let rows = sqlx::query(
        "WITH part AS (
             SELECT record, octet_length(sealed) AS bytes FROM intents
             WHERE owner = $1 AND record > $2 ORDER BY record LIMIT $3
         ), measured AS (SELECT record, sum(bytes) OVER (ORDER BY record) - bytes AS before FROM part)
         SELECT record, tenant, connection, sealed FROM measured JOIN intents USING (record)
         WHERE before < $4 ORDER BY record",
    );
    let (rows, limit) = (rows.bind(instance).bind(after), i64::try_from(limit).unwrap_or(i64::MAX));
    sealed(&rows.bind(limit).bind(bytes(MAX_INTENT_BYTES)).fetch_all(pool).await?)
}

/// Counts open intents that no instance is sending.
pub(super) async fn unsettled(pool: &PgPool) -> Read<Vec<UnsettledCount>> {
    let rows = sqlx::query(
        "SELECT connection, operation, count(*) FROM intents WHERE owner IS NULL GROUP BY connection, operation",
    );
    let unsettled = |row: PgRow| {
        let count = u64::try_from(row.try_get::<i64, _>(2)?).unwrap_or(0);
        Ok(UnsettledCount { connection: row.try_get(0)?, operation: row.try_get(1)?, count })
    };
    rows.fetch_all(pool).await?.into_iter().map(unsettled).collect()
}

/// Converts a number of bytes to the type of the server.
pub(super) fn bytes(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

fn sealed(rows: &[PgRow]) -> Read<Vec<SealedRow>> {
    rows.iter().map(sealed_row).collect()
}

pub(super) fn sealed_row(row: &PgRow) -> Read<SealedRow> {
    let (id, tenant, connection, sealed) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    Ok(SealedRow { id, tenant, connection, sealed, photo: None })
}

fn with_photo(row: &PgRow) -> Read<SealedRow> {
    Ok(SealedRow { photo: row.try_get(4)?, ..sealed_row(row)? })
}
