//! Who may have what delivered: a webhook gets no more than the request that makes it may read, and nothing of an erased person.

use super::*;
use crate::support::issuer::{AUDIENCE, ISSUER, Key, claims, jwk_set};
use crate::support::people::{order, with};
use crate::support::watch::wait_until;

/// What only the person's own data has.
const PLANTED: &str = "plmark";

#[tokio::test]
async fn a_token_of_fewer_scopes_gets_no_full_payloads_by_a_webhook() {
    let (sandbox, key) = (sandbox().await, Key::ed25519());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, jwk_set(&[key.jwk("k")]).to_string()).expect("the keys can be written");
    let scopes: Vec<&str> = examgate::domain::scope::Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let auth = format!(
        "[auth]\nmode = \"jwt\"\n[auth.jwt]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\njwks = \"file:{}\"\n\
         [auth.clients.lms]\nscopes = {scopes:?}\nconnections = [\"*\"]\n",
        path.display()
    );
    let gateway = Gateway::start_with(&delivery(""), &auth).await;
    let ask = async |scope: &str, method: Method, path: &str, body: &Value| {
        gateway.request_as(&key.token("k", &claims("lms", scope)), method, path).json(body).send().await
    };
    let (narrow, wide) = ("webhooks:write", "webhooks:write results:read");
    let full = to_lms(&sandbox, &json!({ "types": ["result.*"], "payload": "full" }));
    let refused = ask(narrow, Method::POST, "/webhooks", &full).await;
    assert_eq!(refused.problem(), (403, "insufficient_scope", "not_applied"), "{refused:?}");
    assert!(refused.text("/detail").contains("`results:read`"), "{refused:?}");
    // The scope of the route is not the one that is missing.
    let challenge = refused.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains("insufficient_scope") && !challenge.contains("scope=\"webhooks"), "{challenge}");
    assert_eq!(received(&sandbox).await, Vec::<Value>::new(), "not even a ping");
    let every = with(full.clone(), "types", json!(["result.*", "operation.*"]));
    assert_eq!(ask(wide, Method::POST, "/webhooks", &every).await.status, 403);

    let thin = with(full.clone(), "payload", json!("thin"));
    let thin = ask(narrow, Method::POST, "/webhooks", &thin).await;
    assert_eq!(thin.status, 201, "{thin:?}");
    let changed = ask(narrow, Method::PATCH, &path_of(&thin.body), &json!({ "payload": "full" })).await;
    assert_eq!(changed.problem(), (403, "insufficient_scope", "not_applied"), "{changed:?}");
    let created = ask(wide, Method::POST, "/webhooks", &full).await;
    assert_eq!(created.status, 201, "{created:?}");
    let path = path_of(&created.body);
    // Whoever changes a webhook has it, and may then have it sent somewhere else.
    let taken = ask(narrow, Method::PATCH, &path, &json!({ "description": "mine" })).await;
    assert_eq!(taken.problem(), (403, "insufficient_scope", "not_applied"), "{taken:?}");
    assert_eq!(ask(wide, Method::PATCH, &path, &json!({ "description": "ours" })).await.status, 200);
    assert_eq!(ask(narrow, Method::PATCH, &path, &json!({ "payload": "thin" })).await.status, 200);
}

#[tokio::test]
async fn a_full_delivery_about_an_erased_person_says_so_and_holds_nothing_of_them() {
    let (sandbox, gateway) = start("").await;
    let switches = json!({ "existing_registration": "repeated", "hidden_employee": "accepted" });
    let types = json!(["candidate.settled", "assignment.settled"]);
    let webhook = create(&gateway, &to_lms(&sandbox, &json!({ "types": types, "payload": "full" }))).await;
    let path = path_of(&webhook);
    assert_eq!(gateway.post(&format!("{path}/pause"), &json!(null)).await.status, 200);
    let lose = |operation: &str| {
        json!({
            "faults": [{ "name": "reset_after_effect", "operation": operation, "times": 1 }], "switches": switches,
        })
    };
    set_faults(sandbox.startexam(), lose("employees")).await;
    let person = json!({
        "externalId": format!("{PLANTED}-1"), "email": format!("{PLANTED}@example.com"),
        "name": { "givenName": format!("Given{PLANTED}"), "familyName": format!("Family{PLANTED}") },
    });
    let unknown = gateway.post("/candidates", &person).await;
    assert_eq!(unknown.text("/outcome"), "unknown", "{unknown:?}");
    let candidate = unknown.text("/resource").to_owned();
    wait_until(&gateway, &candidate, |read| read.text("/outcome") == "applied").await;
    set_faults(sandbox.startexam(), lose("employees_participants")).await;
    let booked = gateway.post("/assignments", &order(&format!("{PLANTED}-1"), accounts::startexam::TESTS[0].0)).await;
    assert_eq!(booked.text("/outcome"), "unknown", "{booked:?}");
    let assignment = booked.text("/resource").to_owned();
    wait_until(&gateway, &assignment, |read| read.text("/outcome") == "applied").await;
    assert_eq!(gateway.delete(&candidate).await.status, 204);
    assert_eq!(gateway.post(&format!("{path}/resume"), &json!(null)).await.status, 200);

    for (resource, has_object) in [(&candidate, false), (&assignment, true)] {
        let is_about = |webhook: &Value| webhook["body"]["data"]["resource"] == resource.as_str();
        let arrived = wait_for_webhook(&sandbox, is_about).await;
        let data = &arrived["body"]["data"];
        assert_eq!(data["erased"], true, "{arrived}");
        assert_eq!(data.get("object").is_some(), has_object, "{arrived}");
        assert!(!arrived.to_string().contains(PLANTED), "{arrived}");
    }
    assert_eq!(gateway.get(&candidate).await.status, 404);
}
