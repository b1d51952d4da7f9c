//! Required behaviour of every engine: intents.

use super::*;

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
        Mutation::Intent(Intent { in_flight: false, due, attempts: 2, ..make.registration(candidate) })
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
    let resting = Intent { in_flight: false, ..second.clone() };
    store.commit(vec![Mutation::Intent(resting)]).await.unwrap();
    assert!(matches!(store.commit(concluded(&second)).await, Err(StoreError::Superseded)), "no instance is sending it");
    store.commit(vec![Mutation::Intent(second.clone())]).await.unwrap();
    store.commit(concluded(&second)).await.unwrap();
    assert!(store.intent(&id).await.unwrap().is_none());
    assert!(matches!(store.commit(concluded(&second)).await, Err(StoreError::Superseded)), "it was already concluded");
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
    let second = Intent { subject: format!("{connection}\nprogram\nExternal(\"onboarding\")").into(), ..second };
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
    let about = |candidate| Intent { subject: subject.clone().into(), ..make.registration(candidate) };
    store.commit(vec![Mutation::Intent(about(&two)), Mutation::Intent(about(&one))]).await.unwrap();
    let found = store.intents_of(&subject).await.unwrap();
    assert_eq!(
        found.iter().map(|intent| intent.write.record_id()).collect::<Vec<_>>(),
        [two.id.as_str(), one.id.as_str()]
    );
    assert!(store.intents_of(&make.name("subject")).await.unwrap().is_empty());
}

pub(crate) async fn open_writes_are_read_a_few_megabytes_at_a_time(store: Arc<dyn Store>, make: Maker) {
    let (tenant, name) = (make.name("tenant"), make.name("connection"));
    for _ in 0..12 {
        let person = Person { photo: Some("x".repeat(1 << 20).into()), ..make.person() };
        let candidate = make.candidate(&tenant, &name, person);
        let mut claimant = make.claimant(&candidate, Vec::new());
        claimant.intent.in_flight = false;
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
