use std::collections::BTreeMap;

use http::HeaderValue;
use rstest::rstest;

use super::*;
use crate::config::RateLimit;

fn clients() -> ClientRegistry {
    ClientRegistry::new(&Auth::Keys(configured()), &nobody())
}

/// A fetcher for tests without an issuer.
fn nobody() -> JwksFetcher {
    Arc::new(|_| Box::pin(async { Err(String::new()) }))
}

fn configured() -> BTreeMap<String, ClientSettings> {
    let client = |name: &str, keys: &[&str]| ClientSettings {
        name: name.to_owned(),
        tenant: name.to_owned(),
        key_sha256: keys.iter().map(|key| Sha256::digest(key.as_bytes()).into()).collect(),
        scopes: BTreeSet::from([Scope::CandidatesRead]),
        connections: ConnectionAccess::All,
        default_connection: None,
        rate_limit: RateLimit { requests_per_second: 1, burst: 2 },
    };
    let named = [client("lms", &["old", "new"]), client("hr", &["other"])];
    named.into_iter().map(|client| (client.name.clone(), client)).collect()
}

#[test]
fn used_up_rate_survives_a_reload_unless_changed() {
    let clients = clients();
    for client in &clients.all {
        let spent: Vec<bool> = (0..3).map(|_| client.count().unwrap().is_admitted().is_ok()).collect();
        assert_eq!(spent, [true, true, false], "{}", client.name);
    }
    let mut changed = configured();
    changed.get_mut("hr").unwrap().rate_limit.burst = 3;
    let after = ClientRegistry::replacing(&clients, &Auth::Keys(changed));
    let client = |name: &str| after.all.iter().find(|client| client.name == name).unwrap();
    let used_up = |name: &str| client(name).count().unwrap().is_admitted().is_err();
    assert!(used_up("lms") && !used_up("hr"));
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

async fn client_of(lines: &[(&'static str, &'static str)]) -> Option<String> {
    clients().authenticate(&headers(lines)).await.ok().map(|known| known.client.name.clone())
}

async fn asked(name: &'static str, value: &'static str) -> Option<String> {
    client_of(&[(name, value)]).await
}

#[rstest]
#[case::basic_of_a_proxy(&[("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", "old")], Some("lms"))]
#[case::negotiate(&[("authorization", "Negotiate YII="), ("x-api-key", "other")], Some("hr"))]
#[case::scheme_without_credentials(&[("authorization", "Digest"), ("x-api-key", "old")], Some("lms"))]
#[case::scheme_that_begins_alike(&[("authorization", "BearerX old"), ("x-api-key", "other")], Some("hr"))]
#[case::empty_authorization(&[("authorization", ""), ("x-api-key", "old")], Some("lms"))]
#[case::basic_and_bearer(&[("authorization", "Basic dXNlcjpwYXNz"), ("authorization", "Bearer old")], Some("lms"))]
#[case::wrong_bearer_decides(&[("authorization", "Bearer wrong"), ("x-api-key", "old")], None)]
#[case::empty_bearer_decides(&[("authorization", "Bearer"), ("x-api-key", "old")], None)]
#[case::right_bearer_decides(&[("authorization", "bearer other"), ("x-api-key", "old")], Some("hr"))]
#[case::basic_alone(&[("authorization", "Basic b2xk")], None)]
#[case::two_keys(&[("x-api-key", "old"), ("x-api-key", "new")], None)]
#[case::two_bearers(&[("authorization", "Bearer old"), ("authorization", "Bearer new")], None)]
#[tokio::test]
async fn only_a_bearer_hides_the_key_header(
    #[case] lines: &[(&'static str, &'static str)],
    #[case] client: Option<&str>,
) {
    assert_eq!(client_of(lines).await.as_deref(), client);
}

#[tokio::test]
async fn the_presented_key_has_an_id_that_reveals_nothing() {
    let registry = clients();
    let old = registry.authenticate(&headers(&[("x-api-key", "old")])).await.unwrap().key.unwrap();
    let new = registry.authenticate(&headers(&[("authorization", "Bearer new")])).await.unwrap().key.unwrap();
    // printf old | sha256sum
    assert_eq!(old, "cba06b57");
    assert_ne!(old, new);
}

#[test]
fn credentials_of_another_scheme_are_none() {
    let clients = clients();
    for (lines, presented) in [
        (&[][..], false),
        (&[("authorization", "Basic dXNlcjpwYXNz")][..], false),
        (&[("authorization", "Bearer")][..], true),
        (&[("x-api-key", "")][..], true),
    ] {
        assert_eq!(clients.has_credentials(&headers(lines)), presented, "{lines:?}");
    }
}

#[tokio::test]
async fn every_configured_key_is_recognised_in_either_header() {
    assert_eq!(asked("authorization", "Bearer old").await.as_deref(), Some("lms"));
    assert_eq!(asked("authorization", "bearer  new ").await.as_deref(), Some("lms"));
    assert_eq!(asked("x-api-key", "other").await.as_deref(), Some("hr"));
}

#[tokio::test]
async fn other_credentials_are_rejected() {
    for value in ["Bearer ", "Bearer", "old", "Basic old", "Bearer olds", "Bearer ol", ""] {
        assert_eq!(asked("authorization", value).await, None, "{value}");
    }
    assert_eq!(asked("x-api-key", "").await, None);
    assert!(clients().authenticate(&HeaderMap::new()).await.is_err());
}

#[test]
fn clients_have_separate_rates() {
    let clients = clients();
    while clients.all[0].count().unwrap().is_admitted().is_ok() {}
    assert!(clients.all[1].count().unwrap().is_admitted().is_ok());
}

#[test]
fn missing_scope_is_named_for_client_and_token() {
    let clients = clients();
    let mut known = Authenticated { client: &clients.all[0], granted: None, key: None };
    assert!(known.authorize(Scope::CandidatesRead).is_ok());
    let detail = known.authorize(Scope::CandidatesWrite).unwrap_err().detail;
    assert_eq!(detail, "The client lacks the scope `candidates:write`.");
    known.granted = Some(BTreeSet::from([Scope::CandidatesWrite]));
    assert!(known.authorize(Scope::CandidatesWrite).is_err(), "a token grants no scope the client lacks");
    let detail = known.authorize(Scope::CandidatesRead).unwrap_err().detail;
    assert_eq!(detail, "The token lacks the scope `candidates:read`.");
}
