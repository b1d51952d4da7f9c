//! Opening a database: owner, version and keys; and that its content reveals nothing.

use std::process::Command;

use super::*;
use crate::domain::candidate::{IdentityKind, Person};
use crate::store::conformance::BY_NAME;
use crate::store::{CandidateFilter, Page, SchemaChange};

async fn refusal(url: &str) -> StoreError {
    let environment = environment();
    match PostgresStore::open_to_serve(&Secret::new(url), ring(&environment), environment).await {
        Ok(_) => panic!("the database was accepted"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_together_create_the_schema_once() {
    let (url, make) = (Server::shared().schema().await, Maker(environment()));
    let keys = ring(&make.0);
    let opening = (0..8).map(|_| serving(&url, &keys, &make));
    let stores: Vec<_> = futures_util::future::join_all(opening).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(stores[0].renew_lease().await.unwrap().len(), 7);
    let mut beside = beside(&url).await;
    let version: i64 = sqlx::query_scalar("SELECT version FROM schema_version").fetch_one(&mut beside).await.unwrap();
    assert_eq!(usize::try_from(version).unwrap(), schema::MIGRATIONS.len());
}

#[tokio::test]
async fn an_inspection_reports_changes_without_making_them() {
    let (url, make) = (Server::shared().schema().await, Maker(environment()));
    let (secret, keys) = (Secret::new(&*url), ring(&make.0));
    let found = PostgresStore::inspect(&secret, &keys).await.unwrap();
    assert_eq!(found, Inspection { schema: SchemaChange::Create, registers_key: true });
    let mut beside = beside(&url).await;
    let objects = "pg_class WHERE relnamespace = current_schema()::regnamespace";
    assert_eq!(count(&mut beside, objects).await, 0);

    let store = serving(&url, &keys, &make).await.unwrap();
    let before = count(&mut beside, objects).await;
    let found = PostgresStore::inspect(&secret, &keys).await.unwrap();
    assert_eq!(found, Inspection { schema: SchemaChange::None, registers_key: false });
    sqlx::raw_sql("UPDATE schema_version SET version = 1").execute(&mut beside).await.unwrap();
    let found = PostgresStore::inspect(&secret, &keys).await.unwrap();
    let latest = i64::try_from(schema::MIGRATIONS.len()).unwrap();
    assert_eq!(found.schema, SchemaChange::Migrate { from: 1, to: latest });
    let version: i64 = sqlx::query_scalar("SELECT version FROM schema_version").fetch_one(&mut beside).await.unwrap();
    assert_eq!(version, 1);

    let strange = PostgresStore::inspect(&secret, &ring(&make.0)).await;
    assert!(matches!(strange, Err(StoreError::Unreadable(_))), "{strange:?}");
    for (table, rows) in [("instances", 1), ("keys", 1), ("candidates", 0)] {
        assert_eq!(count(&mut beside, table).await, rows, "{table}");
    }
    assert_eq!(count(&mut beside, objects).await, before);
    drop(store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inspection_refuses_a_new_key_that_a_live_instance_lacks() {
    let (url, make) = (Server::shared().schema().await, Maker(environment()));
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let store = serving(&url, &Keyring::new(&old, &[]).unwrap(), &make).await.unwrap();
    let rotated = Keyring::new(&new, &[old]).unwrap();
    let secret = Secret::new(&*url);
    let inspecting = tokio::spawn(async move { PostgresStore::inspect(&secret, &rotated).await });
    while !inspecting.is_finished() {
        store.renew_lease().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let error = inspecting.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("store.encryption_key is new"), "{error}");
    assert_eq!(count(&mut beside(&url).await, "keys").await, 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let pair = Pair::open().await;
    sqlx::raw_sql("UPDATE schema_version SET version = 99").execute(&mut beside(&pair.url).await).await.unwrap();
    let error = refusal(&pair.url).await;
    assert!(error.to_string().contains("newer examgate (schema version 99"), "{error}");
}

#[tokio::test]
async fn a_foreign_schema_is_refused_and_left_alone() {
    for theirs in ["CREATE TABLE theirs (id int)", "CREATE TABLE schema_version (version int)"] {
        let url = Server::shared().schema().await;
        let mut beside = beside(&url).await;
        sqlx::raw_sql(theirs).execute(&mut beside).await.unwrap();
        let error = refusal(&url).await;
        assert!(error.to_string().contains("belongs to another program"), "{error}");
        let tables = "pg_class WHERE relnamespace = current_schema()::regnamespace";
        assert_eq!(count(&mut beside, tables).await, 1);
    }
}

#[tokio::test]
async fn rows_of_an_earlier_version_are_counted() {
    let url = Server::shared().schema().await;
    let mut beside = beside(&url).await;
    let make = "CREATE TABLE schema_version (examgate boolean PRIMARY KEY CHECK (examgate), version bigint NOT NULL)";
    sqlx::raw_sql(make).execute(&mut beside).await.unwrap();
    for migration in &schema::MIGRATIONS[..2] {
        sqlx::raw_sql(*migration).execute(&mut beside).await.unwrap();
    }
    let make = Maker(environment());
    let operation = make.operation("t", 4);
    let sql = "INSERT INTO schema_version (examgate, version) VALUES (true, 2)";
    sqlx::raw_sql(sql).execute(&mut beside).await.unwrap();
    sqlx::query(
        "INSERT INTO operations (id, tenant, client, kind, connection, strict, state, cancelling, total, created,
             request_id, owner)
         VALUES ($1, 't', 'lms', 'candidates', 'c', true, 'running', false, 4, 0, 'r', 'i')",
    )
    .bind(operation.id.as_str())
    .execute(&mut beside)
    .await
    .unwrap();
    for (position, state) in (0_i64..).zip(["waiting", "applied", "waiting", "claimed"]) {
        sqlx::query("INSERT INTO operation_items (operation, position, state, request) VALUES ($1, $2, $3, '')")
            .bind(operation.id.as_str())
            .bind(position)
            .bind(state)
            .execute(&mut beside)
            .await
            .unwrap();
    }
    let store = serving(&url, &ring(&make.0), &make).await.unwrap();
    let open = store.count_open_items().await.unwrap();
    assert_eq!((open.waiting, open.claimed), (2, 1));
    assert_eq!(store.skip_waiting(&operation.id).await.unwrap(), 2);
    let (_, progress) = store.operation("t", &operation.id).await.unwrap().unwrap();
    assert_eq!((progress.skipped, progress.applied, progress.pending), (2, 1, 1));
}

#[tokio::test]
async fn groups_of_an_earlier_version_are_listed_and_then_indexed() {
    let (url, make) = (Server::shared().schema().await, Maker(environment()));
    let store = serving(&url, &ring(&make.0), &make).await.unwrap();
    let mut expected = Vec::new();
    for group in [Some("A"), Some("B"), None, Some("A")] {
        let person = Person { group: group.map(str::to_owned), ..make.person() };
        let candidate = make.candidate("t", "c", person);
        assert_eq!(make.claim(&store, &candidate).await, BeginResult::Begun);
        expected.extend((group == Some("A")).then_some(candidate.id));
    }
    expected.reverse();
    let forget = "UPDATE candidates SET group_index = NULL";
    sqlx::raw_sql(forget).execute(&mut beside(&url).await).await.unwrap();
    let list = async || {
        let filter = CandidateFilter { group: Some("A".to_owned()), ..CandidateFilter::default() };
        let part = store.listed_candidates("t", &filter, &Page { limit: 9, after: None }).await.unwrap();
        part.items.into_iter().map(|candidate| candidate.id).collect::<Vec<_>>()
    };
    assert_eq!(list().await, expected);
    let part = store.candidates_without_group_index(&Page { limit: 9, after: None }).await.unwrap();
    assert_eq!((part.items.len(), part.next), (4, None));
    store.commit(part.items.into_iter().map(Mutation::IndexGroup).collect()).await.unwrap();
    let missing: i64 = sqlx::query_scalar("SELECT count(*) FROM candidates WHERE group_index IS NULL")
        .fetch_one(&mut beside(&url).await)
        .await
        .unwrap();
    assert_eq!((missing, list().await), (0, expected));
}

#[tokio::test]
async fn a_candidate_that_cannot_be_read_hides_no_other_of_its_group() {
    let (url, make) = (Server::shared().schema().await, Maker(environment()));
    let store = serving(&url, &ring(&make.0), &make).await.unwrap();
    let person = || Person { group: Some("A".to_owned()), ..make.person() };
    let [broken, good] = [(); 2].map(|()| make.candidate("t", "c", person()));
    for candidate in [&broken, &good] {
        assert_eq!(make.claim(&store, candidate).await, BeginResult::Begun);
    }
    let mut beside = beside(&url).await;
    sqlx::raw_sql("UPDATE candidates SET group_index = NULL").execute(&mut beside).await.unwrap();
    let damage = sqlx::query("UPDATE candidates SET sealed = '\\x00' WHERE id = $1").bind(broken.id.as_str());
    damage.execute(&mut beside).await.unwrap();
    crate::store::conformance::lists_by_group_omit_the_unreadable(&store, &good).await;
    let left = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM candidates WHERE group_index IS NULL");
    assert_eq!(left.fetch_one(&mut beside).await.unwrap(), 0);
}

#[tokio::test]
async fn a_missing_schema_is_reported() {
    let url = Server::shared().schema().await.replace("search_path%3D", "search_path%3Dmissing_");
    let error = refusal(&url).await;
    assert!(error.to_string().contains("names no schema"), "{error}");
}

#[tokio::test]
async fn a_database_written_under_a_missing_key_is_refused() {
    let pair = Pair::open().await;
    let error = refusal(&pair.url).await;
    assert!(matches!(&error, StoreError::Unreadable(detail) if detail.contains("store.encryption_key")), "{error}");
}

#[tokio::test]
async fn a_new_key_is_refused_while_a_live_instance_lacks_it() {
    let (url, make) = (Server::shared().schema().await, Maker(environment()));
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let running = serving(&url, &Keyring::new(&old, &[]).unwrap(), &make).await.unwrap();
    let ring = Keyring::new(&new, std::slice::from_ref(&old)).unwrap();
    let records = RecordCodec::new(ring, make.0.clone());
    let mut connection = beside(&url).await;
    let lacking = schema::try_register_instance(&mut connection, &records, &[]).await.unwrap();
    assert_eq!(lacking.len(), 1);
    assert_eq!(count(&mut connection, "instances").await, 1, "nothing was written");
    // It sends a heartbeat while it is watched, so it is alive.
    running.renew_lease().await.unwrap();
    let lacking = schema::try_register_instance(&mut connection, &records, &lacking).await.unwrap();
    assert_eq!(lacking.len(), 1);
    running.renew_lease().await.unwrap();
    // From here on it sends no heartbeat.
    let lacking = schema::try_register_instance(&mut connection, &records, &[]).await.unwrap();
    assert_eq!(schema::try_register_instance(&mut connection, &records, &lacking).await.unwrap(), []);
    assert!(matches!(running.renew_lease().await, Err(StoreError::Fenced)));
}

#[tokio::test]
async fn a_rotated_key_still_reads_and_finds() {
    let (url, make) = (Server::shared().schema().await, Maker(environment()));
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let both = Keyring::new(&old, std::slice::from_ref(&new)).unwrap();
    let before = serving(&url, &both, &make).await.unwrap();
    let mut candidate = make.claimed(&before).await;
    let Candidate { tenant, connection, .. } = candidate.clone();
    let early = make.assignment(&tenant, &connection, "s");
    before.commit(vec![Mutation::Assignment(early.clone())]).await.unwrap();

    let store = serving(&url, &Keyring::new(&new, std::slice::from_ref(&old)).unwrap(), &make).await.unwrap();
    let again = make.candidate(&tenant, &connection, candidate.person.clone());
    assert_eq!(make.claim(&store, &again).await, BeginResult::Exists(vec![candidate.clone()]));
    let stranger = make.candidate("stranger", &connection, candidate.person.clone());
    assert_eq!(make.claim(&store, &stranger).await, BeginResult::TakenByOtherTenant);
    let other = make.candidate(&tenant, &connection, make.person());
    assert_eq!(make.claim(&store, &other).await, BeginResult::Begun);
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
}

#[tokio::test]
async fn a_damaged_or_moved_record_is_unreadable() {
    let Pair { url, make, one, .. } = Pair::open().await;
    let (first, second) = (make.claimed(&*one).await, make.claimed(&*one).await);
    let mut beside = beside(&url).await;
    for tampering in [
        "UPDATE candidates SET sealed = (SELECT sealed FROM candidates WHERE id = $2) WHERE id = $1",
        "UPDATE candidates SET sealed = decode(repeat('00', 200), 'hex') WHERE id = $1 AND $2 <> ''",
        "UPDATE candidates SET tenant = 'thief' WHERE id IN ($1, $2)",
    ] {
        let tampering = sqlx::query(tampering).bind(first.id.as_str()).bind(second.id.as_str());
        tampering.execute(&mut beside).await.unwrap();
        for tenant in [&*first.tenant, "thief"] {
            let read = one.candidate(tenant, &first.id).await;
            assert!(matches!(read, Err(StoreError::Unreadable(_)) | Ok(None)), "{read:?}");
        }
    }
    assert!(matches!(one.candidate("thief", &second.id).await, Err(StoreError::Unreadable(_))));
}

#[tokio::test]
async fn commits_wait_for_the_disk_and_nothing_waits_for_ever() {
    let Pair { one, .. } = Pair::open().await;
    for (setting, expected) in [
        ("synchronous_commit", "on"),
        ("default_transaction_isolation", "read committed"),
        ("statement_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "3s"),
    ] {
        let query = sqlx::query_scalar::<_, String>("SELECT current_setting($1)").bind(setting);
        assert_eq!(query.fetch_one(&one.pool).await.unwrap(), expected, "{setting}");
    }
}

#[tokio::test]
async fn no_error_reveals_the_password() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    for url in [
        format!("postgres://planted-user:planted-password@{closed}/db"),
        "postgres://planted-user:planted-password@127.0.0.1:99999/db".to_owned(),
        "postgres://planted-user:planted-password@127.0.0.1/db?sslmode=planted".to_owned(),
    ] {
        let error = refusal(&url).await;
        assert!(
            matches!(error, StoreError::Unavailable(_)) && !format!("{error} {error:?}").contains("planted"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_dump_contains_no_personal_data() {
    let Pair { url, make, one, .. } = Pair::open().await;
    let person = Person {
        external_id: Some("Planted-External-Id".into()),
        user_name: Some("planted-user".into()),
        email: Some("planted@example.org".into()),
        ..make.person()
    };
    let mut candidate = make.candidate("planted-tenant", "c", person);
    assert_eq!(make.claim(&*one, &candidate).await, BeginResult::Begun);
    candidate.person.group = Some("planted-group".into());
    let mut assignment = make.assignment("planted-tenant", "c", "planted@example.org|rust|");
    assignment.order.reference = Some("planted-reference".into());
    one.commit(vec![Mutation::Candidate(candidate), Mutation::Assignment(assignment)]).await.unwrap();
    one.acquire_key(&key(&make, "planted-scope")).await.unwrap();
    one.acquire_locks(&["planted-subject"]).await.unwrap();

    let (server, schema) = url.split_once("?options=-csearch_path%3D").unwrap();
    let dump = Command::new("pg_dump").args(["--inserts", "--schema", schema, server]).output().unwrap();
    let text = String::from_utf8_lossy(&dump.stdout).to_ascii_lowercase();
    assert!(text.contains("planted-tenant"), "the search finds clear text: {dump:?}");
    let hidden = [
        "planted-external-id",
        "planted-user",
        "planted@example.org",
        "planted-group",
        "planted-reference",
        "planted-scope",
        "planted-subject",
        "lovelace",
        "correct horse",
        "ada@example.org",
        "go.example.org",
        "order 7",
    ];
    for word in hidden {
        assert!(!text.contains(word), "{word}");
        // The dump contains bytes in hexadecimal.
        assert!(!text.contains(&data_encoding::HEXLOWER.encode(word.as_bytes())), "{word}");
    }
}
