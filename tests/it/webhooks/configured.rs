//! Webhooks in the operator's configuration.

use std::process::{Command, Stdio};

use super::*;
use crate::reload;
use crate::support::watch::wait_until;

/// Returns a webhook in the configuration; `more` are further lines.
fn configured(sandbox: &Sandbox, more: &str) -> String {
    format!(
        "[webhooks.lms]\ntenant = \"lms\"\nurl = \"{}\"\nsecret = \"plain:{SECRET}\"\ntypes = [\"operation.completed\"]\n{more}\n",
        hook(sandbox)
    )
}

fn connection(sandbox: &Sandbox) -> String {
    startexam(&format!("http://{}", sandbox.startexam()), "")
}

#[tokio::test]
async fn a_configured_webhook_is_delivered_to_and_cannot_be_changed() {
    let sandbox = sandbox().await;
    // Its host need not be one that clients may name.
    let section = delivery("").replace("allow_hosts = [\"127.0.0.1\"]\n", "");
    let gateway = Gateway::start(&(connection(&sandbox) + &section + &configured(&sandbox, ""))).await;
    let list = wait_until(&gateway, "/webhooks", |response| response.body["items"][0].is_object()).await;
    let webhook = list.body["items"][0].clone();
    assert_eq!((&webhook["source"], &webhook["name"]), (&json!("configuration"), &json!("lms")), "{webhook}");
    let path = path_of(&webhook);
    for (method, path, body) in [
        (Method::PATCH, path.clone(), Some(json!({ "maxInFlight": 9 }))),
        (Method::DELETE, path.clone(), None),
        (Method::POST, format!("{path}/rotate"), Some(json!({}))),
        (Method::POST, format!("{path}/pause"), None),
    ] {
        let refused = ask(&gateway, "lms", method, &path, body).await;
        assert_eq!(refused.problem(), (409, "webhook_configured", "not_applied"), "{path}");
    }
    for action in ["ping", "resume"] {
        assert_eq!(gateway.post(&format!("{path}/{action}"), &json!(null)).await.status, 200, "{action}");
    }
    complete_operation(&gateway, "a").await;
    let event = wait_for_webhook(&sandbox, |webhook| webhook["body"]["type"] == "operation.completed").await;
    assert_eq!(event["verified"], true, "{event}");
}

#[tokio::test]
async fn a_reload_changes_and_removes_configured_webhooks_and_keeps_their_place() {
    let sandbox = sandbox().await;
    let before = connection(&sandbox) + &delivery("") + &configured(&sandbox, "");
    let mut gateway = reload::start_gateway(|_| before.clone()).await;
    let list = wait_until(&gateway, "/webhooks", |response| response.body["items"][0].is_object()).await;
    let path = path_of(&list.body["items"][0]);

    // Two secrets while one is replaced.
    let two = format!("secret = [\"plain:{OTHER_SECRET}\", \"plain:{SECRET}\"]");
    let webhook = configured(&sandbox, "max_in_flight = 7").replace(&format!("secret = \"plain:{SECRET}\""), &two);
    reload::configure(&gateway, &(connection(&sandbox) + &delivery("") + &webhook), &reload::default_client());
    reload::reload(&mut gateway).await;
    wait_until(&gateway, &path, |response| response.body["maxInFlight"] == 7).await;
    switch(&sandbox, json!({ "secrets": format!("{OTHER_SECRET},{SECRET}") })).await;
    complete_operation(&gateway, "a").await;
    let event = wait_for_webhook(&sandbox, |webhook| webhook["body"]["type"] == "operation.completed").await;
    assert_eq!(event["signedBy"], json!([0, 1]), "{event}");

    // A fault of the file changes nothing.
    let fault = webhook.replace("tenant = \"lms\"", "tenant = \"lsm\"");
    reload::configure(&gateway, &(connection(&sandbox) + &delivery("") + &fault), &reload::default_client());
    let log = reload::reload_until(&mut gateway, "configuration reload rejected").await;
    assert!(log.contains("webhooks.lms.tenant: unknown tenant (did you mean lms?)"), "{log}");
    assert_eq!(gateway.get(&path).await.status, 200);

    reload::configure(&gateway, &(connection(&sandbox) + &delivery("")), &reload::default_client());
    reload::reload(&mut gateway).await;
    wait_until(&gateway, &path, |response| response.status == 404).await;
}

#[tokio::test]
async fn check_resolves_and_judges_configured_webhooks_and_sends_nothing() {
    let sandbox = sandbox().await;
    let check = |text: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("examgate.toml"), text).expect("the configuration can be written");
        let output = Command::new(env!("CARGO_BIN_EXE_examgate"))
            .args(["check", "--output", "json"])
            .current_dir(folder.path())
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .expect("the program runs");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let text = lms() + &connection(&sandbox) + &delivery("timeout = \"2s\"") + &configured(&sandbox, "");
    let document = check(&text);
    let webhook = &document["webhooks"][0];
    assert_eq!((&webhook["name"], &webhook["result"]), (&json!("webhook lms"), &json!("ok")), "{document}");
    // `localhost` is a name: only once it is resolved is its address judged.
    let by_name =
        text.replace("http://127.0.0.1:", "http://localhost:").replace("allow_private = [\"127.0.0.1\"]\n", "");
    let document =
        check(&by_name.replace(&connection(&sandbox).replace("127.0.0.1", "localhost"), &connection(&sandbox)));
    assert_eq!(document["webhooks"][0]["result"], "fault", "{document}");
    let unresolved = check(&text.replace(&hook(&sandbox), "http://no-such-host.invalid/"));
    assert_eq!(unresolved["webhooks"][0]["result"], "fault", "{unresolved}");
    assert!(received(&sandbox).await.is_empty(), "nothing was sent");
}
