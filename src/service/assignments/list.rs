//! Lists of assignments.

use std::collections::BTreeSet;

use crate::domain::assignment::{Assignment, AssignmentState, CandidateKey};
use crate::domain::candidate::{Candidate, CandidateState, Identity};
use crate::domain::error::{Error, FieldError};
use crate::domain::identity::ExternalId;
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::service::errors::StoreResultExt as _;
use crate::service::{Gateway, RequestContext};
use crate::store::{AssignmentFilter, CandidateSelector, Page};

/// Query for assignments; `None` fields match any value.
#[derive(Debug, Clone, Default)]
pub struct AssignmentQuery<'a> {
    /// Candidate.
    pub candidate: Option<&'a CandidateId>,
    /// Candidate's external id.
    pub external_id: Option<&'a ExternalId>,
    /// Assessment, by catalogue id or the vendor's id.
    pub assessment: Option<&'a str>,
    /// Connection.
    pub connection: Option<&'a str>,
    /// State.
    pub state: Option<AssignmentState>,
    /// Maximum number of entries.
    pub limit: usize,
    /// Cursor of the previous page.
    pub cursor: Option<&'a str>,
}

impl Gateway {
    /// Returns a page of the tenant's assignments, newest first, and the cursor of the next page.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`; `validation_failed` for a cursor of another list.
    pub async fn assignments(
        &self,
        caller: &RequestContext,
        query: AssignmentQuery<'_>,
    ) -> Result<(Vec<Assignment>, Option<String>), Error> {
        let AssignmentQuery { candidate, external_id, assessment, connection, state, limit, cursor } = query;
        if let Some(name) = connection {
            self.configured().named(caller, name)?;
        }
        let after = cursor.map(|cursor| AssignmentId::parse(cursor).map_err(|_| unknown_cursor())).transpose()?;
        let person = match (candidate, external_id) {
            (None, None) => None,
            (Some(id), None) => Some(self.selector_of_candidate(caller, id).await?),
            (Some(id), Some(external_id)) => {
                let known = self.0.store.candidate(&caller.tenant, id).await.or_not_applied()?;
                if known.is_none_or(|known| !known.person.external_id.is_some_and(|id| id.is_same(external_id))) {
                    return Ok((Vec::new(), None));
                }
                Some(self.selector_of_candidate(caller, id).await?)
            }
            (None, Some(id)) => Some(self.selector_of_external_id(caller, connection, id).await?),
        };
        let filter = AssignmentFilter {
            candidate: person,
            assessment: assessment.map_or_else(Vec::new, |text| self.forms_of_assessment(connection, text)),
            connection: connection.map(str::to_owned),
            state,
        };
        // One extra entry shows whether there is a next page.
        let page = Page { limit: limit + 1, after: after.map(String::from) };
        let _permit = self.read_permit(caller).await;
        let mut items = self.0.store.assignments(&caller.tenant, &filter, &page).await.or_not_applied()?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        items.retain(|assignment| caller.connections.contains(&assignment.connection));
        Ok((items, next))
    }

    /// Selects the assignments of a candidate.
    async fn selector_of_candidate(
        &self,
        caller: &RequestContext,
        id: &CandidateId,
    ) -> Result<CandidateSelector, Error> {
        let candidate = self.0.store.candidate(&caller.tenant, id).await.or_not_applied()?;
        // A candidate that the vendor rejected has given up its identities.
        let candidate = candidate.filter(|candidate| candidate.state != CandidateState::Failed);
        let known_as = candidate.and_then(|candidate| self.vendor_identity(&candidate));
        Ok(CandidateSelector { ids: vec![id.clone()], known_as: known_as.into_iter().collect() })
    }

    /// Selects the assignments of the person with this external id, at this connection or all the caller may use,
    /// whether or not the person is registered.
    async fn selector_of_external_id(
        &self,
        caller: &RequestContext,
        connection: Option<&str>,
        external_id: &ExternalId,
    ) -> Result<CandidateSelector, Error> {
        let identity = Identity::ExternalId(external_id.clone());
        let known = self.find_candidates(caller, connection, &identity).await?;
        let configured = self.configured();
        let usable = configured.connections.keys().filter(|name| {
            caller.connections.contains(name) && connection.is_none_or(|connection| connection == name.as_str())
        });
        // Bookings by external id come before a registration only at vendors whose key it is; elsewhere none is found.
        let known_as: BTreeSet<(String, Identity)> = usable
            .map(|name| (name.clone(), identity.clone()))
            .chain(known.iter().filter_map(|candidate| self.vendor_identity(candidate)))
            .collect();
        let ids = known.into_iter().map(|candidate| candidate.id).collect();
        Ok(CandidateSelector { ids, known_as: known_as.into_iter().collect() })
    }

    /// Returns the candidate's connection and the identity by which its vendor knows the candidate.
    fn vendor_identity(&self, candidate: &Candidate) -> Option<(String, Identity)> {
        let connection = self.connection_of(&candidate.connection).ok()?;
        let key = connection.vendor().candidate_key(&CandidateKey::Id(candidate.id.clone()), Some(&candidate.person));
        key.ok().map(|key| (candidate.connection.clone(), connection.identity_of_key(&key.0)))
    }

    /// Returns all forms in which the requested assessment may be stored: as given, and as the vendors (or the one of
    /// this connection) write their ids.
    fn forms_of_assessment(&self, connection: Option<&str>, text: &str) -> Vec<String> {
        let configured = self.configured();
        let asked = configured.connections.iter().filter(|(name, _)| connection.is_none_or(|asked| asked == *name));
        let forms = asked.filter_map(|(_, connection)| connection.vendor().assessment_ref(text));
        forms.chain([text.to_owned()]).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn unknown_cursor() -> Error {
    Error::from_fields(vec![FieldError::invalid("?cursor", "is not a valid cursor for this list")])
}
