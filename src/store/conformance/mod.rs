//! Required behaviour of every engine, as tests over `dyn Store`. An engine passes [`conformance!`] a function that
//! opens an empty store.
//!
//! Tenants and connections are fresh for each test, so that tests may share one database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{Timestamp, ToSpan};
use serde_json::{Map, json};

use super::{
    AssignmentFilter, BeginResult, CandidateSelector, Mutation, Page, PreparedRecord, PreparedWrite, Store, StoreError,
};
use crate::domain::assignment::{Assignment, AssignmentState, CandidateKey, IfAssignmentExists, Launch, NewAssignment};
use crate::domain::assignment::{Notify, Proctoring};
use crate::domain::candidate::{Candidate, CandidateState, Identity, IdentityKind, Name, Person};
use crate::domain::ids::{AssignmentId, CandidateId, EnrolmentId, OperationId};
use crate::domain::intent::{EnrolmentWrite, Intent, Write, WriteOrigin};
use crate::domain::outcome::{Outcome, Warning};
use crate::domain::program::{AssessmentScope, Enrolment, ProgramRef};
use crate::domain::system::{Clock, SecureRandom, System};
use crate::domain::vendor::{
    Booking, Cancellation, CandidateSnapshot, EnrolmentBatch, Registration, Update, VendorKey,
};
use crate::secret::Secret;

mod audit;
mod begin;
mod keys;
mod operations;

/// The identity kinds of a vendor that does not identify people by e-mail address.
pub(crate) const BY_NAME: &[IdentityKind] = &[IdentityKind::ExternalId, IdentityKind::UserName];

pub(crate) use audit::*;
pub(crate) use begin::*;
pub(crate) use keys::*;
pub(crate) use operations::*;

/// Generates one test per behaviour. `$open` takes a [`System`] and returns an owner of the storage location and an
/// `Arc<dyn Store>`.
macro_rules! conformance {
    ($open:path, [$($behaviour:ident),* $(,)?]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let environment = $crate::store::conformance::environment();
                let (_place, store) = $open(&environment);
                $crate::store::conformance::$behaviour(store, $crate::store::conformance::Maker(environment)).await;
            }
        )*
    };
    ($open:path) => {
        $crate::store::conformance::conformance!($open, [
            answers_a_ping,
            a_claim_writes_candidate_identities_and_intent,
            a_held_identity_returns_its_holders_and_writes_nothing,
            an_identity_of_another_tenant_is_taken,
            identities_of_other_connections_are_free,
            identities_of_other_tenants_are_detected,
            one_of_many_parallel_claims_wins,
            many_parallel_claims_of_different_people_all_win,
            an_acknowledged_write_is_seen_at_once,
            changed_candidates_are_found_by_their_new_values,
            identities_are_set_and_released,
            setting_a_held_identity_is_a_conflict_and_writes_nothing,
            an_erased_candidate_is_gone_and_stays_gone,
            candidates_are_the_tenants_own,
            assignments_are_the_tenants_own,
            assignments_are_listed_newest_first_in_parts,
            assignments_are_filtered,
            a_booking_made_before_registration_belongs_to_the_candidate,
            an_erased_candidate_leaves_its_assignments_without_the_person,
            late_writes_to_assignments_of_an_erased_candidate_omit_the_person,
            bookings_of_a_subject_are_found,
            every_kind_of_intent_round_trips,
            due_intents_exclude_those_being_sent,
            an_outcome_is_written_for_its_own_attempt_only,
            the_time_of_the_last_use_is_remembered,
            intents_of_a_subject_are_found,
            open_enrolments_of_a_connection_are_found,
            a_settled_intent_is_gone,
            writes_of_one_call_have_independent_results,
            a_write_begins_under_a_free_key_which_is_bound_to_its_record,
            a_key_in_use_refuses_the_write,
            an_expired_key_is_replaced_by_the_write,
            a_refused_write_leaves_its_key_free,
            a_cancelled_row_stops_only_its_own_write,
            a_write_about_a_known_candidate_sets_its_identities,
            a_write_is_bound_to_a_key_acquired_before,
            records_are_found_by_their_ids,
            pictures_are_kept_and_lists_omit_them,
            a_key_is_acquired_once_and_then_returns_its_reply,
            a_key_with_other_content_is_a_mismatch,
            a_freed_key_is_new_and_an_open_one_is_resumable,
            an_earlier_use_of_a_key_has_no_effect,
            a_key_expires,
            only_one_of_many_acquires_a_key,
            rows_round_trip,
            a_window_ends_with_the_row_that_fills_it,
            reports_show_the_state_and_outcome_of_rows,
            open_writes_are_read_a_few_megabytes_at_a_time,
            an_operation_is_accepted_under_its_key_once,
            a_row_is_claimed_only_while_it_waits,
            rows_end_and_are_counted,
            a_finished_operation_is_queued_again,
            a_row_that_could_not_be_read_is_never_queued_again,
            rows_of_a_cancelled_operation_never_wait_again,
            a_row_left_to_a_person_ends_only_while_it_is_claimed,
            unfinished_operations_alternate_between_tenants_and_connections,
            operations_are_the_tenants_own_and_listed_newest_first,
            a_password_is_cleared_when_its_row_is_claimed_or_ends,
            expired_operations_and_keys_are_purged,
            entries_form_a_chain_per_tenant,
            concurrent_appends_form_one_chain,
            an_entry_is_committed_only_with_its_transaction,
        ]);
    };
}
pub(crate) use conformance;

/// Returns a system whose clock advances a millisecond per reading, so that later ids are larger, with the randomness
/// of the operating system.
pub(crate) fn environment() -> System {
    System { clock: Arc::new(Ticking(AtomicI64::new(1_790_000_000_000))), entropy: Arc::new(SystemRandom) }
}

struct Ticking(AtomicI64);
struct SystemRandom;

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.fetch_add(1, Ordering::Relaxed)).unwrap()
    }
}

impl SecureRandom for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).unwrap();
    }
}

/// Generator of unique records.
pub(crate) struct Maker(pub(crate) System);

impl Maker {
    /// Returns a unique name.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{what}-{:016x}", u64::from_be_bytes(self.0.random()))
    }

    /// Returns the id of a call of an operation of its own.
    pub(crate) fn enrolment_id(&self) -> EnrolmentId {
        EnrolmentId::new(&OperationId::generate(&self.0), 0)
    }

    pub(crate) fn person(&self) -> Person {
        let unique = self.name("p");
        Person {
            external_id: Some(format!("Ext-{unique}")),
            email: Some(format!("{unique}@example.org")),
            name: Name { given_name: Some("Ada".into()), family_name: Some("Lovelace".into()), formatted: None },
            ..Person::default()
        }
    }

    pub(crate) fn candidate(&self, tenant: &str, connection: &str, person: Person) -> Candidate {
        let now = self.0.now();
        Candidate {
            id: CandidateId::generate(&self.0),
            tenant: tenant.to_owned(),
            connection: connection.to_owned(),
            person,
            state: CandidateState::Pending,
            outcome: Outcome::Unknown,
            vendor_ref: Map::from_iter([("id".to_owned(), json!("v-1"))]),
            private: BTreeMap::from([("token".to_owned(), "t-1".to_owned())]),
            password_key: None,
            problem: None,
            warnings: vec![Warning::field_ignored("/photo")],
            created: now,
            last_modified: now,
        }
    }

    pub(crate) fn intent(&self, tenant: &str, connection: &str, write: Write) -> Intent {
        let started = self.0.now();
        let subject = write.record_id().to_owned();
        Intent {
            tenant: tenant.to_owned(),
            connection: connection.to_owned(),
            destination: Some(format!("vendor https://{connection}.example/ 1").into()),
            write,
            subject,
            origin: WriteOrigin::default(),
            opened: started,
            started,
            attempts: 1,
            under_way: true,
            lingering: true,
            settle_from: started + 30.seconds(),
            rested: std::time::Duration::ZERO,
            due: Some(started + 30.seconds()),
            reason: Some("the vendor did not answer".to_owned()),
        }
    }

    pub(crate) fn registration(&self, candidate: &Candidate) -> Intent {
        let registration = Registration {
            id: candidate.id.clone(),
            person: candidate.person.clone(),
            own_user_name: true,
            password: Some(Secret::new("correct horse battery")),
            own_password: true,
        };
        self.intent(&candidate.tenant, &candidate.connection, Write::Register(registration))
    }

    pub(crate) fn assignment(&self, tenant: &str, connection: &str, subject: &str) -> Assignment {
        let now = self.0.now();
        Assignment {
            id: AssignmentId::generate(&self.0),
            tenant: tenant.to_owned(),
            connection: connection.to_owned(),
            candidate_id: None,
            order: NewAssignment {
                candidate: CandidateKey::Email("ada@example.org".into()),
                assessment: "rust-101".into(),
                valid_from: None,
                valid_until: Some(now),
                center: Some("mycenter".into()),
                notify: Notify::VendorEmail,
                passwordless: true,
                proctoring: Proctoring::default(),
                if_exists: IfAssignmentExists::Fail,
                reference: Some("order 7".into()),
            },
            vendor_key: "ada@example.org".into(),
            identity: None,
            assessment_ref: "fa19e351".into(),
            subject: subject.to_owned(),
            state: AssignmentState::Assigned,
            outcome: Outcome::Applied,
            vendor_ref: Map::new(),
            launch: Some(Launch { url: "https://go.example.org/#1".into(), expires_at: None }),
            problem: None,
            warnings: Vec::new(),
            created: now,
            last_modified: now,
        }
    }

    /// Inserts a candidate of a fresh tenant at a fresh connection, with its external id.
    pub(crate) async fn claimed(&self, store: &dyn Store) -> Candidate {
        let candidate = self.candidate(&self.name("tenant"), &self.name("connection"), self.person());
        assert_eq!(self.claim(store, &candidate).await, BeginResult::Begun);
        candidate
    }

    /// Inserts the candidate with its external id and user name.
    pub(crate) async fn claim(&self, store: &dyn Store, candidate: &Candidate) -> BeginResult {
        let identities = Identity::of(&candidate.person, BY_NAME);
        let mut claims = store.begin_writes(None, vec![self.claimant(candidate, identities)]).await.unwrap();
        claims.remove(0)
    }

    /// Returns the candidate's registration, without an origin.
    pub(crate) fn claimant(&self, candidate: &Candidate, identities: Vec<Identity>) -> PreparedWrite {
        let record = PreparedRecord::NewCandidate(candidate.clone(), identities);
        PreparedWrite { record, intent: self.registration(candidate), subjects: Vec::new() }
    }
}

pub(crate) async fn answers_a_ping(store: Arc<dyn Store>, _make: Maker) {
    store.ping().await.unwrap();
}

pub(crate) async fn a_claim_writes_candidate_identities_and_intent(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let Candidate { tenant, connection, id, person, .. } = &candidate;
    assert_eq!(store.candidate(tenant, id).await.unwrap().as_ref(), Some(&candidate));
    for identity in Identity::of(person, IdentityKind::ALL) {
        for at in [Some(connection.as_str()), None] {
            assert_eq!(
                store.candidates(tenant, at, &identity).await.unwrap(),
                std::slice::from_ref(&candidate),
                "{identity:?}"
            );
        }
    }
    let intent = store.intent(id.as_str()).await.unwrap().unwrap();
    assert_eq!(intent.write.record_id(), id.as_str());
}

pub(crate) async fn a_held_identity_returns_its_holders_and_writes_nothing(store: Arc<dyn Store>, make: Maker) {
    let one = make.claimed(&*store).await;
    let two = make.candidate(&one.tenant, &one.connection, Person { user_name: Some("grace".into()), ..make.person() });
    assert_eq!(make.claim(&*store, &two).await, BeginResult::Begun);
    let both = Person { external_id: one.person.external_id.clone(), user_name: Some("GRACE".into()), ..make.person() };
    let third = make.candidate(&one.tenant, &one.connection, both);
    assert_eq!(make.claim(&*store, &third).await, BeginResult::Exists(vec![one.clone(), two]));
    assert_eq!(store.candidate(&third.tenant, &third.id).await.unwrap(), None);
    assert!(store.intent(third.id.as_str()).await.unwrap().is_none());
    let again = make.candidate(&one.tenant, &one.connection, one.person.clone());
    assert_eq!(make.claim(&*store, &again).await, BeginResult::Exists(vec![one]));
}

pub(crate) async fn an_identity_of_another_tenant_is_taken(store: Arc<dyn Store>, make: Maker) {
    let theirs = make.claimed(&*store).await;
    let own = make.candidate(
        &make.name("tenant"),
        &theirs.connection,
        Person { user_name: Some("own".into()), ..make.person() },
    );
    assert_eq!(make.claim(&*store, &own).await, BeginResult::Begun);
    // One identity belongs to this tenant, the other to another one: the result reveals neither holder.
    let person = Person { user_name: Some("own".into()), ..theirs.person.clone() };
    let mine = make.candidate(&own.tenant, &theirs.connection, person);
    assert_eq!(make.claim(&*store, &mine).await, BeginResult::TakenByOtherTenant);
    assert_eq!(store.candidate(&mine.tenant, &mine.id).await.unwrap(), None);
}

pub(crate) async fn identities_of_other_tenants_are_detected(store: Arc<dyn Store>, make: Maker) {
    let theirs = make.claimed(&*store).await;
    let Candidate { tenant, connection, person, .. } = &theirs;
    let held = Identity::of(person, BY_NAME);
    let free = Identity::ExternalId(make.name("free"));
    let other = make.name("tenant");
    let both = [free.clone(), held[0].clone()];
    assert!(store.identities_of_other_tenants(&other, connection, &both).await.unwrap());
    assert!(!store.identities_of_other_tenants(tenant, connection, &both).await.unwrap(), "its own");
    assert!(!store.identities_of_other_tenants(&other, &make.name("connection"), &both).await.unwrap(), "elsewhere");
    assert!(!store.identities_of_other_tenants(&other, connection, &[free]).await.unwrap());
    assert!(!store.identities_of_other_tenants(&other, connection, &[]).await.unwrap());
    store.commit(vec![Mutation::Identities(theirs.id.clone(), Vec::new())]).await.unwrap();
    assert!(!store.identities_of_other_tenants(&other, connection, &both).await.unwrap(), "given up");
}

pub(crate) async fn identities_of_other_connections_are_free(store: Arc<dyn Store>, make: Maker) {
    let here = make.claimed(&*store).await;
    let there = make.candidate(&here.tenant, &make.name("connection"), here.person.clone());
    assert_eq!(make.claim(&*store, &there).await, BeginResult::Begun);
    let identity = Identity::ExternalId(here.person.external_id.clone().unwrap());
    assert_eq!(
        store.candidates(&here.tenant, Some(&here.connection), &identity).await.unwrap(),
        std::slice::from_ref(&here)
    );
    assert_eq!(store.candidates(&here.tenant, None, &identity).await.unwrap(), [here, there]);
}

pub(crate) async fn one_of_many_parallel_claims_wins(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection, person) = (make.name("tenant"), make.name("connection"), make.person());
    let make = Arc::new(make);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (store, make) = (Arc::clone(&store), Arc::clone(&make));
        let candidate = make.candidate(&tenant, &connection, person.clone());
        tasks.spawn(async move { (candidate.clone(), make.claim(&*store, &candidate).await) });
    }
    let claims = tasks.join_all().await;
    let winners: Vec<_> = claims.iter().filter(|(_, claim)| *claim == BeginResult::Begun).map(|(c, _)| c).collect();
    assert_eq!(winners.len(), 1);
    for (candidate, claim) in &claims {
        if candidate != winners[0] {
            assert_eq!(*claim, BeginResult::Exists(vec![winners[0].clone()]));
        }
    }
}

pub(crate) async fn many_parallel_claims_of_different_people_all_win(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let make = Arc::new(make);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (store, make) = (Arc::clone(&store), Arc::clone(&make));
        let candidate = make.candidate(&tenant, &connection, make.person());
        tasks.spawn(async move {
            assert_eq!(make.claim(&*store, &candidate).await, BeginResult::Begun);
            // Acknowledged, so visible.
            assert_eq!(store.candidate(&candidate.tenant, &candidate.id).await.unwrap(), Some(candidate));
        });
    }
    tasks.join_all().await;
}

pub(crate) async fn an_acknowledged_write_is_seen_at_once(store: Arc<dyn Store>, make: Maker) {
    let mut candidate = make.claimed(&*store).await;
    for round in 0..50 {
        candidate.person.name.formatted = Some(format!("Ada {round}"));
        store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
        assert_eq!(store.candidate(&candidate.tenant, &candidate.id).await.unwrap().as_ref(), Some(&candidate));
    }
}

pub(crate) async fn changed_candidates_are_found_by_their_new_values(store: Arc<dyn Store>, make: Maker) {
    let mut candidate = make.claimed(&*store).await;
    let before = Identity::Email(candidate.person.email.clone().unwrap());
    let after = Identity::Email("new@example.org".into());
    candidate.person.email = Some("NEW@example.org".into());
    candidate.state = CandidateState::Registered;
    store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
    assert_eq!(store.candidates(&candidate.tenant, None, &before).await.unwrap(), []);
    assert_eq!(store.candidates(&candidate.tenant, None, &after).await.unwrap(), [candidate]);
}

pub(crate) async fn identities_are_set_and_released(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let (old, new) = (Identity::of(&candidate.person, BY_NAME), Identity::UserName("ada".into()));
    // Claimed although not in the record yet: still found.
    store.commit(vec![Mutation::Identities(candidate.id.clone(), vec![new.clone()])]).await.unwrap();
    for at in [None, Some(candidate.connection.as_str())] {
        assert_eq!(store.candidates(&candidate.tenant, at, &new).await.unwrap(), std::slice::from_ref(&candidate));
    }
    let other = make.candidate(&candidate.tenant, &candidate.connection, make.person());
    let held = store.begin_writes(None, vec![make.claimant(&other, vec![new.clone()])]).await.unwrap();
    assert_eq!(held, [BeginResult::Exists(vec![candidate.clone()])]);
    // Released although still in the record: found by the record, but not by an identity that was never in it.
    store.commit(vec![Mutation::Identities(candidate.id.clone(), Vec::new())]).await.unwrap();
    for at in [None, Some(candidate.connection.as_str())] {
        for said in &old {
            assert_eq!(store.candidates(&candidate.tenant, at, said).await.unwrap(), std::slice::from_ref(&candidate));
        }
        assert_eq!(store.candidates(&candidate.tenant, at, &new).await.unwrap(), []);
    }
    assert_eq!(store.begin_writes(None, vec![make.claimant(&other, old)]).await.unwrap(), [BeginResult::Begun]);
}

pub(crate) async fn setting_a_held_identity_is_a_conflict_and_writes_nothing(store: Arc<dyn Store>, make: Maker) {
    let holder = make.claimed(&*store).await;
    let candidate = make.candidate(&holder.tenant, &holder.connection, make.person());
    make.claim(&*store, &candidate).await;
    let (taken, own) = (Identity::of(&holder.person, BY_NAME), Identity::of(&candidate.person, BY_NAME));
    let assignment = make.assignment(&candidate.tenant, &candidate.connection, "s");
    let failed = Candidate { state: CandidateState::Failed, ..candidate.clone() };
    let changes = vec![
        Mutation::Assignment(assignment.clone()),
        Mutation::Candidate(failed),
        Mutation::RemoveIntent(candidate.id.to_string()),
        Mutation::Identities(candidate.id.clone(), taken),
    ];
    assert!(matches!(store.commit(changes).await, Err(StoreError::Conflict)));
    assert_eq!(store.candidate(&candidate.tenant, &candidate.id).await.unwrap().as_ref(), Some(&candidate));
    assert_eq!(store.assignment(&assignment.tenant, &assignment.id).await.unwrap(), None);
    assert!(store.intent(candidate.id.as_str()).await.unwrap().is_some());
    assert_eq!(store.candidates(&candidate.tenant, None, &own[0]).await.unwrap(), [candidate]);
}

pub(crate) async fn an_erased_candidate_is_gone_and_stays_gone(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let Candidate { tenant, id, person, .. } = &candidate;
    store.commit(vec![Mutation::EraseCandidate(id.clone())]).await.unwrap();
    let late = vec![
        Mutation::Candidate(candidate.clone()),
        Mutation::Identities(id.clone(), Identity::of(person, IdentityKind::ALL)),
        Mutation::RemoveIntent(id.to_string()),
    ];
    store.commit(late).await.unwrap();
    assert_eq!(store.candidate(tenant, id).await.unwrap(), None);
    assert!(store.intent(id.as_str()).await.unwrap().is_none());
    for identity in Identity::of(person, IdentityKind::ALL) {
        assert_eq!(store.candidates(tenant, None, &identity).await.unwrap(), []);
    }
    let again = make.candidate(tenant, &candidate.connection, person.clone());
    assert_eq!(make.claim(&*store, &again).await, BeginResult::Begun);
}

pub(crate) async fn candidates_are_the_tenants_own(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let stranger = make.name("tenant");
    assert_eq!(store.candidate(&stranger, &candidate.id).await.unwrap(), None);
    for identity in Identity::of(&candidate.person, IdentityKind::ALL) {
        assert_eq!(store.candidates(&stranger, None, &identity).await.unwrap(), []);
        let at = Some(candidate.connection.as_str());
        assert_eq!(store.candidates(&stranger, at, &identity).await.unwrap(), []);
    }
    let theirs = Candidate { tenant: stranger, ..candidate.clone() };
    store.commit(vec![Mutation::Candidate(theirs)]).await.unwrap();
    assert_eq!(store.candidate(&candidate.tenant, &candidate.id).await.unwrap(), Some(candidate));
}

pub(crate) async fn assignments_are_the_tenants_own(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection, stranger) = (make.name("tenant"), make.name("connection"), make.name("tenant"));
    let assignment = make.assignment(&tenant, &connection, "s");
    store.commit(vec![Mutation::Assignment(assignment.clone())]).await.unwrap();
    assert_eq!(store.assignment(&stranger, &assignment.id).await.unwrap(), None);
    assert_eq!(store.bookings(&stranger, &connection, "s").await.unwrap(), []);
    let page = Page { limit: 10, after: None };
    assert_eq!(store.assignments(&stranger, &AssignmentFilter::default(), &page).await.unwrap(), []);
    let theirs = Assignment { tenant: stranger, ..assignment.clone() };
    store.commit(vec![Mutation::Assignment(theirs)]).await.unwrap();
    assert_eq!(store.assignment(&tenant, &assignment.id).await.unwrap(), Some(assignment));
}

pub(crate) async fn assignments_are_listed_newest_first_in_parts(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let mut all: Vec<Assignment> = (0..5).map(|_| make.assignment(&tenant, &connection, "s")).collect();
    store.commit(all.iter().cloned().map(Mutation::Assignment).collect()).await.unwrap();
    all.reverse();
    let (mut listed, mut after) = (Vec::new(), None);
    for size in [2, 2, 1, 0] {
        let page = Page { limit: 2, after: after.clone() };
        let part = store.assignments(&tenant, &AssignmentFilter::default(), &page).await.unwrap();
        assert_eq!(part.len(), size);
        after = part.last().map(|last| last.id.to_string()).or(after);
        listed.extend(part);
    }
    assert_eq!(listed, all);
}

pub(crate) async fn assignments_are_filtered(store: Arc<dyn Store>, make: Maker) {
    let known = make.claimed(&*store).await;
    let (tenant, here, there) = (known.tenant.clone(), known.connection.clone(), make.name("connection"));
    let candidate = known.id.clone();
    let of_candidate = Some(CandidateSelector { id: candidate.clone(), known_as: None });
    let mut first = make.assignment(&tenant, &here, "s");
    first.candidate_id = Some(candidate.clone());
    let mut second = make.assignment(&tenant, &there, "s");
    second.order.assessment = "other".into();
    second.assessment_ref = "other-ref".into();
    second.state = AssignmentState::Cancelled;
    store.commit(vec![Mutation::Assignment(first.clone()), Mutation::Assignment(second.clone())]).await.unwrap();
    let any = AssignmentFilter::default;
    let cases = [
        (any(), vec![&second, &first]),
        (AssignmentFilter { candidate: of_candidate.clone(), ..any() }, vec![&first]),
        (AssignmentFilter { assessment: vec!["unheard-of".into(), "rust-101".into()], ..any() }, vec![&first]),
        (AssignmentFilter { assessment: vec!["other-ref".into()], ..any() }, vec![&second]),
        (AssignmentFilter { connection: Some(there.clone()), ..any() }, vec![&second]),
        (AssignmentFilter { state: Some(AssignmentState::Cancelled), ..any() }, vec![&second]),
        (AssignmentFilter { candidate: of_candidate, connection: Some(there), ..any() }, vec![]),
    ];
    for (filter, expected) in cases {
        let found = store.assignments(&tenant, &filter, &Page { limit: 10, after: None }).await.unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

/// Returns the tenant's assignments of a candidate known by an external id.
async fn assignments_of(store: &dyn Store, candidate: &Candidate) -> Vec<Assignment> {
    let identity = candidate.person.external_id.clone().map(Identity::ExternalId);
    let known_as = identity.map(|identity| (candidate.connection.clone(), identity));
    let of = CandidateSelector { id: candidate.id.clone(), known_as };
    let filter = AssignmentFilter { candidate: Some(of), ..AssignmentFilter::default() };
    store.assignments(&candidate.tenant, &filter, &Page { limit: 10, after: None }).await.unwrap()
}

/// Returns a booking by external id, made before its candidate is registered.
fn unlinked(make: &Maker, candidate: &Candidate) -> Assignment {
    let id = candidate.person.external_id.clone().unwrap();
    let booked = make.assignment(&candidate.tenant, &candidate.connection, &format!("{id}|rust|"));
    Assignment { vendor_key: id.clone(), identity: Some(Identity::ExternalId(id)), ..booked }
}

pub(crate) async fn a_booking_made_before_registration_belongs_to_the_candidate(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let booked = unlinked(&make, &candidate);
    let elsewhere = Assignment { connection: make.name("connection"), ..unlinked(&make, &candidate) };
    let of_other = Assignment { tenant: make.name("tenant"), ..unlinked(&make, &candidate) };
    let by_email =
        Assignment { identity: candidate.person.email.clone().map(Identity::Email), ..unlinked(&make, &candidate) };
    for assignment in [&booked, &elsewhere, &of_other, &by_email] {
        store.commit(vec![Mutation::Assignment(assignment.clone())]).await.unwrap();
    }
    assert_eq!(assignments_of(&*store, &candidate).await, [booked]);
}

pub(crate) async fn an_erased_candidate_leaves_its_assignments_without_the_person(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let by_id = Assignment {
        candidate_id: Some(candidate.id.clone()),
        ..make.assignment(&candidate.tenant, &candidate.connection, "s")
    };
    let (before, open) = (unlinked(&make, &candidate), unlinked(&make, &candidate));
    let open = Assignment { state: AssignmentState::Unknown, ..open };
    let of_other = Assignment { tenant: make.name("tenant"), ..unlinked(&make, &candidate) };
    for assignment in [&by_id, &before, &open, &of_other] {
        store.commit(vec![Mutation::Assignment(assignment.clone())]).await.unwrap();
    }
    store.commit(vec![Mutation::EraseCandidate(candidate.id.clone())]).await.unwrap();
    for assignment in [&by_id, &before] {
        let read = store.assignment(&assignment.tenant, &assignment.id).await.unwrap().unwrap();
        assert_eq!(read, assignment.clone().without_person(&candidate.id));
        let text = serde_json::to_string(&read).unwrap();
        assert!(!text.contains("ada@") && !text.contains("Ext-"), "{text}");
        assert!(store.is_subject_known(&assignment.connection, &assignment.subject).await.unwrap(), "still known");
    }
    let read = store.assignment(&open.tenant, &open.id).await.unwrap().unwrap();
    assert_eq!((&read.vendor_key, &read.subject), (&open.vendor_key, &open.subject), "needed to reconcile it");
    assert_eq!(read.order.candidate, CandidateKey::Id(candidate.id.clone()));
    let others = store.assignment(&of_other.tenant, &of_other.id).await.unwrap();
    assert_eq!(others, Some(of_other), "another tenant's assignment stays");
}

pub(crate) async fn late_writes_to_assignments_of_an_erased_candidate_omit_the_person(
    store: Arc<dyn Store>,
    make: Maker,
) {
    let candidate = make.claimed(&*store).await;
    let booked = Assignment {
        candidate_id: Some(candidate.id.clone()),
        ..make.assignment(&candidate.tenant, &candidate.connection, "s")
    };
    let pending = Assignment { state: AssignmentState::Pending, ..booked.clone() };
    store.commit(vec![Mutation::Assignment(pending)]).await.unwrap();
    store.commit(vec![Mutation::EraseCandidate(candidate.id.clone())]).await.unwrap();
    let gone = store.partially_erased_candidates(None, usize::MAX).await.unwrap();
    assert!(gone.contains(&candidate.id), "its assignment is still pending");
    store.commit(vec![Mutation::Assignment(booked.clone())]).await.unwrap();
    let read = store.assignment(&booked.tenant, &booked.id).await.unwrap();
    assert_eq!(read, Some(booked.clone().without_person(&candidate.id)));
    assert!(store.is_subject_known(&booked.connection, &booked.subject).await.unwrap());
    assert!(!store.partially_erased_candidates(None, usize::MAX).await.unwrap().contains(&candidate.id));
}

pub(crate) async fn bookings_of_a_subject_are_found(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    assert!(!store.is_subject_known(&connection, "ada|rust|").await.unwrap());
    let (first, other, mut second) = (
        make.assignment(&tenant, &connection, "ada|rust|"),
        make.assignment(&tenant, &connection, "ada|go|"),
        make.assignment(&tenant, &connection, "ada|rust|"),
    );
    store.commit([&first, &other, &second].map(|a| Mutation::Assignment(a.clone())).to_vec()).await.unwrap();
    second.state = AssignmentState::Failed;
    store.commit(vec![Mutation::Assignment(second.clone())]).await.unwrap();
    assert_eq!(store.bookings(&tenant, &connection, "ada|rust|").await.unwrap(), [second, first]);
    assert!(store.is_subject_known(&connection, "ada|rust|").await.unwrap());
    assert!(!store.is_subject_known(&make.name("connection"), "ada|rust|").await.unwrap());
}

pub(crate) async fn every_kind_of_intent_round_trips(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let candidate = make.candidate(&tenant, &connection, make.person());
    let known = |id: &CandidateId| CandidateSnapshot {
        id: id.clone(),
        person: candidate.person.clone(),
        vendor_ref: candidate.vendor_ref.clone(),
        private: candidate.private.clone(),
    };
    let booking = Booking {
        id: AssignmentId::generate(&make.0),
        candidate: VendorKey("ada@example.org".into()),
        private: candidate.private.clone(),
        assessment: "fa19e351".into(),
        center: Some("mycenter".into()),
        valid_from: Some(make.0.now()),
        valid_until: None,
        notify: Notify::VendorEmail,
        passwordless: true,
        proctoring: Proctoring { enabled: true, parameters: BTreeMap::from([("a".into(), "b".into())]) },
        if_exists: IfAssignmentExists::CreateNew,
        first_booking: true,
    };
    let cancellation = Cancellation {
        id: AssignmentId::generate(&make.0),
        candidate: VendorKey("ada@example.org".into()),
        assessment: "fa19e351".into(),
    };
    let call = EnrolmentBatch {
        program: ProgramRef::External("p".into()),
        enrolment: Enrolment { scope: AssessmentScope::All, register: vec!["a".into()], unregister: Vec::new() },
    };
    let update = Update { candidate: known(&CandidateId::generate(&make.0)), touched: vec!["/email".into()] };
    let intents = [
        make.registration(&candidate),
        make.intent(&tenant, &connection, Write::Update(update)),
        make.intent(&tenant, &connection, Write::Hide(known(&CandidateId::generate(&make.0)))),
        make.intent(&tenant, &connection, Write::Assign(booking)),
        make.intent(&tenant, &connection, Write::Cancel(cancellation)),
        make.intent(&tenant, &connection, Write::Enrol(EnrolmentWrite { id: make.enrolment_id(), call })),
    ];
    store.commit(intents.iter().cloned().map(Mutation::Intent).collect()).await.unwrap();
    for intent in &intents {
        let read = store.intent(intent.write.record_id()).await.unwrap().unwrap();
        // Debug shows every field except the secret ones.
        assert_eq!(format!("{read:?}"), format!("{intent:?}"));
    }
    let read = store.intent(candidate.id.as_str()).await.unwrap().unwrap();
    let Write::Register(registration) = read.write else { panic!("another write came back") };
    assert!(registration.password.unwrap().matches_constant_time("correct horse battery"));
}

pub(crate) async fn due_intents_exclude_those_being_sent(store: Arc<dyn Store>, make: Maker) {
    let (tenant, at) = (make.name("tenant"), make.name("connection"));
    let [one, two, three] = [(); 3].map(|()| make.candidate(&tenant, &at, make.person()));
    for candidate in [&one, &two, &three] {
        assert_eq!(make.claim(&*store, candidate).await, BeginResult::Begun);
    }
    let due = async |now: Timestamp| {
        let due = store.due_intents(&at, now, Timestamp::MAX, 10).await.unwrap();
        due.iter().map(|intent| intent.write.record_id().to_owned()).collect::<Vec<_>>()
    };
    let far = make.0.now() + 1.hours();
    assert_eq!(due(far).await, Vec::<String>::new(), "all are being sent");
    let at_rest = |candidate: &Candidate, due: Option<Timestamp>| {
        Mutation::Intent(Intent { under_way: false, due, attempts: 2, ..make.registration(candidate) })
    };
    let (soon, later) = (make.0.now() + 1.minutes(), make.0.now() + 2.minutes());
    let changes = vec![at_rest(&one, Some(later)), at_rest(&two, Some(soon)), at_rest(&three, None)];
    store.commit(changes).await.unwrap();
    assert_eq!(due(far).await, [two.id.to_string(), one.id.to_string()], "the longest due first");
    assert_eq!(due(soon).await, [two.id.to_string()]);
    assert_eq!(due(soon - 1.seconds()).await, Vec::<String>::new());
    let beyond = store.due_intents(&at, soon - 1.seconds(), soon, 10).await.unwrap();
    assert_eq!(beyond.len(), 1, "an intent postponed beyond the horizon is due");
    assert!(store.due_intents(&make.name("connection"), far, Timestamp::MAX, 10).await.unwrap().is_empty());
    let unsettled = store.count_unsettled_intents().await.unwrap();
    let here = unsettled.iter().filter(|open| open.connection == at);
    assert_eq!(here.map(|open| (open.operation.as_str(), open.count)).collect::<Vec<_>>(), [("candidates.create", 3)]);
}

pub(crate) async fn an_outcome_is_written_for_its_own_attempt_only(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let id = candidate.id.to_string();
    let first = store.intent(&id).await.unwrap().unwrap();
    let own = store.own_intents("", 1000).await.unwrap();
    assert!(own.iter().any(|intent| intent.write.record_id() == id), "this instance is sending it");
    let after = store.own_intents(&id, 1000).await.unwrap();
    assert!(!after.iter().any(|intent| intent.write.record_id() == id));
    let registered = Candidate { state: CandidateState::Registered, ..candidate.clone() };
    let concluded = |attempt: &Intent| {
        let held = Mutation::RequireAttempt(id.clone(), attempt.started);
        vec![held, Mutation::Candidate(registered.clone()), Mutation::RemoveIntent(id.clone())]
    };
    let second = Intent { started: first.started + 1.minutes(), attempts: 2, ..first.clone() };
    store.commit(vec![Mutation::Intent(second.clone())]).await.unwrap();
    let late = store.commit(concluded(&first)).await;
    assert!(matches!(late, Err(StoreError::Superseded)), "{late:?}");
    assert_eq!(store.candidate(&candidate.tenant, &candidate.id).await.unwrap().unwrap().state, candidate.state);
    let resting = Intent { under_way: false, ..second.clone() };
    store.commit(vec![Mutation::Intent(resting)]).await.unwrap();
    assert!(matches!(store.commit(concluded(&second)).await, Err(StoreError::Superseded)), "no instance is sending it");
    store.commit(vec![Mutation::Intent(second.clone())]).await.unwrap();
    store.commit(concluded(&second)).await.unwrap();
    assert!(store.intent(&id).await.unwrap().is_none());
    assert!(matches!(store.commit(concluded(&second)).await, Err(StoreError::Superseded)), "it was already concluded");
}

pub(crate) async fn the_time_of_the_last_use_is_remembered(store: Arc<dyn Store>, make: Maker) {
    let (now, later) = (make.0.now(), make.0.now() + 1.hours());
    for moment in [later, now] {
        store.remember_time(moment).await.unwrap();
        assert!(store.remembered_time().await.unwrap().is_some());
    }
}

pub(crate) async fn open_enrolments_of_a_connection_are_found(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let enrol = |connection: &str| {
        let enrolment =
            Enrolment { scope: AssessmentScope::All, register: vec!["e1".into()], unregister: vec!["e2".into()] };
        let call = EnrolmentBatch { program: ProgramRef::External("onboarding".into()), enrolment };
        let write = Write::Enrol(EnrolmentWrite { id: make.enrolment_id(), call });
        make.intent(&tenant, connection, write)
    };
    let (first, second, elsewhere) = (enrol(&connection), enrol(&connection), enrol(&make.name("connection")));
    // Earlier versions used a rendering of the program as the subject; it makes no difference.
    let second = Intent { subject: format!("{connection}\nprogram\nExternal(\"onboarding\")"), ..second };
    for intent in [&first, &second, &elsewhere] {
        store.commit(vec![Mutation::Intent(intent.clone())]).await.unwrap();
    }
    make.claim(&*store, &make.candidate(&tenant, &connection, make.person())).await;
    let found = async |connection: &str| {
        let found = store.enrolment_intents(connection).await.unwrap();
        found.iter().map(|intent| intent.write.record_id().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found(&connection).await, [first.write.record_id(), second.write.record_id()]);
    store.commit(vec![Mutation::RemoveIntent(first.write.record_id().to_owned())]).await.unwrap();
    assert_eq!(found(&connection).await, [second.write.record_id()]);
}

pub(crate) async fn intents_of_a_subject_are_found(store: Arc<dyn Store>, make: Maker) {
    let (one, two) = (make.claimed(&*store).await, make.claimed(&*store).await);
    let subject = make.name("subject");
    let about = |candidate| Intent { subject: subject.clone(), ..make.registration(candidate) };
    store.commit(vec![Mutation::Intent(about(&two)), Mutation::Intent(about(&one))]).await.unwrap();
    let found = store.intents_of(&subject).await.unwrap();
    assert_eq!(
        found.iter().map(|intent| intent.write.record_id()).collect::<Vec<_>>(),
        [two.id.as_str(), one.id.as_str()]
    );
    assert!(store.intents_of(&make.name("subject")).await.unwrap().is_empty());
}

pub(crate) async fn writes_of_one_call_have_independent_results(store: Arc<dyn Store>, make: Maker) {
    let there = make.claimed(&*store).await;
    let new = || make.candidate(&there.tenant, &there.connection, make.person());
    let again = make.candidate(&there.tenant, &there.connection, there.person.clone());
    let stranger = make.candidate(&make.name("tenant"), &there.connection, there.person.clone());
    let (first, last) = (new(), new());
    let twin = make.candidate(&there.tenant, &there.connection, first.person.clone());
    let all = [&first, &again, &stranger, &twin, &last];
    let claimants = all.map(|candidate| make.claimant(candidate, Identity::of(&candidate.person, BY_NAME)));
    let claims = store.begin_writes(None, claimants.to_vec()).await.unwrap();
    let held = |by: &Candidate| BeginResult::Exists(vec![by.clone()]);
    assert_eq!(
        claims,
        [BeginResult::Begun, held(&there), BeginResult::TakenByOtherTenant, held(&first), BeginResult::Begun]
    );
    for refused in [&again, &stranger, &twin] {
        assert_eq!(store.candidate(&refused.tenant, &refused.id).await.unwrap(), None);
        assert!(store.intent(refused.id.as_str()).await.unwrap().is_none());
    }
}

pub(crate) async fn records_are_found_by_their_ids(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let assignment = make.assignment(&candidate.tenant, &candidate.connection, "s");
    store.commit(vec![Mutation::Assignment(assignment.clone())]).await.unwrap();
    let gone = CandidateId::generate(&make.0).to_string();
    let found = store.candidates_by_id(&candidate.tenant, &[gone.clone(), candidate.id.to_string()]).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&candidate));
    assert_eq!(store.candidates_by_id("stranger", &[candidate.id.to_string()]).await.unwrap(), []);
    let found = store.assignments_by_id(&candidate.tenant, &[gone, assignment.id.to_string()]).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&assignment));
    assert_eq!(store.assignments_by_id("stranger", &[assignment.id.to_string()]).await.unwrap(), []);
}

pub(crate) async fn pictures_are_kept_and_lists_omit_them(store: Arc<dyn Store>, make: Maker) {
    let (tenant, name) = (make.name("tenant"), make.name("connection"));
    let person = Person { photo: Some("QUJD".repeat(1000).into()), ..make.person() };
    let mut candidate = make.candidate(&tenant, &name, person);
    let claimed = store
        .begin_writes(None, vec![make.claimant(&candidate, Identity::of(&candidate.person, BY_NAME))])
        .await
        .unwrap();
    assert_eq!(claimed, [BeginResult::Begun]);
    assert_eq!(store.candidate(&tenant, &candidate.id).await.unwrap().as_ref(), Some(&candidate));
    candidate.state = CandidateState::Registered;
    store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
    assert_eq!(store.candidate(&tenant, &candidate.id).await.unwrap().as_ref(), Some(&candidate));
    let external = Identity::ExternalId(candidate.person.external_id.clone().unwrap_or_default());
    assert_eq!(store.candidates(&tenant, None, &external).await.unwrap(), std::slice::from_ref(&candidate));
    let listed = store.candidates_by_id(&tenant, &[candidate.id.to_string()]).await.unwrap();
    candidate.person.photo = None;
    assert_eq!(listed, std::slice::from_ref(&candidate));
    // A removed picture is gone.
    store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
    assert_eq!(store.candidate(&tenant, &candidate.id).await.unwrap(), Some(candidate));
}

pub(crate) async fn open_writes_are_read_a_few_megabytes_at_a_time(store: Arc<dyn Store>, make: Maker) {
    let (tenant, name) = (make.name("tenant"), make.name("connection"));
    for _ in 0..12 {
        let person = Person { photo: Some("x".repeat(1 << 20).into()), ..make.person() };
        let candidate = make.candidate(&tenant, &name, person);
        let mut claimant = make.claimant(&candidate, Vec::new());
        claimant.intent.under_way = false;
        claimant.intent.due = Some(make.0.now());
        store.begin_writes(None, vec![claimant]).await.unwrap();
    }
    let due = store.due_intents(&name, make.0.now(), Timestamp::MAX, 100).await.unwrap().len();
    assert!((1..10).contains(&due), "{due}");
}

pub(crate) async fn a_settled_intent_is_gone(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let registered = Candidate { state: CandidateState::Registered, outcome: Outcome::Applied, ..candidate };
    let id = registered.id.to_string();
    store.commit(vec![Mutation::Candidate(registered.clone()), Mutation::RemoveIntent(id.clone())]).await.unwrap();
    assert!(store.intent(&id).await.unwrap().is_none());
    assert!(store.intents_of(&id).await.unwrap().is_empty());
    assert_eq!(store.candidate(&registered.tenant, &registered.id).await.unwrap(), Some(registered));
}
