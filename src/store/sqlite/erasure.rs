//! Erasure of a candidate while another one has the same identity in another spelling: an earlier version registered the
//! two spellings as two people. The other one keeps its bookings and takes over the identity.

use crate::domain::candidate::{Candidate, CandidateState, Identity, IdentityKind};
use crate::store::StoreError;
use crate::store::codec::OtherHolder;
use crate::store::sql::{self, values};
use crate::store::sqlite::write_context::WriteContext;
use crate::store::sqlite::{query, reindex, statements};

/// Returns the candidates, of all tenants, that have an identity of this one at its connection.
pub(super) fn other_holders(tx: &WriteContext<'_>, erased: &Candidate) -> Result<Vec<OtherHolder>, StoreError> {
    let WriteContext { connection, records, .. } = tx;
    let has_former: Vec<(bool,)> = statements::select(connection, sql::HAS_FORMER_SPELLINGS, &values![])?;
    if has_former != [(true,)] {
        return Ok(Vec::new());
    }
    let tenants: Vec<(String,)> = statements::select(connection, sql::TENANTS, &values![])?;
    let mut others = Vec::new();
    for identity in Identity::of(&erased.person, IdentityKind::ALL) {
        for (tenant,) in &tenants {
            let found = query::candidates(tx.read(), tenant, Some(&erased.connection), &identity)?;
            for row in found.into_iter().filter(|row| row.id != erased.id.as_str()) {
                // The vendor does not have a person it rejected.
                if records.candidate(&row).is_ok_and(|other| other.state == CandidateState::Failed) {
                    continue;
                }
                others.push(OtherHolder { identity: identity.clone(), tenant: tenant.clone(), id: row.id });
            }
        }
    }
    Ok(others)
}

/// Lets the others take over what the erased candidate held, the oldest first.
pub(super) fn hand_over(tx: &WriteContext<'_>, others: &[OtherHolder]) -> Result<(), StoreError> {
    let mut ids: Vec<&str> = others.iter().map(|other| other.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().try_for_each(|id| reindex::renew_candidate(tx, id))
}
