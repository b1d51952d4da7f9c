//! Spellings of identities that earlier versions registered: the vendor knows a person by the spelling it was sent, and
//! such a version may have registered two spellings of one identity as two people.

use crate::domain::assignment::CandidateKey;
use crate::domain::candidate::{Candidate, CandidateState, Identity, IdentityKind, NewCandidate, Person};
use crate::domain::capability::WriteKind;
use crate::domain::error::Error;
use crate::domain::identity::ExternalId;
use crate::domain::ids::CandidateId;
use crate::domain::subject::SubjectKey;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::hints::recheck;
use crate::service::{Gateway, RequestContext};
use crate::store::{AssignmentFilter, CandidateSelector, Mutation, Page, StoreError};

/// Maximum number of earlier bookings read to find the spelling they were made under.
const MAX_EARLIER_BOOKINGS: usize = 50;

impl Gateway {
    /// Removes those candidates whose connection has another holder of the same identity that goes before them. Where
    /// the identity identifies no person (an e-mail address at some vendors), all stay.
    pub(in crate::service) fn without_other_spellings(
        &self,
        found: Vec<Candidate>,
        identity: &Identity,
    ) -> Vec<Candidate> {
        if found.len() < 2 {
            return found;
        }
        let tells_apart = |connection: &str| {
            self.connection_of(connection).is_ok_and(|it| it.descriptor().identities.contains(&identity.kind()))
        };
        let kept: Vec<CandidateId> = found
            .iter()
            .filter(|candidate| {
                let others = found.iter().filter(|other| other.connection == candidate.connection);
                !tells_apart(&candidate.connection)
                    || preferred(others, identity).is_none_or(|first| first.id == candidate.id)
            })
            .map(|candidate| candidate.id.clone())
            .collect();
        found.into_iter().filter(|candidate| kept.contains(&candidate.id)).collect()
    }

    /// Returns the spelling in which the vendor knows the employee: that of their record, if they have one.
    pub(in crate::service) async fn registered_spelling(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        id: ExternalId,
    ) -> Result<ExternalId, Error> {
        if !self.has_former_spellings() {
            return Ok(id);
        }
        let identity = Identity::ExternalId(id.clone());
        let mut found =
            self.0.store.candidates(&caller.tenant, Some(&connection.name), &identity).await.or_not_applied()?;
        // The vendor does not have a person it rejected.
        found.retain(|candidate| candidate.state != CandidateState::Failed);
        let holder = self.without_other_spellings(found, &identity).into_iter().next();
        Ok(holder.and_then(|holder| holder.person.external_id).unwrap_or(id))
    }

    /// Returns those of the tenant's candidates that have an identity of this person in a spelling of an earlier version, while
    /// no other one has it in the present form. One of a pair does not hold the identity while the other one does, nor after
    /// the other one was given another id or name.
    pub(super) async fn former_holders(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        person: &Person,
    ) -> Result<Vec<CandidateId>, Error> {
        let mut former = Vec::new();
        if !self.has_former_spellings() {
            return Ok(former);
        }
        for identity in Identity::of(person, connection.descriptor().identities) {
            let store = &self.0.store;
            let mut found =
                store.candidates(&caller.tenant, Some(&connection.name), &identity).await.or_not_applied()?;
            found.retain(|candidate| candidate.state == CandidateState::Registered);
            let Some(holder) = preferred(found.iter(), &identity) else { continue };
            let held = Identity::of(&holder.person, &[identity.kind()]);
            if held.iter().any(|held| !held.former_texts().is_empty()) {
                former.push(holder.id.clone());
            }
        }
        Ok(former)
    }

    /// Lets each of these candidates hold its identities if they are free: a registration would otherwise make one more
    /// record of the person.
    async fn reclaim_identities(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        former: Vec<CandidateId>,
    ) -> Result<(), Error> {
        for id in former {
            // A write that has begun has reserved others.
            let _lock = self.lock_subject(&SubjectKey::candidate(&id)).await?;
            let candidate = self.0.store.candidate(&caller.tenant, &id).await.or_not_applied()?;
            let Some(candidate) = candidate.filter(|it| it.state == CandidateState::Registered) else { continue };
            let identities = Identity::of(&candidate.person, connection.descriptor().identities);
            let explained = recheck(connection, &candidate.into());
            let changes = [Mutation::Identities(id, identities)].into_iter().chain(explained).collect();
            match self.0.store.commit(changes).await {
                // Another tenant's candidate holds one of them.
                Ok(()) | Err(StoreError::Conflict) => {}
                Err(error) => return Err(error).or_not_applied(),
            }
        }
        Ok(())
    }

    /// Returns whether this registration may belong to bookings made under another spelling of its external id.
    pub(in crate::service) fn may_have_earlier_bookings(&self, connection: &Connection, new: &NewCandidate) -> bool {
        self.has_former_spellings()
            && !connection.descriptor().identifies_by_email()
            && connection.descriptor().capability(WriteKind::AssignmentsCreate).supported
            && new.person.external_id.as_ref().is_some_and(|id| id.as_given() != id.as_str())
    }

    /// Gives the person the spelling under which they were booked before they had a record: at the vendor they are the
    /// employee of that id. A candidate who has their identity in a former spelling holds it from now on.
    pub(in crate::service) async fn with_booked_spelling(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        mut new: NewCandidate,
    ) -> Result<NewCandidate, Error> {
        let former = self.former_holders(caller, connection, &new.person).await?;
        self.reclaim_identities(caller, connection, former).await?;
        if self.may_have_earlier_bookings(connection, &new)
            && let Some(id) = &new.person.external_id
            && let Some(CandidateKey::ExternalId(booked)) =
                self.spelling_of_earlier_bookings(caller, connection, &CandidateKey::ExternalId(id.clone())).await?
        {
            new.person.external_id = Some(booked);
        }
        Ok(new)
    }

    /// Returns the person under the spelling that the request has, if bookings were made under it. A client that always
    /// sends that spelling must find its bookings again; a person without a record has no other trace.
    pub(in crate::service) async fn spelling_of_earlier_bookings(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        key: &CandidateKey,
    ) -> Result<Option<CandidateKey>, Error> {
        let (identity, given) = match key {
            CandidateKey::Id(_) => return Ok(None),
            CandidateKey::ExternalId(id) => (Identity::ExternalId(id.clone()), id.as_given()),
            CandidateKey::Email(email) => (Identity::Email(email.clone()), email.as_given()),
        };
        if !self.has_former_spellings() || given == identity.spelling() {
            return Ok(None);
        }
        // Without an id only bookings that name no candidate are found.
        let known_as = vec![(connection.name.clone(), identity)];
        let candidate = Some(CandidateSelector { ids: Vec::new(), known_as });
        let filter =
            AssignmentFilter { candidate, connection: Some(connection.name.clone()), ..AssignmentFilter::default() };
        let page = Page { limit: MAX_EARLIER_BOOKINGS, after: None };
        let found = self.0.store.assignments(&caller.tenant, &filter, &page).await.or_not_applied()?;
        let same = found.into_iter().find(|booking| booking.vendor_key == given);
        Ok(same.map(|booking| match key {
            CandidateKey::Email(_) => CandidateKey::Email(booking.vendor_key.into()),
            CandidateKey::Id(_) | CandidateKey::ExternalId(_) => CandidateKey::ExternalId(booking.vendor_key.into()),
        }))
    }
}

/// Returns the one holder of a new person's identities; `None` if they belong to different people. Several holders are
/// one person if all of them have the same one of these identities.
pub(super) fn sole_holder<'a>(
    holders: &'a [Candidate],
    person: &Person,
    kinds: &[IdentityKind],
) -> Option<&'a Candidate> {
    if let [holder] = holders {
        return Some(holder);
    }
    let is_held_by_all = |identity: &Identity| {
        holders.iter().all(|holder| Identity::of(&holder.person, &[identity.kind()]).contains(identity))
    };
    let shared = Identity::of(person, kinds).into_iter().find(is_held_by_all)?;
    preferred(holders.iter(), &shared)
}

/// Returns the holder that goes before the others: the one whose spelling is the identity's key, else the oldest, as in
/// the renewal of the index entries.
fn preferred<'a>(holders: impl Iterator<Item = &'a Candidate>, identity: &Identity) -> Option<&'a Candidate> {
    let key = identity.key();
    let has_other_spelling =
        |holder: &Candidate| Identity::of(&holder.person, &[identity.kind()]).iter().all(|held| held.spelling() != key);
    holders.min_by_key(|holder| (has_other_spelling(holder), holder.id.clone()))
}
