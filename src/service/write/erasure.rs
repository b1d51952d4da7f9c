//! Erasure: an erased person no longer appears in any record or response.

use crate::domain::assignment::CandidateKey;
use crate::domain::error::{Code, Error};
use crate::domain::intent::StoredReply;
use crate::service::Gateway;
use crate::service::errors::StoreResultExt as _;
use crate::store::{Mutation, Store};

/// Maximum number of candidates per page.
const PAGE_SIZE: usize = 256;

impl Gateway {
    /// Removes people from assignments whose candidates an earlier version erased. Returns whether it is complete.
    pub(in crate::service) async fn finish_erasures(&self) -> bool {
        let mut last = None;
        loop {
            let erased = match self.0.store.partially_erased_candidates(last.as_ref(), PAGE_SIZE).await {
                Ok(gone) if gone.is_empty() => return true,
                Ok(gone) => {
                    last = gone.last().cloned();
                    self.0.store.commit(gone.into_iter().map(Mutation::EraseCandidate).collect()).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = erased {
                tracing::warn!(%error, "removing erased people from assignments failed; will retry");
                return false;
            }
        }
    }
}

/// Removes from a stored reply a person who was erased since.
pub(in crate::service) async fn redact_erased(
    store: &dyn Store,
    tenant: &str,
    reply: StoredReply,
) -> Result<StoredReply, Error> {
    Ok(match reply {
        StoredReply::Candidate { created, candidate, initial_password } => {
            match store.candidate(tenant, &candidate.id).await.or_not_applied()? {
                Some(_) => StoredReply::Candidate { created, candidate, initial_password },
                None => StoredReply::Candidate {
                    created,
                    candidate: Box::new(candidate.without_person()),
                    initial_password: None,
                },
            }
        }
        StoredReply::Assignment { created, assignment } => {
            let now = store.assignment(tenant, &assignment.id).await.or_not_applied()?;
            match now.map(|now| now.order.candidate) {
                // Only erasure changes how the order names the candidate.
                Some(CandidateKey::Id(id)) if assignment.order.candidate != CandidateKey::Id(id.clone()) => {
                    StoredReply::Assignment { created, assignment: Box::new(assignment.without_person(&id)) }
                }
                _ => StoredReply::Assignment { created, assignment },
            }
        }
        // Of webhooks and their deliveries, nothing is about a person.
        other @ (StoredReply::Gone
        | StoredReply::Enrolled(_)
        | StoredReply::Operation(_)
        | StoredReply::Webhook { .. }
        | StoredReply::Ping(_)
        | StoredReply::Delivery(_)) => other,
    })
}

/// Builds the error of a withdrawal that would need erased data.
pub(in crate::service) fn candidate_erased() -> Error {
    let detail = "The candidate was erased, including the key the vendor knows them by; the booking can no longer be \
                  withdrawn.";
    Error::new(Code::CapabilityUnsupported, detail)
}
