//! Lost responses, and a server that goes away.

use super::proxy::{Cut, Proxy};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_response_was_lost_reports_its_true_result() {
    let url = Server::shared().schema().await;
    let proxy = Proxy::to(&url).await;
    let make = Maker(environment());
    let store = serving(proxy.url(), &ring(&make.0), &make).await.unwrap();
    for (round, cut) in [Cut::AfterCommit, Cut::BeforeCommit].into_iter().cycle().take(20).enumerate() {
        let (subject, scope) = (format!("subject {round}"), round.to_string());
        proxy.arm(cut);
        let candidate = make.candidate("t", "c", make.person());
        assert_eq!(store.begin_writes(None, vec![claimant(&make, &candidate)]).await.unwrap(), [BeginResult::Begun]);
        assert!(proxy.was_cut());
        assert_eq!(store.candidate("t", &candidate.id).await.unwrap(), Some(candidate.clone()));

        proxy.arm(cut);
        assert!(matches!(store.acquire_key(&key(&make, &scope)).await.unwrap(), KeyState::Acquired(_)));
        assert!(proxy.was_cut());
        assert!(matches!(store.acquire_key(&key(&make, &scope)).await.unwrap(), KeyState::InProgress));

        proxy.arm(cut);
        assert!(store.acquire_locks(&[subject.as_str()]).await.unwrap());
        assert!(proxy.was_cut());

        proxy.arm(cut);
        store.commit(vec![Mutation::RemoveIntent(candidate.id.to_string())]).await.unwrap();
        assert!(proxy.was_cut());
        assert!(store.intent(candidate.id.as_str()).await.unwrap().is_none());
    }
    let mut beside = beside(&url).await;
    assert_eq!(count(&mut beside, "candidates").await, 20);
    assert_eq!(count(&mut beside, "idempotency_keys").await, 20);
    assert!(store.loose.take().is_empty(), "no acquisition remains uncertain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_used_again_after_a_crash_and_restart() {
    let server = Server::start();
    let pair = Pair::at(server.schema().await).await;
    let Pair { make, one, two, .. } = &pair;
    let before = make.claimed(&**one).await;
    for _ in 0..3 {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writers: Vec<_> = [one, two]
            .into_iter()
            .map(|store| {
                let (store, stop, make) = (Arc::clone(store), Arc::clone(&stop), Maker(make.0.clone()));
                tokio::spawn(async move {
                    let mut claimed = Vec::new();
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let candidate = make.candidate("t", "c", make.person());
                        let began = std::time::Instant::now();
                        // Work in flight while the server is away waits for it.
                        match store.begin_writes(None, vec![claimant(&make, &candidate)]).await {
                            Ok(results) => assert_eq!(results, [BeginResult::Begun]),
                            // A slow machine's server may be away for longer than anything waits.
                            Err(StoreError::Unavailable(_)) if began.elapsed() >= connect::WAIT => continue,
                            Err(error) => panic!("{error:?}"),
                        }
                        claimed.push(candidate);
                    }
                    claimed
                })
            })
            .collect();
        tokio::task::block_in_place(|| server.crash_and_restart());
        assert_eq!(two.candidate(&before.tenant, &before.id).await.unwrap().as_ref(), Some(&before));
        one.renew_lease().await.unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for writer in writers {
            for candidate in writer.await.unwrap() {
                let found = one.candidate("t", &candidate.id).await.unwrap();
                assert_eq!(found, Some(candidate), "acknowledged writes are present");
            }
        }
    }
}

#[tokio::test]
async fn work_completes_after_its_caller_hangs_up() {
    let Pair { make, one, two, .. } = Pair::open().await;
    let candidate = make.candidate("t", "c", make.person());
    {
        let claim = one.begin_writes(None, vec![claimant(&make, &candidate)]);
        tokio::pin!(claim);
        // Polled once, so handed over; then the caller stops waiting.
        drop(futures_util::poll!(&mut claim));
    }
    while two.candidate("t", &candidate.id).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}
