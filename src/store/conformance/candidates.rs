//! Required behaviour of every engine: candidates.

use super::*;

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
    let free = Identity::ExternalId(make.name("free").into());
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

/// Required of a store in which an earlier version has registered two Unicode forms of one user name as two people: a
/// change of the second to the form of the first, sent by an earlier version, can be concluded.
pub(crate) async fn a_change_to_the_spelling_of_another_holder_is_concluded(
    store: &dyn Store,
    make: &Maker,
    holder: &Candidate,
    changed: &Candidate,
) {
    let name = holder.person.user_name.clone();
    let person = Person { user_name: name.clone(), ..changed.person.clone() };
    let changed = Candidate { person, state: CandidateState::Registered, ..changed.clone() };
    let identities = Identity::of(&changed.person, &[IdentityKind::UserName]);
    for _ in 0..2 {
        let concluded =
            vec![Mutation::Candidate(changed.clone()), Mutation::Identities(changed.id.clone(), identities.clone())];
        store.commit(concluded).await.unwrap();
    }
    assert_eq!(store.candidate(&changed.tenant, &changed.id).await.unwrap(), Some(changed.clone()));
    let person = Person { user_name: name, ..make.person() };
    let another = make.candidate(&changed.tenant, &changed.connection, person);
    assert_eq!(make.claim(store, &another).await, BeginResult::Exists(vec![holder.clone()]));
    // Of an identity that is not in its record, it is still a conflict.
    let other = make.candidate(&changed.tenant, &changed.connection, make.person());
    assert_eq!(make.claim(store, &other).await, BeginResult::Begun);
    let taken = Identity::of(&other.person, &[IdentityKind::ExternalId]);
    let set = vec![Mutation::Identities(changed.id.clone(), taken)];
    assert!(matches!(store.commit(set).await, Err(StoreError::Conflict)));
}
