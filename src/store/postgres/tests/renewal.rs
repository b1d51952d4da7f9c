//! Renewal of index entries while an instance of an earlier version is alive.

use super::*;
use crate::domain::candidate::Person;
use crate::domain::identity::ExternalId;
use crate::store::conformance::{
    a_change_to_the_spelling_of_another_holder_is_concluded, the_erasure_of_one_of_a_pair_leaves_the_other,
};
use crate::store::{Collision, IdentityUpkeep};

impl Pair {
    /// Registers a candidate as an instance of the earlier version does: with an entry of its text only.
    async fn registered_by_former(&self, tenant: &str, connection: &str, id: &str) -> Candidate {
        let person = Person { external_id: Some(id.into()), ..self.make.person() };
        self.person_registered_by_former(tenant, connection, person).await
    }

    async fn person_registered_by_former(&self, tenant: &str, connection: &str, person: Person) -> Candidate {
        let candidate = self.make.candidate(tenant, connection, person);
        let begun = self.one.begin_writes(None, vec![self.make.claimant(&candidate, Vec::new())]).await.unwrap();
        assert_eq!(begun, [BeginResult::Begun]);
        let mut beside = beside(&self.url).await;
        let former = Identity::of(&candidate.person, BY_NAME)
            .into_iter()
            .flat_map(|it| {
                self.one.records.former_forms(connection, &it).into_iter().map(move |form| (it.kind(), form))
            })
            .collect::<Vec<_>>();
        for (kind, form) in former {
            sqlx::query(
                "INSERT INTO identities (connection, kind, blind, tenant, candidate_id) VALUES ($1, $5, $2, $3, $4)",
            )
            .bind(connection)
            .bind(form)
            .bind(tenant)
            .bind(candidate.id.as_str())
            .bind(kind.as_str())
            .execute(&mut beside)
            .await
            .unwrap();
        }
        candidate
    }

    async fn renewed(&self) -> (IdentityUpkeep, Vec<Collision>) {
        let mut collisions = Vec::new();
        loop {
            match self.two.reindex_identities(2).await.unwrap() {
                IdentityUpkeep::Page(page) => collisions.extend(page.collisions),
                end => return (end, collisions),
            }
        }
    }

    async fn begun(&self, tenant: &str, connection: &str, id: &str) -> BeginResult {
        let person = Person { external_id: Some(ExternalId::parse(id).unwrap()), ..self.make.person() };
        self.make.claim(&*self.two, &self.make.candidate(tenant, connection, person)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_registered_twice_while_an_earlier_version_is_alive() {
    let pair = Pair::open().await;
    let mut beside = beside(&pair.url).await;
    let former = pair.one.records.instance().to_owned();
    sqlx::query("UPDATE instances SET identity_form = 1 WHERE id = $1")
        .bind(&former)
        .execute(&mut beside)
        .await
        .unwrap();

    let before = pair.registered_by_former("t", "c", "emp-1 ").await;
    assert_eq!(pair.renewed().await, (IdentityUpkeep::Waiting, Vec::new()));
    // Registered after the renewal began: found by the text as given, and by the key once the renewal has gone on.
    let after = pair.registered_by_former("t", "c", "emp-2 ").await;
    assert_eq!(pair.begun("t", "c", "emp-2 ").await, BeginResult::Exists(vec![after.clone()]));
    assert_eq!(pair.renewed().await, (IdentityUpkeep::Waiting, Vec::new()));
    for (id, holder) in [("emp-1", &before), ("emp-1 ", &before), ("emp-2\u{a0}", &after)] {
        assert_eq!(pair.begun("t", "c", id).await, BeginResult::Exists(vec![holder.clone()]), "{id:?}");
    }
    // A registration of this version is found by the text that the earlier one looks for.
    assert_eq!(pair.begun("t", "c", "emp-3 ").await, BeginResult::Begun);
    let text = Identity::ExternalId("emp-3 ".into());
    let held = candidates::former_forms(&pair.one.records, "c", &text);
    let held: Vec<_> = held.iter().collect();
    assert_eq!(candidates::holders(&mut beside, &held).await.unwrap().len(), held.len());
    // Two that the earlier version took for different people.
    let pair_of = pair.registered_by_former("t", "c", " emp-2").await;

    pair.end_one().await;
    let (end, collisions) = pair.renewed().await;
    assert_eq!(end, IdentityUpkeep::Done { found: 3 });
    let collision = Collision { candidate: pair_of.id.to_string(), holder: after.id.to_string(), kind: "externalId" };
    assert_eq!(collisions, [collision]);
    assert_eq!(pair.begun("t", "c", "emp-1\t").await, BeginResult::Exists(vec![before]));
    // The second of the pair keeps its entry when its identities are set again.
    let identities = Identity::of(&pair_of.person, BY_NAME);
    pair.two.commit(vec![Mutation::Identities(pair_of.id.clone(), identities)]).await.unwrap();
    assert_eq!(pair.begun("t", "c", "emp-2").await, BeginResult::Exists(vec![after]));
    assert_eq!(pair.renewed().await.0, IdentityUpkeep::Done { found: 3 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_keeps_its_own_spelling_of_an_identity_of_another_tenant() {
    let pair = Pair::open().await;
    let first = pair.registered_by_former("t1", "c", "emp-1").await;
    let identity = |text: &str| Identity::ExternalId(text.into());
    pair.two.commit(vec![Mutation::Identities(first.id.clone(), vec![identity("emp-1")])]).await.unwrap();
    let second = pair.registered_by_former("t2", "c", "emp-1 ").await;
    let (end, collisions) = pair.renewed().await;
    assert_eq!((end, collisions.len()), (IdentityUpkeep::Done { found: 1 }, 1));
    assert!(!pair.two.identities_of_other_tenants("t2", "c", &[identity("emp-1 ")]).await.unwrap());
    assert!(pair.two.identities_of_other_tenants("t2", "c", &[identity("emp-1")]).await.unwrap());
    assert!(pair.two.identities_of_other_tenants("t1", "c", &[identity("emp-1 ")]).await.unwrap());
    assert_eq!(pair.two.candidates("t2", Some("c"), &identity("emp-1")).await.unwrap(), std::slice::from_ref(&second));
    // A registration that meets the entry gets the same answer.
    assert_eq!(pair.begun("t2", "c", "emp-1 ").await, BeginResult::Exists(vec![second]));
    assert_eq!(pair.begun("t2", "c", "emp-1").await, BeginResult::TakenByOtherTenant);
    assert_eq!(pair.begun("t1", "c", "emp-1 ").await, BeginResult::TakenByOtherTenant);
    assert_eq!(pair.begun("t1", "c", "emp-1").await, BeginResult::Exists(vec![first]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_erasure_of_one_spelling_leaves_the_other_its_bookings_and_its_identity() {
    let pair = Pair::open().await;
    for (tenants, erases_second) in [(["t", "t"], false), (["t", "t"], true), (["t", "u"], false), (["t", "u"], true)] {
        let connection = pair.make.name("connection");
        let first = pair.registered_by_former(tenants[0], &connection, "emp-1").await;
        let key = vec![Identity::ExternalId("emp-1".into())];
        pair.one.commit(vec![Mutation::Identities(first.id.clone(), key)]).await.unwrap();
        let second = pair.registered_by_former(tenants[1], &connection, "emp-1 ").await;
        let restart = "UPDATE upkeep SET after = '', done = false";
        sqlx::query(restart).execute(&mut beside(&pair.url).await).await.unwrap();
        pair.renewed().await;
        let (erased, kept) = if erases_second { (second, first) } else { (first, second) };
        the_erasure_of_one_of_a_pair_leaves_the_other(&*pair.two, &pair.make, &erased, &kept).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_to_the_form_of_another_holder_is_concluded() {
    let pair = Pair::open().await;
    let person = |name: &str| Person { user_name: Some(name.into()), external_id: None, ..pair.make.person() };
    let first = pair.person_registered_by_former("t", "c", person("ren\u{e9}")).await;
    let key = vec![Identity::UserName("ren\u{e9}".into())];
    pair.one.commit(vec![Mutation::Identities(first.id.clone(), key)]).await.unwrap();
    let second = pair.person_registered_by_former("t", "c", person("rene\u{301}")).await;
    assert_eq!(pair.renewed().await.1.len(), 1);
    a_change_to_the_spelling_of_another_holder_is_concluded(&*pair.two, &pair.make, &first, &second).await;
}
