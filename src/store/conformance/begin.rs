//! Required behaviour of every engine: the beginning of writes.

use std::sync::Arc;

use jiff::ToSpan as _;

use super::{BY_NAME, Maker};
use crate::domain::candidate::{Candidate, CandidateState, Identity, IdentityKind, Person};
use crate::domain::ids::OperationId;
use crate::domain::intent::{EnrolmentWrite, Intent, StoredReply, Write, WriteOrigin};
use crate::domain::operation::{ItemId, ItemState};
use crate::domain::program::{AssessmentScope, Enrolment, ProgramRef};
use crate::domain::vendor::{Cancellation, CandidateSnapshot, EnrolmentBatch, Update, VendorKey};
use crate::store::{AcquireKey, BeginResult, KeyState, Mutation, PreparedRecord, PreparedWrite, Store, StoreError};

impl Maker {
    /// Returns the candidate's registration with its external id and user name.
    fn new_write(&self, candidate: &Candidate) -> PreparedWrite {
        self.claimant(candidate, Identity::of(&candidate.person, BY_NAME))
    }

    /// Returns a registration that names the key as its origin.
    fn under_key(&self, candidate: &Candidate, key: &AcquireKey) -> PreparedWrite {
        let mut write = self.new_write(candidate);
        write.intent.origin = WriteOrigin { key: Some(key.key()), item: None };
        write
    }
}

async fn begin(store: &dyn Store, key: &AcquireKey, write: PreparedWrite) -> BeginResult {
    store.begin_writes(Some(key), vec![write]).await.unwrap().remove(0)
}

/// Asserts that nothing of the candidate's registration was written.
async fn assert_nothing_written(store: &dyn Store, candidate: &Candidate) {
    let Candidate { tenant, connection, id, person, .. } = candidate;
    assert_eq!(store.candidate(tenant, id).await.unwrap(), None);
    assert!(store.intent(id.as_str()).await.unwrap().is_none());
    for identity in Identity::of(person, IdentityKind::ALL) {
        let found = store.candidates(tenant, Some(connection), &identity).await.unwrap();
        assert!(found.iter().all(|found| found.id != *id), "{identity:?}");
    }
}

pub(crate) async fn a_write_begins_under_a_free_key_which_is_bound_to_its_record(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.candidate(&make.name("tenant"), &make.name("connection"), make.person());
    let key = make.key_claim(&candidate.tenant, "k", 1);
    assert_eq!(begin(&*store, &key, make.under_key(&candidate, &key)).await, BeginResult::Begun);
    assert_eq!(store.candidate(&candidate.tenant, &candidate.id).await.unwrap(), Some(candidate.clone()));
    let intent = store.intent(candidate.id.as_str()).await.unwrap().unwrap();
    assert_eq!(intent.origin.key, Some(key.key()));
    assert!(matches!(store.acquire_key(&make.anew(&key)).await.unwrap(), KeyState::InProgress));

    store.commit(vec![Mutation::ReleaseKey(key.key())]).await.unwrap();
    let KeyState::Resumable(open, record) = store.acquire_key(&make.anew(&key)).await.unwrap() else { panic!() };
    assert_eq!((open, record.as_deref()), (key.key(), Some(candidate.id.as_str())));
    let other = AcquireKey { content: [2; 32], ..make.anew(&key) };
    assert!(matches!(store.acquire_key(&other).await.unwrap(), KeyState::Mismatch));
}

pub(crate) async fn a_key_in_use_refuses_the_write(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let new = || make.candidate(&tenant, &connection, make.person());
    let earlier = make.key_claim(&tenant, "k", 1);
    assert!(matches!(store.acquire_key(&earlier).await.unwrap(), KeyState::Acquired(_)));
    let refused = async || {
        let (one, two, key) = (new(), new(), make.anew(&earlier));
        let writes = vec![make.under_key(&one, &key), make.new_write(&two)];
        let results = store.begin_writes(Some(&key), writes).await.unwrap();
        assert_eq!(results, [BeginResult::KeyInUse, BeginResult::KeyInUse]);
        assert_nothing_written(&*store, &one).await;
        assert_nothing_written(&*store, &two).await;
    };
    // In progress, resumable, and answered.
    refused().await;
    store.commit(vec![Mutation::ReleaseKey(earlier.key())]).await.unwrap();
    refused().await;
    let KeyState::Resumable(resumed, None) = store.acquire_key(&make.anew(&earlier)).await.unwrap() else { panic!() };
    store.commit(vec![Mutation::CompleteKey(resumed, StoredReply::Gone)]).await.unwrap();
    refused().await;
    assert!(matches!(store.acquire_key(&make.anew(&earlier)).await.unwrap(), KeyState::Completed(_)));
}

pub(crate) async fn an_expired_key_is_replaced_by_the_write(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.candidate(&make.name("tenant"), &make.name("connection"), make.person());
    let early = make.key_claim(&candidate.tenant, "k", 1);
    let KeyState::Acquired(earlier) = store.acquire_key(&early).await.unwrap() else { panic!() };
    let reply = StoredReply::Operation(OperationId::generate(&make.0));
    store.commit(vec![Mutation::CompleteKey(earlier, reply)]).await.unwrap();
    let late = AcquireKey { now: early.expires, expires: early.expires + 1.hours(), ..make.anew(&early) };
    assert_eq!(begin(&*store, &late, make.under_key(&candidate, &late)).await, BeginResult::Begun);
    let again = AcquireKey { token: make.name("token"), ..late.clone() };
    assert!(matches!(store.acquire_key(&again).await.unwrap(), KeyState::InProgress));
    store.commit(vec![Mutation::ReleaseKey(late.key())]).await.unwrap();
    let KeyState::Resumable(_, record) = store.acquire_key(&again).await.unwrap() else { panic!() };
    assert_eq!(record.as_deref(), Some(candidate.id.as_str()));
}

pub(crate) async fn a_refused_write_leaves_its_key_free(store: Arc<dyn Store>, make: Maker) {
    let there = make.claimed(&*store).await;
    let operation = make.queued(&*store, &there.tenant, 1).await;
    assert_eq!(store.skip_waiting(&operation.id).await.unwrap(), 1);
    let own = make.candidate(&there.tenant, &there.connection, there.person.clone());
    let stranger = make.candidate(&make.name("tenant"), &there.connection, there.person.clone());
    let of_row = make.candidate(&there.tenant, &there.connection, make.person());
    let results = [
        (own, None, BeginResult::Exists(vec![there])),
        (stranger, None, BeginResult::TakenByOtherTenant),
        (of_row, Some(ItemId { operation: operation.id.clone(), index: 0 }), BeginResult::ItemCancelled),
    ];
    for (candidate, item, expected) in results {
        let key = make.key_claim(&candidate.tenant, "k", 1);
        let mut write = make.under_key(&candidate, &key);
        write.intent.origin.item = item;
        assert_eq!(begin(&*store, &key, write).await, expected);
        assert_nothing_written(&*store, &candidate).await;
        let taken = store.acquire_key(&make.anew(&key)).await.unwrap();
        let KeyState::Acquired(used) = taken else { panic!("{taken:?}") };
        store.commit(vec![Mutation::FreeKey(used)]).await.unwrap();
    }
}

pub(crate) async fn a_cancelled_row_stops_only_its_own_write(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let operation = make.queued(&*store, &tenant, 6).await;
    let subject = |index: u64| store.hash_subject(&operation.id, &index.to_string());
    let of_row = |index: u64, record, mut intent: Intent| {
        intent.origin.item = Some(ItemId { operation: operation.id.clone(), index });
        PreparedWrite { record, intent, subjects: vec![subject(index)] }
    };
    let registration = |index| {
        let candidate = make.candidate(&tenant, &connection, make.person());
        let PreparedWrite { record, intent, .. } = make.new_write(&candidate);
        of_row(index, record, intent)
    };
    let cancellation = |index| {
        let assignment = make.assignment(&tenant, &connection, &make.name("subject"));
        let key = VendorKey(assignment.vendor_key.clone());
        let write = Cancellation { id: assignment.id.clone(), candidate: key, assessment: "a".into() };
        let intent = make.intent(&tenant, &connection, Write::Cancel(write));
        of_row(index, PreparedRecord::Assignment(assignment), intent)
    };
    let enrolment = |index| {
        let enrolment = Enrolment { scope: AssessmentScope::All, register: vec!["e1".into()], unregister: Vec::new() };
        let call = EnrolmentBatch { program: ProgramRef::External("onboarding".into()), enrolment };
        let id = make.enrolment_id();
        let write = Write::Enrol(EnrolmentWrite { id: id.clone(), call });
        of_row(index, PreparedRecord::Enrolment(id), make.intent(&tenant, &connection, write))
    };
    // The rows with these indices were cancelled: here, claimed by other writes.
    let taken = [1, 3, 5].map(|index| {
        let item = ItemId { operation: operation.id.clone(), index };
        Mutation::ClaimItem(item, "other".to_owned(), Vec::new())
    });
    store.commit(taken.to_vec()).await.unwrap();
    let writes = vec![registration(0), registration(1), cancellation(2), cancellation(3), enrolment(4), enrolment(5)];
    let results = store.begin_writes(None, writes.clone()).await.unwrap();
    let (begun, cancelled) = (BeginResult::Begun, BeginResult::ItemCancelled);
    assert_eq!(results, [&begun, &cancelled, &begun, &cancelled, &begun, &cancelled].map(Clone::clone));

    let items = store.items(&operation.id, &[], 0, 10).await.unwrap();
    for (index, (write, item)) in writes.iter().zip(&items).enumerate() {
        let (record, is_begun) = (write.intent.write.record_id(), index % 2 == 0);
        assert_eq!(item.state, ItemState::Claimed);
        assert_eq!(item.record.as_deref(), Some(if is_begun { record } else { "other" }));
        assert_eq!(store.intent(record).await.unwrap().is_some(), is_begun, "{index}");
        match &write.record {
            PreparedRecord::NewCandidate(candidate, _) => {
                assert_eq!(store.candidate(&tenant, &candidate.id).await.unwrap().is_some(), is_begun);
            }
            PreparedRecord::Assignment(assignment) => {
                assert_eq!(store.assignment(&tenant, &assignment.id).await.unwrap().is_some(), is_begun);
            }
            PreparedRecord::Candidate(..) | PreparedRecord::Enrolment(_) => {}
        }
    }
    let expected = [0, 2, 4].map(|index| (subject(index), index));
    assert_eq!(store.item_subjects(&operation.id).await.unwrap(), expected);
}

pub(crate) async fn a_write_about_a_known_candidate_sets_its_identities(store: Arc<dyn Store>, make: Maker) {
    let (known, other) = (make.claimed(&*store).await, make.person());
    let other = make.candidate(&known.tenant, &known.connection, other);
    assert_eq!(make.claim(&*store, &other).await, BeginResult::Begun);
    let update = |person: &Person| {
        let pending = Candidate { state: CandidateState::Pending, ..known.clone() };
        let candidate = CandidateSnapshot {
            id: known.id.clone(),
            person: person.clone(),
            vendor_ref: known.vendor_ref.clone(),
            private: known.private.clone(),
        };
        let write = Write::Update(Update { candidate, touched: vec!["/user_name".to_owned()] });
        let mut identities = Identity::of(&known.person, BY_NAME);
        identities.extend(Identity::of(person, BY_NAME));
        identities.sort();
        identities.dedup();
        let intent = make.intent(&known.tenant, &known.connection, write);
        PreparedWrite { record: PreparedRecord::Candidate(pending, Some(identities)), intent, subjects: Vec::new() }
    };
    store.commit(vec![Mutation::RemoveIntent(known.id.to_string())]).await.unwrap();
    let taken = Person { external_id: other.person.external_id.clone(), ..known.person.clone() };
    let results = store.begin_writes(None, vec![update(&taken)]).await;
    assert!(matches!(results, Err(StoreError::Conflict)), "{results:?}");
    assert!(store.intent(known.id.as_str()).await.unwrap().is_none());

    let renamed = Person { user_name: Some("grace".into()), ..known.person.clone() };
    assert_eq!(store.begin_writes(None, vec![update(&renamed)]).await.unwrap(), [BeginResult::Begun]);
    assert!(store.intent(known.id.as_str()).await.unwrap().is_some());
    for identity in Identity::of(&renamed, BY_NAME) {
        let found = store.candidates(&known.tenant, Some(&known.connection), &identity).await.unwrap();
        assert_eq!(found.iter().map(|found| &found.id).collect::<Vec<_>>(), [&known.id], "{identity:?}");
    }
    // Without identities, those it holds stay.
    let removal = PreparedWrite { record: PreparedRecord::Candidate(known.clone(), None), ..update(&renamed) };
    assert_eq!(store.begin_writes(None, vec![removal]).await.unwrap(), [BeginResult::Begun]);
    let free = make.candidate(&make.name("tenant"), &known.connection, renamed);
    assert_eq!(make.claim(&*store, &free).await, BeginResult::TakenByOtherTenant);
}

pub(crate) async fn a_write_is_bound_to_a_key_acquired_before(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.candidate(&make.name("tenant"), &make.name("connection"), make.person());
    let key = make.key_claim(&candidate.tenant, "k", 1);
    let KeyState::Acquired(acquired) = store.acquire_key(&key).await.unwrap() else { panic!() };
    assert_eq!(store.begin_writes(None, vec![make.under_key(&candidate, &key)]).await.unwrap(), [BeginResult::Begun]);
    store.commit(vec![Mutation::ReleaseKey(acquired)]).await.unwrap();
    let KeyState::Resumable(_, record) = store.acquire_key(&make.anew(&key)).await.unwrap() else { panic!() };
    assert_eq!(record.as_deref(), Some(candidate.id.as_str()));
}
