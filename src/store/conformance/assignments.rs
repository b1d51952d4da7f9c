//! Required behaviour of every engine: assignments.

use super::*;

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
    let of_candidate = Some(CandidateSelector { ids: vec![candidate.clone()], known_as: Vec::new() });
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
    let known_as = known_as.into_iter().collect();
    let of = CandidateSelector { ids: vec![candidate.id.clone()], known_as };
    let filter = AssignmentFilter { candidate: Some(of), ..AssignmentFilter::default() };
    store.assignments(&candidate.tenant, &filter, &Page { limit: 10, after: None }).await.unwrap()
}

/// Returns a booking by external id, made before its candidate is registered.
fn unlinked(make: &Maker, candidate: &Candidate) -> Assignment {
    let id = candidate.person.external_id.clone().unwrap();
    let booked = make.assignment(&candidate.tenant, &candidate.connection, &format!("{id}|rust|"));
    Assignment { vendor_key: id.to_string(), identity: Some(Identity::ExternalId(id)), ..booked }
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

/// Required of a store in which an earlier version has registered two spellings of one external id as two people.
pub(crate) async fn the_erasure_of_one_of_a_pair_leaves_the_other(
    store: &dyn Store,
    make: &Maker,
    erased: &Candidate,
    kept: &Candidate,
) {
    let (theirs, others) = (unlinked(make, erased), unlinked(make, kept));
    store.commit([&theirs, &others].map(|booked| Mutation::Assignment(booked.clone())).to_vec()).await.unwrap();
    store.commit(vec![Mutation::EraseCandidate(erased.id.clone())]).await.unwrap();
    let read = store.assignment(&theirs.tenant, &theirs.id).await.unwrap();
    assert_eq!(read, Some(theirs.without_person(&erased.id)));
    assert_eq!(store.assignment(&others.tenant, &others.id).await.unwrap().as_ref(), Some(&others));
    assert_eq!(store.candidate(&kept.tenant, &kept.id).await.unwrap().as_ref(), Some(kept));

    // The one who is left holds the identity: a registration makes no third person.
    let given = kept.person.external_id.as_ref().map(|id| ExternalId::parse(id).unwrap());
    let again = make.candidate(&erased.tenant, &erased.connection, Person { external_id: given, ..make.person() });
    let holder = if kept.tenant == erased.tenant {
        BeginResult::Exists(vec![kept.clone()])
    } else {
        BeginResult::TakenByOtherTenant
    };
    assert_eq!(make.claim(store, &again).await, holder);

    store.commit(vec![Mutation::EraseCandidate(kept.id.clone())]).await.unwrap();
    let read = store.assignment(&others.tenant, &others.id).await.unwrap();
    assert_eq!(read, Some(others.without_person(&kept.id)));
    assert_eq!(make.claim(store, &again).await, BeginResult::Begun);
}
