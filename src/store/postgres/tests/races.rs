//! Two instances that compete for the same thing.

use super::*;
use crate::domain::webhook::DeliveryState;
use crate::store::WebhookReads as _;
use crate::store::conformance::{ended_at_once, put_delivery, put_webhook};

const ROUNDS: i64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_row_changes_are_counted_correctly() {
    use crate::domain::operation::{ItemId, ItemOutcome, ItemStatus};
    let Pair { url, make, one, two, .. } = Pair::open().await;
    let operation = make.queued(&*one, "t", 120).await;
    let at = |index| ItemId { operation: operation.id.clone(), index };
    let mut ending = tokio::task::JoinSet::new();
    for index in 0..100 {
        let store = Arc::clone(if index % 3 == 0 { &two } else { &one });
        let end = ItemOutcome::of(ItemStatus::Created);
        let changes = vec![
            Mutation::ClaimItem(at(index), format!("r{index}"), Vec::new()),
            Mutation::EndItem(at(index), None, end),
        ];
        ending.spawn(async move { store.commit(changes).await.unwrap() });
    }
    ending.join_all().await;
    let skipped = one.skip_waiting(&operation.id).await.unwrap();
    let (_, progress) = two.operation("t", &operation.id).await.unwrap().unwrap();
    assert_eq!((progress.applied, skipped, progress.skipped, progress.pending), (100, 20, 20, 0));
    let differing = "(SELECT operation, state, count(*) AS items FROM operation_items GROUP BY 1, 2) AS items
         FULL JOIN (SELECT operation, state, sum(items) AS items FROM operation_counts GROUP BY 1, 2) AS counts
             USING (operation, state)
         WHERE coalesce(items.items, 0) <> coalesce(counts.items, 0)";
    assert_eq!(count(&mut beside(&url).await, differing).await, 0);
    one.discard_operation(&operation.id).await.unwrap();
    assert_eq!(count(&mut beside(&url).await, "operation_counts").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_two_instances_registers_a_person() {
    let Pair { url, make, one, two, .. } = Pair::open().await;
    for _ in 0..ROUNDS {
        let person = make.person();
        let (first, second) = (make.candidate("t", "c", person.clone()), make.candidate("t", "c", person));
        let stranger = make.candidate("stranger", "c", first.person.clone());
        let (a, b, other) = tokio::join!(
            one.begin_writes(None, vec![claimant(&make, &first)]),
            two.begin_writes(None, vec![claimant(&make, &second)]),
            two.begin_writes(None, vec![claimant(&make, &stranger)]),
        );
        let claims = [(a, first), (b, second), (other, stranger)].map(|(claim, who)| (claim.unwrap().remove(0), who));
        let winners: Vec<&Candidate> =
            claims.iter().filter(|(c, _)| *c == BeginResult::Begun).map(|(_, who)| who).collect();
        let [winner] = winners[..] else { panic!("{claims:?}") };
        for (claim, who) in &claims {
            if who.id != winner.id {
                let expected = if who.tenant == winner.tenant {
                    BeginResult::Exists(vec![winner.clone()])
                } else {
                    BeginResult::TakenByOtherTenant
                };
                assert_eq!(*claim, expected);
            }
        }
    }
    let mut beside = beside(&url).await;
    assert_eq!(count(&mut beside, "candidates").await, ROUNDS);
    assert_eq!(count(&mut beside, "intents").await, ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_in_opposite_orders_register_each_person_once() {
    let Pair { url, make, one, two, .. } = Pair::open().await;
    for _ in 0..10 {
        let people: Vec<_> = (0..100).map(|_| make.person()).collect();
        let batch = |people: Vec<_>| -> Vec<PreparedWrite> {
            people.into_iter().map(|person| claimant(&make, &make.candidate("t", "c", person))).collect()
        };
        let (forth, back) = (batch(people.clone()), batch(people.into_iter().rev().collect()));
        let (forth, back) = tokio::join!(one.begin_writes(None, forth), two.begin_writes(None, back));
        let (forth, mut back) = (forth.unwrap(), back.unwrap());
        back.reverse();
        for (a, b) in forth.iter().zip(&back) {
            let one_won = matches!(
                (a, b),
                (BeginResult::Begun, BeginResult::Exists(_)) | (BeginResult::Exists(_), BeginResult::Begun)
            );
            assert!(one_won, "{a:?} {b:?}");
        }
    }
    assert_eq!(count(&mut beside(&url).await, "candidates").await, 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_two_instances_acquires_a_key() {
    let Pair { make, one, two, .. } = Pair::open().await;
    for round in 0..ROUNDS {
        let claim = key(&make, &round.to_string());
        let (a, b) = tokio::join!(one.acquire_key(&claim), two.acquire_key(&claim));
        let (a, b) = (a.unwrap(), b.unwrap());
        let one_began = matches!(
            (&a, &b),
            (KeyState::Acquired(_), KeyState::InProgress) | (KeyState::InProgress, KeyState::Acquired(_))
        );
        assert!(one_began, "{a:?} {b:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_two_instances_acquires_a_lock() {
    let Pair { one, two, .. } = Pair::open().await;
    for round in 0..ROUNDS {
        let subject = round.to_string();
        let wanted = [subject.as_str()];
        let (a, b) = tokio::join!(one.acquire_locks(&wanted), two.acquire_locks(&wanted));
        assert!(a.unwrap() != b.unwrap());
    }
}

/// During a key rotation some replicas write under the old key and some under the new one; all have both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_rotation_causes_no_duplicates() {
    let (url, make) = (Server::shared().schema().await, Maker(environment()));
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let before = Keyring::new(&old, std::slice::from_ref(&new)).unwrap();
    let after = Keyring::new(&new, std::slice::from_ref(&old)).unwrap();
    let (one, two) = (serving(&url, &before, &make).await.unwrap(), serving(&url, &after, &make).await.unwrap());
    for round in 0..50 {
        let (person, scope) = (make.person(), round.to_string());
        let (first, second) = (make.candidate("t", "c", person.clone()), make.candidate("t", "c", person));
        let (a, b) = tokio::join!(
            one.begin_writes(None, vec![claimant(&make, &first)]),
            two.begin_writes(None, vec![claimant(&make, &second)])
        );
        let claims = (a.unwrap().remove(0), b.unwrap().remove(0));
        let one_won = claims == (BeginResult::Begun, BeginResult::Exists(vec![first.clone()]))
            || claims == (BeginResult::Exists(vec![second.clone()]), BeginResult::Begun);
        assert!(one_won, "{claims:?}");
        let wanted = [scope.as_str()];
        let (a, b) = tokio::join!(one.acquire_locks(&wanted), two.acquire_locks(&wanted));
        assert!(a.unwrap() != b.unwrap());
        let claim = key(&make, &scope);
        let (a, b) = tokio::join!(one.acquire_key(&claim), two.acquire_key(&claim));
        let taken = (a.unwrap(), b.unwrap());
        let one_began = matches!(
            &taken,
            (KeyState::Acquired(_), KeyState::InProgress) | (KeyState::InProgress, KeyState::Acquired(_))
        );
        assert!(one_began, "{taken:?}");
        let write = || vec![claimant(&make, &make.candidate("t", "c", make.person()))];
        let claim = key(&make, &format!("write {scope}"));
        let (a, b) = tokio::join!(one.begin_writes(Some(&claim), write()), two.begin_writes(Some(&claim), write()));
        let mut results = [a.unwrap().remove(0), b.unwrap().remove(0)];
        results.sort_by_key(|result| *result != BeginResult::Begun);
        assert_eq!(results, [BeginResult::Begun, BeginResult::KeyInUse]);
    }
}

#[tokio::test]
async fn inserts_of_one_call_that_share_an_identity_run_in_order() {
    let Pair { make, one, .. } = Pair::open().await;
    let first = make.candidate("t", "c", make.person());
    let mut second = make.candidate("t", "c", make.person());
    second.person.user_name = first.person.external_id.as_deref().map(Into::into);
    second.person.external_id = first.person.external_id.clone();
    let third = make.candidate("t", "c", second.person.clone());
    let mut fourth = make.candidate("t", "c", make.person());
    fourth.person.user_name = second.person.user_name.clone();
    let batch = [&first, &second, &third, &fourth].map(|candidate| claimant(&make, candidate));
    let claims = one.begin_writes(None, batch.to_vec()).await.unwrap();
    let held = |by: &Candidate| BeginResult::Exists(vec![by.clone()]);
    // The second insert did not get the user name, so the fourth does.
    assert_eq!(claims, [BeginResult::Begun, held(&first), held(&first), BeginResult::Begun]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_is_removed_while_its_next_version_waits_stays_removed() {
    let Pair { url, make, one, .. } = Pair::open().await;
    let (mut retention, mut watcher) = (beside(&url).await, beside(&url).await);
    let webhook = make.webhook("t");
    let failed = ended_at_once(&make.delivery(&webhook, 1), DeliveryState::Failed, make.0.now());
    one.commit(vec![put_webhook(&webhook), put_delivery(&failed)]).await.unwrap();
    sqlx::raw_sql("BEGIN; DELETE FROM deliveries").execute(&mut retention).await.unwrap();
    let again = failed.clone().pending_again(make.0.now());
    let (store, change) = (Arc::clone(&one), put_delivery(&again));
    let writing = tokio::spawn(async move { store.commit(vec![change]).await });
    until_waiting(&mut watcher, 1).await;
    sqlx::raw_sql("COMMIT").execute(&mut retention).await.unwrap();
    let written = writing.await.unwrap();
    assert!(matches!(written, Err(StoreError::Superseded)), "{written:?}");
    assert_eq!(one.delivery("t", &again.id).await.unwrap(), None);
}
