//! Erasure: a person who was erased is in no record and no answer any more.

use super::{BeforeSending as _, Gateway};
use crate::domain::assignment::CandidateKey;
use crate::domain::journal::Answer;
use crate::domain::problem::{Code, Fault};
use crate::store::Change;

/// Candidates looked at in one go.
const AT_ONCE: usize = 256;

impl Gateway {
    /// Takes people out of assignments whose candidates an earlier version erased. Whether that is done.
    pub(super) async fn finish_erasures(&self) -> bool {
        let mut last = None;
        loop {
            let erased = match self.0.store.half_erased(last.as_ref(), AT_ONCE).await {
                Ok(gone) if gone.is_empty() => return true,
                Ok(gone) => {
                    last = gone.last().cloned();
                    self.0.store.commit(gone.into_iter().map(Change::EraseCandidate).collect()).await
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
    pub(super) async fn without_erased(&self, tenant: &str, answer: Answer) -> Result<Answer, Fault> {
        Ok(match answer {
            Answer::Candidate { created, candidate, initial_password } => {
                match self.0.store.candidate(tenant, &candidate.id).await.before_sending()? {
                    Some(_) => Answer::Candidate { created, candidate, initial_password },
                    None => Answer::Candidate {
                        created,
                        candidate: Box::new(candidate.without_person()),
                        initial_password: None,
                    },
                }
            }
            Answer::Assignment { created, assignment } => {
                let now = self.0.store.assignment(tenant, &assignment.id).await.before_sending()?;
                match now.map(|now| now.order.candidate) {
                    // Nothing else ever changes how the order names the candidate.
                    Some(CandidateKey::Id(id)) if assignment.order.candidate != CandidateKey::Id(id.clone()) => {
                        Answer::Assignment { created, assignment: Box::new(assignment.without_person(&id)) }
                    }
                    _ => Answer::Assignment { created, assignment },
                }
            }
            other @ (Answer::Gone | Answer::Enrolled(_) | Answer::Operation(_)) => other,
        })
    }
}

/// The fault of a withdrawal that would need what was erased.
pub(super) fn erased() -> Fault {
    let detail = "The candidate was erased, and with them what the vendor knows them by; the booking cannot be withdrawn \
                  any more.";
    Fault::new(Code::CapabilityUnsupported, detail)
}
