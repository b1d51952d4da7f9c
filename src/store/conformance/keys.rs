//! Required behaviour of every engine: idempotency keys.

use std::sync::Arc;

use jiff::ToSpan as _;

use super::Maker;
use crate::domain::ids::OperationId;
use crate::domain::intent::{IdempotencyKeyUse, StoredReply};
use crate::store::{AcquireKey, KeyState, Mutation, Store};

impl Maker {
    /// Returns a request for a key that expires in an hour; `content` distinguishes contents.
    pub(crate) fn key_claim(&self, tenant: &str, scope: &str, content: u8) -> AcquireKey {
        let now = self.0.now();
        let expires = now + 1.hours();
        AcquireKey {
            tenant: tenant.to_owned(),
            token: self.name("token"),
            scope: scope.to_owned(),
            content: [content; 32],
            now,
            expires,
        }
    }

    /// Returns a second request for the same key.
    pub(crate) fn anew(&self, claim: &AcquireKey) -> AcquireKey {
        AcquireKey { token: self.name("token"), ..claim.clone() }
    }
}

async fn new_key(store: &dyn Store, claim: &AcquireKey) -> IdempotencyKeyUse {
    let taken = store.acquire_key(claim).await.unwrap();
    let KeyState::Acquired(key) = taken else { panic!("{taken:?}") };
    key
}

pub(crate) async fn a_key_is_acquired_once_and_then_returns_its_reply(store: Arc<dyn Store>, make: Maker) {
    let (tenant, candidate) = (make.name("tenant"), make.claimed(&*store).await);
    let claim = make.key_claim(&tenant, "POST /candidates k", 1);
    let key = new_key(&*store, &claim).await;
    assert_eq!(key.scope, claim.scope);
    assert!(matches!(store.acquire_key(&claim).await.unwrap(), KeyState::InProgress));
    for scope in ["POST /candidates K", "POST /assignments k"] {
        new_key(&*store, &make.key_claim(&tenant, scope, 1)).await;
    }
    new_key(&*store, &make.key_claim(&make.name("tenant"), &claim.scope, 1)).await;

    let password = crate::secret::Secret::new("correct horse");
    let answer = |created| StoredReply::Candidate {
        created,
        candidate: Box::new(candidate.clone()),
        initial_password: Some(password.clone()),
    };
    store.commit(vec![Mutation::CompleteKey(key.clone(), answer(true))]).await.unwrap();
    // The first reply is kept.
    let late = vec![
        Mutation::CompleteKey(key.clone(), answer(false)),
        Mutation::FreeKey(key.clone()),
        Mutation::ReleaseKey(key),
    ];
    store.commit(late).await.unwrap();
    for _ in 0..2 {
        let taken = store.acquire_key(&claim).await.unwrap();
        let KeyState::Completed(answer) = taken else { panic!("{taken:?}") };
        let StoredReply::Candidate { created, candidate: kept, initial_password } = *answer else {
            panic!("another reply")
        };
        assert!(created && *kept == candidate && initial_password.unwrap().matches_constant_time("correct horse"));
    }
}

pub(crate) async fn a_key_with_other_content_is_a_mismatch(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let claim = make.key_claim(&tenant, "k", 1);
    let key = new_key(&*store, &claim).await;
    let other = make.key_claim(&tenant, "k", 2);
    assert!(matches!(store.acquire_key(&other).await.unwrap(), KeyState::Mismatch));
    store.commit(vec![Mutation::CompleteKey(key, StoredReply::Gone)]).await.unwrap();
    assert!(matches!(store.acquire_key(&other).await.unwrap(), KeyState::Mismatch));
    assert!(matches!(store.acquire_key(&claim).await.unwrap(), KeyState::Completed(_)));
}

pub(crate) async fn a_freed_key_is_new_and_an_open_one_is_resumable(store: Arc<dyn Store>, make: Maker) {
    let claim = make.key_claim(&make.name("tenant"), "k", 1);
    let first = new_key(&*store, &make.anew(&claim)).await;
    store.commit(vec![Mutation::FreeKey(first.clone())]).await.unwrap();
    let second = new_key(&*store, &make.anew(&claim)).await;
    assert_ne!(first.token, second.token);

    store.commit(vec![Mutation::ReleaseKey(second)]).await.unwrap();
    let taken = store.acquire_key(&make.anew(&claim)).await.unwrap();
    let KeyState::Resumable(third, None) = taken else { panic!("{taken:?}") };
    assert!(
        matches!(store.acquire_key(&make.anew(&claim)).await.unwrap(), KeyState::InProgress),
        "it belongs to an instance again"
    );

    // The record's write may still conclude under its token.
    store
        .commit(vec![Mutation::BindKey(third.clone(), "cand_1".to_owned()), Mutation::ReleaseKey(third.clone())])
        .await
        .unwrap();
    let taken = store.acquire_key(&make.anew(&claim)).await.unwrap();
    let KeyState::Resumable(fourth, Some(record)) = taken else { panic!("{taken:?}") };
    assert_eq!((fourth.token, record.as_str()), (third.token.clone(), "cand_1"));
    store.commit(vec![Mutation::CompleteKey(third, StoredReply::Gone)]).await.unwrap();
    assert!(matches!(store.acquire_key(&make.anew(&claim)).await.unwrap(), KeyState::Completed(_)));
}

pub(crate) async fn an_earlier_use_of_a_key_has_no_effect(store: Arc<dyn Store>, make: Maker) {
    let claim = make.key_claim(&make.name("tenant"), "k", 1);
    let early = new_key(&*store, &make.anew(&claim)).await;
    store.commit(vec![Mutation::FreeKey(early.clone())]).await.unwrap();
    let late = new_key(&*store, &make.anew(&claim)).await;
    for word in [
        Mutation::CompleteKey(early.clone(), StoredReply::Gone),
        Mutation::FreeKey(early.clone()),
        Mutation::ReleaseKey(early.clone()),
        Mutation::BindKey(early, "cand_1".to_owned()),
    ] {
        store.commit(vec![word]).await.unwrap();
        assert!(matches!(store.acquire_key(&make.anew(&claim)).await.unwrap(), KeyState::InProgress));
    }
    store.commit(vec![Mutation::ReleaseKey(late)]).await.unwrap();
    assert!(matches!(store.acquire_key(&make.anew(&claim)).await.unwrap(), KeyState::Resumable(_, None)));
}

pub(crate) async fn a_key_expires(store: Arc<dyn Store>, make: Maker) {
    let claim = make.key_claim(&make.name("tenant"), "k", 1);
    let key = new_key(&*store, &claim).await;
    store
        .commit(vec![Mutation::CompleteKey(key, StoredReply::Operation(OperationId::generate(&make.0)))])
        .await
        .unwrap();
    let before = AcquireKey { now: claim.expires - 1.microseconds(), ..claim.clone() };
    assert!(matches!(store.acquire_key(&before).await.unwrap(), KeyState::Completed(_)));
    // Even before the purge, and whatever the content of the new request.
    let after = AcquireKey { now: claim.expires, expires: claim.expires + 1.hours(), content: [9; 32], ..claim };
    new_key(&*store, &after).await;
}

pub(crate) async fn only_one_of_many_acquires_a_key(store: Arc<dyn Store>, make: Maker) {
    let claim = make.key_claim(&make.name("tenant"), "k", 1);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (store, claim) = (Arc::clone(&store), claim.clone());
        tasks.spawn(async move { matches!(store.acquire_key(&claim).await.unwrap(), KeyState::Acquired(_)) });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|new| *new).count(), 1);
}
