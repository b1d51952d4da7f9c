//! Erasure of a candidate while another one has the same identity in another spelling: an earlier version registered the
//! two spellings as two people. The other one keeps its bookings and takes over the identity.

use sqlx::Row as _;

use super::error::TxError;
use super::reindex;
use super::statements;
use super::transaction::WriteContext;
use crate::domain::candidate::{Candidate, Identity, IdentityKind};
use crate::domain::ids::CandidateId;
use crate::store::StoreError;
use crate::store::codec::OtherHolder;
use crate::store::sql::{self, values};

/// Returns the candidates, of all tenants, that have an identity of this one at its connection. This one is deleted.
pub(super) async fn other_holders(tx: &mut WriteContext<'_>, erased: &Candidate) -> Result<Vec<OtherHolder>, TxError> {
    let has_former: Vec<(bool,)> =
        statements::select(&mut *tx.connection, sql::HAS_FORMER_SPELLINGS, &values![]).await?;
    if has_former != [(true,)] {
        return Ok(Vec::new());
    }
    let tenants: Vec<(String,)> = statements::select(&mut *tx.connection, sql::TENANTS, &values![]).await?;
    let mut others = Vec::new();
    for identity in Identity::of(&erased.person, IdentityKind::ALL) {
        let forms = |(tenant,): &(String,)| {
            let forms = tx.records.lookup_forms(tenant, &identity);
            forms.into_iter().map(|form| (tenant.clone(), form)).collect::<Vec<_>>()
        };
        let (of, blinds): (Vec<String>, Vec<_>) = tenants.iter().flat_map(forms).unzip();
        // The vendor does not have a person it rejected.
        let found = sqlx::query(
            "SELECT DISTINCT c.id, c.tenant FROM unnest($1::text[], $2::bytea[]) AS wanted (tenant, blind)
             JOIN lookups l USING (tenant, blind) JOIN candidates c ON c.id = l.candidate_id
             WHERE l.kind = $3 AND c.connection = $4 AND c.state <> 'failed'",
        )
        .bind(of)
        .bind(blinds)
        .bind(identity.kind().as_str())
        .bind(&erased.connection)
        .fetch_all(&mut *tx.connection)
        .await?;
        for row in found {
            others.push(OtherHolder { identity: identity.clone(), id: row.try_get(0)?, tenant: row.try_get(1)? });
        }
    }
    Ok(others)
}

/// Lets the others take over what the erased candidate held, the oldest first.
pub(super) async fn hand_over(tx: &mut WriteContext<'_>, others: &[OtherHolder]) -> Result<(), TxError> {
    let mut ids: Vec<&str> = others.iter().map(|other| other.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let Ok(id) = CandidateId::parse(id) else { continue };
        match reindex::renew(tx, &id).await {
            Ok(_) | Err(TxError::Store(StoreError::Unreadable(_))) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
