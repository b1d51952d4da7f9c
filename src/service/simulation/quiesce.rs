//! The end of a case: the vendor answers every call, time passes until everything that can be reconciled is, and then
//! every record, every report and the vendor's state must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::assignment::{Assignment, AssignmentState, IfAssignmentExists};
use crate::domain::candidate::{Candidate, CandidateState, Identity};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::intent::{Intent, Write};
use crate::domain::operation::{ItemRequest, ItemState};
use crate::domain::outcome::Outcome;
use crate::service::simulation::CaseRun;
use crate::service::simulation::callers::{TENANT, caller, email};
use crate::service::simulation::names::{token, who};
use crate::service::simulation::sim::{CONNECTION, Sim};
use crate::service::simulation::vendor_oracle::{Profile, RowState, VendorOracle};
use crate::store::{AssignmentFilter, Page};

/// Everything the gateway has stored.
struct StoredRecords {
    candidates: BTreeMap<String, Candidate>,
    assignments: BTreeMap<String, Assignment>,
    intents: Vec<Intent>,
}

impl StoredRecords {
    fn of(world: &Sim) -> Self {
        world.look(async |store| {
            let mut candidates = BTreeMap::new();
            for person in 0..14 {
                let identity = Identity::Email(email(person).into());
                let found = store.candidates(TENANT, Some(CONNECTION), &identity).await.unwrap();
                candidates.extend(found.into_iter().map(|candidate| (candidate.id.to_string(), candidate)));
            }
            let page = Page { limit: 10_000, after: None };
            let found = store.assignments(TENANT, &AssignmentFilter::default(), &page).await.unwrap();
            let assignments: BTreeMap<_, _> =
                found.into_iter().map(|assignment| (assignment.id.to_string(), assignment)).collect();
            let mut intents = Vec::new();
            for record in candidates.keys().chain(assignments.keys()) {
                intents.extend(store.intent(record).await.unwrap());
            }
            Self { candidates, assignments, intents }
        })
    }

    /// Returns the records whose outcome is unknown.
    fn unknown(&self) -> Vec<String> {
        let candidates =
            self.candidates.iter().filter(|(_, candidate)| !candidate.state.is_terminal()).map(|(id, _)| id);
        let assignments =
            self.assignments.iter().filter(|(_, assignment)| !assignment.state.is_terminal()).map(|(id, _)| id);
        candidates.chain(assignments).cloned().collect()
    }
}

impl CaseRun {
    /// Checks that no one has two accounts, except those the gateway has erased.
    pub(super) fn one_account_each(&self) -> Result<(), String> {
        if self.profile != Profile::Students {
            return Ok(());
        }
        let mut records: BTreeMap<String, BTreeSet<CandidateId>> = BTreeMap::new();
        for sent in &self.world.exam.lock().unwrap().sent {
            if let (Write::Register(registration), RowState::Done(_)) = (&sent.write, &sent.truth) {
                records.entry(who(&registration.person)).or_default().insert(registration.id.clone());
            }
        }
        for (person, records) in records.into_iter().filter(|(_, records)| records.len() > 1) {
            let mut known = 0;
            for id in records {
                let there = self.world.look(async |store| store.candidate(TENANT, &id).await.unwrap().is_some());
                known += usize::from(there);
            }
            if known > 1 {
                return Err(format!("{person} has {known} accounts"));
            }
        }
        Ok(())
    }

    /// Settles one of the unknown writes, as an operator who knows the truth.
    pub(super) fn settle(&mut self, which: u8) -> Result<(), String> {
        let books = StoredRecords::of(&self.world);
        let Some(record) = crate::service::simulation::pick(&books.unknown(), which) else { return Ok(()) };
        let Some(intent) = books.intents.iter().find(|intent| intent.write.record_id() == record) else {
            // Records are read before intents while background work continues: on a second read the write has ended.
            let again = StoredRecords::of(&self.world);
            let has_intent = again.intents.iter().any(|intent| intent.write.record_id() == record);
            if has_intent || !again.unknown().contains(&record) {
                return Ok(());
            }
            return Err(format!("{record} is open without an intent"));
        };
        let outcome = {
            let exam = self.world.exam.lock().unwrap();
            if intent.in_flight || exam.coming(&record) {
                return Ok(());
            }
            if happened(&exam, &intent.write) { Outcome::Applied } else { Outcome::NotApplied }
        };
        self.world.run(async |gateway| {
            if let Ok(id) = CandidateId::parse(&record) {
                if let Ok(ticket) = gateway.settle_candidate(&caller(None), &id, outcome) {
                    drop(ticket.result(None).await);
                }
            } else if let Ok(id) = AssignmentId::parse(&record)
                && let Ok(ticket) = gateway.settle_assignment(&caller(None), &id, outcome)
            {
                drop(ticket.result(None).await);
            }
        });
        Ok(())
    }

    /// Lets everything finish and checks all of it.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.world.dooms.clear();
        self.world.process.as_ref().unwrap().fate.calm_down();
        self.world.exam.lock().unwrap().scripts.clear();
        // Wait until nothing can happen at the vendor any more and the longest back-off has expired.
        for seconds in [40, 700, 40, 40] {
            self.pass(Duration::from_secs(seconds));
        }
        self.holds()?;
        self.no_orphans()?;
        self.ended(false)?;
        // Settle by hand what only an operator can.
        for _ in 0..3 {
            for which in 0..u8::try_from(StoredRecords::of(&self.world).unknown().len()).unwrap() {
                self.settle(which)?;
            }
            self.pass(Duration::from_secs(2));
        }
        self.ended(true)?;
        for at in 0..self.asked.len() {
            if self.asked[at].key.is_some() {
                self.ask(at, None)?;
            }
        }
        self.holds()
    }

    fn ended(&mut self, by_hand: bool) -> Result<(), String> {
        let books = StoredRecords::of(&self.world);
        let open: BTreeSet<String> = books.unknown().into_iter().collect();
        for bulk in self.bulks.clone() {
            bulk.judge(&mut self.world, Some(&open))?;
        }
        self.no_password_stays()?;
        let exam = self.world.exam.lock().unwrap();
        for candidate in books.candidates.values() {
            let record = candidate.id.as_str();
            let intent = books.intents.iter().find(|intent| intent.write.record_id() == record);
            match candidate.state {
                CandidateState::Registered => {
                    let account = exam.accounts.get(&exam.key(&candidate.person));
                    let content = candidate.person.name.formatted.as_deref();
                    if account.is_none_or(|account| account.hidden || Some(account.content.as_str()) != content) {
                        return Err(format!("{candidate:?} is {account:?} at the vendor"));
                    }
                }
                CandidateState::Failed => {
                    if exam
                        .sent
                        .iter()
                        .any(|sent| sent.write.record_id() == record && matches!(sent.truth, RowState::Done(_)))
                    {
                        return Err(format!("{candidate:?} is at the vendor"));
                    }
                }
                CandidateState::Pending => return Err(format!("{candidate:?} is pending for ever: {intent:?}")),
                CandidateState::Unknown if by_hand => {
                    return Err(format!("{candidate:?} cannot be settled: {intent:?}"));
                }
                CandidateState::Unknown => may_be_unknown(&exam, intent)?,
            }
            if candidate.state.is_terminal() && intent.is_some() {
                return Err(format!("{candidate:?} has ended, and {intent:?} is open"));
            }
        }
        for assignment in books.assignments.values() {
            let record = assignment.id.as_str();
            let intent = books.intents.iter().find(|intent| intent.write.record_id() == record);
            let live = exam.places.iter().any(|place| {
                place.live && place.candidate == assignment.vendor_key && place.assessment == assignment.assessment_ref
            });
            let own = exam.places.iter().find(|place| place.record == record);
            let wrong = match assignment.state {
                // Erased with its person: no one can ask about it any more.
                _ if assignment.is_erased() => false,
                AssignmentState::Assigned => {
                    let needs_own =
                        exam.profile == Profile::Employees && assignment.order.if_exists != IfAssignmentExists::Reuse;
                    !live || own.is_some_and(|own| !own.live) || needs_own && own.is_none()
                }
                AssignmentState::Cancelled => own.is_some_and(|own| own.live),
                AssignmentState::Failed => own.is_some(),
                AssignmentState::Pending => true,
                AssignmentState::Unknown if by_hand => true,
                AssignmentState::Unknown => {
                    may_be_unknown(&exam, intent)?;
                    false
                }
            };
            if wrong || assignment.state.is_terminal() && intent.is_some() {
                return Err(format!("{assignment:?} is {own:?} (one is live: {live}) at the vendor; {intent:?}"));
            }
        }
        everything_is_known(&exam, &books)
    }

    /// Checks that every intent of the live process has a task that will finish it.
    fn no_orphans(&self) -> Result<(), String> {
        let own = self.world.look(async |store| store.own_intents("", 1000).await.unwrap());
        own.first().map_or(Ok(()), |intent| Err(format!("no task is going to end {intent:?}")))
    }

    /// Checks that no password is stored once its write has ended.
    pub(super) fn no_password_stays(&self) -> Result<(), String> {
        for bulk in &self.bulks {
            let Some(id) = &bulk.id else { continue };
            let items = self.world.look(async |store| store.items(id, &[], 0, usize::MAX).await.unwrap());
            for item in items {
                let kept = matches!(&item.request, Some(ItemRequest::Candidate(new)) if new.password.is_some());
                if kept && !matches!(item.state, ItemState::Skipped | ItemState::Waiting) {
                    return Err(format!("the password of {:?} is kept", item.id));
                }
            }
        }
        Ok(())
    }
}

/// Returns whether the vendor has done this write.
fn happened(exam: &VendorOracle, write: &Write) -> bool {
    let same = |other: &Write| {
        other.record_id() == write.record_id() && other.kind() == write.kind() && token(other) == token(write)
    };
    exam.sent.iter().any(|sent| matches!(sent.truth, RowState::Done(_)) && same(&sent.write))
}

/// Checks that the gateway has a record of everything at the vendor.
fn everything_is_known(exam: &VendorOracle, books: &StoredRecords) -> Result<(), String> {
    for place in exam.places.iter().filter(|place| place.live) {
        let state = books.assignments.get(&place.record).map(|assignment| assignment.state);
        if !matches!(state, Some(AssignmentState::Assigned | AssignmentState::Unknown)) {
            return Err(format!("{place:?} is on record as {state:?}"));
        }
    }
    Ok(())
}

/// Checks that after quiescence only writes that may never be retried, or that the vendor cannot confirm, are unknown.
fn may_be_unknown(exam: &VendorOracle, intent: Option<&Intent>) -> Result<(), String> {
    let Some(intent) = intent else { return Err("an unknown write has no intent".to_owned()) };
    let fine = match &intent.write {
        Write::Register(registration) => {
            who(&registration.person).starts_with("bad")
                || exam.profile == Profile::Students && !registration.own_user_name
        }
        Write::Assign(booking) => {
            exam.profile == Profile::Employees
                && booking.if_exists != IfAssignmentExists::Reuse
                && !booking.first_booking
        }
        Write::Cancel(_) => true,
        Write::Update(_) | Write::Hide(_) | Write::Enrol(_) => false,
    };
    if fine { Ok(()) } else { Err(format!("{intent:?} is not settled")) }
}
