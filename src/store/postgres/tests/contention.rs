//! What keeps one caller waiting, and not the others: a key that many use, a lock that another transaction holds, a lost
//! transaction, and a connection that cannot be opened.

use tokio::task::JoinSet;

use super::proxy::{Cut, Proxy};
use super::*;

const CALLERS: usize = 32;

/// Registers people, each for a caller of its own, at the same time.
async fn register(make: &Maker, store: &Arc<PostgresStore>) {
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        let write = claimant(make, &make.candidate("t", "c", make.person()));
        let store = Arc::clone(store);
        tasks.spawn(async move {
            assert_eq!(store.begin_writes(None, vec![write]).await.unwrap(), [BeginResult::Begun]);
        });
    }
    tasks.join_all().await;
}

/// Returns the number of transactions that have registered people.
async fn transactions(connection: &mut PgConnection) -> usize {
    let sql = "SELECT count(DISTINCT xmin::text) FROM candidates";
    usize::try_from(sqlx::query_scalar::<_, i64>(sql).fetch_one(connection).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_key_that_waits_for_a_lock_hold_back_no_other() {
    let Pair { url, make, one, .. } = Pair::open().await;
    let (mut holder, mut watcher) = (beside(&url).await, beside(&url).await);
    let claim = key(&make, "hot");
    let locks = keys::advisory_locks(std::iter::once(&one.records.key_row(&claim)));
    for lock in &locks {
        sqlx::query("SELECT pg_advisory_lock($1)").bind(lock).execute(&mut holder).await.unwrap();
    }
    // More than fit in a group.
    let mut users = JoinSet::new();
    for _ in 0..300 {
        let (store, claim) = (Arc::clone(&one), AcquireKey { token: make.name("token"), ..claim.clone() });
        users.spawn(async move { store.acquire_key(&claim).await.unwrap() });
    }
    until_waiting(&mut watcher, 1).await;
    // These may share the group that waits, and are then done one by one.
    register(&make, &one).await;
    let before = transactions(&mut watcher).await;
    for _ in 0..3 {
        register(&make, &one).await;
    }
    let taken = transactions(&mut watcher).await - before;
    // On a busy machine the callers come one after the other, and some groups are small.
    assert!(taken < 2 * CALLERS, "{taken} transactions for {} callers", 3 * CALLERS);
    assert!(users.try_join_next().is_none(), "the key is locked");
    for lock in &locks {
        sqlx::query("SELECT pg_advisory_unlock($1)").bind(lock).execute(&mut holder).await.unwrap();
    }
    let states = users.join_all().await;
    assert_eq!(states.iter().filter(|state| matches!(state, KeyState::Acquired(_))).count(), 1);
    assert_eq!(states.iter().filter(|state| matches!(state, KeyState::InProgress)).count(), 299);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_do_not_wait_for_a_lost_transaction() {
    let url = Server::shared().schema().await;
    let proxy = Proxy::to(&url).await;
    let make = Maker(environment());
    let store = Arc::new(serving(proxy.url(), &ring(&make.0), &make).await.unwrap());
    store.commit(Vec::new()).await.unwrap();
    proxy.arm(Cut::AfterBegin);
    register(&make, &store).await;
    assert!(proxy.was_cut());
    let mut beside = beside(&url).await;
    let taken = transactions(&mut beside).await;
    assert!(taken < CALLERS * 3 / 4, "{taken} transactions for {CALLERS} callers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_fails_while_groups_have_no_connection() {
    let url = Server::shared().schema().await;
    let proxy = Proxy::to(&url).await;
    let make = Maker(environment());
    let store = serving(proxy.url(), &ring(&make.0), &make).await.unwrap();
    store.ping().await.unwrap();
    proxy.refuse(true);
    // Cuts the connection of the groups; the others stay.
    proxy.arm(Cut::AfterBegin);
    let failed = store.ping().await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    assert!(store.intent("no such record").await.unwrap().is_none(), "the database can be read");
    proxy.refuse(false);
    store.ping().await.unwrap();
}
