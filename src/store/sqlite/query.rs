//! Statements that read. They return sealed rows and open none, unless documented.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use crate::domain::candidate::{Candidate, Identity};
use crate::store::codec::{SealedRow, assignment_state};
use crate::store::columns::RowWithPhoto;
use crate::store::encryption::BlindIndex;
use crate::store::sql::{self, values};
use crate::store::sqlite::identities::{holders, own_holders};
use crate::store::sqlite::late_index::{Source, find};
use crate::store::sqlite::read_context::ReadContext;
use crate::store::sqlite::statements;
use crate::store::{AssignmentFilter, CandidateSelector, Page, StoreError};

/// Checks that there is space for a write of ordinary size.
pub(super) fn write_probe(connection: &Connection) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO probe (id, filler) VALUES (1, randomblob(32768))";
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Returns the tenant's candidates with these ids without their pictures; opens each before it reads the next.
pub(super) fn candidates_without_photos(
    read: ReadContext<'_>,
    tenant: &str,
    ids: &[String],
) -> Result<Vec<Candidate>, StoreError> {
    let open = |row: SealedRow| read.records.candidate_without_photo(&row);
    statements::select_map(read.connection, sql::CANDIDATES_WITHOUT_PHOTO, &values![tenant, ids], open)
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
        let rows: Vec<RowWithPhoto> = statements::select(connection, sql::CANDIDATE, &values![id, tenant])?;
        found.extend(
            rows.into_iter().map(|RowWithPhoto(row)| row).filter(|row| at.is_none_or(|at| row.connection == at)),
        );
    }
    Ok(found)
}

/// Returns the tenant's candidates with this identity, either in their record or claimed; a claimed identity has no
/// look-up.
pub(super) fn candidates(
    read: ReadContext<'_>,
    tenant: &str,
    at: Option<&str>,
    identity: &Identity,
) -> Result<Vec<SealedRow>, StoreError> {
    let connection = read.connection;
    let mut ids = looked_up(read, tenant, identity)?;
    let connections = match at {
        Some(at) => vec![at.to_owned()],
        None => statements::select(connection, sql::CONNECTIONS, &[])?.into_iter().map(|(name,)| name).collect(),
    };
    for name in connections {
        let held = holders(read, &name, identity)?;
        ids.extend(held.into_iter().filter(|holder| holder.tenant == tenant).map(|holder| holder.candidate));
    }
    ids.sort_unstable();
    ids.dedup();
    candidates_by_id(connection, tenant, at, &ids)
}

/// Returns the tenant's candidates with a look-up of this identity.
fn looked_up(read: ReadContext<'_>, tenant: &str, identity: &Identity) -> Result<Vec<String>, StoreError> {
    let ReadContext { connection, entries, records } = read;
    let (kind, _) = identity.parts();
    let mut ids: Vec<String> = Vec::new();
    for form in records.lookup_forms(tenant, identity) {
        let sql = "SELECT candidate_id, tenant, kind FROM lookups WHERE id = ?1 AND blind = ?2";
        let found = find(connection, entries, Source::Lookup, &form, sql, |row| {
            let is_same = row.get_ref(1)?.as_str()? == tenant && row.get_ref(2)?.as_str()? == kind;
            Ok((is_same, row.get(0)?))
        })?;
        ids.extend(found.into_iter().filter(|(is_same, _)| *is_same).map(|(_, id)| id));
    }
    Ok(ids)
}

/// Returns the ids of the candidates at the connection, of all tenants, with this identity.
pub(super) fn people_with(read: ReadContext<'_>, at: &str, identity: &Identity) -> Result<Vec<String>, StoreError> {
    let tenants: Vec<(String,)> = statements::select(read.connection, sql::TENANTS, &[])?;
    people_of(read, &tenants, at, identity)
}

fn people_of(
    read: ReadContext<'_>,
    tenants: &[(String,)],
    at: &str,
    identity: &Identity,
) -> Result<Vec<String>, StoreError> {
    let mut ids: Vec<String> = holders(read, at, identity)?.into_iter().map(|holder| holder.candidate).collect();
    for (tenant,) in tenants {
        ids.extend(looked_up(read, tenant, identity)?);
    }
    ids.sort_unstable();
    ids.dedup();
    let mut is_here = read.connection.prepare_cached("SELECT 1 FROM candidates WHERE id = ?1 AND connection = ?2")?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        if is_here.exists(params![id, at])? {
            found.push(id);
        }
    }
    Ok(found)
}

/// Returns the candidates at the connection, of all tenants, with one of these identities, without their pictures.
pub(super) fn candidates_at(
    read: ReadContext<'_>,
    at: &str,
    identities: &[Identity],
) -> Result<Vec<Candidate>, StoreError> {
    let tenants: Vec<(String,)> = statements::select(read.connection, sql::TENANTS, &[])?;
    let mut ids: Vec<String> = Vec::new();
    for identity in identities {
        ids.extend(people_of(read, &tenants, at, identity)?);
    }
    ids.sort_unstable();
    ids.dedup();
    let mut one =
        read.connection.prepare_cached("SELECT id, tenant, connection, sealed FROM candidates WHERE id = ?1")?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        // It may be gone since.
        let row: Option<SealedRow> = one.query_row([id], statements::row).optional()?;
        found.extend(row.map(|row| read.records.candidate_without_photo(&row)).transpose()?);
    }
    Ok(found)
}

/// Returns whether a candidate of another tenant holds one of these identities at the connection, under any key.
pub(super) fn identities_of_other_tenants(
    read: ReadContext<'_>,
    tenant: &str,
    at: &str,
    identities: &[Identity],
) -> Result<bool, StoreError> {
    for identity in identities {
        if own_holders(read, tenant, at, identity)?.is_none() {
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
    unlinked: &[(String, BlindIndex)],
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
    let rows = statement.query_map(params_from_iter(values), statements::row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Builds the beginning of a query for a person's assignments. A cross join fixes the join order: it starts from the
/// few ids found instead of scanning all assignments of the tenant.
fn of_candidate(of: &CandidateSelector, unlinked: &[(String, BlindIndex)]) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = of.ids.iter().map(|id| Value::from(id.to_string())).collect();
    let mut found = format!("SELECT id FROM assignments WHERE candidate_id IN ({})", marks(of.ids.len()));
    if !unlinked.is_empty() {
        let forms = vec!["(?, ?)"; unlinked.len()].join(", ");
        found.push_str(
            " UNION SELECT id FROM assignments WHERE person IS NOT NULL AND (connection, person) IN (VALUES ",
        );
        found.push_str(&forms);
        found.push(')');
        values.extend(unlinked.iter().flat_map(|(at, form)| [Value::from(at.clone()), Value::from(form.to_vec())]));
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
    let mut found = by_id.query_map([id], statements::row)?.collect::<Result<Vec<_>, _>>()?;
    let mut by_person = connection.prepare_cached(
        "SELECT id, tenant, connection, sealed FROM assignments WHERE connection = ?1 AND person = ?2 AND tenant = ?3",
    )?;
    if let Some((at, tenant, forms)) = unlinked {
        for form in forms {
            for row in by_person.query_map(params![at, form, tenant], statements::row)? {
                found.push(row?);
            }
        }
    }
    Ok(found)
}
