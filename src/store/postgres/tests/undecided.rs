//! Commits whose outcome the server does not tell in time.

use sqlx::Executor as _;

use super::*;
use crate::domain::audit::Entry;
use crate::store::postgres::group_commit::answer_undecided;
use crate::store::postgres::job_queue::QueuedJob;
use crate::store::postgres::transaction::UndecidedCommit;

/// Runs jobs in a transaction on this connection up to its commit, which is then in doubt.
async fn lose(store: &PostgresStore, connection: &mut PgConnection, jobs: &[QueuedJob]) -> UndecidedCommit {
    let (instance, records) = (store.records.instance(), &store.records);
    let jobs: Vec<Arc<Job>> = jobs.iter().map(|queued| Arc::clone(&queued.job)).collect();
    let mut lane = store.writer.lanes.acquire().await.unwrap();
    let begin = lane.begin(instance, &jobs::advisory_locks(&jobs)).unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(begin))).await.unwrap();
    jobs::run(&mut WriteContext { connection, records, instance }, &jobs).await.unwrap();
    store.writer.undecided_commit(lane, "the response is lost".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_late_commit_acquired_is_released_and_its_audit_entries_are_written_once() {
    for committed in [true, false] {
        let Pair { url, make, one, two, .. } = Pair::open().await;
        let (mut connection, mut watcher) = (beside(&url).await, beside(&url).await);
        let (subject, claim) = ("s", key(&make, "k"));
        let entry = Mutation::Audit(Entry::example("t", "request"));
        let jobs = [
            Job::AcquireLocks(one.records.lock_forms(subject), one.next_take()),
            Job::AcquireKey(one.records.key_row(&claim), one.next_take()),
            Job::Commit(one.records.encode_mutations(vec![entry.clone()]).unwrap()),
        ];
        let (jobs, mut answers): (Vec<_>, Vec<_>) = jobs.into_iter().map(QueuedJob::new).unzip();
        let commit = lose(&one, &mut connection, &jobs).await;
        let deciding = answer_undecided(&one.writer, &one.loose, commit, jobs);
        until_waiting(&mut watcher, 1).await;
        let mut audited = answers.pop().unwrap();
        for answer in answers {
            assert!(matches!(answer.await.unwrap(), Err(StoreError::InDoubt(_))), "{committed}");
        }
        assert!(audited.try_recv().is_err(), "an entry may be written yet");
        assert!(one.has_undecided_commits());
        // The heartbeat finds nothing yet.
        one.renew_lease().await.unwrap();
        connection.execute(if committed { "COMMIT" } else { "ROLLBACK" }).await.unwrap();
        deciding.await.unwrap();
        assert!(!one.has_undecided_commits());
        match audited.await.unwrap() {
            Ok(_) => assert!(committed),
            Err(error) => {
                assert!(!committed && matches!(error, StoreError::Unavailable(_)), "{error}");
                one.commit(vec![entry]).await.unwrap();
            }
        }
        assert_eq!(count(&mut watcher, "audit").await, 1);
        one.renew_lease().await.unwrap();
        while !two.acquire_locks(&[subject]).await.unwrap() {
            tokio::task::yield_now().await;
        }
        let state = two.acquire_key(&claim).await.unwrap();
        let is_free =
            matches!((&state, committed), (KeyState::Resumable(_, None), true) | (KeyState::Acquired(_), false));
        assert!(is_free, "{state:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_slot_is_not_used_until_its_commit_is_decided() {
    let Pair { url, make, one, .. } = Pair::open().await;
    let mut connection = beside(&url).await;
    let commit = lose(&one, &mut connection, &[]).await;
    let deciding = answer_undecided(&one.writer, &one.loose, commit, Vec::new());
    // More transactions than there are slots, each of which would wait for the open one.
    for _ in 0..2 * connect::LANES {
        one.purge(make.0.now(), make.0.now()).await.unwrap();
        make.claimed(&*one).await;
    }
    assert!(!deciding.is_finished());
    connection.execute("ROLLBACK").await.unwrap();
    deciding.await.unwrap();
}
