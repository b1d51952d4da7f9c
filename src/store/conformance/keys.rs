//! What every engine must do with idempotency keys.

use std::sync::Arc;

use jiff::ToSpan as _;

use super::Maker;
use crate::domain::ids::OperationId;
use crate::domain::journal::{Answer, KeyRef};
use crate::store::{Change, KeyClaim, KeyTaken, Store};

impl Maker {
    /// A claim of a key for an hour, for content that differs by `content`.
    pub(crate) fn key_claim(&self, tenant: &str, scope: &str, content: u8) -> KeyClaim {
        let now = self.0.now();
        let expires = now + 1.hours();
        KeyClaim {
            tenant: tenant.to_owned(),
            token: self.name("token"),
            scope: scope.to_owned(),
            content: [content; 32],
            now,
            expires,
        }
    }

    /// The same key, asked for again.
    pub(crate) fn anew(&self, claim: &KeyClaim) -> KeyClaim {
        KeyClaim { token: self.name("token"), ..claim.clone() }
    }
}

async fn new_key(store: &dyn Store, claim: &KeyClaim) -> KeyRef {
    let taken = store.take_key(claim).await.unwrap();
    let KeyTaken::New(key) = taken else { panic!("{taken:?}") };
    key
}

pub(crate) async fn a_key_is_taken_once_and_answered_ever_after(store: Arc<dyn Store>, make: Maker) {
    let (tenant, candidate) = (make.name("tenant"), make.claimed(&*store).await);
    let claim = make.key_claim(&tenant, "POST /candidates k", 1);
    let key = new_key(&*store, &claim).await;
    assert_eq!(key.scope, claim.scope);
    assert!(matches!(store.take_key(&claim).await.unwrap(), KeyTaken::Running));
    for scope in ["POST /candidates K", "POST /assignments k"] {
        new_key(&*store, &make.key_claim(&tenant, scope, 1)).await;
    }
    new_key(&*store, &make.key_claim(&make.name("tenant"), &claim.scope, 1)).await;

    let password = crate::secret::Secret::new("correct horse");
    let answer = |created| Answer::Candidate {
        created,
        candidate: Box::new(candidate.clone()),
        initial_password: Some(password.clone()),
    };
    store.commit(vec![Change::KeyAnswered(key.clone(), answer(true))]).await.unwrap();
    // The first answer stands.
    let late =
        vec![Change::KeyAnswered(key.clone(), answer(false)), Change::KeyFreed(key.clone()), Change::KeyOpen(key)];
    store.commit(late).await.unwrap();
    for _ in 0..2 {
        let taken = store.take_key(&claim).await.unwrap();
        let KeyTaken::Answered(answer) = taken else { panic!("{taken:?}") };
        let Answer::Candidate { created, candidate: kept, initial_password } = *answer else {
            panic!("another answer")
        };
        assert!(created && *kept == candidate && initial_password.unwrap().matches("correct horse"));
    }
}

pub(crate) async fn a_key_of_another_content_is_different(store: Arc<dyn Store>, make: Maker) {
    let tenant = make.name("tenant");
    let claim = make.key_claim(&tenant, "k", 1);
    let key = new_key(&*store, &claim).await;
    let other = make.key_claim(&tenant, "k", 2);
    assert!(matches!(store.take_key(&other).await.unwrap(), KeyTaken::Different));
    store.commit(vec![Change::KeyAnswered(key, Answer::Gone)]).await.unwrap();
    assert!(matches!(store.take_key(&other).await.unwrap(), KeyTaken::Different));
    assert!(matches!(store.take_key(&claim).await.unwrap(), KeyTaken::Answered(_)));
}

pub(crate) async fn a_freed_key_is_new_and_an_open_one_goes_on(store: Arc<dyn Store>, make: Maker) {
    let claim = make.key_claim(&make.name("tenant"), "k", 1);
    let first = new_key(&*store, &make.anew(&claim)).await;
    store.commit(vec![Change::KeyFreed(first.clone())]).await.unwrap();
    let second = new_key(&*store, &make.anew(&claim)).await;
    assert_ne!(first.token, second.token);

    store.commit(vec![Change::KeyOpen(second)]).await.unwrap();
    let taken = store.take_key(&make.anew(&claim)).await.unwrap();
    let KeyTaken::Open(third, None) = taken else { panic!("{taken:?}") };
    assert!(matches!(store.take_key(&make.anew(&claim)).await.unwrap(), KeyTaken::Running), "it is somebody's again");

    // What the record's write still has to say is heard.
    store
        .commit(vec![Change::KeyBound(third.clone(), "cand_1".to_owned()), Change::KeyOpen(third.clone())])
        .await
        .unwrap();
    let taken = store.take_key(&make.anew(&claim)).await.unwrap();
    let KeyTaken::Open(fourth, Some(record)) = taken else { panic!("{taken:?}") };
    assert_eq!((fourth.token, record.as_str()), (third.token.clone(), "cand_1"));
    store.commit(vec![Change::KeyAnswered(third, Answer::Gone)]).await.unwrap();
    assert!(matches!(store.take_key(&make.anew(&claim)).await.unwrap(), KeyTaken::Answered(_)));
}

pub(crate) async fn an_earlier_use_of_a_key_is_not_heard(store: Arc<dyn Store>, make: Maker) {
    let claim = make.key_claim(&make.name("tenant"), "k", 1);
    let early = new_key(&*store, &make.anew(&claim)).await;
    store.commit(vec![Change::KeyFreed(early.clone())]).await.unwrap();
    let late = new_key(&*store, &make.anew(&claim)).await;
    for word in [
        Change::KeyAnswered(early.clone(), Answer::Gone),
        Change::KeyFreed(early.clone()),
        Change::KeyOpen(early.clone()),
        Change::KeyBound(early, "cand_1".to_owned()),
    ] {
        store.commit(vec![word]).await.unwrap();
        assert!(matches!(store.take_key(&make.anew(&claim)).await.unwrap(), KeyTaken::Running));
    }
    store.commit(vec![Change::KeyOpen(late)]).await.unwrap();
    assert!(matches!(store.take_key(&make.anew(&claim)).await.unwrap(), KeyTaken::Open(_, None)));
}

pub(crate) async fn a_key_is_forgotten_in_its_time(store: Arc<dyn Store>, make: Maker) {
    let claim = make.key_claim(&make.name("tenant"), "k", 1);
    let key = new_key(&*store, &claim).await;
    store.commit(vec![Change::KeyAnswered(key, Answer::Operation(OperationId::generate(&make.0)))]).await.unwrap();
    let before = KeyClaim { now: claim.expires - 1.microseconds(), ..claim.clone() };
    assert!(matches!(store.take_key(&before).await.unwrap(), KeyTaken::Answered(_)));
    // Also before it is purged, and whatever the new request says.
    let after = KeyClaim { now: claim.expires, expires: claim.expires + 1.hours(), content: [9; 32], ..claim };
    new_key(&*store, &after).await;
}

pub(crate) async fn one_of_many_takes_a_key(store: Arc<dyn Store>, make: Maker) {
    let claim = make.key_claim(&make.name("tenant"), "k", 1);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (store, claim) = (Arc::clone(&store), claim.clone());
        tasks.spawn(async move { matches!(store.take_key(&claim).await.unwrap(), KeyTaken::New(_)) });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|new| *new).count(), 1);
}
