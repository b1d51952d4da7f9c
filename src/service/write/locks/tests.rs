//! Tests of the locks: one holder each, all or none, and nothing held by callers who are gone.

use std::future::{Future as _, poll_fn};
use std::task::Poll;

use super::*;
use crate::store::{Keyring, PostgresStore, SqliteStore, postgres_server::Server};

fn key(name: &str) -> SubjectKey {
    name.to_owned().into()
}

fn locks() -> SubjectLocks {
    let environment = crate::store::conformance::environment();
    let ring = Keyring::new(&Keyring::generate(&environment), &[]).unwrap();
    SubjectLocks::new(Arc::new(SqliteStore::in_memory(ring, environment).unwrap()))
}

#[tokio::test]
async fn a_subject_has_one_lock_holder_at_a_time() {
    let locks = locks();
    let lock = locks.lock(&key("a")).await.unwrap();
    assert!(locks.try_lock(&key("a")).await.unwrap().is_none());
    assert!(locks.try_lock(&key("b")).await.unwrap().is_some());
    drop(lock);
    assert!(locks.try_lock(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn several_locks_are_acquired_all_or_none() {
    let locks = locks();
    let set = |names: &[&str]| names.iter().map(|name| key(name)).collect::<BTreeSet<_>>();
    let both = locks.lock_all(&set(&["a", "b"])).await.unwrap();
    assert!(locks.try_lock_all(&set(&["b", "c"])).await.unwrap().is_none());
    assert!(locks.try_lock(&key("c")).await.unwrap().is_some(), "none was kept");
    drop(both);
    assert_eq!(locks.try_lock_all(&set(&["b", "c"])).await.unwrap().map(|taken| taken.len()), Some(2));
}

#[tokio::test]
async fn a_lock_that_the_store_grants_to_a_dropped_caller_is_released() {
    let environment = crate::store::conformance::environment();
    let ring = Keyring::new(&Keyring::generate(&environment), &[]).unwrap();
    let url = crate::secret::Secret::new(Server::shared().schema().await);
    let open = async || {
        let store = PostgresStore::open_to_serve(&url, ring.clone(), environment.clone()).await.unwrap();
        SubjectLocks::new(Arc::new(store))
    };
    let (one, other) = (open().await, open().await);
    // Dropped before it asks the store, while it waits for the response, and with the lock.
    for polls in 0..20 {
        let subject = key(&polls.to_string());
        let mut dropped = Box::pin(one.lock(&subject));
        for _ in 0..polls {
            if poll_fn(|context| Poll::Ready(dropped.as_mut().poll(context))).await.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(dropped);
        let lock = tokio::time::timeout(Duration::from_mins(1), other.lock(&subject)).await;
        assert!(lock.expect("the lock is released").is_ok());
    }
}

#[tokio::test]
async fn unused_locks_are_swept() {
    let locks = locks();
    for number in 0..10_000 {
        drop(locks.lock(&key(&number.to_string())).await);
    }
    assert!(locks.locks.lock().unwrap().capacity() < 100);
}
