//! The writer thread and its commits.

use super::*;

#[tokio::test]
async fn acknowledged_writes_survive_a_kill() {
    let (_directory, path) = place();
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let store = SqliteStore::open(&path, keys.clone(), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    // The files a process killed now would leave behind: nothing was closed, nothing flushed explicitly.
    let (_left, copy) = place();
    for suffix in ["", "-wal"] {
        fs::copy(beside(&path, suffix), beside(&copy, suffix)).unwrap();
    }
    let left = SqliteStore::open(&copy, keys, make.0.clone()).unwrap();
    assert!(left.intent(candidate.id.as_str()).await.unwrap().is_some());
    assert_eq!(left.candidate(&candidate.tenant, &candidate.id).await.unwrap(), Some(candidate));
}

#[tokio::test]
async fn pending_writes_are_committed_before_the_store_closes() {
    let (_directory, path) = place();
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let store = SqliteStore::open(&path, keys.clone(), make.0.clone()).unwrap();
    let candidate = make.candidate("t", "c", make.person());
    {
        let claim = make.claim(&store, &candidate);
        tokio::pin!(claim);
        // Polled once, so handed over; then the caller stops waiting.
        drop(futures_util::poll!(&mut claim));
    }
    drop(store);
    let store = SqliteStore::open(&path, keys, make.0.clone()).unwrap();
    assert_eq!(store.candidate("t", &candidate.id).await.unwrap(), Some(candidate));
}

/// Limits the file to this many pages, as a full disk would.
async fn most_pages(store: &SqliteStore, pages: i64) {
    let set = move |session: &Session| Ok(session.connection.pragma_update(None, "max_page_count", pages)?);
    store.writer.run(set).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_reported_until_it_has_space_again() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open_to_serve(&path, ring(&make.0), make.0.clone()).unwrap();
    store.ping().await.unwrap();
    most_pages(&store, 1).await;
    let full = loop {
        let candidate = make.candidate("t", "c", make.person());
        if let Err(error) = store.begin_writes(None, vec![make.claimant(&candidate, Vec::new())]).await {
            break error;
        }
    };
    assert!(full.is_full(), "{full}");
    let error = store.ping().await.unwrap_err();
    assert!(error.is_full(), "{error}");
    // Reads still work.
    let _: Vec<(i64,)> = store.select(Access::Scan, sql::PING, &[]).await.unwrap();
    most_pages(&store, 1 << 20).await;
    store.ping().await.unwrap();
    make.claimed(&store).await;
}

#[tokio::test]
async fn the_file_is_written_durably() {
    let (_directory, path) = place();
    let environment = environment();
    let store = SqliteStore::open(&path, ring(&environment), environment).unwrap();
    let settings = store
        .writer
        .run(|session| {
            let connection = &session.connection;
            let value = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            Ok((value("synchronous")?, value("foreign_keys")?, value("secure_delete")?))
        })
        .await
        .unwrap();
    assert_eq!(settings, (2, 1, 1));
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_store_works_again() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open(&path, ring(&make.0), make.0.clone()).unwrap();
    let before = make.claimed(&store).await;
    set_most_pages(&store, 1).await;
    let big = make.candidate("t", "c", Person { photo: Some("x".repeat(1 << 16).into()), ..make.person() });
    let claim = store.begin_writes(None, vec![make.claimant(&big, Identity::of(&big.person, BY_NAME))]).await;
    assert!(matches!(claim, Err(StoreError::Unavailable(_))), "{claim:?}");
    assert_eq!(store.candidate("t", &big.id).await.unwrap(), None);
    assert_eq!(store.candidate(&before.tenant, &before.id).await.unwrap(), Some(before));

    set_most_pages(&store, 1 << 20).await;
    assert_eq!(make.claim(&store, &big).await, BeginResult::Begun);
    assert_eq!(store.candidate("t", &big.id).await.unwrap(), Some(big));
}

#[tokio::test]
async fn a_refused_job_leaves_its_neighbours_alone() {
    let make = Maker(environment());
    let store = SqliteStore::in_memory(ring(&make.0), make.0.clone()).unwrap();
    let gate = hold_the_writer(&store);
    let good = make.candidate("t", "c", make.person());
    let broken = store.writer.run(|session| {
        let connection = &session.connection;
        connection.execute("DELETE FROM keys", [])?;
        Ok(connection.execute_batch("this is no SQL")?)
    });
    let opened = async { drop(gate) };
    let (broken, claim, ()) = tokio::join!(broken, make.claim(&store, &good), opened);
    assert!(matches!(broken, Err(StoreError::Unavailable(_))));
    assert_eq!(claim, BeginResult::Begun);
    let keys: i64 = store
        .read(|read| Ok(read.connection.query_row("SELECT count(*) FROM keys", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(keys, 1, "the changes of the refused job were rolled back");
}

#[tokio::test]
async fn a_lost_transaction_refuses_the_whole_batch_and_keeps_nothing() {
    let make = Maker(environment());
    let store = SqliteStore::in_memory(ring(&make.0), make.0.clone()).unwrap();
    let gate = hold_the_writer(&store);
    let (one, two) = (make.candidate("t", "c", make.person()), make.candidate("t", "c", make.person()));
    let before = store.begin_writes(None, vec![make.claimant(&one, Vec::new())]);
    // What SQLite does by itself if the disk fails during a transaction.
    let lost = store.writer.run(|session| Ok(session.connection.execute_batch("ROLLBACK")?));
    let after = store.begin_writes(None, vec![make.claimant(&two, Vec::new())]);
    let opened = async { drop(gate) };
    let (before, lost, after, ()) = tokio::join!(before, lost, after, opened);
    for result in [before.map(|_| ()), lost, after.map(|_| ())] {
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    }
    for id in [&one.id, &two.id] {
        assert_eq!(store.candidate("t", id).await.unwrap(), None);
    }
    assert_eq!(make.claim(&store, &one).await, BeginResult::Begun);
}

#[tokio::test]
async fn a_failed_commit_refuses_the_whole_batch() {
    let make = Maker(environment());
    let store = SqliteStore::in_memory(ring(&make.0), make.0.clone()).unwrap();
    let gate = hold_the_writer(&store);
    let candidate = make.candidate("t", "c", make.person());
    let claim = store.begin_writes(None, vec![make.claimant(&candidate, Vec::new())]);
    // A foreign key checked only at COMMIT, so that the COMMIT fails.
    let late = store.writer.run(|session| {
        let connection = &session.connection;
        connection.execute_batch("PRAGMA defer_foreign_keys = ON")?;
        let sql = "INSERT INTO lookups (candidate_id, kind, blind, tenant) VALUES ('none', 'email', x'00', 't')";
        Ok(connection.execute(sql, []).map(|_| ())?)
    });
    let opened = async { drop(gate) };
    let (claim, late, ()) = tokio::join!(claim, late, opened);
    assert!(matches!(claim, Err(StoreError::Unavailable(_))), "{claim:?}");
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    assert_eq!(store.candidate("t", &candidate.id).await.unwrap(), None);
    assert_eq!(make.claim(&store, &candidate).await, BeginResult::Begun);
}

async fn set_most_pages(store: &SqliteStore, pages: i64) {
    let set = move |session: &Session| {
        Ok(session.connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?)
    };
    store.writer.run(set).await.unwrap();
}

/// Blocks the writer until the returned sender is dropped, so that jobs sent meanwhile form one batch.
pub(super) fn hold_the_writer(store: &SqliteStore) -> std::sync::mpsc::Sender<()> {
    let (gate, closed) = std::sync::mpsc::channel::<()>();
    let (begun, holding) = std::sync::mpsc::channel();
    let hold = store.writer.run(move |_| {
        begun.send(()).unwrap();
        assert!(closed.recv().is_err());
        Ok(())
    });
    let mut hold = std::pin::pin!(hold);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(hold.as_mut().poll(&mut context).is_pending());
    // Its batch is closed only once it runs.
    holding.recv().unwrap();
    gate
}
