//! Index entries of earlier versions: the forms in which they stored an identity, and the identities that need an entry of
//! the present form.

use std::sync::atomic::Ordering;

use crate::domain::assignment::Assignment;
use crate::domain::candidate::{Candidate, Identity, IdentityKind, Person};
use crate::domain::intent::{Intent, Write};
use crate::store::StoreError;
use crate::store::codec::{RecordCodec, SealedRow, connection_scope, tenant_scope};
use crate::store::encryption::BlindIndex;

/// An identity with a spelling of which an earlier version made another entry than this one.
pub(in crate::store) struct RenewedIdentity {
    pub identity: Identity,
    pub kind: &'static str,
    /// Its entries of the earlier form in `identities`.
    pub former: Vec<BlindIndex>,
    /// Its entry in `lookups`; `None` for an identity that the record does not have yet.
    pub lookup: Option<BlindIndex>,
}

/// Another candidate with an identity of one that is erased, in another spelling: an earlier version registered the two
/// spellings as two people.
pub(in crate::store) struct OtherHolder {
    /// The identity as the erased candidate has it.
    pub identity: Identity,
    pub tenant: String,
    pub id: String,
}

/// Returns whether the assignment, which names no candidate, is left alone by the erasure: another candidate of the tenant
/// has the identity too, and the vendor knows the person booked by another spelling than the erased one's.
pub(in crate::store) fn is_of_another(assignment: &Assignment, others: &[OtherHolder]) -> bool {
    let is_other = |other: &OtherHolder| {
        other.tenant == assignment.tenant
            && assignment.identity.as_ref() == Some(&other.identity)
            && assignment.vendor_key != other.identity.spelling()
    };
    assignment.candidate_id.is_none() && others.iter().any(is_other)
}

impl RecordCodec {
    /// Makes look-ups ask for entries of earlier versions' texts too, or ends that.
    pub(in crate::store) fn ask_former_texts(&self, asks: bool) {
        self.asks_former_texts.store(asks, Ordering::Relaxed);
    }

    /// Returns every form that an entry of this identity may have in a scope.
    pub(super) fn forms(&self, scope: &str, identity: &Identity) -> Vec<BlindIndex> {
        let (kind, key) = identity.parts();
        let mut forms = self.keyring.blind_indices(scope, kind, &key);
        if self.asks_former_texts.load(Ordering::Relaxed) {
            forms.extend(self.former_forms_in(scope, identity));
        }
        forms
    }

    /// Returns the key's forms of the identity in `identities`.
    pub(in crate::store) fn key_forms(&self, connection: &str, identity: &Identity) -> Vec<BlindIndex> {
        let (kind, key) = identity.parts();
        self.keyring.blind_indices(&connection_scope(connection), kind, &key)
    }

    /// Returns the forms in which earlier versions store the identity in `identities`, if they differ from the key's.
    pub(in crate::store) fn former_forms(&self, connection: &str, identity: &Identity) -> Vec<BlindIndex> {
        self.former_forms_in(&connection_scope(connection), identity)
    }

    fn former_forms_in(&self, scope: &str, identity: &Identity) -> Vec<BlindIndex> {
        let kind = identity.kind().as_str();
        let texts = identity.former_texts();
        texts.iter().flat_map(|text| self.keyring.blind_indices(scope, kind, text)).collect()
    }

    /// Returns the entry of the present form of the person that an assignment without a candidate is for; `None` if it has
    /// that already.
    pub(in crate::store) fn renewed_person(&self, row: &SealedRow) -> Result<Option<BlindIndex>, StoreError> {
        let assignment = self.assignment(row)?;
        let unlinked = assignment.identity.as_ref().filter(|_| assignment.candidate_id.is_none());
        let former = unlinked.filter(|identity| !identity.former_texts().is_empty());
        Ok(former.map(|identity| self.identity(&assignment.connection, identity).blind))
    }

    /// Lists the identities of a candidate that need an entry of the present form: those of the record, and those that an
    /// open write is about to set.
    pub(in crate::store) fn renewed_identities(
        &self,
        candidate: &Candidate,
        open: Option<&Intent>,
    ) -> Vec<RenewedIdentity> {
        let mut all: Vec<(Identity, bool)> =
            Identity::of(&candidate.person, IdentityKind::ALL).into_iter().map(|identity| (identity, true)).collect();
        let set = open.and_then(|open| person_of(&open.write)).map(|person| Identity::of(person, IdentityKind::ALL));
        for identity in set.into_iter().flatten() {
            if !all.iter().any(|(known, _)| known.spelling() == identity.spelling() && *known == identity) {
                all.push((identity, false));
            }
        }
        all.retain(|(identity, _)| !identity.former_texts().is_empty());
        let scope = tenant_scope(&candidate.tenant);
        let renewed = |(identity, recorded): (Identity, bool)| {
            let (kind, key) = identity.parts();
            let lookup = recorded.then(|| self.keyring.blind_index(&scope, kind, &key));
            let former = self.former_forms(&candidate.connection, &identity);
            RenewedIdentity { kind, lookup, former, identity: identity.clone() }
        };
        all.into_iter().map(renewed).collect()
    }
}

fn person_of(write: &Write) -> Option<&Person> {
    match write {
        Write::Register(registration) => Some(&registration.person),
        Write::Update(update) => Some(&update.candidate.person),
        Write::Hide(candidate) => Some(&candidate.person),
        Write::Assign(_) | Write::Cancel(_) | Write::Enrol(_) => None,
    }
}
