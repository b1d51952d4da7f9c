//! Transactions that many callers share: lost responses, killed connections, locks, an instance that is ended.

use tokio::task::JoinSet;

use super::proxy::{Cut, Proxy};
use super::*;
use crate::domain::candidate::CandidateState;

const CALLERS: usize = 32;

/// Registers people, each for a caller of its own, under a key of its own, at the same time.
fn register(make: &Maker, store: &Arc<PostgresStore>, callers: usize) -> JoinSet<(Candidate, Result<(), StoreError>)> {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let candidate = make.candidate("t", "c", make.person());
        let (store, write) = (Arc::clone(store), claimant(make, &candidate));
        let key = key(make, &make.name("scope"));
        tasks.spawn(async move {
            let begun = store.begin_writes(Some(&key), vec![write]).await;
            let begun = begun.map(|results| assert_eq!(results, [BeginResult::Begun]));
            (candidate, begun)
        });
    }
    tasks
}

/// Returns the mutations that end a registration as applied.
fn conclude(candidate: &Candidate, started: jiff::Timestamp) -> Vec<Mutation> {
    let (id, known) = (candidate.id.to_string(), candidate.clone());
    vec![
        Mutation::RequireAttempt(id.clone(), started),
        Mutation::Candidate(Candidate { state: CandidateState::Registered, ..known }),
        Mutation::RemoveIntent(id),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_commit_lost_its_response_reports_the_true_result_to_each_caller() {
    let url = Server::shared().schema().await;
    let proxy = Proxy::to(&url).await;
    let make = Maker(environment());
    let store = Arc::new(serving(proxy.url(), &ring(&make.0), &make).await.unwrap());
    for cut in [Cut::AfterCommit, Cut::BeforeCommit].into_iter().cycle().take(8) {
        proxy.arm(cut);
        let begun = register(&make, &store, CALLERS).join_all().await;
        assert!(proxy.was_cut());
        proxy.arm(cut);
        let mut concluding = JoinSet::new();
        for (candidate, result) in begun {
            result.unwrap();
            let intent = store.intent(candidate.id.as_str()).await.unwrap().unwrap();
            let (store, changes) = (Arc::clone(&store), conclude(&candidate, intent.started));
            concluding.spawn(async move { store.commit(changes).await });
        }
        // One that was committed without a response would be superseded if it were made again.
        concluding.join_all().await.into_iter().for_each(Result::unwrap);
        assert!(proxy.was_cut());
    }
    let mut beside = beside(&url).await;
    for (table, rows) in [("candidates", 8 * CALLERS), ("idempotency_keys", 8 * CALLERS), ("intents", 0)] {
        assert_eq!(count(&mut beside, table).await, i64::try_from(rows).unwrap(), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_killed_between_statements_lose_and_repeat_nothing() {
    let Pair { url, make, one, two, .. } = Pair::open().await;
    let mut watcher = beside(&url).await;
    let killing = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks
                   WHERE relation = 'lanes'::regclass AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()";
    let mut killed = 0;
    for _ in 0..4 {
        let mut tasks = register(&make, &one, 100);
        let mut others = register(&make, &two, 100);
        let mut done = Vec::new();
        // Bounded, so that every attempt succeeds in the end.
        let most = killed + 25;
        while done.len() < 200 {
            if killed < most {
                killed += sqlx::query_scalar::<_, i64>(killing).fetch_one(&mut watcher).await.unwrap();
            }
            tokio::task::yield_now().await;
            for tasks in [&mut tasks, &mut others] {
                while let Some(result) = tasks.try_join_next() {
                    done.push(result.unwrap());
                }
            }
        }
        for (candidate, result) in done {
            result.unwrap();
            assert_eq!(one.candidate("t", &candidate.id).await.unwrap(), Some(candidate));
        }
    }
    assert!(killed > 0);
    for (table, rows) in [("candidates", 800), ("intents", 800), ("idempotency_keys", 800)] {
        assert_eq!(count(&mut watcher, table).await, rows, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_ended_among_groups_tells_each_caller_the_truth() {
    let pair = Pair::open().await;
    let Pair { make, one, two, .. } = &pair;
    let mut tasks = register(make, one, 400);
    let mut results = Vec::new();
    for _ in 0..40 {
        results.push(tasks.join_next().await.unwrap().unwrap());
    }
    pair.end_one().await;
    results.extend(tasks.join_all().await);
    results.extend(register(make, one, 10).join_all().await);
    assert!(results.iter().filter(|(_, result)| result.is_err()).count() >= 10);
    for (candidate, result) in results {
        let stored = two.candidate("t", &candidate.id).await.unwrap();
        match result {
            Ok(()) => assert_eq!(stored, Some(candidate)),
            Err(StoreError::Fenced) => assert_eq!(stored, None),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_two_instances_in_opposite_order_register_each_person_once() {
    let Pair { url, make, one, two, .. } = Pair::open().await;
    for _ in 0..5 {
        let people: Vec<_> = (0..100).map(|_| make.person()).collect();
        let mut tasks = JoinSet::new();
        for place in 0..100 {
            for (store, person) in [(&one, &people[place]), (&two, &people[99 - place])] {
                let candidate = make.candidate("t", "c", person.clone());
                let (store, write) = (Arc::clone(store), claimant(&make, &candidate));
                tasks.spawn(async move { store.begin_writes(None, vec![write]).await.unwrap().remove(0) });
            }
        }
        let results = tasks.join_all().await;
        assert_eq!(results.iter().filter(|result| **result == BeginResult::Begun).count(), 100);
        assert_eq!(results.iter().filter(|result| matches!(result, BeginResult::Exists(_))).count(), 100);
    }
    let mut beside = beside(&url).await;
    assert_eq!(count(&mut beside, "candidates").await, 500);
    assert_eq!(count(&mut beside, "identities").await % 500, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_another_transaction_holds_delays_only_its_own_caller() {
    let Pair { url, make, one, .. } = Pair::open().await;
    let mut candidate = make.candidate("t", "c", make.person());
    assert_eq!(make.claim(&*one, &candidate).await, BeginResult::Begun);
    let (mut holder, mut watcher) = (beside(&url).await, beside(&url).await);
    let mut held = holder.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM candidates FOR UPDATE").execute(&mut *held).await.unwrap();
    candidate.state = CandidateState::Registered;
    let (store, change) = (Arc::clone(&one), Mutation::Candidate(candidate.clone()));
    let blocked = tokio::spawn(async move { store.commit(vec![change]).await });
    until_waiting(&mut watcher, 1).await;
    for (candidate, result) in register(&make, &one, CALLERS).join_all().await {
        result.unwrap();
        assert_eq!(one.candidate("t", &candidate.id).await.unwrap(), Some(candidate));
    }
    assert!(!blocked.is_finished());
    held.rollback().await.unwrap();
    blocked.await.unwrap().unwrap();
    assert_eq!(one.candidate("t", &candidate.id).await.unwrap(), Some(candidate));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_jobs_are_committed_in_several_groups() {
    let Pair { make, one, two, .. } = Pair::open().await;
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let mut person = make.person();
        person.photo = Some("x".repeat(1 << 20).into());
        let candidate = make.candidate("t", "c", person);
        let (store, write) = (Arc::clone(&one), claimant(&make, &candidate));
        tasks.spawn(async move { (store.begin_writes(None, vec![write]).await.unwrap().remove(0), candidate) });
    }
    for (begun, candidate) in tasks.join_all().await {
        assert_eq!(begun, BeginResult::Begun);
        assert_eq!(two.candidate("t", &candidate.id).await.unwrap(), Some(candidate));
    }
}

/// A single write under a key takes 6 round trips to begin, as many for its outcome, and 4 for its audit entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_write_takes_few_round_trips() {
    let url = Server::shared().schema().await;
    let proxy = Proxy::to(&url).await;
    let make = Maker(environment());
    let store = serving(proxy.url(), &ring(&make.0), &make).await.unwrap();
    let mut taken = [0; 3];
    // The first write prepares the statements.
    for _ in 0..2 {
        let (candidate, key) = (make.candidate("t", "c", make.person()), key(&make, &make.name("scope")));
        let write = claimant(&make, &candidate);
        let started = write.intent.started;
        let before = proxy.round_trips();
        assert_eq!(store.begin_writes(Some(&key), vec![write]).await.unwrap(), [BeginResult::Begun]);
        let begun = proxy.round_trips();
        let mut outcome = conclude(&candidate, started);
        outcome.push(Mutation::ReleaseKey(key.key()));
        store.commit(outcome).await.unwrap();
        let concluded = proxy.round_trips();
        let entry = crate::domain::audit::Entry::example("t", "request");
        store.commit(vec![Mutation::Audit(entry)]).await.unwrap();
        taken = [begun - before, concluded - begun, proxy.round_trips() - concluded];
    }
    assert_eq!(taken, [6, 6, 4]);
}
