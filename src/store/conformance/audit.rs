//! Required behaviour of every engine: the audit record.

use std::sync::Arc;

use serde_json::Value;

use super::{BY_NAME, Maker};
use crate::domain::audit::{ChainedEntry, Entry, NOTHING};
use crate::domain::candidate::Identity;
use crate::store::{Mutation, Store, StoreError};

/// Returns the request ids of the entries after checking that they form a chain from its beginning.
fn ids(lines: &[ChainedEntry]) -> Vec<String> {
    let mut previous = NOTHING.to_owned();
    lines
        .iter()
        .zip(1..)
        .map(|(line, seq)| {
            let given: Value = serde_json::from_str(&line.text).unwrap();
            assert_eq!((line.seq, &given["seq"], &given["previous"]), (seq, &seq.into(), &previous.clone().into()));
            given["hash"].as_str().unwrap().clone_into(&mut previous);
            given["requestId"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn line(tenant: &str, id: &str) -> Mutation {
    Mutation::Audit(Entry::example(tenant, id))
}

pub(crate) async fn entries_form_a_chain_per_tenant(store: Arc<dyn Store>, make: Maker) {
    let (one, other) = (make.name("tenant"), make.name("tenant"));
    assert_eq!(store.audit(&one, 0, 10).await.unwrap(), []);
    store.commit(vec![line(&one, "a"), line(&other, "x"), line(&one, "b")]).await.unwrap();
    store.commit(vec![line(&one, "c")]).await.unwrap();
    let lines = store.audit(&one, 0, 10).await.unwrap();
    assert_eq!(ids(&lines), ["a", "b", "c"]);
    assert_eq!(ids(&store.audit(&other, 0, 10).await.unwrap()), ["x"]);
    assert_eq!(store.audit(&one, 1, 1).await.unwrap(), lines[1..2]);
    assert_eq!(store.audit(&one, u64::MAX, 1).await.unwrap(), []);
}

pub(crate) async fn concurrent_appends_form_one_chain(store: Arc<dyn Store>, make: Maker) {
    let (one, other) = (make.name("tenant"), make.name("tenant"));
    let writing: Vec<_> = (0..40)
        .map(|number| {
            let (store, id) = (Arc::clone(&store), format!("{number:02}"));
            // In both orders, so that a deadlock would show.
            let mut lines = vec![line(&one, &id), line(&other, &id)];
            if number % 2 == 0 {
                lines.reverse();
            }
            tokio::spawn(async move { store.commit(lines).await })
        })
        .collect();
    for write in writing {
        write.await.unwrap().unwrap();
    }
    for tenant in [one, other] {
        let mut seen = ids(&store.audit(&tenant, 0, 100).await.unwrap());
        seen.sort_unstable();
        assert_eq!(seen, (0..40).map(|number| format!("{number:02}")).collect::<Vec<_>>());
    }
}

pub(crate) async fn an_entry_is_committed_only_with_its_transaction(store: Arc<dyn Store>, make: Maker) {
    let (tenant, holder) = (make.name("tenant"), make.claimed(&*store).await);
    let candidate = make.candidate(&holder.tenant, &holder.connection, make.person());
    make.claim(&*store, &candidate).await;
    store.commit(vec![line(&tenant, "a"), Mutation::Identities(candidate.id.clone(), Vec::new())]).await.unwrap();
    let taken = Identity::of(&holder.person, BY_NAME);
    let refused = store.commit(vec![line(&tenant, "b"), Mutation::Identities(candidate.id.clone(), taken)]).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    store.commit(vec![line(&tenant, "c")]).await.unwrap();
    assert_eq!(ids(&store.audit(&tenant, 0, 10).await.unwrap()), ["a", "c"]);
}
