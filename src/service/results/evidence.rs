//! Evidence: a report of an attempt proves that the booking it belongs to was made. It settles an `unknown` booking as
//! applied, in the transaction that records the report, and supplies the vendor's id of a registration that is missing, with the
//! launch link if that follows from the id. It changes nothing else of a booking whose outcome is known.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Map;

use crate::domain::assignment::{Assignment, AssignmentState, Launch, NewAssignment};
use crate::domain::error::Error;
use crate::domain::event::SettledBy;
use crate::domain::ids::AssignmentId;
use crate::domain::intent::{Intent, Write};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::record::Record;
use crate::domain::transition::VendorReply;
use crate::domain::vendor::{Booked, WriteSuccess};
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::hints::{participant_of, recheck};
use crate::service::write::locks::SubjectLock;
use crate::store::Mutation;

/// What a report proves of a booking.
pub(super) struct Proof {
    pub(super) booking: Arc<Assignment>,
    /// The vendor's id of its registration, if the report names it.
    pub(super) participant: Option<String>,
    /// Whether the report came after the booking was begun, so that it proves that the booking was made.
    pub(super) is_later: bool,
}

impl Proof {
    /// Returns whether the booking changes by it.
    pub(super) fn is_needed(&self) -> bool {
        let supplies = self.participant.is_some() && participant_of(&self.booking).is_none();
        match self.booking.state {
            AssignmentState::Unknown => self.is_later,
            AssignmentState::Assigned => supplies,
            AssignmentState::Pending | AssignmentState::Cancelled | AssignmentState::Failed => false,
        }
    }
}

/// What becomes of bookings by evidence.
#[derive(Default)]
pub(super) struct Evidence {
    /// The bookings as they are afterwards.
    pub(super) bookings: HashMap<AssignmentId, Arc<Assignment>>,
    /// Bookings that another task is writing, or that have changed.
    pub(super) busy: HashSet<AssignmentId>,
    pub(super) changes: Vec<Mutation>,
    /// The locks of the bookings' subjects, to be held until the changes are committed.
    pub(super) locks: Vec<SubjectLock>,
}

impl Gateway {
    /// Locks the bookings that change by evidence, and builds the mutations that change them.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn weigh_evidence(
        &self,
        connection: &Connection,
        proofs: BTreeMap<AssignmentId, Proof>,
    ) -> Result<Evidence, Error> {
        let mut evidence = Evidence::default();
        for (id, proof) in proofs {
            let Some(lock) = self.0.subject_locks.try_lock(&proof.booking.subject_key()).await.or_not_applied()? else {
                evidence.busy.insert(id);
                continue;
            };
            let now = self.0.store.assignment(&proof.booking.tenant, &id).await.or_not_applied()?;
            let now = now.filter(|now| now.state == proof.booking.state && !now.is_erased());
            let Some(now) = now else {
                evidence.busy.insert(id);
                continue;
            };
            let changed = match now.state {
                AssignmentState::Unknown => self.settle_by_evidence(connection, now, proof, &mut evidence).await?,
                _ => Some(self.supply_participant(connection, now, proof, &mut evidence)),
            };
            if let Some(booking) = changed {
                evidence.bookings.insert(id, Arc::new(booking));
            }
            evidence.locks.push(lock);
        }
        Ok(evidence)
    }

    /// Settles a booking as applied; `None` if the report proves nothing of its open write. The caller holds its lock.
    async fn settle_by_evidence(
        &self,
        connection: &Connection,
        booking: Assignment,
        proof: Proof,
        evidence: &mut Evidence,
    ) -> Result<Option<Assignment>, Error> {
        let intent = self.0.store.intent(booking.id.as_str()).await.or_not_applied()?;
        let Some(intent) = intent.filter(|intent| matches!(intent.write, Write::Assign(_))) else { return Ok(None) };
        let Intent { in_flight, .. } = intent;
        if in_flight {
            evidence.busy.insert(booking.id);
            return Ok(None);
        }
        // Another account knows nothing of it.
        if connection.is_other_destination(&intent) {
            return Ok(None);
        }
        let launch = proof.participant.as_deref().and_then(|id| launch(connection, &booking, id));
        let warning = || {
            let detail = "A report of an attempt proves that the booking was made; its launch link is not known.";
            Warning::new(WarningCode::LaunchUnknown, detail)
        };
        let warnings = if launch.is_some() { Vec::new() } else { vec![warning()] };
        let vendor_ref = Map::from_iter(proof.participant.map(|id| ("id".to_owned(), id.into())));
        let booked = Booked { vendor_ref, launch, already_there: false };
        let success = WriteSuccess { value: VendorReply::Booked(booked), warnings };
        let by = Some(SettledBy::Evidence);
        tracing::info!(record = %booking.id, connection = connection.name, "a report settles an unknown booking");
        let (changes, transition) = self.0.executor.conclusion(connection, booking.into(), intent, Ok(success), by);
        evidence.changes.extend(changes);
        transition.record.try_into().map(Some)
    }

    fn supply_participant(
        &self,
        connection: &Connection,
        booking: Assignment,
        proof: Proof,
        evidence: &mut Evidence,
    ) -> Assignment {
        let mut booking = Assignment { last_modified: self.0.system.now(), ..booking };
        if let Some(participant) = proof.participant {
            if booking.launch.is_none() {
                booking.launch = launch(connection, &booking, &participant);
            }
            if booking.launch.is_some() {
                booking.warnings.retain(|warning| warning.code != WarningCode::LaunchUnknown);
            }
            booking.vendor_ref.entry("id").or_insert_with(|| participant.into());
        }
        let record = Record::from(booking.clone());
        evidence.changes.push(Mutation::Assignment(booking.clone()));
        evidence.changes.extend(recheck(connection, &record));
        booking
    }
}

/// Returns the launch link of a booking's registration, if it follows from the registration's id.
fn launch(connection: &Connection, booking: &Assignment, participant: &str) -> Option<Launch> {
    let NewAssignment { center, valid_until, .. } = &booking.order;
    let url = connection.report_source()?.launch_url(participant, center.as_deref())?;
    Some(Launch { url, expires_at: *valid_until })
}
