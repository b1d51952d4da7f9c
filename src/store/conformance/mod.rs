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
use crate::domain::identity::ExternalId;
use crate::domain::ids::{AssignmentId, CandidateId, EnrolmentId, OperationId};
use crate::domain::intent::{EnrolmentWrite, Intent, Write, WriteOrigin};
use crate::domain::outcome::{Outcome, Warning};
use crate::domain::program::{AssessmentScope, Enrolment, ProgramRef};
use crate::domain::system::{Clock, SecureRandom, System};
use crate::domain::vendor::{
    Booking, Cancellation, CandidateSnapshot, EnrolmentBatch, Registration, Update, VendorKey,
};
use crate::secret::Secret;

mod assignments;
mod audit;
mod begin;
mod candidates;
mod concurrency;
mod event_followers;
mod events;
mod fetches;
mod intents;
mod keys;
mod lists;
mod operations;
mod reports;
mod result_erasure;
mod results;
mod webhook_changes;
mod webhooks;

/// The identity kinds of a vendor that does not identify people by e-mail address.
pub(crate) const BY_NAME: &[IdentityKind] = &[IdentityKind::ExternalId, IdentityKind::UserName];

pub(crate) use assignments::*;
pub(crate) use audit::*;
pub(crate) use begin::*;
pub(crate) use candidates::*;
pub(crate) use concurrency::*;
pub(crate) use event_followers::*;
pub(crate) use events::*;
pub(crate) use fetches::*;
pub(crate) use intents::*;
pub(crate) use keys::*;
pub(crate) use lists::*;
pub(crate) use operations::*;
pub(crate) use reports::*;
pub(crate) use result_erasure::*;
pub(crate) use results::*;
pub(crate) use webhook_changes::*;
pub(crate) use webhooks::*;

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
            candidates_are_listed_newest_first_and_filtered,
            changed_candidates_are_listed_in_their_new_state_and_group,
            pages_of_candidates_neither_skip_nor_repeat,
            a_person_has_assignments_at_several_connections,
            operations_are_filtered,
            rows_being_settled_are_counted,
            a_password_is_cleared_when_its_row_is_claimed_or_ends,
            expired_operations_and_keys_are_purged,
            entries_form_a_chain_per_tenant,
            concurrent_appends_form_one_chain,
            an_entry_is_committed_only_with_its_transaction,
            one_of_many_callers_with_one_key_begins,
            one_of_many_callers_concludes_an_attempt,
            refused_commits_among_many_fail_alone,
            a_cancelled_row_among_many_callers_stops_only_its_own,
            callers_at_the_same_time_see_some_order,
            webhooks_are_kept_in_order_until_they_are_read,
            a_report_is_recorded_once,
            a_repeat_is_counted_and_moves_the_time_forward_only,
            a_series_has_its_applied_reports_and_results,
            parked_reports_are_looked_at_again_by_each_hint,
            reports_are_read_in_order_of_arrival,
            reports_are_listed_newest_first_and_filtered,
            bodies_and_reports_are_purged,
            a_result_has_its_versions,
            a_version_is_made_of_the_one_before_only,
            results_are_filtered,
            results_of_bookings_and_candidates_are_found,
            a_watermark_never_moves_backwards,
            a_sweep_is_remembered_for_its_connection,
            a_fetch_is_due_until_it_ends,
            a_fetch_that_is_requested_again_meanwhile_stays_due,
            an_erasure_leaves_no_fetch_and_a_late_request_none,
            bookings_are_found_by_registration_and_person,
            candidates_of_all_tenants_are_found_at_a_connection,
            an_erasure_leaves_no_result_and_dismisses_the_reports,
            late_reports_and_results_of_an_erased_candidate_leave_nothing,
            a_report_that_may_be_about_another_person_outlives_an_erasure,
            a_dismissed_report_without_a_reading_loses_its_body,
            an_erasure_finds_what_a_person_has_dismissed,
            events_are_numbered_in_the_order_of_commits,
            an_event_is_committed_only_with_its_transaction,
            an_event_about_an_erased_candidate_is_not_appended,
            readers_get_the_events_that_pass_their_filter,
            retention_removes_events_from_the_first_on,
            the_first_event_since_a_time_is_found_in_a_long_log,
            new_events_are_signalled,
            states_that_events_report_are_changed_from_what_was_read,
            a_follower_misses_no_event,
            a_webhook_is_replaced_only_by_its_next_version,
            one_of_many_writers_replaces_a_webhook,
            webhooks_are_the_tenants_own_and_listed_newest_first,
            a_changed_webhook_refuses_deliveries_and_attempts_of_the_version_before,
            a_changed_delivery_refuses_attempts_of_the_version_before,
            what_attempts_say_is_committed_with_the_version_that_they_make,
            a_delivery_is_replaced_only_by_its_next_version,
            one_of_many_writers_replaces_a_delivery,
            deliveries_are_listed_by_the_connections_of_their_events,
            a_removed_webhook_leaves_deliveries_that_are_removed_in_portions,
            deliveries_follow_their_events_until_they_end,
            the_first_pending_delivery_of_an_assignment_may_be_sent,
            deliveries_are_gone_with_their_webhook_and_by_retention,
            a_delivery_that_was_given_up_is_kept_from_its_end_on,
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
            external_id: Some(format!("Ext-{unique}").into()),
            email: Some(format!("{unique}@example.org").into()),
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
        let subject = write.record_id().to_owned().into();
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
            in_flight: true,
            may_still_complete: true,
            settle_from: started + 30.seconds(),
            backed_off: std::time::Duration::ZERO,
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
            expiry_reported: false,
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

pub(crate) async fn an_acknowledged_write_is_seen_at_once(store: Arc<dyn Store>, make: Maker) {
    let mut candidate = make.claimed(&*store).await;
    for round in 0..50 {
        candidate.person.name.formatted = Some(format!("Ada {round}"));
        store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
        assert_eq!(store.candidate(&candidate.tenant, &candidate.id).await.unwrap().as_ref(), Some(&candidate));
    }
}

pub(crate) async fn the_time_of_the_last_use_is_remembered(store: Arc<dyn Store>, make: Maker) {
    let (now, later) = (make.0.now(), make.0.now() + 1.hours());
    for moment in [later, now] {
        store.remember_time(moment).await.unwrap();
        assert!(store.remembered_time().await.unwrap().is_some());
    }
}
