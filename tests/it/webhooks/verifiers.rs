//! Another implementation of Standard Webhooks accepts what the gateway signs. `scripts/contract` has those of other languages.

use standardwebhooks::Webhook;

use super::*;
use crate::support::vendor::{SeenRequest, Stub};

fn verifies(secret: &str, request: &SeenRequest) -> bool {
    Webhook::new(secret).expect("a secret").verify(&request.body, &request.headers).is_ok()
}

#[tokio::test]
async fn the_reference_library_accepts_signatures_and_refuses_what_is_altered_or_old() {
    let stub = Stub::accepting().await;
    let (_sandbox, gateway) = start("").await;
    let created = create(&gateway, &json!({ "url": stub.url() })).await;
    let former = created["secret"].as_str().expect("a secret").to_owned();
    let rotated = gateway.post(&format!("{}/rotate", path_of(&created)), &json!({ "overlap": "1h" })).await;
    let current = rotated.text("/secret").to_owned();
    assert_ne!(former, current);
    assert_eq!(gateway.post(&format!("{}/ping", path_of(&created)), &json!(null)).await.body["delivered"], true);
    let [first, both] = <[SeenRequest; 2]>::try_from(stub.seen()).expect("two pings");
    assert!(verifies(&former, &first) && !verifies(&current, &first));
    assert!(verifies(&former, &both) && verifies(&current, &both), "while it is rotated");

    let altered = SeenRequest { body: [&first.body[..], b" "].concat().into(), ..first.clone() };
    assert!(!verifies(&former, &altered));
    let mut renamed = first.clone();
    renamed.headers.insert("webhook-id", "evt_1".parse().expect("a value"));
    assert!(!verifies(&former, &renamed));
    let mut old = first.clone();
    let (id, text) = (old.headers["webhook-id"].to_str().expect("text").to_owned(), old.body.clone());
    let hour_ago = old.headers["webhook-timestamp"].to_str().expect("text").parse::<i64>().expect("seconds") - 3600;
    let signed = Webhook::new(&former).expect("a secret").sign(&id, hour_ago, &text).expect("a signature");
    old.headers.insert("webhook-timestamp", hour_ago.into());
    old.headers.insert("webhook-signature", signed.parse().expect("a value"));
    assert!(!verifies(&former, &old), "signed, but an hour ago");
    assert_eq!(first.headers["content-type"], "application/json");
    assert!(first.headers["user-agent"].to_str().expect("text").starts_with("examgate/"));
}
