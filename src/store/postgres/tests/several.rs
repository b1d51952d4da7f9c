//! Several instances: liveness, locks, and the work of an ended instance.

use super::*;

#[tokio::test]
async fn an_instance_that_was_ended_writes_nothing_more() {
    let pair = Pair::open().await;
    let Pair { url, make, one, two, .. } = &pair;
    let before = make.claimed(&**one).await;
    assert!(one.acquire_locks(&["s"]).await.unwrap());
    pair.end_one().await;

    let late = make.candidate("t", "c", make.person());
    let changed = Candidate { private: std::collections::BTreeMap::default(), ..before.clone() };
    let refusals = [
        one.begin_writes(None, vec![claimant(make, &late)]).await.map(|_| ()),
        one.commit(vec![Mutation::Candidate(changed), Mutation::Intent(sending(make, &late))]).await,
        one.acquire_locks(&["other"]).await.map(|_| ()),
        one.release_locks(&["s".to_owned()]).await,
        one.acquire_key(&key(make, "k")).await.map(|_| ()),
        one.renew_lease().await.map(|_| ()),
        one.purge(make.0.now(), make.0.now()).await.map(|_| ()),
        one.end_instance(
            &two.renew_lease().await.unwrap().first().cloned().unwrap_or(Peer { instance: "x".into(), heartbeats: 0 }),
        )
        .await
        .map(|_| ()),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Err(StoreError::Fenced)), "{refusal:?}");
    }
    assert_eq!(two.candidate("t", &late.id).await.unwrap(), None);
    assert_eq!(two.candidate(&before.tenant, &before.id).await.unwrap(), Some(before.clone()));
    assert!(two.intent(late.id.as_str()).await.unwrap().is_none());
    let mut beside = beside(url).await;
    assert_eq!((count(&mut beside, "idempotency_keys").await, count(&mut beside, "turns").await), (0, 1));
    // An ended instance may still read.
    assert_eq!(one.candidate(&before.tenant, &before.id).await.unwrap(), Some(before));
}

#[tokio::test]
async fn ending_an_instance_waits_for_its_open_transaction() {
    let pair = Pair::open().await;
    let Pair { url, make, one, two, .. } = &pair;
    let candidate = make.claimed(&**one).await;
    let (mut holder, mut watcher) = (beside(url).await, beside(url).await);
    let mut held = holder.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM candidates FOR UPDATE").execute(&mut *held).await.unwrap();

    let writing = tokio::spawn(lock_candidates(Arc::clone(one)));
    until_waiting(&mut watcher, 1).await;
    let (store, peer) = (Arc::clone(two), two.renew_lease().await.unwrap().remove(0));
    let ending = tokio::spawn(async move { store.end_instance(&peer).await });
    until_waiting(&mut watcher, 2).await;
    assert!(!ending.is_finished());

    held.rollback().await.unwrap();
    writing.await.unwrap().unwrap();
    assert!(ending.await.unwrap().unwrap());
    assert_eq!(two.candidate(&candidate.tenant, &candidate.id).await.unwrap(), Some(candidate));
}

#[tokio::test]
async fn an_instance_suspended_in_a_transaction_can_be_ended() {
    let pair = Pair::open().await;
    let Pair { one, two, .. } = &pair;
    // It has entered its commit slot and then hangs.
    let mut suspended = one.pool.begin().await.unwrap();
    let entered = sqlx::query("UPDATE lanes SET receipt = 1 WHERE instance = $1 AND lane = 0");
    entered.bind(one.records.instance()).execute(&mut *suspended).await.unwrap();
    pair.end_one().await;
    assert!(suspended.commit().await.is_err());
    assert_eq!(two.renew_lease().await.unwrap(), []);
}

#[tokio::test]
async fn an_instance_with_a_newer_heartbeat_is_not_ended() {
    let Pair { one, two, .. } = Pair::open().await;
    let seen = two.renew_lease().await.unwrap();
    assert_eq!(seen.len(), 1);
    one.renew_lease().await.unwrap();
    assert!(!two.end_instance(&seen[0]).await.unwrap());
    let now = two.renew_lease().await.unwrap();
    assert_eq!((&now[0].instance, now[0].heartbeats), (&seen[0].instance, seen[0].heartbeats + 1));
    assert!(two.end_instance(&now[0]).await.unwrap());
    assert!(two.end_instance(&now[0]).await.unwrap(), "it has ended");
    assert_eq!(two.renew_lease().await.unwrap(), []);
}

#[tokio::test]
async fn heartbeats_do_not_wait_for_transactions() {
    let Pair { url, make, one, .. } = Pair::open().await;
    let candidate = make.claimed(&*one).await;
    let (mut holder, mut watcher) = (beside(&url).await, beside(&url).await);
    let mut held = holder.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM candidates FOR UPDATE").execute(&mut *held).await.unwrap();
    // One commit slot is that of the groups; every other one holds a waiting transaction.
    let others = connect::LANES - 1;
    let writing: Vec<_> = (0..others).map(|_| tokio::spawn(lock_candidates(Arc::clone(&one)))).collect();
    until_waiting(&mut watcher, i64::from(others)).await;
    let other = make.candidate("t", "c", make.person());
    assert_eq!(make.claim(&*one, &other).await, BeginResult::Begun, "groups do not wait");
    one.renew_lease().await.unwrap();
    assert_eq!(
        one.candidate(&candidate.tenant, &candidate.id).await.unwrap(),
        Some(candidate),
        "reads do not wait either"
    );
    held.rollback().await.unwrap();
    for write in writing {
        write.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_lock_is_held_until_it_is_released_or_its_instance_ends() {
    let pair = Pair::open().await;
    let Pair { one, two, .. } = &pair;
    let subjects = ["a".to_owned(), "b".to_owned()];
    for subject in &subjects {
        assert!(one.acquire_locks(&[subject.as_str()]).await.unwrap());
        assert!(one.acquire_locks(&[subject.as_str()]).await.unwrap(), "the owner may acquire it again");
        assert!(!two.acquire_locks(&[subject.as_str()]).await.unwrap());
    }
    two.release_locks(&subjects).await.unwrap();
    assert!(!two.acquire_locks(&["a"]).await.unwrap(), "only the owner releases a lock");
    assert!(!two.acquire_locks(&["c", "a"]).await.unwrap(), "all or none");
    assert!(one.acquire_locks(&["c"]).await.unwrap(), "the failed attempt kept none");
    one.release_locks(&subjects[..1]).await.unwrap();
    assert!(two.acquire_locks(&["a"]).await.unwrap());
    assert!(!one.acquire_locks(&["a"]).await.unwrap());
    assert!(!two.acquire_locks(&["b"]).await.unwrap());
    pair.end_one().await;
    assert!(two.acquire_locks(&["b"]).await.unwrap());
}

#[tokio::test]
async fn intents_of_an_ended_instance_are_orphans() {
    let pair = Pair::open().await;
    let Pair { make, one, two, .. } = &pair;
    let candidate = make.candidate("t", "c", make.person());
    assert_eq!(one.begin_writes(None, vec![claimant(make, &candidate)]).await.unwrap(), [BeginResult::Begun]);
    assert!(two.orphaned_intents(10).await.unwrap().is_empty());
    pair.end_one().await;
    let orphans = two.orphaned_intents(10).await.unwrap();
    assert_eq!(orphans.iter().map(|intent| intent.write.record_id()).collect::<Vec<_>>(), [candidate.id.as_str()]);
    // Once adopted, it belongs to no instance or to the new owner.
    two.commit(vec![Mutation::Intent(sending(make, &candidate))]).await.unwrap();
    assert!(two.orphaned_intents(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_of_an_ended_instance_is_resumable_with_its_record() {
    let pair = Pair::open().await;
    let Pair { make, one, two, .. } = &pair;
    let KeyState::Acquired(bound) = one.acquire_key(&key(make, "bound")).await.unwrap() else { panic!("not new") };
    let KeyState::Acquired(_) = one.acquire_key(&key(make, "bare")).await.unwrap() else { panic!("not new") };
    one.commit(vec![Mutation::BindKey(bound.clone(), "cand_1".to_owned())]).await.unwrap();
    for scope in ["bound", "bare"] {
        assert!(matches!(two.acquire_key(&key(make, scope)).await.unwrap(), KeyState::InProgress));
    }
    pair.end_one().await;
    let taken = two.acquire_key(&key(make, "bound")).await.unwrap();
    assert!(
        matches!(&taken, KeyState::Resumable(key, Some(record)) if *key == bound && record == "cand_1"),
        "{taken:?}"
    );
    assert!(matches!(two.acquire_key(&key(make, "bare")).await.unwrap(), KeyState::Resumable(_, None)));
    assert!(matches!(two.acquire_key(&key(make, "bare")).await.unwrap(), KeyState::InProgress), "it is now in use");
}

#[tokio::test]
async fn an_ended_instance_without_references_is_deleted() {
    let pair = Pair::open().await;
    let Pair { url, make, keys, one, .. } = &pair;
    let candidate = make.candidate("t", "c", make.person());
    one.begin_writes(None, vec![claimant(make, &candidate)]).await.unwrap();
    pair.end_one().await;
    let mut beside = beside(url).await;
    serving(url, keys, make).await.unwrap();
    assert_eq!(count(&mut beside, "instances").await, 3, "its intent refers to it");
    pair.two.commit(vec![Mutation::RemoveIntent(candidate.id.to_string())]).await.unwrap();
    serving(url, keys, make).await.unwrap();
    assert_eq!(count(&mut beside, "instances").await, 3);
    assert_eq!(count(&mut beside, "lanes").await, 3 * i64::from(connect::LANES));
    assert!(matches!(one.commit(Vec::new()).await, Err(StoreError::Fenced)), "a deleted instance counts as ended");
}

#[tokio::test]
async fn a_purge_deletes_only_the_locks_of_ended_instances() {
    let pair = Pair::open().await;
    let Pair { url, make, one, two, .. } = &pair;
    assert!(one.acquire_locks(&["a"]).await.unwrap() && two.acquire_locks(&["b"]).await.unwrap());
    two.purge(make.0.now(), make.0.now()).await.unwrap();
    let mut beside = beside(url).await;
    assert_eq!((count(&mut beside, "turns").await, count(&mut beside, "instances").await), (2, 2));
    pair.end_one().await;
    two.purge(make.0.now(), make.0.now()).await.unwrap();
    assert_eq!((count(&mut beside, "turns").await, count(&mut beside, "instances").await), (1, 1));
    assert!(two.acquire_locks(&["b"]).await.unwrap());
}

#[tokio::test]
async fn a_heartbeat_releases_locks_that_are_held_unknowingly() {
    let Pair { make, one, two, .. } = Pair::open().await;
    // As if the responses to both had been lost.
    assert!(one.acquire_locks(&["s"]).await.unwrap());
    assert!(matches!(one.acquire_key(&key(&make, "k")).await.unwrap(), KeyState::Acquired(_)));
    let (forms, scopes) = (one.records.lock_forms("s"), one.records.key_row(&key(&make, "k")).scopes);
    one.loose.add([UncertainLocks::Turn(forms.clone(), 0), UncertainLocks::Key(scopes, 1)]);
    assert!(!two.acquire_locks(&["s"]).await.unwrap());
    one.renew_lease().await.unwrap();
    while !two.acquire_locks(&["s"]).await.unwrap() {
        tokio::task::yield_now().await;
    }
    let taken = two.acquire_key(&key(&make, "k")).await.unwrap();
    assert!(matches!(taken, KeyState::Resumable(_, None)), "{taken:?}");

    // A later acquisition is not released for an earlier one.
    assert!(one.acquire_locks(&["later"]).await.unwrap());
    one.loose.add([UncertainLocks::Turn(one.records.lock_forms("later"), 0)]);
    one.release_uncertain_locks();
    one.release_locks(&["something else".to_owned()]).await.unwrap();
    assert!(!two.acquire_locks(&["later"]).await.unwrap());
}
