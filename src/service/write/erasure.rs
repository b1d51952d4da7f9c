//! Erasure: a person who was erased is in no record and no answer any more.

use crate::domain::assignment::CandidateKey;
use crate::domain::error::{Code, Error};
use crate::domain::intent::StoredReply;
use crate::service::{Gateway, StoreResultExt as _};
use crate::store::Mutation;

/// Candidates looked at in one go.
const AT_ONCE: usize = 256;

impl Gateway {
    /// Takes people out of assignments whose candidates an earlier version erased. Whether that is done.
    pub(in crate::service) async fn finish_erasures(&self) -> bool {
        let mut last = None;
        loop {
            let erased = match self.0.store.half_erased(last.as_ref(), AT_ONCE).await {
                Ok(gone) if gone.is_empty() => return true,
                Ok(gone) => {
                    last = gone.last().cloned();
                    self.0.store.commit(gone.into_iter().map(Mutation::EraseCandidate).collect()).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = erased {
                tracing::warn!(%error, "assignments of erased people cannot be looked at yet");
                return false;
            }
        }
    }

    /// An answer that was kept, without a person who was erased since.
    pub(in crate::service) async fn without_erased(
        &self,
        tenant: &str,
        answer: StoredReply,
    ) -> Result<StoredReply, Error> {
        Ok(match answer {
            StoredReply::Candidate { created, candidate, initial_password } => {
                match self.0.store.candidate(tenant, &candidate.id).await.or_not_applied()? {
                    Some(_) => StoredReply::Candidate { created, candidate, initial_password },
                    None => StoredReply::Candidate {
                        created,
                        candidate: Box::new(candidate.without_person()),
                        initial_password: None,
                    },
                }
            }
            StoredReply::Assignment { created, assignment } => {
                let now = self.0.store.assignment(tenant, &assignment.id).await.or_not_applied()?;
                match now.map(|now| now.order.candidate) {
                    // Nothing else ever changes how the order names the candidate.
                    Some(CandidateKey::Id(id)) if assignment.order.candidate != CandidateKey::Id(id.clone()) => {
                        StoredReply::Assignment { created, assignment: Box::new(assignment.without_person(&id)) }
                    }
                    _ => StoredReply::Assignment { created, assignment },
                }
            }
            other @ (StoredReply::Gone | StoredReply::Enrolled(_) | StoredReply::Operation(_)) => other,
        })
    }
}

/// The fault of a withdrawal that would need what was erased.
pub(in crate::service) fn candidate_erased() -> Error {
    let detail = "The candidate was erased, and with them what the vendor knows them by; the booking cannot be withdrawn \
                  any more.";
    Error::new(Code::CapabilityUnsupported, detail)
}
