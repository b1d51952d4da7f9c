//! What is found by a value while entries are merged, removed and read again.

use rusqlite::params;

use super::opening::of_version;
use super::writer::hold_the_writer;
use super::*;
use crate::store::sqlite::late_index::{Source, check, find, rebuild};

/// Opens a file without readers, so that everything runs on the one connection; few entries are merged together.
pub(super) fn open(path: &Path, keys: &Keyring, make: &Maker, generation: usize) -> SqliteStore {
    let records = Arc::new(RecordCodec::new(keys.clone(), make.0.clone()));
    let mut connection = connect::writer(&connect::resolve(path).unwrap(), &records).unwrap();
    connect::register_instance(&mut connection, records.instance()).unwrap();
    let aside = Auxiliary::of(path, &mut connection).unwrap();
    let session = SqliteStore::session(connection, generation).unwrap();
    SqliteStore::assemble(records, session, Some(aside), None).unwrap()
}

#[test]
fn the_bookings_of_a_subject_are_found_without_the_others_of_the_tenant() {
    let connection = Connection::open_in_memory().unwrap();
    for migration in connect::MIGRATIONS {
        connection.execute_batch(migration).unwrap();
    }
    for forms in ["?2", "?2, ?4"] {
        let sql = sql::BOOKINGS.sqlite.replace("{list}", forms);
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>().unwrap();
        assert!(steps.iter().any(|step| step.contains("assignments_of_subject")), "{forms}: {steps:?}");
    }
}

/// Asserts that each row is found by its value, as a reader finds it, and that the table has no faults.
pub(super) async fn assert_whole(store: &SqliteStore) {
    let whole = store.read(move |ReadContext { connection, entries, records: _ }| {
        assert!(check(connection)?.is_none(), "{}", check(connection)?);
        for (source, table, column) in [
            (Source::Key, "idempotency_keys", "scope"),
            (Source::Identity, "identities", "blind"),
            (Source::Lookup, "lookups", "blind"),
        ] {
            let mut statement = connection.prepare(&format!("SELECT id, {column} FROM {table}"))?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
            for row in rows {
                let (id, blind) = row?;
                let sql = format!("SELECT id FROM {table} WHERE id = ?1 AND {column} = ?2");
                let found = find(connection, entries, source, &blind, &sql, |row| row.get::<_, i64>(0))?;
                assert!(found.contains(&id), "{table} {id}");
                assert!(source == Source::Lookup || found.len() == 1, "{table} {id} is there twice");
            }
        }
        Ok(())
    });
    whole.await.unwrap();
}

#[tokio::test]
async fn a_database_of_the_former_version_is_migrated_whole() {
    for (generation, is_rebuilt) in [(GENERATION, false), (50, true)] {
        let (_directory, path) = place();
        let connection = of_version(&path, 11);
        let (make, keys) = (Maker(environment()), ring(&environment()));
        let records = RecordCodec::new(keys.clone(), make.0.clone());
        let (mut people, mut claims) = (Vec::new(), Vec::new());
        for number in 0..300 {
            let candidate =
                make.candidate(["one", "two"][number % 2], ["main", "other"][number % 3 % 2], make.person());
            let row = records.candidate_row(&candidate).unwrap();
            let sql = "INSERT INTO candidates (id, tenant, connection, state, created, modified, sealed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            connection
                .execute(
                    sql,
                    params![row.id, row.tenant, row.connection, row.state, row.created, row.modified, row.sealed],
                )
                .unwrap();
            for identity in Identity::of(&candidate.person, BY_NAME) {
                let entry = records.identity(&candidate.connection, &identity);
                let sql = "INSERT INTO identities (connection, kind, blind, tenant, candidate_id) VALUES (?1, ?2, ?3, ?4, ?5)";
                connection.execute(sql, params![row.connection, entry.kind, entry.blind, row.tenant, row.id]).unwrap();
            }
            for lookup in row.lookups.iter().filter(|lookup| lookup.kind == "email") {
                let sql = "INSERT INTO lookups (candidate_id, kind, blind, tenant) VALUES (?1, ?2, ?3, ?4)";
                connection.execute(sql, params![row.id, lookup.kind, lookup.blind, row.tenant]).unwrap();
            }
            let intent = records.intent_row(&make.registration(&candidate)).unwrap();
            let sql = "INSERT INTO intents (record, tenant, connection, operation, started, settle_from, attempts, sealed, subject, owner, due)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'earlier', ?10)";
            let values = params![
                intent.record,
                intent.tenant,
                intent.connection,
                intent.operation,
                intent.started,
                intent.settle_from,
                intent.attempts,
                intent.sealed,
                intent.subject,
                intent.due
            ];
            connection.execute(sql, values).unwrap();
            let claim = make.key_claim(&candidate.tenant, &format!("k{number}"), 1);
            let key = records.key_row(&claim);
            let sql = "INSERT INTO idempotency_keys (scope, tenant, token, fingerprint, owner, record, sealed, expires)
                       VALUES (?1, ?2, ?3, ?4, NULL, ?5, ?6, ?7)";
            let reply = records.seal_reply(&claim.key(), StoredReply::Gone).unwrap();
            connection
                .execute(
                    sql,
                    params![key.scopes[0], key.tenant, key.token, key.fingerprint, row.id, reply, key.expires],
                )
                .unwrap();
            people.push(candidate);
            claims.push(claim);
        }
        drop(connection);

        let store = open(&path, &keys, &make, generation);
        assert_whole(&store).await;
        let merged = store.read(|read| {
            Ok(read.connection.query_row("SELECT count(*) FROM late_index", [], |row| row.get::<_, i64>(0))?)
        });
        assert_eq!(merged.await.unwrap(), if is_rebuilt { 900 } else { 0 });
        for (candidate, claim) in people.iter().zip(&claims) {
            let again = make.candidate(&candidate.tenant, &candidate.connection, candidate.person.clone());
            assert_eq!(make.claim(&store, &again).await, BeginResult::Exists(vec![candidate.clone()]));
            let stranger = make.candidate("stranger", &candidate.connection, candidate.person.clone());
            assert_eq!(make.claim(&store, &stranger).await, BeginResult::TakenByOtherTenant);
            for identity in Identity::of(&candidate.person, IdentityKind::ALL) {
                assert_eq!(
                    store.candidates(&candidate.tenant, None, &identity).await.unwrap(),
                    std::slice::from_ref(candidate)
                );
            }
            assert!(store.intent(candidate.id.as_str()).await.unwrap().is_some());
            assert!(matches!(store.acquire_key(&make.anew(claim)).await.unwrap(), KeyState::Completed(_)));
        }
    }
}

#[tokio::test]
async fn stores_of_earlier_versions_are_whole() {
    let fixtures: [&[u8]; 2] = [
        include_bytes!("../../../../tests/fixtures/former/store.db"),
        include_bytes!("../../../../tests/fixtures/spellings/store.db"),
    ];
    for fixture in fixtures {
        let (_directory, path) = place();
        fs::write(&path, fixture).unwrap();
        let key = Secret::new(data_encoding::BASE64.encode(&[7; 32]));
        let store = open(&path, &Keyring::new(&key, &[]).unwrap(), &Maker(environment()), 4);
        assert_whole(&store).await;
    }
}

/// Makes a file with merged and unmerged entries, some of whose rows are gone.
async fn filled(path: &Path, keys: &Keyring, make: &Maker) -> Vec<Candidate> {
    let store = open(path, keys, make, 20);
    let mut people = Vec::new();
    for _ in 0..60 {
        people.push(make.claimed(&store).await);
    }
    for candidate in people.drain(..20) {
        store.commit(vec![Mutation::EraseCandidate(candidate.id)]).await.unwrap();
    }
    assert_whole(&store).await;
    people
}

#[tokio::test]
async fn a_backup_keeps_its_index_and_mends_a_faulty_one() {
    let (directory, path) = place();
    let make = Maker(environment());
    let keys = ring(&make.0);
    let people = filled(&path, &keys, &make).await;
    let target = |name: &str| directory.path().join(name);
    // VACUUM INTO writes every table anew; the rows keep their numbers.
    assert_eq!(SqliteStore::back_up(&path, &target("whole.db"), &keys).unwrap().mended, None);
    let copied = open(&target("whole.db"), &keys, &make, 20);
    assert_whole(&copied).await;
    drop(copied);

    let connection = Connection::open(&path).unwrap();
    let removed = "DELETE FROM late_index WHERE (source, row_id) = (SELECT 1, min(id) FROM identities)";
    assert_eq!(connection.execute(removed, []).unwrap(), 1);
    connection.execute("INSERT INTO late_index (short, source, row_id) VALUES (x'00', 1, 1)", []).unwrap();
    drop(connection);
    // This person is not found any more.
    let store = open(&path, &keys, &make, 20);
    let lost = &people[0];
    let again = make.candidate(&lost.tenant, &lost.connection, lost.person.clone());
    let identity = &Identity::of(&lost.person, BY_NAME)[0];
    assert_eq!(store.candidates(&lost.tenant, None, identity).await.unwrap(), []);
    drop(store);
    let mended = SqliteStore::back_up(&path, &target("mended.db"), &keys).unwrap().mended.unwrap();
    assert!(mended.contains("1 rows without an entry, 1 entries without a row"), "{mended}");
    fs::copy(&path, target("faulty.db")).unwrap();
    for (backup, is_faulty) in [("mended.db", false), ("faulty.db", true)] {
        let restored = SqliteStore::restore(&path, &target(backup), &keys).unwrap();
        assert_eq!(restored.mended.is_some(), is_faulty, "{backup}");
        let store = open(&path, &keys, &make, 20);
        assert_whole(&store).await;
        assert_eq!(make.claim(&store, &again).await, BeginResult::Exists(vec![lost.clone()]));
    }
}

#[tokio::test]
async fn an_own_person_in_a_former_spelling_is_held_though_another_tenant_has_the_identity() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let keys = ring(&make.0);
    let store = open(&path, &keys, &make, 20);
    let person = |text: &str| Person { external_id: Some(text.to_owned().into()), ..make.person() };
    let (own, other) = (make.candidate("own", "c", person("emp-1 x")), make.candidate("other", "c", person("emp-1")));
    for candidate in [&own, &other] {
        assert_eq!(make.claim(&store, candidate).await, BeginResult::Begun);
    }
    // As an earlier version left it: the tenant's own person under the text of another spelling.
    let spelling = Identity::ExternalId("emp-1 ".to_owned().into());
    let former = store.records.former_forms("c", &spelling)[0];
    drop(store);
    let connection = Connection::open(&path).unwrap();
    let changed = connection
        .execute("UPDATE identities SET blind = ?2 WHERE candidate_id = ?1", params![own.id.as_str(), former]);
    assert_eq!(changed.unwrap(), 1);
    drop(connection);
    let store = open(&path, &keys, &make, 20);
    let claim = async |tenant: &str, text: &str| make.claim(&store, &make.candidate(tenant, "c", person(text))).await;
    assert_eq!(claim("own", "emp-1 ").await, BeginResult::Exists(vec![own.clone()]));
    assert_eq!(claim("other", "emp-1 ").await, BeginResult::Exists(vec![other.clone()]));
    assert_eq!(claim("third", "emp-1 ").await, BeginResult::TakenByOtherTenant);
    assert!(!store.identities_of_other_tenants("own", "c", &[spelling]).await.unwrap());
}

/// A database in memory has one connection, so a read is a job among those that write and sees what they have done.
#[tokio::test]
async fn a_read_within_a_group_in_memory_finds_what_the_jobs_before_it_changed() {
    let make = Maker(environment());
    let store = SqliteStore::in_memory(ring(&make.0), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let mail = Identity::Email(candidate.person.email.clone().unwrap());
    let find = || store.candidates(&candidate.tenant, Some(&candidate.connection), &mail);
    assert_eq!(find().await.unwrap(), std::slice::from_ref(&candidate), "by its look-up");
    // The look-up becomes an identity, and an identity a look-up.
    for held in [vec![mail.clone()], Vec::new()] {
        let gate = hold_the_writer(&store);
        let commit = store.commit(vec![Mutation::Identities(candidate.id.clone(), held.clone())]);
        let tenant = (make.name("stranger"), [mail.clone()]);
        let taken = store.identities_of_other_tenants(&tenant.0, &candidate.connection, &tenant.1);
        let (commit, found, taken, ()) = tokio::join!(commit, find(), taken, async { drop(gate) });
        commit.unwrap();
        assert_eq!(found.unwrap(), std::slice::from_ref(&candidate), "{held:?}");
        assert_eq!(taken.unwrap(), !held.is_empty());
    }
}

#[tokio::test]
async fn an_outcome_that_changes_no_look_up_reads_none_and_one_that_does_writes_it() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = open(&path, &ring(&make.0), &make, 20);
    let mut candidate = make.claimed(&store).await;
    let found = async |mail: &str| {
        let found = store.candidates(&candidate.tenant, None, &Identity::Email(mail.to_owned().into())).await.unwrap();
        found.len()
    };
    let first = candidate.person.email.as_deref().unwrap().to_owned();
    // A failed group forgets what it had remembered.
    for mail in [&*first, "second@example.org", "third@example.org", &*first] {
        let mut changed = candidate.clone();
        changed.person.email = Some(mail.to_owned().into());
        tokio::task::yield_now().await;
        let gate = hold_the_writer(&store);
        let commit = store.commit(vec![Mutation::Candidate(changed.clone())]);
        let lost = store.writer.run(|session| Ok(session.connection.execute_batch("ROLLBACK")?));
        let (commit, _, ()) = tokio::join!(commit, lost, async { drop(gate) });
        assert!(commit.is_err());
        assert_eq!(found(mail).await, usize::from(candidate.person.email.as_deref() == Some(mail)));
        store.commit(vec![Mutation::Candidate(changed.clone())]).await.unwrap();
        assert_eq!(found(mail).await, 1);
        let former = candidate.person.email.as_deref().unwrap().to_owned();
        assert!(former == mail || found(&former).await == 0);
        store.commit(vec![Mutation::Candidate(changed.clone())]).await.unwrap();
        assert_eq!(found(mail).await, 1);
        assert_whole(&store).await;
        candidate.person = changed.person;
    }
}

#[tokio::test]
async fn a_rebuild_changes_no_look_up() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let keys = ring(&make.0);
    let people = filled(&path, &keys, &make).await;
    rebuild(&Connection::open(&path).unwrap()).unwrap();
    let store = open(&path, &keys, &make, 20);
    assert_whole(&store).await;
    for candidate in people {
        let again = make.candidate(&candidate.tenant, &candidate.connection, candidate.person.clone());
        assert_eq!(make.claim(&store, &again).await, BeginResult::Exists(vec![candidate]));
    }
}
