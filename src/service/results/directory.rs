//! The directory: the bookings and people that the reports of a chunk may be about, looked up together.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::domain::assignment::{Assignment, CandidateKey};
use crate::domain::candidate::{Candidate, CandidateState, Identity};
use crate::domain::error::Error;
use crate::domain::ids::CandidateId;
use crate::domain::results::{MatchHints, SeriesKey};
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::hints::{self, participant_of};
use crate::store::ReportHint;

/// Bookings and people that reports may be about.
#[derive(Default)]
pub(super) struct Directory {
    registrations: HashMap<String, Vec<Arc<Assignment>>>,
    people: HashMap<Identity, Vec<Arc<Candidate>>>,
    bookings: HashMap<CandidateId, Vec<Arc<Assignment>>>,
    erased: HashSet<ReportHint>,
}

/// What is to be looked up for a report.
pub(super) struct Wanted<'a> {
    pub(super) hints: &'a MatchHints,
    /// The candidate that is known to be the one.
    pub(super) known: Option<&'a CandidateId>,
}

impl Directory {
    /// Returns the bookings with this registration.
    pub(super) fn registered(&self, participant: &str) -> &[Arc<Assignment>] {
        self.registrations.get(participant).map_or(&[], Vec::as_slice)
    }

    /// Returns the candidates with this identity, without those that the vendor rejected.
    pub(super) fn people(&self, identity: &Identity) -> &[Arc<Candidate>] {
        self.people.get(identity).map_or(&[], Vec::as_slice)
    }

    /// Returns the candidate's bookings, the oldest first.
    pub(super) fn bookings(&self, candidate: &CandidateId) -> &[Arc<Assignment>] {
        self.bookings.get(candidate).map_or(&[], Vec::as_slice)
    }

    /// Returns whether the registration was one of a person who was erased.
    pub(super) fn is_erased_registration(&self, hints: &MatchHints) -> bool {
        hints.participant.as_ref().is_some_and(|id| self.erased.contains(&ReportHint::Participant(id.clone())))
    }

    /// Returns whether any of the hints was one of a person who was erased.
    pub(super) fn is_erased(&self, hints: &MatchHints) -> bool {
        hints::of_report(hints).iter().any(|hint| self.erased.contains(hint))
    }

    fn add_registration(&mut self, assignment: Assignment) {
        let Some(participant) = participant_of(&assignment).map(str::to_owned) else { return };
        self.registrations.entry(participant).or_default().push(Arc::new(assignment));
    }
}

/// Returns the identities by which a report names a person.
pub(super) fn identities(hints: &MatchHints) -> impl Iterator<Item = Identity> {
    let external_id = hints.external_id.clone().map(Identity::ExternalId);
    external_id.into_iter().chain(hints.email.clone().map(Identity::Email))
}

/// Returns the registrations that these reports and series name.
fn registrations<'a>(wanted: &[Wanted<'a>]) -> BTreeSet<&'a str> {
    wanted.iter().filter_map(|wanted| wanted.hints.participant.as_deref()).collect()
}

impl Gateway {
    /// Looks up what these reports may be about: their registrations first, and people and bookings only for reports whose
    /// registration is not known.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn look_up_reports(
        &self,
        connection: &Connection,
        wanted: &[Wanted<'_>],
    ) -> Result<Directory, Error> {
        let (store, name) = (&self.0.store, connection.name.as_str());
        let mut directory = Directory::default();
        let participants: Vec<String> = registrations(wanted).into_iter().map(str::to_owned).collect();
        if !participants.is_empty() {
            let found = store.assignments_of_participants(name, &participants).await.or_not_applied()?;
            for assignment in found {
                directory.add_registration(assignment);
            }
        }
        let mut sought: BTreeSet<Identity> = BTreeSet::new();
        let (mut open, mut erased): (Vec<&Wanted<'_>>, BTreeSet<ReportHint>) = (Vec::new(), BTreeSet::new());
        for wanted in wanted {
            let booked = wanted.hints.participant.as_deref().map_or(&[][..], |id| directory.registered(id));
            if booked.is_empty() {
                sought.extend(identities(wanted.hints));
                erased.extend(hints::of_report(wanted.hints));
                open.push(wanted);
            } else {
                // Booked before their registration at the gateway.
                sought
                    .extend(booked.iter().filter(|it| it.candidate_id.is_none()).filter_map(|it| it.identity.clone()));
            }
        }
        if !sought.is_empty() {
            let sought: Vec<Identity> = sought.into_iter().collect();
            let found = store.candidates_at(name, &sought).await.or_not_applied()?;
            let found = found.into_iter().filter(|candidate| candidate.state != CandidateState::Failed).map(Arc::new);
            for candidate in found {
                for identity in sought.iter().filter(|identity| has_identity(&candidate, identity)) {
                    directory.people.entry(identity.clone()).or_default().push(Arc::clone(&candidate));
                }
            }
        }
        self.look_up_bookings(connection, &open, &mut directory).await?;
        if !erased.is_empty() {
            let erased: Vec<ReportHint> = erased.into_iter().collect();
            let were = store.erased_hints(name, &erased).await.or_not_applied()?;
            directory.erased =
                erased.into_iter().zip(were).filter(|(_, erased)| *erased).map(|(hint, _)| hint).collect();
        }
        Ok(directory)
    }

    async fn look_up_bookings(
        &self,
        connection: &Connection,
        open: &[&Wanted<'_>],
        directory: &mut Directory,
    ) -> Result<(), Error> {
        let mut known: HashMap<CandidateId, Option<Identity>> = HashMap::new();
        for wanted in open {
            for candidate in identities(wanted.hints).flat_map(|identity| directory.people(&identity).to_vec()) {
                let key = CandidateKey::Id(candidate.id.clone());
                let key = connection.vendor().candidate_key(&key, Some(&candidate.person)).ok();
                known.insert(candidate.id.clone(), key.map(|key| connection.identity_of_key(&key.0)));
            }
            if let Some(id) = wanted.known {
                known.entry(id.clone()).or_default();
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        let ids: Vec<CandidateId> = known.keys().cloned().collect();
        let known_as: Vec<Identity> = known.values().flatten().cloned().collect();
        let found = self.0.store.assignments_of_people(&connection.name, &ids, &known_as).await.or_not_applied()?;
        let of_identity: HashMap<&Identity, &CandidateId> =
            known.iter().filter_map(|(id, identity)| Some((identity.as_ref()?, id))).collect();
        for assignment in found {
            let by_identity = || assignment.identity.as_ref().and_then(|identity| of_identity.get(identity).copied());
            let owner = assignment.candidate_id.as_ref().filter(|id| known.contains_key(*id)).or_else(by_identity);
            if let Some(owner) = owner.cloned() {
                directory.bookings.entry(owner).or_default().push(Arc::new(assignment));
            }
        }
        directory.bookings.values_mut().for_each(|bookings| bookings.sort_by(|a, b| a.id.cmp(&b.id)));
        Ok(())
    }
}

fn has_identity(candidate: &Candidate, identity: &Identity) -> bool {
    Identity::of(&candidate.person, &[identity.kind()]).contains(identity)
}

/// Returns the series that a reading names before it is known whose it is, if its registration identifies it.
pub(super) fn named_series(series: &SeriesKey) -> Option<&SeriesKey> {
    matches!(series, SeriesKey::Participant(_)).then_some(series)
}
