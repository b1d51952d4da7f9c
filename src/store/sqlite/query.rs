//! Statements that read. They return sealed rows and open none, unless documented.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::domain::candidate::{Candidate, Identity};
use crate::store::codec::{RecordCodec, SealedRow, assignment_state};
use crate::store::encryption::BlindIndex;
use crate::store::{AssignmentFilter, CandidateSelector, MAX_INTENT_BYTES, Page, StoreError, UnsettledCount};

/// Checks that the schema can be read.
pub(super) fn ping(connection: &Connection) -> Result<(), StoreError> {
    connection.prepare_cached("SELECT count(*) FROM keys")?.query_row([], |_| Ok(()))?;
    Ok(())
}

/// Checks that there is space for a write of ordinary size.
pub(super) fn write_probe(connection: &Connection) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO probe (id, filler) VALUES (1, randomblob(32768))";
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

pub(super) fn candidate(connection: &Connection, tenant: &str, id: &str) -> Result<Option<SealedRow>, StoreError> {
    let sql = "SELECT id, tenant, connection, sealed, photo FROM candidates WHERE id = ?1 AND tenant = ?2";
    let row = |row: &Row<'_>| Ok(SealedRow { photo: row.get(4)?, ..sealed_row(row)? });
    Ok(connection.prepare_cached(sql)?.query_row([id, tenant], row).optional()?)
}

/// Returns the tenant's candidates with these ids, in the order of the ids, without pictures; opens each candidate
/// before it reads the next.
pub(super) fn candidates_without_photos(
    connection: &Connection,
    records: &RecordCodec,
    tenant: &str,
    ids: &[String],
) -> Result<Vec<Candidate>, StoreError> {
    let sql = "SELECT id, tenant, connection, sealed FROM candidates WHERE id = ?1 AND tenant = ?2";
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let row = one(connection, sql, [id.as_str(), tenant])?;
        found.extend(row.map(|row| records.candidate_without_photo(&row)).transpose()?);
    }
    Ok(found)
}

/// Returns the tenant's candidates with these ids, at this connection or all, in the order of the ids.
pub(super) fn candidates_by_id(
    connection: &Connection,
    tenant: &str,
    at: Option<&str>,
    ids: &[String],
) -> Result<Vec<SealedRow>, StoreError> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(candidate(connection, tenant, id)?.filter(|row| at.is_none_or(|at| row.connection == at)));
    }
    Ok(found)
}

/// Returns the tenant's candidates with this identity, either in their record or claimed; a claimed identity has no
/// look-up.
pub(super) fn candidates(
    connection: &Connection,
    records: &RecordCodec,
    tenant: &str,
    at: Option<&str>,
    identity: &Identity,
) -> Result<Vec<SealedRow>, StoreError> {
    let (kind, _) = identity.parts();
    let mut ids: Vec<String> = Vec::new();
    let mut by_record =
        connection.prepare_cached("SELECT candidate_id FROM lookups WHERE tenant = ?1 AND kind = ?2 AND blind = ?3")?;
    for form in records.lookup_forms(tenant, identity) {
        for id in by_record.query_map(params![tenant, kind, form], |row| row.get(0))? {
            ids.push(id?);
        }
    }
    let mut by_claim = connection.prepare_cached(
        "SELECT candidate_id FROM identities WHERE connection = ?1 AND kind = ?2 AND blind = ?3 AND tenant = ?4",
    )?;
    let connections = match at {
        Some(at) => vec![at.to_owned()],
        None => connections(connection)?,
    };
    for name in connections {
        for form in records.identity_forms(&name, identity) {
            ids.extend(by_claim.query_row(params![name, kind, form, tenant], |row| row.get(0)).optional()?);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    candidates_by_id(connection, tenant, at, &ids)
}

/// Returns every connection that has identities: one index step per connection, whereas `DISTINCT` would scan the whole
/// primary key.
fn connections(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached(
        "WITH RECURSIVE step (name) AS (
             SELECT min(connection) FROM identities
             UNION ALL
             SELECT (SELECT min(connection) FROM identities WHERE connection > name) FROM step WHERE name IS NOT NULL
         )
         SELECT name FROM step WHERE name IS NOT NULL",
    )?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// Returns whether a candidate of another tenant holds one of these identities at the connection, under any key.
pub(super) fn identities_of_other_tenants(
    connection: &Connection,
    records: &RecordCodec,
    tenant: &str,
    at: &str,
    identities: &[Identity],
) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM identities WHERE connection = ?1 AND kind = ?2 AND blind = ?3 AND tenant <> ?4",
    )?;
    for identity in identities {
        let (kind, _) = identity.parts();
        for form in records.identity_forms(at, identity) {
            if statement.exists(params![at, kind, form, tenant])? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

pub(super) fn assignment(connection: &Connection, tenant: &str, id: &str) -> Result<Option<SealedRow>, StoreError> {
    one(
        connection,
        "SELECT id, tenant, connection, sealed FROM assignments WHERE id = ?1 AND tenant = ?2",
        [id, tenant],
    )
}

pub(super) fn assignments_by_id(
    connection: &Connection,
    tenant: &str,
    ids: &[String],
) -> Result<Vec<SealedRow>, StoreError> {
    let found = ids.iter().map(|id| assignment(connection, tenant, id));
    Ok(found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Returns the tenant's assignments of a subject in any of its forms, newest first.
pub(super) fn bookings(
    connection: &Connection,
    tenant: &str,
    at: &str,
    subject: &[BlindIndex],
) -> Result<Vec<SealedRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, tenant, connection, sealed FROM assignments
         WHERE connection = ?1 AND subject = ?2 AND tenant = ?3",
    )?;
    let mut found: Vec<SealedRow> = Vec::new();
    for form in subject {
        for row in statement.query_map(params![at, form, tenant], sealed_row)? {
            found.push(row?);
        }
    }
    found.sort_unstable_by(|a, b| b.id.cmp(&a.id));
    Ok(found)
}

/// Returns whether any tenant has an assignment of a subject in any of its forms.
pub(super) fn subject_known(connection: &Connection, at: &str, subject: &[BlindIndex]) -> Result<bool, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM assignments WHERE connection = ?1 AND subject = ?2")?;
    for form in subject {
        if statement.exists(params![at, form])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns a page of the tenant's assignments, newest first: ids are in order of creation (UUID version 7).
pub(super) fn assignments(
    connection: &Connection,
    tenant: &str,
    filter: &AssignmentFilter,
    unlinked: &[BlindIndex],
    page: &Page,
) -> Result<Vec<SealedRow>, StoreError> {
    let AssignmentFilter { candidate, assessment, connection: at, state } = filter;
    let (mut sql, mut values) = match candidate {
        None => ("SELECT id, tenant, connection, sealed FROM assignments WHERE tenant = ?".to_owned(), Vec::new()),
        Some(of) => of_candidate(of, unlinked),
    };
    values.push(Value::from(tenant.to_owned()));
    let mut narrow = |clause: &str, texts: &[&str]| {
        sql.push_str(clause);
        values.extend(texts.iter().map(|text| Value::from((*text).to_owned())));
    };
    if !assessment.is_empty() {
        let forms = marks(assessment.len());
        let twice: Vec<&str> = assessment.iter().chain(assessment).map(String::as_str).collect();
        narrow(&format!(" AND (assessment_ref IN ({forms}) OR assessment IN ({forms}))"), &twice);
    }
    if let Some(name) = at {
        narrow(" AND connection = ?", &[name]);
    }
    if let Some(state) = state {
        narrow(" AND state = ?", &[assignment_state(*state)]);
    }
    if let Some(last) = &page.after {
        narrow(" AND id < ?", &[last]);
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    values.push(Value::from(i64::try_from(page.limit).unwrap_or(i64::MAX)));
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), sealed_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Builds the beginning of a query for a candidate's assignments. A cross join fixes the join order: it starts from the
/// few ids found instead of scanning all assignments of the tenant.
fn of_candidate(of: &CandidateSelector, unlinked: &[BlindIndex]) -> (String, Vec<Value>) {
    let mut values = vec![Value::from(of.id.to_string())];
    let mut found = "SELECT id FROM assignments WHERE candidate_id = ?".to_owned();
    if let Some((at, _)) = of.known_as.as_ref().filter(|_| !unlinked.is_empty()) {
        let forms = marks(unlinked.len());
        found.push_str(" UNION SELECT id FROM assignments WHERE connection = ? AND person IN (");
        found.push_str(&forms);
        found.push(')');
        values.push(Value::from(at.clone()));
        values.extend(unlinked.iter().map(|form| Value::from(form.to_vec())));
    }
    let sql = format!(
        "SELECT id, tenant, connection, sealed FROM ({found}) AS found CROSS JOIN assignments USING (id) WHERE tenant = ?"
    );
    (sql, values)
}

/// Returns a list of `count` parameters.
fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// Returns the assignments of a candidate: those that name its id, of any tenant, and those of its tenant and
/// connection that name the person by one of these forms.
pub(super) fn assignments_of(
    connection: &Connection,
    id: &str,
    unlinked: Option<(&str, &str, &[BlindIndex])>,
) -> Result<Vec<SealedRow>, StoreError> {
    let mut by_id =
        connection.prepare_cached("SELECT id, tenant, connection, sealed FROM assignments WHERE candidate_id = ?1")?;
    let mut found = by_id.query_map([id], sealed_row)?.collect::<Result<Vec<_>, _>>()?;
    let mut by_person = connection.prepare_cached(
        "SELECT id, tenant, connection, sealed FROM assignments WHERE connection = ?1 AND person = ?2 AND tenant = ?3",
    )?;
    if let Some((at, tenant, forms)) = unlinked {
        for form in forms {
            for row in by_person.query_map(params![at, form, tenant], sealed_row)? {
                found.push(row?);
            }
        }
    }
    Ok(found)
}

/// Returns candidates that are gone while assignments still name them.
pub(super) fn half_erased(connection: &Connection, after: &str, limit: usize) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT candidate_id FROM assignments AS booked
         WHERE candidate_id IS NOT NULL AND candidate_id > ?1
           AND NOT EXISTS (SELECT 1 FROM candidates WHERE id = booked.candidate_id)
         ORDER BY candidate_id LIMIT ?2",
    )?;
    let ids = statement.query_map(params![after, i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

pub(super) fn intent(connection: &Connection, record: &str) -> Result<Option<SealedRow>, StoreError> {
    one(connection, "SELECT record, tenant, connection, sealed FROM intents WHERE record = ?1", [record])
}

/// Returns the open intents of a subject in any of its forms, oldest first.
pub(super) fn intents_of(connection: &Connection, subject: &[BlindIndex]) -> Result<Vec<SealedRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT record, tenant, connection, sealed FROM intents WHERE subject = ?1 ORDER BY started, record",
    )?;
    let mut found = Vec::new();
    for form in subject {
        for row in statement.query_map([form], sealed_row)? {
            found.push(row?);
        }
    }
    Ok(found)
}

/// Returns a connection's open intents that change a program's employees, oldest first; an index supports the query.
pub(super) fn enrolment_intents(connection: &Connection, at: &str) -> Result<Vec<SealedRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT record, tenant, connection, sealed FROM intents
         WHERE connection = ?1 AND operation = 'programs.employees' ORDER BY started, record",
    )?;
    let rows = statement.query_map([at], sealed_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns due open intents that no instance is sending, the longest due first.
pub(super) fn due_intents(
    connection: &Connection,
    at: &str,
    (now, horizon): (i64, i64),
    limit: usize,
) -> Result<Vec<SealedRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT record, tenant, connection, sealed FROM intents
         WHERE connection = ?1 AND owner IS NULL AND due IS NOT NULL AND (due <= ?2 OR due > ?3) ORDER BY due LIMIT ?4",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    intents_in(statement.query_map(params![at, now, horizon, limit], sealed_row)?)
}

/// Returns the most recently recorded time at which the database was in use.
pub(super) fn remembered_time(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let seen =
        connection.prepare_cached("SELECT seen FROM clock")?.query_row([], |row| row.get::<_, i64>(0)).optional()?;
    Ok(seen.and_then(|seen| Timestamp::from_microsecond(seen).ok()))
}

/// Returns open intents that an instance was sending when it ended.
pub(super) fn orphans(connection: &Connection, limit: usize) -> Result<Vec<SealedRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT record, tenant, connection, sealed FROM intents
         WHERE owner IS NOT NULL AND owner IN (SELECT id FROM instances WHERE ended = 1)
         ORDER BY started, record LIMIT ?1",
    )?;
    intents_in(statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], sealed_row)?)
}

/// Collects intents up to the byte limit of one read.
fn intents_in(rows: impl Iterator<Item = rusqlite::Result<SealedRow>>) -> Result<Vec<SealedRow>, StoreError> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let row = row?;
        bytes += row.sealed.len();
        found.push(row);
        if bytes >= MAX_INTENT_BYTES {
            break;
        }
    }
    Ok(found)
}

/// Returns open intents that this instance is sending, ordered by record, after this one.
pub(super) fn own_intents(
    connection: &Connection,
    instance: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<SealedRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT record, tenant, connection, sealed FROM intents
         WHERE owner = ?1 AND record > ?2 ORDER BY record LIMIT ?3",
    )?;
    intents_in(statement.query_map(params![instance, after, i64::try_from(limit).unwrap_or(i64::MAX)], sealed_row)?)
}

/// Counts open intents that no instance is sending.
pub(super) fn unsettled(connection: &Connection) -> Result<Vec<UnsettledCount>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT connection, operation, count(*) FROM intents WHERE owner IS NULL GROUP BY connection, operation",
    )?;
    let rows = statement.query_map([], |row| {
        let count = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
        Ok(UnsettledCount { connection: row.get(0)?, operation: row.get(1)?, count })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn one(connection: &Connection, sql: &str, keys: impl rusqlite::Params) -> Result<Option<SealedRow>, StoreError> {
    Ok(connection.prepare_cached(sql)?.query_row(keys, sealed_row).optional()?)
}

pub(super) fn sealed_row(row: &Row<'_>) -> rusqlite::Result<SealedRow> {
    let (id, tenant, connection, sealed) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(SealedRow { id, tenant, connection, sealed, photo: None })
}
