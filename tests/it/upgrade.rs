//! A store that an earlier version wrote works unchanged: records, idempotency keys, open intents and operations.

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, startexam};
use crate::support::gateway::{Gateway, sandbox};
use crate::support::people::person_at;
use crate::support::watch::{changes, wait_until};

const REPLIES: &str = include_str!("../fixtures/former/replies.json");
const STORE: &[u8] = include_bytes!("../fixtures/former/store.db");

#[tokio::test]
async fn a_store_of_the_previous_version_works_unchanged() {
    let sandbox = sandbox().await;
    let replies: Value = serde_json::from_str(REPLIES).expect("JSON");
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("store.db"), STORE).expect("the store can be written");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\nshutdown_delay = \"0s\"\n[store]\nurl = \
         \"sqlite:{}/store.db\"\nencryption_key = \"plain:{}\"\nretention = \"3650d\"\nidempotency_retention = \"3650d\"\n{}\n{}\n",
        folder.path().display(),
        data_encoding::BASE64.encode(&[7; 32]),
        client("lms", "", "[\"*\"]"),
        startexam(&format!("http://{}", sandbox.startexam()), ""),
    );
    std::fs::write(folder.path().join("examgate.toml"), text).expect("the configuration can be written");
    let gateway = Gateway::start_in(folder).await;

    // Finished writes are replayed under their keys, and their records read back.
    let enrolment = json!({ "connection": "startexam-main", "scope": "all", "register": ["former-a"] });
    let assessment = accounts::startexam::TESTS[0].0;
    let booking =
        json!({ "connection": "startexam-main", "candidate": { "externalId": "former-a" }, "assessment": assessment });
    let enrolments = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
    for (key, path, body) in [
        ("registered", "/candidates", &person_at("startexam-main", "former-a")),
        ("booked", "/assignments", &booking),
        ("enrolled", &*enrolments, &enrolment),
    ] {
        let reply = &replies[key];
        let replayed = gateway.request(Method::POST, path).header("Idempotency-Key", key).json(body).send().await;
        assert_eq!(replayed.header("idempotent-replayed"), Some("true"), "{key}: {replayed:?}");
        assert_eq!((json!(replayed.status), &replayed.body), (reply["status"].clone(), &reply["body"]), "{key}");
        if let Some(id) = reply["body"]["id"].as_str() {
            assert_eq!(gateway.get(&format!("{path}/{id}")).await.body, reply["body"], "{key}");
        }
    }
    let operation = replies["bulk"]["body"]["id"].as_str().expect("an id");
    let mut bulk = replies["bulk"]["body"].clone();
    // Counted since.
    bulk["progress"]["settling"] = json!(0);
    assert_eq!(gateway.get(&format!("/operations/{operation}")).await.body, bulk);

    // An open intent is found, and belongs to the account it was written for; this sandbox is another one.
    let resource = replies["unknown"]["body"]["resource"].as_str().expect("a resource");
    let open = gateway.get(resource).await;
    assert_eq!((open.text("/state"), open.text("/outcome")), ("unknown", "unknown"), "{open:?}");
    let retried = gateway.request(Method::POST, "/candidates").header("Idempotency-Key", "unknown");
    let retried = retried.json(&person_at("startexam-main", "former-d")).send().await;
    assert_eq!(retried.text("/outcome"), "unknown", "{retried:?}");
    let settled = gateway.post(&format!("{resource}/settle"), &json!({ "outcome": "applied" })).await;
    assert_eq!((settled.status, settled.text("/outcome")), (200, "applied"), "{settled:?}");

    // The same applies to the rows of a bulk that was being sent when its process was killed.
    let operation = replies["cut"]["body"]["id"].as_str().expect("an id");
    let cut =
        wait_until(&gateway, &format!("/operations/{operation}"), |response| response.text("/state") == "completed")
            .await;
    assert_eq!(
        (&cut.body["progress"]["unknown"], &cut.body["progress"]["settling"]),
        (&json!(2), &json!(0)),
        "{cut:?}"
    );
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await, Vec::<String>::new());
}
