//! Tests specific to this engine: files, threads, keys and disks.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan as _};
use tempfile::TempDir;

use super::*;
use crate::domain::candidate::{Candidate, Identity, IdentityKind, Person};
use crate::domain::intent::Intent;
use crate::domain::intent::{IdempotencyKeyUse, StoredReply};
use crate::domain::operation::Operation;
use crate::domain::operation::OperationState;
use crate::secret::Secret;
use crate::store::SchemaChange;
use crate::store::codec::micros;
use crate::store::conformance::BY_NAME;
use crate::store::conformance::{Maker, conformance, environment};
use crate::store::engine::{Access, Engine as _};
use crate::store::sql;
use crate::store::{BeginResult, ItemCounts, KeyState, Mutation, Store, Window};

mod on_disk {
    use super::*;

    fn open(environment: &System) -> (TempDir, Arc<dyn Store>) {
        let (directory, path) = place();
        let store = SqliteStore::open(&path, ring(environment), environment.clone()).unwrap();
        (directory, Arc::new(store))
    }

    conformance!(open);
}

mod in_memory {
    use super::*;

    fn open(environment: &System) -> ((), Arc<dyn Store>) {
        ((), Arc::new(SqliteStore::in_memory(ring(environment), environment.clone()).unwrap()))
    }

    conformance!(open);
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let (_directory, path) = place();
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let store = SqliteStore::open(&path, keys.clone(), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let assignment = make.assignment(&candidate.tenant, &candidate.connection, "s");
    store.commit(vec![Mutation::Assignment(assignment.clone())]).await.unwrap();
    drop(store);
    assert!(!beside(&path, "-wal").exists(), "a clean shutdown leaves no log behind");

    let store = SqliteStore::open(&path, keys, make.0.clone()).unwrap();
    assert_eq!(store.candidate(&candidate.tenant, &candidate.id).await.unwrap(), Some(candidate.clone()));
    assert_eq!(store.assignment(&candidate.tenant, &assignment.id).await.unwrap(), Some(assignment));
    assert_eq!(store.intents_of(candidate.id.as_str()).await.unwrap().len(), 1);
    let again = make.candidate(&candidate.tenant, &candidate.connection, candidate.person.clone());
    assert_eq!(make.claim(&store, &again).await, BeginResult::Exists(vec![candidate]));
}

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
    let adopted = Intent { under_way: false, ..orphans[0].clone() };
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

/// Limits the file to this many pages, as a full disk would.
async fn most_pages(store: &SqliteStore, pages: i64) {
    let set = move |connection: &Connection| Ok(connection.pragma_update(None, "max_page_count", pages)?);
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
    let _: Vec<(i64,)> = store.select(Access::Scan, sql::PING, Vec::new()).await.unwrap();
    most_pages(&store, 1 << 20).await;
    store.ping().await.unwrap();
    make.claimed(&store).await;
}

#[tokio::test]
async fn expired_operations_are_removed_in_portions() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open_to_serve(&path, ring(&make.0), make.0.clone()).unwrap();
    let mut over = make.queued(&store, "t", 2_500).await;
    over.state = OperationState::Completed;
    over.finished = Some(make.0.now());
    let small = Operation { finished: over.finished, state: over.state, ..make.queued(&store, "t", 3).await };
    let kept = make.queued(&store, "t", 2).await;
    store.commit(vec![Mutation::Operation(over.clone()), Mutation::Operation(small.clone())]).await.unwrap();
    let soon = micros(make.0.now() + 1.hour());
    let portion = || store.write(move |hand| operations::purge(hand.connection, soon));
    let left = async |operation: &Operation| store.items(&operation.id, &[], 0, 9_999).await.unwrap().len();
    let mut portions = Vec::new();
    loop {
        let (gone, more) = portion().await.unwrap();
        portions.push((gone, left(&over).await + left(&small).await));
        if !more {
            break;
        }
        // An operation being removed stays hidden.
        store.requeue(&over.id, make.0.now()).await.unwrap();
        let state = store.operation("t", &over.id).await.unwrap().map(|(operation, _)| operation.state);
        assert!(state.is_none_or(|state| state == OperationState::Receiving), "{state:?}");
    }
    assert_eq!(portions, [(0, 1_503), (0, 503), (2, 0)]);
    assert_eq!(left(&kept).await, 2);
    assert!(store.operation("t", &over.id).await.unwrap().is_none());
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
    let told = store.item_reports(&operation.id, &[], 0, most).await.unwrap();
    assert_eq!(told.rows[0].item_id.as_deref(), Some("row 0"));
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
async fn a_damaged_or_moved_record_is_unreadable() {
    let make = Maker(environment());
    let store = SqliteStore::in_memory(ring(&make.0), make.0.clone()).unwrap();
    let (one, two) = (make.claimed(&store).await, make.claimed(&store).await);
    let tampering = [
        "UPDATE candidates SET sealed = (SELECT sealed FROM candidates WHERE id = ?2) WHERE id = ?1",
        "UPDATE candidates SET sealed = zeroblob(200) WHERE id = ?1 AND ?2 <> ''",
    ];
    for sql in tampering {
        run_sql(&store, sql, &[one.id.as_str(), two.id.as_str()]).await;
        let read = store.candidate(&one.tenant, &one.id).await;
        assert!(matches!(read, Err(StoreError::Unreadable(_))), "{read:?}");
    }
    // Write access to the file must not be enough to hand a record to another tenant.
    run_sql(&store, "UPDATE candidates SET tenant = ?2 WHERE id = ?1", &[two.id.as_str(), "thief"]).await;
    let read = store.candidate("thief", &two.id).await;
    assert!(matches!(read, Err(StoreError::Unreadable(_))), "{read:?}");
}

#[tokio::test]
async fn a_rotated_key_still_reads_and_finds() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let store = SqliteStore::open(&path, Keyring::new(&old, &[]).unwrap(), make.0.clone()).unwrap();
    let mut candidate = make.claimed(&store).await;
    let Candidate { tenant, connection, .. } = candidate.clone();
    let early = make.assignment(&tenant, &connection, "s");
    store.commit(vec![Mutation::Assignment(early.clone())]).await.unwrap();
    drop(store);

    let rotated = Keyring::new(&new, std::slice::from_ref(&old)).unwrap();
    let store = SqliteStore::open(&path, rotated, make.0.clone()).unwrap();
    assert_eq!(store.candidate(&tenant, &candidate.id).await.unwrap(), Some(candidate.clone()));
    let again = make.candidate(&tenant, &connection, candidate.person.clone());
    assert_eq!(make.claim(&store, &again).await, BeginResult::Exists(vec![candidate.clone()]));
    let stranger = make.candidate("stranger", &connection, candidate.person.clone());
    assert_eq!(make.claim(&store, &stranger).await, BeginResult::TakenByOtherTenant);
    let other = make.candidate(&tenant, &connection, make.person());
    make.claim(&store, &other).await;
    let taken = Mutation::Identities(other.id.clone(), Identity::of(&candidate.person, BY_NAME));
    assert!(matches!(store.commit(vec![taken]).await, Err(StoreError::Conflict)));

    assert!(store.is_subject_known(&connection, "s").await.unwrap());
    let late = make.assignment(&tenant, &connection, "s");
    store.commit(vec![Mutation::Assignment(late.clone())]).await.unwrap();
    assert_eq!(store.bookings(&tenant, &connection, "s").await.unwrap(), [late, early]);

    // A rewritten candidate is found once, under the new key.
    candidate.person.name.formatted = Some("Ada".into());
    store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
    for identity in Identity::of(&candidate.person, IdentityKind::ALL) {
        assert_eq!(store.candidates(&tenant, None, &identity).await.unwrap(), [candidate.clone()]);
    }
    drop(store);
    let only_new = SqliteStore::open(&path, Keyring::new(&new, &[]).unwrap(), make.0.clone());
    assert!(matches!(only_new, Err(StoreError::Unreadable(_))), "the earlier key is still needed");
}

#[tokio::test]
async fn the_files_contain_no_personal_data() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open(&path, ring(&make.0), make.0.clone()).unwrap();
    let person = Person {
        external_id: Some("Planted-External-Id".into()),
        user_name: Some("planted-user".into()),
        email: Some("planted@example.org".into()),
        ..make.person()
    };
    let mut candidate = make.candidate("planted-tenant", "c", person);
    assert_eq!(make.claim(&store, &candidate).await, BeginResult::Begun);
    candidate.person.group = Some("planted-group".into());
    let mut assignment = make.assignment("planted-tenant", "c", "planted@example.org|rust|");
    assignment.order.reference = Some("planted-reference".into());
    store.commit(vec![Mutation::Candidate(candidate), Mutation::Assignment(assignment)]).await.unwrap();

    let files: Vec<u8> =
        [path.clone(), beside(&path, "-wal")].iter().flat_map(|file| fs::read(file).unwrap()).collect();
    let holds = |text: &str| files.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()));
    assert!(holds("planted-tenant"), "the search finds clear text");
    for text in [
        "planted-external-id",
        "planted-user",
        "planted@example.org",
        "planted-group",
        "planted-reference",
        "lovelace",
        "correct horse",
        "ada@example.org",
        "go.example.org",
        "order 7",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[tokio::test]
async fn an_erased_candidate_leaves_no_row() {
    let make = Maker(environment());
    let store = SqliteStore::in_memory(ring(&make.0), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let count = "SELECT (SELECT count(*) FROM candidates) + (SELECT count(*) FROM identities)
                      + (SELECT count(*) FROM lookups) + (SELECT count(*) FROM intents)";
    let rows = || store.read(move |connection| Ok(connection.query_row(count, [], |row| row.get::<_, i64>(0))?));
    assert_eq!(rows().await.unwrap(), 1 + 1 + 1 + 1);
    store.commit(vec![Mutation::EraseCandidate(candidate.id)]).await.unwrap();
    assert_eq!(rows().await.unwrap(), 0);
}

#[tokio::test]
async fn a_claimed_identity_has_no_separate_look_up() {
    let make = Maker(environment());
    let (_directory, path) = place();
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let store = SqliteStore::open(&path, Keyring::new(&old, &[]).unwrap(), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    drop(store);
    // The identity stays under the key it was written under.
    let rotated = Keyring::new(&new, std::slice::from_ref(&old)).unwrap();
    let store = SqliteStore::open(&path, rotated, make.0.clone()).unwrap();
    let kinds = || {
        store.read(move |connection| {
            let mut statement = connection.prepare("SELECT kind FROM lookups ORDER BY kind")?;
            let kinds = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            Ok(kinds)
        })
    };
    assert_eq!(kinds().await.unwrap(), ["email"]);
    store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
    assert_eq!(kinds().await.unwrap(), ["email"]);
    store.commit(vec![Mutation::Identities(candidate.id.clone(), Vec::new())]).await.unwrap();
    assert_eq!(kinds().await.unwrap(), ["email", "externalId"]);
    let all = Identity::of(&candidate.person, IdentityKind::ALL);
    store.commit(vec![Mutation::Identities(candidate.id.clone(), all)]).await.unwrap();
    assert_eq!(kinds().await.unwrap(), [] as [&str; 0]);
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
async fn the_file_is_written_durably() {
    let (_directory, path) = place();
    let environment = environment();
    let store = SqliteStore::open(&path, ring(&environment), environment).unwrap();
    let settings = store
        .writer
        .run(|connection| {
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
    let broken = store.writer.run(|connection| {
        connection.execute("DELETE FROM keys", [])?;
        Ok(connection.execute_batch("this is no SQL")?)
    });
    let opened = async { drop(gate) };
    let (broken, claim, ()) = tokio::join!(broken, make.claim(&store, &good), opened);
    assert!(matches!(broken, Err(StoreError::Unavailable(_))));
    assert_eq!(claim, BeginResult::Begun);
    let keys: i64 = store
        .read(|connection| Ok(connection.query_row("SELECT count(*) FROM keys", [], |row| row.get(0))?))
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
    let lost = store.writer.run(|connection| Ok(connection.execute_batch("ROLLBACK")?));
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
    let late = store.writer.run(|connection| {
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

#[test]
fn lists_use_an_index() {
    let environment = environment();
    let connection = connect::memory(&RecordCodec::new(ring(&environment), environment.clone())).unwrap();
    for filter in ["tenant = 't'", "tenant = 't' AND candidate_id = 'c'"] {
        let sql =
            format!("EXPLAIN QUERY PLAN SELECT sealed FROM assignments WHERE {filter} AND id < 'x' ORDER BY id DESC");
        let plan: String = connection.query_row(&sql, [], |row| row.get("detail")).unwrap();
        assert!(plan.starts_with("SEARCH assignments USING INDEX"), "{plan}");
    }
}

#[test]
fn shared_statements_number_their_parameters_by_first_use_and_scan_no_table() {
    let environment = environment();
    let connection = connect::memory(&RecordCodec::new(ring(&environment), environment.clone())).unwrap();
    for (name, sql) in sql::ALL {
        let text = sql.sqlite.replace(sql::LIST, "?");
        let statement = connection.prepare(&text).unwrap();
        for index in 1..=statement.parameter_count() {
            let number = format!("${index}");
            assert_eq!(statement.parameter_name(index).unwrap_or(&number), number, "{name}");
        }
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let details = plan.raw_query().mapped(|row| row.get::<_, String>("detail")).map(Result::unwrap);
        let tables = ["candidates", "assignments", "booked", "intents", "operation_items", "operation_counts"];
        let scans = details.filter(|detail| tables.iter().any(|table| detail.starts_with(&format!("SCAN {table}"))));
        let scans: Vec<String> = scans.collect();
        assert!(scans.is_empty() || *name == "UNSETTLED", "{name}: {scans:?}");
    }
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("examgate.db");
    (directory, path)
}

/// Creates a database as an earlier version left it.
fn of_version(path: &Path, version: usize) -> Connection {
    let connection = Connection::open(path).unwrap();
    for migration in &connect::MIGRATIONS[..version] {
        connection.execute_batch(migration).unwrap();
    }
    connection.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
    connection.pragma_update(None, "application_id", connect::APPLICATION_ID).unwrap();
    connection
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn ring(environment: &System) -> Keyring {
    Keyring::new(&Keyring::generate(environment), &[] as &[Secret]).unwrap()
}

/// Returns the error with which opening the file under another key fails.
fn refusal(path: &Path) -> StoreError {
    let environment = environment();
    match SqliteStore::open(path, ring(&environment), environment) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => error,
    }
}

async fn run_sql(store: &SqliteStore, sql: &'static str, values: &[&str]) {
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    let work = move |connection: &Connection| Ok(connection.execute(sql, rusqlite::params_from_iter(values.iter()))?);
    assert_eq!(store.writer.run(work).await.unwrap(), 1);
}

async fn set_most_pages(store: &SqliteStore, pages: i64) {
    let set = move |connection: &Connection| {
        Ok(connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?)
    };
    store.writer.run(set).await.unwrap();
}

/// Blocks the writer until the returned sender is dropped, so that jobs sent meanwhile form one batch.
fn hold_the_writer(store: &SqliteStore) -> std::sync::mpsc::Sender<()> {
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
