//! Required behaviour of every engine: lists of candidates, of a person's assignments and of operations.

use super::*;
use crate::domain::operation::{ItemId, ItemOutcome, Operation, OperationKind, OperationState};
use crate::store::{CandidateFilter, ListPart, OperationFilter, UnindexedCandidate};

fn first_page(limit: usize) -> Page {
    Page { limit, after: None }
}

/// Inserts a candidate in this state and group.
async fn listed(store: &dyn Store, make: &Maker, of: (&str, &str), state: CandidateState, group: &str) -> Candidate {
    let group = Some(group.to_owned()).filter(|group| !group.is_empty());
    let photo = Some("QUJD".to_owned().into());
    let mut candidate = make.candidate(of.0, of.1, Person { group, photo, ..make.person() });
    assert_eq!(make.claim(store, &candidate).await, BeginResult::Begun);
    if state != candidate.state {
        candidate.state = state;
        store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
    }
    candidate.person.photo = None;
    candidate
}

pub(crate) async fn candidates_are_listed_newest_first_and_filtered(store: Arc<dyn Store>, make: Maker) {
    use CandidateState::{Failed, Pending, Registered, Unknown};
    let (tenant, other) = (make.name("tenant"), make.name("tenant"));
    let (here, there) = (make.name("connection"), make.name("connection"));
    let people = [
        (&here, Registered, "A"),
        (&here, Registered, ""),
        (&there, Registered, "A"),
        (&here, Unknown, "A"),
        (&there, Failed, "B"),
        (&here, Pending, "B"),
    ];
    let mut all = Vec::new();
    for (connection, state, group) in people {
        all.push(listed(&*store, &make, (&tenant, connection), state, group).await);
        listed(&*store, &make, (&other, connection), state, group).await;
    }
    let any = CandidateFilter::default;
    let at = |name: &String| CandidateFilter { connection: Some(name.clone()), ..any() };
    let cases: [(CandidateFilter, &[usize]); 13] = [
        (any(), &[5, 4, 3, 2, 1, 0]),
        (at(&here), &[5, 3, 1, 0]),
        (CandidateFilter { state: Some(Registered), ..any() }, &[2, 1, 0]),
        (CandidateFilter { state: Some(Unknown), ..any() }, &[3]),
        (CandidateFilter { state: Some(Failed), ..any() }, &[4]),
        (CandidateFilter { state: Some(Failed), ..at(&here) }, &[]),
        (CandidateFilter { state: Some(Pending), ..at(&here) }, &[5]),
        (CandidateFilter { group: Some("A".into()), ..any() }, &[3, 2, 0]),
        (CandidateFilter { group: Some("A".into()), ..at(&here) }, &[3, 0]),
        (CandidateFilter { group: Some("A".into()), state: Some(Registered), ..at(&here) }, &[0]),
        (CandidateFilter { group: Some("a".into()), ..any() }, &[]),
        (CandidateFilter { group: Some(String::new()), ..any() }, &[]),
        (at(&make.name("connection")), &[]),
    ];
    for (filter, expected) in cases {
        let found = store.listed_candidates(&tenant, &filter, &first_page(10)).await.unwrap();
        let expected: Vec<&Candidate> = expected.iter().map(|index| &all[*index]).collect();
        assert_eq!(found.items.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(found.next, None, "{filter:?}");
    }
}

pub(crate) async fn changed_candidates_are_listed_in_their_new_state_and_group(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let of = (tenant.as_str(), connection.as_str());
    let mut candidate = listed(&*store, &make, of, CandidateState::Unknown, "A").await;
    candidate.state = CandidateState::Registered;
    candidate.person.group = Some("B".to_owned());
    store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
    let count = async |state: Option<CandidateState>, group: &str| {
        let filter = CandidateFilter { state, group: Some(group.to_owned()), connection: None };
        store.listed_candidates(&tenant, &filter, &first_page(10)).await.unwrap().items.len()
    };
    assert_eq!((count(None, "A").await, count(None, "B").await), (0, 1));
    assert_eq!(count(Some(CandidateState::Unknown), "B").await, 0);
    assert_eq!(count(Some(CandidateState::Registered), "B").await, 1);
    // A pass over candidates of an earlier version must not undo a change made meanwhile.
    let before = Candidate { person: Person { group: Some("A".to_owned()), ..candidate.person.clone() }, ..candidate };
    store.commit(vec![Mutation::IndexGroup(UnindexedCandidate::Readable(Box::new(before.clone())))]).await.unwrap();
    assert_eq!((count(None, "A").await, count(None, "B").await), (0, 1));
    store.commit(vec![Mutation::EraseCandidate(before.id)]).await.unwrap();
    assert_eq!(count(None, "B").await, 0, "an erased person is not listed");
}

pub(crate) async fn pages_of_candidates_neither_skip_nor_repeat(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let of = (tenant.as_str(), connection.as_str());
    let mut all = Vec::new();
    for _ in 0..5 {
        all.insert(0, listed(&*store, &make, of, CandidateState::Registered, "A").await);
    }
    for filter in [CandidateFilter::default(), CandidateFilter { group: Some("A".into()), ..Default::default() }] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = Page { limit: 2, after };
            let ListPart { items, next } = store.listed_candidates(&tenant, &filter, &page).await.unwrap();
            assert!(items.len() <= 2);
            found.extend(items);
            if next.is_none() {
                break;
            }
            after = next;
            // Newer than the list, which began before.
            listed(&*store, &make, of, CandidateState::Registered, "A").await;
        }
        assert_eq!(found[found.len() - 5..], all, "{filter:?}");
        let ids: std::collections::BTreeSet<&str> = found.iter().map(|candidate| candidate.id.as_str()).collect();
        assert_eq!(ids.len(), found.len(), "{filter:?}");
    }
}

pub(crate) async fn a_person_has_assignments_at_several_connections(store: Arc<dyn Store>, make: Maker) {
    let (tenant, id) = (make.name("tenant"), make.name("ext"));
    let (here, there, elsewhere) = (make.name("connection"), make.name("connection"), make.name("connection"));
    let named = |connection: &str, external_id: &str| Assignment {
        identity: Some(Identity::ExternalId(external_id.into())),
        ..make.assignment(&tenant, connection, &format!("{external_id}|rust|"))
    };
    let candidate = make.claimed(&*store).await;
    let linked = Assignment { candidate_id: Some(candidate.id.clone()), ..named(&here, &id) };
    let by_id = named(&there, &id);
    let others =
        [named(&elsewhere, &id), named(&there, "other"), Assignment { tenant: make.name("t"), ..named(&here, &id) }];
    for assignment in [&linked, &by_id].into_iter().chain(&others) {
        store.commit(vec![Mutation::Assignment(assignment.clone())]).await.unwrap();
    }
    let identity = Identity::ExternalId(id.into());
    let list = async |ids: Vec<CandidateId>, known_as: Vec<(String, Identity)>| {
        let candidate = Some(CandidateSelector { ids, known_as });
        let filter = AssignmentFilter { candidate, ..AssignmentFilter::default() };
        store.assignments(&tenant, &filter, &first_page(10)).await.unwrap()
    };
    let known_as = vec![(here, identity.clone()), (there.clone(), identity)];
    let found = list(vec![candidate.id.clone()], known_as.clone()).await;
    assert_eq!(found, [by_id.clone(), linked.clone()]);
    assert_eq!(list(Vec::new(), known_as).await, [by_id]);
    assert_eq!(list(vec![candidate.id], Vec::new()).await, [linked]);
    assert_eq!(list(Vec::new(), Vec::new()).await, []);
}

pub(crate) async fn operations_are_filtered(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let mut all = Vec::new();
    for (state, kind, connection) in [
        (OperationState::Queued, OperationKind::Candidates, "a"),
        (OperationState::Running, OperationKind::Assignments, "a"),
        (OperationState::Completed, OperationKind::Candidates, "b"),
        (OperationState::Running, OperationKind::Candidates, "b"),
    ] {
        let connection = connection.to_owned();
        let operation = Operation { kind, connection, ..make.operation(&tenant, 0) };
        store.open_operation(&operation).await.unwrap();
        let operation = Operation { state, ..operation };
        store.commit(vec![Mutation::Operation(operation.clone())]).await.unwrap();
        all.push(operation);
    }
    let any = OperationFilter::default;
    let running = Some(OperationState::Running);
    let cases: [(OperationFilter, &[usize]); 6] = [
        (any(), &[3, 2, 1, 0]),
        (OperationFilter { state: running, ..any() }, &[3, 1]),
        (OperationFilter { kind: Some(OperationKind::Candidates), ..any() }, &[3, 2, 0]),
        (OperationFilter { connection: Some("b".into()), ..any() }, &[3, 2]),
        (OperationFilter { state: running, kind: Some(OperationKind::Candidates), connection: Some("b".into()) }, &[3]),
        (OperationFilter { state: Some(OperationState::Cancelled), ..any() }, &[]),
    ];
    for (filter, expected) in cases {
        let found = store.operations(&tenant, &filter, &first_page(10)).await.unwrap();
        let expected: Vec<&Operation> = expected.iter().map(|index| &all[*index]).collect();
        assert_eq!(found.iter().map(|(operation, _)| operation).collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

pub(crate) async fn rows_being_settled_are_counted(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let operation = make.queued(&*store, &tenant, 6).await;
    let unknown =
        || ItemOutcome::failed(crate::domain::error::Error::unknown(crate::domain::error::Code::Internal, "x"));
    // A first attempt; one that waits for its next attempt; one left to a person; a later attempt.
    let rows = [(true, 1, true, false), (false, 1, true, false), (false, 1, false, true), (true, 2, true, true)];
    for (index, (in_flight, attempts, due, ended)) in (0..).zip(rows) {
        let candidate = make.candidate(&tenant, "c", make.person());
        let intent = make.registration(&candidate);
        let due = intent.due.filter(|_| due);
        let at = ItemId { operation: operation.id.clone(), index };
        let record = candidate.id.to_string();
        let mut changes = vec![
            Mutation::ClaimItem(at.clone(), record.clone(), Vec::new()),
            Mutation::Intent(Intent { attempts, in_flight, due, ..intent }),
        ];
        changes.extend(ended.then(|| Mutation::EndItem(at, Some(record), unknown())));
        store.commit(changes).await.unwrap();
    }
    let progress = async || store.operation(&tenant, &operation.id).await.unwrap().unwrap().1;
    let counted = progress().await;
    assert_eq!((counted.pending, counted.unknown, counted.settling), (4, 2, 2));
    let (listed, of_list) =
        store.operations(&tenant, &OperationFilter::default(), &first_page(1)).await.unwrap().remove(0);
    assert_eq!((listed.id, of_list.settling), (operation.id.clone(), 2));
    let items = store.items(&operation.id, &[], 1, 1).await.unwrap();
    let record = items[0].record.clone().unwrap();
    store.commit(vec![Mutation::RemoveIntent(record)]).await.unwrap();
    assert_eq!(progress().await.settling, 1);
}

/// Required of a store with two candidates of tenant `t` in group `A` without index, one of which cannot be read.
pub(crate) async fn lists_by_group_omit_the_unreadable(store: &dyn Store, good: &Candidate) {
    let list = async || {
        let filter = CandidateFilter { group: Some("A".to_owned()), ..CandidateFilter::default() };
        store.listed_candidates("t", &filter, &Page { limit: 9, after: None }).await.unwrap().items
    };
    assert_eq!(list().await, std::slice::from_ref(good), "before the index is made");
    let part = store.candidates_without_group_index(&Page { limit: 9, after: None }).await.unwrap();
    store.commit(part.items.into_iter().map(Mutation::IndexGroup).collect()).await.unwrap();
    assert_eq!(list().await, std::slice::from_ref(good));
    let part = store.candidates_without_group_index(&Page { limit: 9, after: None }).await.unwrap();
    assert_eq!((part.items.len(), part.next), (0, None), "none is looked at again");
}
