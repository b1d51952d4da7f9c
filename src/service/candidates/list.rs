//! Lists of candidates: all of a tenant, newest first, or those with an identity.

use crate::domain::candidate::{Candidate, CandidateState, Identity};
use crate::domain::error::{Error, FieldError};
use crate::domain::ids::CandidateId;
use crate::service::errors::StoreResultExt as _;
use crate::service::{ConnectionAccess, Gateway, RequestContext};
use crate::store::{CandidateFilter, ListPart, Mutation, Page};

/// Maximum number of reads for one page: entries of connections the caller may not use are read and left out, and so
/// are entries of another group as long as groups of an earlier version are not indexed.
const MAX_READS: usize = 8;
/// Number of candidates whose groups are indexed in one transaction, and of transactions per background pass.
const INDEXED: (usize, usize) = (256, 8);

/// Query for candidates; `None` fields match any value.
#[derive(Debug, Clone, Default)]
pub struct CandidateQuery<'a> {
    /// Connection.
    pub connection: Option<&'a str>,
    /// State.
    pub state: Option<CandidateState>,
    /// Group, exactly as the candidate has it.
    pub group: Option<&'a str>,
    /// Maximum number of entries.
    pub limit: usize,
    /// Cursor of the previous page.
    pub cursor: Option<&'a str>,
}

impl CandidateQuery<'_> {
    /// Returns whether the candidate has the requested state and group.
    #[must_use]
    pub fn matches(&self, candidate: &Candidate) -> bool {
        self.state.is_none_or(|state| candidate.state == state)
            && self.group.is_none_or(|group| candidate.person.group.as_deref() == Some(group))
    }
}

impl Gateway {
    /// Returns a page of the tenant's candidates, newest first and without their pictures, and the cursor of the next
    /// page. A page may have fewer entries than its limit although another one follows.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`; `validation_failed` for a cursor of another list.
    pub async fn candidates(
        &self,
        caller: &RequestContext,
        query: CandidateQuery<'_>,
    ) -> Result<(Vec<Candidate>, Option<String>), Error> {
        let CandidateQuery { connection, state, group, limit, cursor } = query;
        if let Some(name) = connection {
            self.configured().named(caller, name)?;
        }
        let after = cursor.map(|cursor| CandidateId::parse(cursor).map_err(|_| unknown_cursor())).transpose()?;
        let filter = CandidateFilter {
            connection: connection.or_else(|| only_connection(&caller.connections)).map(str::to_owned),
            state,
            group: group.map(str::to_owned),
        };
        let mut after = after.map(String::from);
        let mut items: Vec<Candidate> = Vec::new();
        let _permit = self.read_permit(caller).await;
        for _ in 0..MAX_READS {
            // One extra entry shows whether there is a next page.
            let page = Page { limit: limit + 1 - items.len(), after };
            let part = self.0.store.listed_candidates(&caller.tenant, &filter, &page).await.or_not_applied()?;
            let usable = |candidate: &Candidate| caller.connections.contains(&candidate.connection);
            items.extend(part.items.into_iter().filter(usable));
            after = part.next;
            if after.is_none() || items.len() > limit {
                break;
            }
        }
        if items.len() > limit {
            items.truncate(limit);
            after = items.last().map(|last| last.id.to_string());
        }
        Ok((items, after))
    }

    /// Returns the tenant's candidates that have this identity.
    pub async fn find_candidates(
        &self,
        caller: &RequestContext,
        connection: Option<&str>,
        identity: &Identity,
    ) -> Result<Vec<Candidate>, Error> {
        if let Some(name) = connection {
            self.configured().named(caller, name)?;
        }
        let found = self.0.store.candidates(&caller.tenant, connection, identity).await.or_not_applied()?;
        // A candidate that the vendor rejected has given up its identities; it can still be read by its id.
        let shown = |candidate: &Candidate| {
            candidate.state != CandidateState::Failed && caller.connections.contains(&candidate.connection)
        };
        Ok(self.without_other_spellings(found.into_iter().filter(shown).collect(), identity))
    }

    /// Indexes the groups of some of the candidates that an earlier version wrote, so that lists of a group need not
    /// read them. Returns whether all are indexed.
    pub(in crate::service) async fn index_groups(&self) -> bool {
        let (limit, parts) = INDEXED;
        let mut after = None;
        for _ in 0..parts {
            if self.is_stopping() {
                return false;
            }
            let page = Page { limit, after: after.take() };
            let part = self.0.store.candidates_without_group_index(&page).await;
            let indexed = match part {
                Ok(ListPart { items, next }) => {
                    after = next;
                    self.0.store.commit(items.into_iter().map(Mutation::IndexGroup).collect()).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = indexed {
                tracing::warn!(%error, "indexing the groups of candidates failed; will retry");
                return false;
            }
            if after.is_none() {
                return true;
            }
        }
        false
    }
}

/// Returns the connection of a caller that may use only one.
fn only_connection(access: &ConnectionAccess) -> Option<&str> {
    let ConnectionAccess::Named(names) = access else { return None };
    let only = names.first().filter(|_| names.len() == 1);
    only.map(String::as_str)
}

fn unknown_cursor() -> Error {
    Error::from_fields(vec![FieldError::invalid("?cursor", "is not a valid cursor for this list")])
}
