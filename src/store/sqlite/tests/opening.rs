//! Opening of files: earlier versions, foreign files, other processes.

use super::*;

#[tokio::test]
async fn intents_of_an_earlier_process_are_orphans() {
    let (_directory, path) = place();
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let store = SqliteStore::open_to_serve(&path, keys.clone(), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let key = make.key_claim("t", "k", 1);
    assert!(matches!(store.acquire_key(&key).await.unwrap(), KeyState::Acquired(_)));
    assert!(store.orphaned_intents(10).await.unwrap().is_empty());
    assert!(matches!(store.acquire_key(&key).await.unwrap(), KeyState::InProgress));
    drop(store);

    let store = SqliteStore::open_to_serve(&path, keys, make.0.clone()).unwrap();
    let orphans = store.orphaned_intents(10).await.unwrap();
    assert_eq!(orphans.iter().map(|intent| intent.write.record_id()).collect::<Vec<_>>(), [candidate.id.as_str()]);
    assert!(matches!(store.acquire_key(&key).await.unwrap(), KeyState::Resumable(_, None)));
    let adopted = Intent { in_flight: false, ..orphans[0].clone() };
    store.commit(vec![Mutation::Intent(adopted)]).await.unwrap();
    assert!(store.orphaned_intents(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn intents_of_the_first_version_are_due_at_once() {
    let (_directory, path) = place();
    let connection = of_version(&path, 1);
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let records = RecordCodec::new(keys.clone(), make.0.clone());
    let intent = make.registration(&make.candidate("t", "c", make.person()));
    let row = records.intent_row(&intent).unwrap();
    connection
        .execute(
            "INSERT INTO intents (record, tenant, connection, operation, started, settle_from, attempts, sealed)
             VALUES (?1, 't', 'c', 'candidates.create', 1, 2, 1, ?2)",
            rusqlite::params![row.record, row.sealed],
        )
        .unwrap();
    drop(connection);
    let store = SqliteStore::open_to_serve(&path, keys, make.0.clone()).unwrap();
    assert_eq!(store.due_intents("c", make.0.now(), Timestamp::MAX, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn keys_of_an_earlier_version_are_still_known() {
    let (_directory, path) = place();
    let connection = of_version(&path, 3);
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let records = RecordCodec::new(keys.clone(), make.0.clone());
    let (answered, open) = (make.key_claim("t", "answered", 1), make.key_claim("t", "open", 1));
    for (claim, is_answered) in [(&answered, true), (&open, false)] {
        let row = records.key_row(claim);
        let key = IdempotencyKeyUse { scope: row.scope.clone(), token: row.token.clone() };
        let sealed = is_answered.then(|| records.seal_reply(&key, StoredReply::Gone).unwrap());
        connection
            .execute(
                "INSERT INTO idempotency_keys (scope, tenant, token, fingerprint, owner, record, sealed, expires)
                 VALUES (?1, ?2, ?3, ?4, NULL, NULL, ?5, ?6)",
                rusqlite::params![row.scopes[0], row.tenant, row.token, row.fingerprint, sealed, row.expires],
            )
            .unwrap();
    }
    drop(connection);
    let store = SqliteStore::open_to_serve(&path, keys, make.0.clone()).unwrap();
    assert!(
        matches!(store.acquire_key(&answered).await.unwrap(), KeyState::Completed(answer) if matches!(*answer, StoredReply::Gone))
    );
    assert!(matches!(store.acquire_key(&open).await.unwrap(), KeyState::Resumable(_, None)));
    assert!(matches!(store.acquire_key(&make.key_claim("t", "other", 1)).await.unwrap(), KeyState::Acquired(_)));
}

#[tokio::test]
async fn rows_of_an_earlier_version_are_counted() {
    let (_directory, path) = place();
    let connection = of_version(&path, 4);
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let operation = make.operation("t", 4);
    let sql = "INSERT INTO operations (id, tenant, client, kind, connection, strict, state, cancelling, total, created, request_id)
         VALUES (?1, 't', 'lms', 'candidates', 'c', 0, 'running', 0, 4, ?2, 'req')";
    connection.execute(sql, rusqlite::params![operation.id.as_str(), operation.created.as_microsecond()]).unwrap();
    for (position, state) in ["waiting", "applied", "waiting", "claimed"].into_iter().enumerate() {
        let values = rusqlite::params![operation.id.as_str(), i64::try_from(position).unwrap(), state];
        let sql = "INSERT INTO operation_items (operation, position, state, request) VALUES (?1, ?2, ?3, x'00')";
        connection.execute(sql, values).unwrap();
    }
    drop(connection);
    let store = SqliteStore::open_to_serve(&path, keys, make.0.clone()).unwrap();
    assert_eq!(store.count_open_items().await.unwrap(), ItemCounts { waiting: 2, claimed: 1 });
    assert_eq!(store.skip_waiting(&operation.id).await.unwrap(), 2);
    let (read, progress) = store.operation("t", &operation.id).await.unwrap().unwrap();
    assert_eq!((progress.skipped, progress.applied, progress.pending), (2, 1, 1));
    assert_eq!(read.accepted, read.created);
}

#[tokio::test]
async fn marks_of_rows_of_an_earlier_version_are_read() {
    let (_directory, path) = place();
    let (make, keys) = (Maker(environment()), Keyring::generate(&environment()));
    let keys = || Keyring::new(&keys, &[] as &[Secret]).unwrap();
    let store = SqliteStore::open_to_serve(&path, keys(), make.0.clone()).unwrap();
    let operation = make.queued(&store, "t", 1).await;
    drop(store);
    // As earlier versions wrote them: the mark is only inside the request.
    Connection::open(&path).unwrap().execute("UPDATE operation_items SET mark = NULL", []).unwrap();
    let store = SqliteStore::open_to_serve(&path, keys(), make.0.clone()).unwrap();
    let most = Window { rows: 9, bytes: 1 << 20 };
    let given = store.item_reports(&operation.id, &[], 0, most).await.unwrap();
    assert_eq!(given.rows[0].item_id.as_deref(), Some("row 0"));
}

#[tokio::test]
async fn groups_of_an_earlier_version_are_listed_and_then_indexed() {
    let (_directory, path) = place();
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let store = SqliteStore::open_to_serve(&path, keys.clone(), make.0.clone()).unwrap();
    let mut groups = Vec::new();
    for group in [Some("A"), Some("B"), None, Some("A")] {
        let person = Person { group: group.map(str::to_owned), ..make.person() };
        let candidate = make.candidate("t", "c", person);
        assert_eq!(make.claim(&store, &candidate).await, BeginResult::Begun);
        groups.push(candidate.id);
    }
    drop(store);
    // As earlier versions left them; the last one was written by this version.
    let former = "UPDATE candidates SET group_index = NULL WHERE id <> ?1";
    assert_eq!(Connection::open(&path).unwrap().execute(former, [groups[3].as_str()]).unwrap(), 3);
    let store = SqliteStore::open_to_serve(&path, keys, make.0.clone()).unwrap();
    let list = async |limit| {
        let filter = CandidateFilter { group: Some("A".to_owned()), ..CandidateFilter::default() };
        let part = store.listed_candidates("t", &filter, &Page { limit, after: None }).await.unwrap();
        (part.items.into_iter().map(|candidate| candidate.id).collect::<Vec<_>>(), part.next)
    };
    let expected = vec![groups[3].clone(), groups[0].clone()];
    assert_eq!(list(9).await, (expected.clone(), None));
    assert_eq!(list(2).await.1.as_deref(), Some(groups[2].as_str()), "two were read, one of them of no group");
    let page = Page { limit: 2, after: None };
    for left in [2, 1, 0] {
        let part = store.candidates_without_group_index(&page).await.unwrap();
        assert_eq!((part.items.len(), part.next.is_some()), (left, left == 2));
        store.commit(part.items.into_iter().map(Mutation::IndexGroup).collect()).await.unwrap();
    }
    assert_eq!(list(9).await, (expected, None));
    assert_eq!(list(2).await.1.as_deref(), Some(groups[0].as_str()), "only those of the group are read");
}

#[tokio::test]
async fn a_candidate_that_cannot_be_read_hides_no_other_of_its_group() {
    let (_directory, path) = place();
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let store = SqliteStore::open_to_serve(&path, keys.clone(), make.0.clone()).unwrap();
    let person = || Person { group: Some("A".to_owned()), ..make.person() };
    let [broken, good] = [(); 2].map(|()| make.candidate("t", "c", person()));
    for candidate in [&broken, &good] {
        assert_eq!(make.claim(&store, candidate).await, BeginResult::Begun);
    }
    drop(store);
    let damage = "UPDATE candidates SET group_index = NULL; UPDATE candidates SET sealed = x'00' WHERE id = ";
    Connection::open(&path).unwrap().execute_batch(&format!("{damage}'{}'", broken.id)).unwrap();
    let store = SqliteStore::open_to_serve(&path, keys, make.0.clone()).unwrap();
    crate::store::conformance::lists_by_group_omit_the_unreadable(&store, &good).await;
    let left = "SELECT count(*) FROM candidates WHERE group_index IS NULL";
    assert_eq!(Connection::open(&path).unwrap().query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn rows_of_a_killed_process_are_settling() {
    let (_directory, path) = place();
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let store = SqliteStore::open_to_serve(&path, keys.clone(), make.0.clone()).unwrap();
    let operation = make.queued(&store, "t", 2).await;
    let candidate = make.candidate("t", "c", make.person());
    let at = ItemId { operation: operation.id.clone(), index: 0 };
    let claim = Mutation::ClaimItem(at, candidate.id.to_string(), Vec::new());
    store.commit(vec![claim, Mutation::Intent(make.registration(&candidate))]).await.unwrap();
    let settling = async |store: &SqliteStore| {
        let (_, progress) = store.operation("t", &operation.id).await.unwrap().unwrap();
        (progress.pending, progress.settling)
    };
    assert_eq!(settling(&store).await, (2, 0), "it is being sent");
    drop(store);
    let store = SqliteStore::open_to_serve(&path, keys, make.0.clone()).unwrap();
    assert_eq!(settling(&store).await, (2, 1));
}

#[tokio::test]
async fn a_database_written_under_a_missing_key_is_refused() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open(&path, ring(&make.0), make.0.clone()).unwrap();
    make.claimed(&store).await;
    drop(store);
    let error = refusal(&path);
    assert!(matches!(&error, StoreError::Unreadable(detail) if detail.contains("store.encryption_key")), "{error}");
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_alone() {
    let (_directory, path) = place();
    let environment = environment();
    drop(SqliteStore::open(&path, ring(&environment), environment.clone()).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    let error = refusal(&path);
    assert!(error.to_string().contains("newer examgate (schema version 99"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_foreign_file_is_refused_and_left_alone() {
    let (_directory, path) = place();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (id)").unwrap();
    let before = fs::read(&path).unwrap();
    let error = refusal(&path);
    assert!(error.to_string().contains("belongs to another program"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::write(&path, "not a database at all, but long enough to look at").unwrap();
    assert!(matches!(refusal(&path), StoreError::Unavailable(_)));
}

#[test]
fn a_missing_directory_is_named_and_not_created() {
    let (directory, _) = place();
    let error = refusal(&directory.path().join("missing").join("examgate.db"));
    assert!(error.to_string().contains("directory does not exist"), "{error}");
    assert!(!directory.path().join("missing").exists());
}

#[cfg(unix)]
#[test]
fn only_one_process_serves_from_a_file_under_any_name() {
    let (directory, path) = place();
    let environment = environment();
    let keys = ring(&environment);
    let serve = |path: &Path| SqliteStore::open_to_serve(path, keys.clone(), environment.clone());
    let elsewhere = tempfile::tempdir().unwrap();
    let (link, linked_folder) = (elsewhere.path().join("link.db"), elsewhere.path().join("folder"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    std::os::unix::fs::symlink(directory.path(), &linked_folder).unwrap();
    let serving = serve(&path).unwrap();
    for other in [&link, &linked_folder.join("examgate.db"), &directory.path().join("./examgate.db")] {
        let error = serve(other).err().unwrap();
        assert!(error.to_string().contains("another process is serving"), "{}: {error}", other.display());
    }
    drop(serving);
    drop(serve(&link).unwrap());

    // A second hard link of the file would have its own log.
    let second = directory.path().join("second.db");
    fs::hard_link(&path, &second).unwrap();
    for name in [&path, &second] {
        let error = serve(name).err().unwrap();
        assert!(error.to_string().contains("several names (hard links)"), "{error}");
        assert!(SqliteStore::inspect(name, &keys).is_err());
    }
    fs::remove_file(&second).unwrap();
    drop(serve(&path).unwrap());
}

#[tokio::test]
async fn an_inspection_beside_a_serving_process_changes_nothing() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let keys = Keyring::new(&old, &[]).unwrap();
    let serving = SqliteStore::open_to_serve(&path, keys.clone(), make.0.clone()).unwrap();
    let candidate = make.claimed(&serving).await;
    let inspected = SqliteStore::inspect(&path, &keys).unwrap();
    assert_eq!(inspected, Inspection { schema: SchemaChange::None, registers_key: false });
    let rotated = Keyring::new(&new, std::slice::from_ref(&old)).unwrap();
    let inspected = SqliteStore::inspect(&path, &rotated).unwrap();
    assert_eq!(inspected, Inspection { schema: SchemaChange::None, registers_key: true });
    let strange = SqliteStore::inspect(&path, &Keyring::new(&new, &[]).unwrap());
    assert!(matches!(strange, Err(StoreError::Unreadable(_))), "{strange:?}");
    drop(serving);
    // The old key alone still suffices.
    let serving = SqliteStore::open_to_serve(&path, keys, make.0.clone()).unwrap();
    assert_eq!(serving.candidate(&candidate.tenant, &candidate.id).await.unwrap(), Some(candidate));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open(&path, ring(&make.0), make.0.clone()).unwrap();
    make.claimed(&store).await;
    for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn a_file_with_rows_of_missing_records_is_not_migrated() {
    let (_directory, path) = place();
    let connection = of_version(&path, 11);
    connection
        .execute_batch(
            "PRAGMA foreign_keys = OFF;
             INSERT INTO identities (connection, kind, blind, tenant, candidate_id)
             VALUES ('c', 'email', zeroblob(32), 't', 'cand_missing')",
        )
        .unwrap();
    drop(connection);
    let error = refusal(&path).to_string();
    assert!(error.contains("rows refer to records that do not exist"), "{error}");
    let connection = Connection::open(&path).unwrap();
    assert_eq!(connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap(), 11);
}

/// Creates a database as an earlier version left it.
pub(super) fn of_version(path: &Path, version: usize) -> Connection {
    let connection = Connection::open(path).unwrap();
    for migration in &connect::MIGRATIONS[..version] {
        connection.execute_batch(migration).unwrap();
    }
    connection.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
    connection.pragma_update(None, "application_id", connect::APPLICATION_ID).unwrap();
    connection
}

/// Returns the error with which opening the file under another key fails.
fn refusal(path: &Path) -> StoreError {
    let environment = environment();
    match SqliteStore::open(path, ring(&environment), environment) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => error,
    }
}
