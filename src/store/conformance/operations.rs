//! Required behaviour of every engine: operations and their rows.

use std::sync::Arc;

use jiff::ToSpan as _;

use super::{BY_NAME, Maker};
use crate::domain::candidate::{Identity, IfCandidateExists, NewCandidate};
use crate::domain::error::{Code, Error};
use crate::domain::ids::OperationId;
use crate::domain::intent::WriteOrigin;
use crate::domain::operation::{
    Item, ItemId, ItemOutcome, ItemRequest, ItemState, ItemStatus, Operation, OperationKind, OperationState, Progress,
};
use crate::domain::outcome::{Warning, WarningCode};
use crate::secret::Secret;
use crate::store::{
    AcceptResult, BeginResult, Mutation, OperationFilter, Page, PreparedRecord, PreparedWrite, Store, StoreError,
    Window,
};

impl Maker {
    pub(crate) fn operation(&self, tenant: &str, total: u64) -> Operation {
        Operation {
            id: OperationId::generate(&self.0),
            tenant: tenant.to_owned(),
            client: "lms".to_owned(),
            kind: OperationKind::Candidates,
            connection: "c".to_owned(),
            strict: true,
            fail_on_errors: Some(7),
            state: OperationState::Receiving,
            cancelling: false,
            total,
            created: self.0.now(),
            accepted: self.0.now(),
            started: None,
            finished: None,
            request_id: "req".to_owned(),
            traceparent: Some("00-1-2-01".to_owned()),
            replay: None,
        }
    }

    pub(crate) fn item(&self, operation: &Operation, index: u64) -> Item {
        let new = NewCandidate {
            person: self.person(),
            password: Some(Secret::new("correct horse")),
            if_exists: IfCandidateExists::Update,
        };
        Item {
            id: ItemId { operation: operation.id.clone(), index },
            item_id: Some(format!("row {index}")),
            line: Some(index + 2),
            state: ItemState::Waiting,
            record: None,
            request: Some(ItemRequest::Candidate(Box::new(new))),
            password_gone: false,
            outcome: None,
        }
    }

    /// Creates a queued operation with this many waiting rows.
    pub(crate) async fn queued(&self, store: &dyn Store, tenant: &str, total: u64) -> Operation {
        let mut operation = self.operation(tenant, total);
        store.open_operation(&operation).await.unwrap();
        store.add_items((0..total).map(|index| self.item(&operation, index)).collect()).await.unwrap();
        operation.state = OperationState::Queued;
        assert!(matches!(store.accept_operation(&operation, None).await.unwrap(), AcceptResult::Queued));
        operation
    }
}

fn at(operation: &Operation, index: u64) -> ItemId {
    ItemId { operation: operation.id.clone(), index }
}

async fn progress(store: &dyn Store, operation: &Operation) -> Progress {
    store.operation(&operation.tenant, &operation.id).await.unwrap().unwrap().1
}

async fn states(store: &dyn Store, operation: &Operation) -> Vec<ItemState> {
    store.items(&operation.id, &[], 0, 1_000).await.unwrap().iter().map(|item| item.state).collect()
}

pub(crate) async fn rows_round_trip(store: Arc<dyn Store>, make: Maker) {
    let operation = make.operation(&make.name("tenant"), 3);
    store.open_operation(&operation).await.unwrap();
    let mut refused = make.item(&operation, 1);
    refused.request = None;
    refused.outcome = Some(ItemOutcome::failed(Error::new(Code::ValidationFailed, "odd")));
    refused.state = ItemState::NotApplied;
    let items = vec![make.item(&operation, 0), refused, make.item(&operation, 2)];
    store.add_items(items.clone()).await.unwrap();
    let read = store.items(&operation.id, &[], 0, 10).await.unwrap();
    // Debug shows every field except the secret ones.
    assert_eq!(format!("{read:?}"), format!("{items:?}"));
    let Some(ItemRequest::Candidate(new)) = &read[0].request else { panic!("another row") };
    assert!(new.password.as_ref().unwrap().matches_constant_time("correct horse"));
    let part = async |states: &[ItemState], from, limit| -> Vec<u64> {
        let items = store.items(&operation.id, states, from, limit).await.unwrap();
        items.iter().map(|item| item.id.index).collect()
    };
    assert_eq!(part(&[ItemState::Waiting], 0, 10).await, [0, 2]);
    // Other tests may use the same database.
    assert!(store.count_open_items().await.unwrap().waiting >= 2);
    assert_eq!(part(&[ItemState::Waiting, ItemState::NotApplied], 1, 10).await, [1, 2]);
    assert_eq!(part(&[], 0, 2).await, [0, 1]);
    store.discard_operation(&operation.id).await.unwrap();
    assert!(store.items(&operation.id, &[], 0, 10).await.unwrap().is_empty());
    assert!(store.operation(&operation.tenant, &operation.id).await.unwrap().is_none());
}

pub(crate) async fn a_window_ends_with_the_row_that_fills_it(store: Arc<dyn Store>, make: Maker) {
    let operation = make.operation(&make.name("tenant"), 6);
    store.open_operation(&operation).await.unwrap();
    let long = |index| {
        let mut item = make.item(&operation, index);
        if let Some(ItemRequest::Candidate(new)) = &mut item.request {
            new.person.photo = Some("x".repeat(10_000).into());
        }
        item
    };
    store.add_items((0..6).map(long).collect()).await.unwrap();
    let window = async |from, rows, bytes| -> Vec<u64> {
        let items = store.next_items(&operation.id, &[ItemState::Waiting], from, Window { rows, bytes }).await.unwrap();
        assert!(items.iter().all(|item| item.request.is_some()));
        items.iter().map(|item| item.id.index).collect()
    };
    assert_eq!(window(0, 10, 15_000).await, [0, 1]);
    assert_eq!(window(2, 10, 1).await, [2]);
    assert_eq!(window(3, 2, 1 << 20).await, [3, 4]);
    assert_eq!(window(5, 10, 1 << 20).await, [5]);
    assert!(window(6, 10, 1 << 20).await.is_empty());
}

pub(crate) async fn reports_show_the_state_and_outcome_of_rows(store: Arc<dyn Store>, make: Maker) {
    let operation = make.queued(&*store, &make.name("tenant"), 4).await;
    let fault = Error::new(Code::ValidationFailed, "odd");
    let end =
        |index| Mutation::EndWaitingItem(at(&operation, index), Some("r".into()), ItemOutcome::failed(fault.clone()));
    store.commit(vec![end(1), end(2)]).await.unwrap();
    let most = |rows, bytes| Window { rows, bytes };
    let all = store.item_reports(&operation.id, &[], 0, most(10, 1 << 20)).await.unwrap();
    assert!(!all.more);
    let given: Vec<_> = all.rows.iter().map(|row| (row.id.index, row.item_id.as_deref(), row.state)).collect();
    let expected = [
        (0, Some("row 0"), ItemState::Waiting),
        (1, Some("row 1"), ItemState::NotApplied),
        (2, Some("row 2"), ItemState::NotApplied),
        (3, Some("row 3"), ItemState::Waiting),
    ];
    assert_eq!(given, expected);
    assert_eq!(all.rows[1].record.as_deref(), Some("r"));
    let Some(ItemOutcome { result: ItemStatus::Failed(given), .. }) = &all.rows[2].outcome else {
        panic!("no outcome")
    };
    assert_eq!(given.detail, "odd");
    let ended = &[ItemState::NotApplied];
    for (window, found, more) in [(most(1, 1 << 20), 1, true), (most(9, 1), 1, true), (most(9, 1 << 20), 2, false)] {
        let part = store.item_reports(&operation.id, ended, 1, window).await.unwrap();
        assert_eq!((part.rows.len(), part.more), (found, more), "{window:?}");
    }
}

pub(crate) async fn an_operation_is_accepted_under_its_key_once(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let bulk = async |content| {
        let mut operation = make.operation(&tenant, 1);
        store.open_operation(&operation).await.unwrap();
        store.add_items(vec![make.item(&operation, 0)]).await.unwrap();
        operation.state = OperationState::Queued;
        let key = make.key_claim(&tenant, "k", content);
        let accepted = store.accept_operation(&operation, Some(&key)).await.unwrap();
        (operation.id, accepted)
    };
    let (first, accepted) = bulk(1).await;
    assert!(matches!(accepted, AcceptResult::Queued));
    let (second, accepted) = bulk(1).await;
    assert!(matches!(accepted, AcceptResult::Replayed(id) if id == first));
    let (third, accepted) = bulk(2).await;
    assert!(matches!(accepted, AcceptResult::KeyMismatch));
    for discarded in [second, third] {
        assert!(store.operation(&tenant, &discarded).await.unwrap().is_none());
        assert!(store.items(&discarded, &[], 0, 10).await.unwrap().is_empty());
    }
    let unfinished = store.unfinished_operations(&[], 10_000).await.unwrap();
    assert_eq!(unfinished.iter().filter(|operation| operation.tenant == tenant).count(), 1);
}

pub(crate) async fn a_row_is_claimed_only_while_it_waits(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let operation = make.queued(&*store, &tenant, 3).await;
    let claimant = |index, identity: &str| {
        let candidate = make.candidate(&tenant, &make.name("connection"), make.person());
        let mut intent = make.registration(&candidate);
        intent.origin = WriteOrigin { key: None, item: Some(at(&operation, index)) };
        let subjects = vec![store.hash_subject(&operation.id, identity), store.hash_subject(&operation.id, "shared")];
        let record = PreparedRecord::NewCandidate(candidate.clone(), Identity::of(&candidate.person, BY_NAME));
        (candidate.id, PreparedWrite { record, intent, subjects })
    };
    let ((one, first), (_, second)) = (claimant(0, "a"), claimant(1, "b"));
    assert_eq!(store.begin_writes(None, vec![first, second]).await.unwrap(), [BeginResult::Begun, BeginResult::Begun]);
    let (again, third) = claimant(0, "c");
    assert_eq!(store.begin_writes(None, vec![third]).await.unwrap(), [BeginResult::ItemCancelled]);
    assert_eq!(store.candidate(&tenant, &again).await.unwrap(), None);
    let intent = store.intent(one.as_str()).await.unwrap().unwrap();
    assert_eq!(intent.origin.item, Some(at(&operation, 0)));

    assert_eq!(store.skip_waiting(&operation.id).await.unwrap(), 1);
    let skipped =
        vec![Mutation::ClaimItem(at(&operation, 2), "asg".into(), Vec::new()), Mutation::RemoveIntent("x".into())];
    assert!(matches!(store.commit(skipped).await, Err(StoreError::ItemNotWaiting)));
    assert_eq!(states(&*store, &operation).await, [ItemState::Claimed, ItemState::Claimed, ItemState::Skipped]);
    let (a, b, shared) = ("a", "b", "shared");
    let expected =
        [(a, 0), (shared, 0), (b, 1), (shared, 1)].map(|(text, i)| (store.hash_subject(&operation.id, text), i));
    assert_eq!(store.item_subjects(&operation.id).await.unwrap(), expected);
}

pub(crate) async fn rows_end_and_are_counted(store: Arc<dyn Store>, make: Maker) {
    let operation = make.queued(&*store, &make.name("tenant"), 6).await;
    let end = |result| ItemOutcome {
        warnings: vec![Warning::new(WarningCode::ExistingDiffers, "d")],
        initial_password: Some(Secret::new("made up")),
        ..ItemOutcome::of(result)
    };
    let changes = vec![
        Mutation::EndItem(at(&operation, 0), Some("cand_1".into()), end(ItemStatus::Created)),
        Mutation::EndItem(at(&operation, 1), None, end(ItemStatus::Existing)),
        Mutation::EndItem(at(&operation, 2), None, ItemOutcome::failed(Error::new(Code::ValidationFailed, "x"))),
        Mutation::EndItem(at(&operation, 3), None, ItemOutcome::failed(Error::unknown(Code::VendorTimeout, "x"))),
        Mutation::EndItem(at(&operation, 4), None, ItemOutcome::failed(Error::new(Code::Skipped, "x"))),
    ];
    store.commit(changes).await.unwrap();
    let counted = progress(&*store, &operation).await;
    assert_eq!(
        counted,
        Progress { total: 6, applied: 2, not_applied: 1, unknown: 1, skipped: 1, pending: 1, settling: 0 }
    );
    let items = store.items(&operation.id, &[], 0, 10).await.unwrap();
    let first = items[0].outcome.as_ref().unwrap();
    assert_eq!((items[0].record.as_deref(), &first.result), (Some("cand_1"), &ItemStatus::Created));
    assert_eq!(first.warnings.len(), 1);
    assert!(first.initial_password.as_ref().unwrap().matches_constant_time("made up"));
    // An unsent outcome affects only waiting rows.
    let unsent = |index| {
        Mutation::EndWaitingItem(at(&operation, index), None, ItemOutcome::failed(Error::new(Code::Skipped, "x")))
    };
    store.commit(vec![unsent(3), unsent(5)]).await.unwrap();
    let counted = progress(&*store, &operation).await;
    assert_eq!(
        counted,
        Progress { total: 6, applied: 2, not_applied: 1, unknown: 1, skipped: 2, pending: 0, settling: 0 }
    );
    // Reconciled later, a row counts under its true outcome.
    let settled = Mutation::EndItem(at(&operation, 3), Some("cand_2".into()), ItemOutcome::of(ItemStatus::Created));
    store.commit(vec![settled]).await.unwrap();
    let counted = progress(&*store, &operation).await;
    assert_eq!(
        counted,
        Progress { total: 6, applied: 3, not_applied: 1, unknown: 0, skipped: 2, pending: 0, settling: 0 }
    );
}

pub(crate) async fn a_finished_operation_is_queued_again(store: Arc<dyn Store>, make: Maker) {
    use ItemState::{Applied, NotApplied, Unknown, Waiting};
    let mut operation = make.queued(&*store, &make.name("tenant"), 5).await;
    let unknown = ItemOutcome::failed(Error::unknown(Code::VendorTimeout, "x"));
    let changes = vec![
        Mutation::ClaimItem(at(&operation, 0), "cand_0".into(), vec![[1; 16]]),
        Mutation::EndItem(at(&operation, 0), None, ItemOutcome::of(ItemStatus::Created)),
        Mutation::ClaimItem(at(&operation, 1), "cand_1".into(), vec![[2; 16]]),
        Mutation::EndItem(at(&operation, 1), None, unknown),
        Mutation::ClaimItem(at(&operation, 2), "cand_2".into(), vec![[3; 16]]),
        Mutation::EndItem(at(&operation, 2), None, ItemOutcome::failed(Error::new(Code::GroupNotFound, "x"))),
        Mutation::CancelOperation(operation.id.clone()),
    ];
    store.commit(changes).await.unwrap();
    let retried = make.0.now() + 40.hours();
    store.requeue(&operation.id, retried).await.unwrap();
    assert_eq!(states(&*store, &operation).await, [Applied, Unknown, NotApplied, Waiting, Waiting], "it has not ended");

    store.skip_waiting(&operation.id).await.unwrap();
    operation.state = OperationState::Cancelled;
    operation.finished = Some(make.0.now());
    store.commit(vec![Mutation::Operation(operation.clone())]).await.unwrap();
    let (read, _) = store.operation(&operation.tenant, &operation.id).await.unwrap().unwrap();
    assert!(read.cancelling && read.state.is_terminal());
    // An ended operation cannot be cancelled.
    store.commit(vec![Mutation::CancelOperation(operation.id.clone())]).await.unwrap();

    store.requeue(&operation.id, retried).await.unwrap();
    let (read, _) = store.operation(&operation.tenant, &operation.id).await.unwrap().unwrap();
    assert_eq!((read.state, read.cancelling, read.finished), (OperationState::Queued, false, None));
    assert_eq!((read.created, read.accepted), (operation.created, retried));
    assert_eq!(states(&*store, &operation).await, [Applied, Waiting, Waiting, Waiting, Waiting]);
    let items = store.items(&operation.id, &[], 0, 10).await.unwrap();
    let records: Vec<Option<&str>> = items.iter().map(|item| item.record.as_deref()).collect();
    assert_eq!(records, [Some("cand_0"), Some("cand_1"), None, None, None]);
    assert_eq!(store.item_subjects(&operation.id).await.unwrap(), [([1; 16], 0), ([2; 16], 1)]);
    let again = Mutation::RequeueItem(at(&operation, 1), "cand_1".to_owned());
    store.commit(vec![again.clone()]).await.unwrap();
    assert_eq!(store.items(&operation.id, &[Waiting], 1, 1).await.unwrap()[0].record, None);
    // One that arrives once the row is claimed anew leaves it claimed: its write is being sent.
    store.commit(vec![Mutation::ClaimItem(at(&operation, 1), "cand_9".into(), Vec::new()), again]).await.unwrap();
    let claimed = &store.items(&operation.id, &[ItemState::Claimed], 1, 1).await.unwrap()[0];
    assert_eq!(claimed.record.as_deref(), Some("cand_9"));
}

pub(crate) async fn a_row_that_could_not_be_read_is_never_queued_again(store: Arc<dyn Store>, make: Maker) {
    let mut operation = make.operation(&make.name("tenant"), 2);
    store.open_operation(&operation).await.unwrap();
    let mut refused = make.item(&operation, 0);
    refused.request = None;
    refused.outcome = Some(ItemOutcome::failed(Error::new(Code::ValidationFailed, "odd")));
    refused.state = ItemState::NotApplied;
    store.add_items(vec![refused, make.item(&operation, 1)]).await.unwrap();
    operation.state = OperationState::Completed;
    operation.finished = Some(make.0.now());
    let failed = Mutation::EndItem(at(&operation, 1), None, ItemOutcome::failed(Error::new(Code::GroupNotFound, "x")));
    store.commit(vec![failed.clone(), Mutation::Operation(operation.clone())]).await.unwrap();
    store.requeue(&operation.id, make.0.now()).await.unwrap();
    assert_eq!(states(&*store, &operation).await, [ItemState::NotApplied, ItemState::Waiting]);
    let items = store.items(&operation.id, &[], 0, 10).await.unwrap();
    assert!(items.iter().all(|item| item.outcome.is_some()), "the reason stays");

    // If no row can be sent again, nothing is queued.
    let applied = Mutation::EndItem(at(&operation, 1), None, ItemOutcome::of(ItemStatus::Created));
    store.commit(vec![applied, Mutation::Operation(operation.clone())]).await.unwrap();
    store.requeue(&operation.id, make.0.now()).await.unwrap();
    let (read, progress) = store.operation(&operation.tenant, &operation.id).await.unwrap().unwrap();
    assert_eq!((read.state, progress.not_applied, progress.pending), (OperationState::Completed, 1, 0));
}

pub(crate) async fn rows_of_a_cancelled_operation_never_wait_again(store: Arc<dyn Store>, make: Maker) {
    use ItemState::{Applied, Skipped, Unknown, Waiting};
    let operation = make.queued(&*store, &make.name("tenant"), 4).await;
    let claimed = |index| Mutation::ClaimItem(at(&operation, index), format!("cand_{index}"), Vec::new());
    let again: Vec<Mutation> =
        (0..4).map(|index| Mutation::RequeueItem(at(&operation, index), format!("cand_{index}"))).collect();
    store.commit((0..3).map(claimed).collect()).await.unwrap();
    let ends = vec![
        Mutation::EndItem(at(&operation, 1), None, ItemOutcome::of(ItemStatus::Created)),
        Mutation::EndItem(at(&operation, 2), None, ItemOutcome::failed(Error::unknown(Code::VendorTimeout, "x"))),
    ];
    store.commit(ends).await.unwrap();
    store.commit(again.clone()).await.unwrap();
    assert_eq!(states(&*store, &operation).await, [Waiting, Applied, Unknown, Waiting]);
    store.commit(vec![claimed(0), Mutation::CancelOperation(operation.id.clone())]).await.unwrap();
    assert_eq!(store.skip_waiting(&operation.id).await.unwrap(), 1);
    let refused = ItemOutcome::failed(Error::new(Code::VendorRateLimited, "x"));
    let put_back = std::iter::once(Mutation::EndItem(at(&operation, 0), None, refused)).chain(again).collect();
    store.commit(put_back).await.unwrap();
    assert_eq!(states(&*store, &operation).await, [Skipped, Applied, Unknown, Skipped]);
}

pub(crate) async fn a_row_left_to_a_person_ends_only_while_it_is_claimed(store: Arc<dyn Store>, make: Maker) {
    let operation = make.queued(&*store, &make.name("tenant"), 2).await;
    let claimed = |index| Mutation::ClaimItem(at(&operation, index), format!("cand_{index}"), Vec::new());
    let applied = Mutation::EndItem(at(&operation, 1), None, ItemOutcome::of(ItemStatus::Created));
    store.commit(vec![claimed(0), claimed(1), applied]).await.unwrap();
    let unknown = || ItemOutcome::failed(Error::unknown(Code::VendorTimeout, "x"));
    let left = |index| Mutation::EndClaimedItem(at(&operation, index), None, unknown());
    store.commit(vec![left(0), left(1)]).await.unwrap();
    assert_eq!(states(&*store, &operation).await, [ItemState::Unknown, ItemState::Applied]);
}

pub(crate) async fn unfinished_operations_alternate_between_tenants_and_connections(
    store: Arc<dyn Store>,
    make: Maker,
) {
    let (one, two) = (make.name("tenant"), make.name("tenant"));
    let mut mine = Vec::new();
    for tenant in [&one, &one, &one, &two] {
        mine.push(make.queued(&*store, tenant, 1).await.id);
    }
    let mut enrolment = Operation { kind: OperationKind::ProgramEmployees, ..make.operation(&one, 1) };
    store.open_operation(&enrolment).await.unwrap();
    enrolment.state = OperationState::Running;
    store.commit(vec![Mutation::Operation(enrolment.clone())]).await.unwrap();
    mine.push(enrolment.id.clone());
    let found = async |but: &[usize], of_each| -> Vec<usize> {
        let but: Vec<OperationId> = but.iter().map(|at| mine[*at].clone()).collect();
        let found = store.unfinished_operations(&but, of_each).await.unwrap();
        // Other tests may use the same database.
        found.iter().filter_map(|found| mine.iter().position(|id| *id == found.id)).collect()
    };
    assert_eq!(found(&[], 1).await, [0, 3, 4]);
    assert_eq!(found(&[], 2).await, [0, 3, 4, 1]);
    assert_eq!(found(&[0, 4], 2).await, [1, 3, 2]);
    let running = store.running_operations().await.unwrap();
    let running: Vec<_> = running.iter().filter(|running| mine.contains(&running.id)).collect();
    assert_eq!(running.len(), 1);
    assert_eq!((&running[0].id, &*running[0].connection, running[0].pending), (&mine[4], "c", 0));
}

pub(crate) async fn operations_are_the_tenants_own_and_listed_newest_first(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let mut all = Vec::new();
    for _ in 0..3 {
        all.insert(0, make.queued(&*store, &tenant, 1).await);
    }
    store.open_operation(&make.operation(&tenant, 1)).await.unwrap();
    let page = async |after: Option<String>| {
        let page = Page { limit: 2, after };
        let found = store.operations(&tenant, &OperationFilter::default(), &page).await.unwrap();
        found.into_iter().map(|(operation, _)| operation).collect::<Vec<_>>()
    };
    let first = page(None).await;
    assert_eq!(first, all[..2]);
    assert_eq!(page(Some(first[1].id.to_string())).await, all[2..]);
    assert!(store.operation("stranger", &all[0].id).await.unwrap().is_none());
    let page = Page { limit: 10, after: None };
    let stranger = store.operations("stranger", &OperationFilter::default(), &page).await.unwrap();
    assert!(stranger.is_empty());
}

pub(crate) async fn a_password_is_cleared_when_its_row_is_claimed_or_ends(store: Arc<dyn Store>, make: Maker) {
    let operation = make.queued(&*store, &make.name("tenant"), 4).await;
    let changes = vec![
        Mutation::ClaimItem(at(&operation, 0), "cand_0".into(), Vec::new()),
        Mutation::EndItem(at(&operation, 1), None, ItemOutcome::failed(Error::new(Code::GroupNotFound, "x"))),
        Mutation::EndItem(at(&operation, 2), None, ItemOutcome::failed(Error::new(Code::Skipped, "x"))),
    ];
    store.commit(changes).await.unwrap();
    let items = store.items(&operation.id, &[], 0, 10).await.unwrap();
    let gone: Vec<bool> = items.iter().map(|item| item.password_gone).collect();
    assert_eq!(gone, [true, true, false, false], "a row that was not sent may still be sent");
    for (item, gone) in items.iter().zip(gone) {
        let Some(ItemRequest::Candidate(new)) = &item.request else { panic!("the row stays") };
        assert_eq!(new.password.is_none(), gone);
    }
}

pub(crate) async fn expired_operations_and_keys_are_purged(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let (mut over, running) = (make.queued(&*store, &tenant, 1).await, make.queued(&*store, &tenant, 1).await);
    over.state = OperationState::Completed;
    over.finished = Some(make.0.now());
    store.commit(vec![Mutation::Operation(over.clone())]).await.unwrap();
    let claim = make.key_claim(&tenant, "k", 1);
    store.acquire_key(&claim).await.unwrap();
    // Other tests share the database, so check only the records of this one.
    store.purge(claim.now, over.finished.unwrap()).await.unwrap();
    assert!(store.operation(&tenant, &over.id).await.unwrap().is_some(), "not before it expires");
    store.purge(claim.expires, over.finished.unwrap() + 1.microseconds()).await.unwrap();
    assert!(store.operation(&tenant, &over.id).await.unwrap().is_none());
    assert!(store.items(&over.id, &[], 0, 10).await.unwrap().is_empty());
    assert!(store.operation(&tenant, &running.id).await.unwrap().is_some());
}
