//! Renewal of the index entries of an earlier version.

use super::*;
use crate::store::conformance::{
    a_change_to_the_spelling_of_another_holder_is_concluded, the_erasure_of_one_of_a_pair_leaves_the_other,
};
use crate::store::{IdentityUpkeep, ReindexedPage};

const FORMER: &[u8] = include_bytes!("../../../../tests/fixtures/spellings/store.db");

fn former(path: &std::path::Path, make: &Maker) -> SqliteStore {
    let key = Secret::new(data_encoding::BASE64.encode(&[7; 32]));
    let keys = Keyring::new(&key, &[]).unwrap();
    SqliteStore::open_to_serve(path, keys, make.0.clone()).unwrap()
}

/// Renews everything, this many records at a time; opens the store again after each of the first `kills` pages.
async fn renewed(kills: usize, limit: usize) -> (Vec<(String, Vec<u8>)>, Vec<ReindexedPage>, u64) {
    let (_directory, path) = place();
    std::fs::write(&path, FORMER).unwrap();
    let make = Maker(environment());
    let mut store = former(&path, &make);
    let mut pages = Vec::new();
    let found = loop {
        match store.reindex_identities(limit).await.unwrap() {
            IdentityUpkeep::Page(page) => pages.push(page),
            IdentityUpkeep::Done { found } => break found,
            IdentityUpkeep::Waiting => panic!("no other instance can be alive"),
        }
        if pages.len() <= kills {
            drop(store);
            store = former(&path, &make);
        }
    };
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let sql = "SELECT candidate_id || kind, blind FROM identities
               UNION ALL SELECT candidate_id || kind || 'lookup', blind FROM lookups
               UNION ALL SELECT id, person FROM assignments WHERE person IS NOT NULL ORDER BY 1, 2";
    let entries = connection
        .prepare(sql)
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    (entries, pages, found)
}

#[tokio::test]
async fn a_killed_renewal_continues_after_its_last_page() {
    let (whole, pages, found) = renewed(0, 500).await;
    let collisions: Vec<_> = pages.iter().flat_map(|page| &page.collisions).collect();
    assert_eq!(collisions.len(), 1, "{collisions:?}");
    assert_eq!(collisions[0].kind, "externalId");
    assert!(collisions[0].holder < collisions[0].candidate, "the older one spells it like the key: {collisions:?}");
    assert!(pages.iter().all(|page| page.unreadable.is_empty()));
    assert!(found >= 7, "{found}");
    let (in_parts, parts, found_in_parts) = renewed(5, 2).await;
    assert!(parts.len() > pages.len());
    assert_eq!((in_parts, found_in_parts), (whole, found));
}

#[tokio::test]
async fn a_renewed_candidate_is_found_by_either_spelling_and_keeps_its_own() {
    let (_directory, path) = place();
    std::fs::write(&path, FORMER).unwrap();
    let make = Maker(environment());
    let store = former(&path, &make);
    while matches!(store.reindex_identities(3).await.unwrap(), IdentityUpkeep::Page(_)) {}
    for (asked, spelling) in [
        ("emp-2", "emp-2 "),
        ("emp-2 ", "emp-2 "),
        ("emp-3", "emp-3\u{a0}"),
        ("Ren\u{e9}e-8", "Rene\u{301}e-8"),
        ("Rene\u{301}-6", "Ren\u{e9}-6"),
        // Claimed by an open write, not yet registered.
        ("emp-11", "emp-11\u{a0}"),
    ] {
        let found = store.candidates("lms", None, &Identity::ExternalId(asked.into())).await.unwrap();
        let ids: Vec<_> = found.iter().map(|it| it.person.external_id.as_deref().unwrap_or_default()).collect();
        assert_eq!(ids, [spelling], "{asked:?}");
    }
    for identity in [Identity::UserName("ana.b".into()), Identity::Email("ren\u{e9}@EXAMPLE.com".into())] {
        assert_eq!(store.candidates("lms", None, &identity).await.unwrap().len(), 1, "{identity:?}");
    }
    // The second of a pair keeps its entry when its identities are set again.
    let pair = store.candidates("lms", None, &Identity::ExternalId("emp-1".into())).await.unwrap();
    let second = pair.iter().find(|it| it.person.external_id.as_deref() == Some("emp-1 ")).unwrap().clone();
    let identities = Identity::of(&second.person, BY_NAME);
    store.commit(vec![Mutation::Identities(second.id.clone(), identities)]).await.unwrap();
    let new = make.candidate("lms", &second.connection, Person { external_id: Some("emp-1".into()), ..make.person() });
    let BeginResult::Exists(holders) = make.claim(&store, &new).await else { panic!("the identity is held") };
    assert_eq!(holders.iter().map(|it| it.person.external_id.as_deref()).collect::<Vec<_>>(), [Some("emp-1")]);
}

/// Returns a store in which an earlier version has registered these people, each of a tenant, in this order.
async fn registered_by_former(
    path: &std::path::Path,
    make: &Maker,
    people: [(&str, Person); 2],
) -> (SqliteStore, [Candidate; 2]) {
    let key = Secret::new(data_encoding::BASE64.encode(&[7; 32]));
    let records = RecordCodec::new(Keyring::new(&key, &[]).unwrap(), make.0.clone());
    let candidates = people.map(|(tenant, person)| make.candidate(tenant, "c", person));
    let store = former(path, make);
    let claimants = candidates.each_ref().map(|candidate| make.claimant(candidate, Vec::new()));
    let begun = store.begin_writes(None, claimants.to_vec()).await.unwrap();
    assert_eq!(begun, [BeginResult::Begun, BeginResult::Begun]);
    drop(store);
    let connection = rusqlite::Connection::open(path).unwrap();
    for candidate in &candidates {
        for identity in Identity::of(&candidate.person, BY_NAME) {
            let former = records.former_forms("c", &identity);
            let forms = if former.is_empty() { records.key_forms("c", &identity) } else { former };
            let sql =
                "INSERT INTO identities (connection, kind, blind, tenant, candidate_id) VALUES ('c', ?1, ?2, ?3, ?4)";
            let values = (identity.kind().as_str(), forms[0], &candidate.tenant, candidate.id.as_str());
            connection.execute(sql, values).unwrap();
        }
    }
    drop(connection);
    let store = former(path, make);
    while matches!(store.reindex_identities(9).await.unwrap(), IdentityUpkeep::Page(_)) {}
    (store, candidates)
}

#[tokio::test]
async fn a_tenant_keeps_its_own_spelling_of_an_identity_of_another_tenant() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let person = |id: &str| Person { external_id: Some(id.into()), ..make.person() };
    let people = [("t1", person("emp-1")), ("t2", person("emp-1 "))];
    let (store, [first, second]) = registered_by_former(&path, &make, people).await;
    for (tenant, id, expected) in [
        ("t2", "emp-1 ", BeginResult::Exists(vec![second])),
        ("t2", "emp-1", BeginResult::TakenByOtherTenant),
        // The spelling is another's, but the identity is of this tenant's own.
        ("t1", "emp-1 ", BeginResult::Exists(vec![first.clone()])),
        ("t1", "emp-1", BeginResult::Exists(vec![first])),
    ] {
        let candidate = make.candidate(tenant, "c", person(id));
        assert_eq!(make.claim(&store, &candidate).await, expected, "{tenant} {id:?}");
    }
}

#[tokio::test]
async fn the_erasure_of_one_spelling_leaves_the_other_its_bookings_and_its_identity() {
    for (tenants, erases_second) in [(["t", "t"], false), (["t", "t"], true), (["t", "u"], false), (["t", "u"], true)] {
        let (_directory, path) = place();
        let make = Maker(environment());
        let person = |id: &str| Person { external_id: Some(id.into()), ..make.person() };
        let people = [(tenants[0], person("emp-1")), (tenants[1], person("emp-1 "))];
        let (store, [first, second]) = registered_by_former(&path, &make, people).await;
        let (erased, kept) = if erases_second { (second, first) } else { (first, second) };
        the_erasure_of_one_of_a_pair_leaves_the_other(&store, &make, &erased, &kept).await;
    }
}

#[tokio::test]
async fn the_oldest_of_those_left_takes_over_the_identity() {
    let (_directory, path) = place();
    std::fs::write(&path, FORMER).unwrap();
    let make = Maker(environment());
    let store = former(&path, &make);
    while matches!(store.reindex_identities(3).await.unwrap(), IdentityUpkeep::Page(_)) {}
    let pair = store.candidates("lms", None, &Identity::ExternalId("emp-1".into())).await.unwrap();
    let of = |spelling| pair.iter().find(|it| it.person.external_id.as_deref() == Some(spelling)).unwrap();
    the_erasure_of_one_of_a_pair_leaves_the_other(&store, &make, of("emp-1"), of("emp-1 ")).await;
}

#[tokio::test]
async fn a_change_to_the_form_of_another_holder_is_concluded() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let person = |name: &str| Person { user_name: Some(name.into()), external_id: None, ..make.person() };
    let people = [("t", person("ren\u{e9}")), ("t", person("rene\u{301}"))];
    let (store, [first, second]) = registered_by_former(&path, &make, people).await;
    a_change_to_the_spelling_of_another_holder_is_concluded(&store, &make, &first, &second).await;
}
