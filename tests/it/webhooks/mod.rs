//! Webhooks over HTTP: what clients and the operator can ask for, and what arrives. The receiver is the sandbox's LMS, which
//! verifies signatures with code of its own, or a stub.

use examgate::sandbox::{Sandbox, accounts};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, startexam};
use crate::support::gateway::{ApiResponse, Gateway, http, key, sandbox, set_faults};

mod access;
mod configured;
mod delivering;
mod listening;
mod requests;
mod timing;
mod verifiers;

/// The secret that the LMS knows, and one that it can be told.
pub const SECRET: &str = accounts::lms::SECRET;
pub const OTHER_SECRET: &str = "whsec_ZXhhbWdhdGUtc2FuZGJveC1sbXMtc2VjcmV0LTAwMDI=";

/// The section that lets clients register receivers on this machine; more of its keys may be given.
pub fn delivery(more: &str) -> String {
    format!("[delivery]\nallow_hosts = [\"127.0.0.1\"]\nallow_private = [\"127.0.0.1\"]\nallow_http = true\n{more}\n")
}

/// Starts a sandbox and a gateway that delivers to it; more of `[delivery]` and other sections may be given.
pub async fn start(more: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let connection = startexam(&format!("http://{}", sandbox.startexam()), "");
    let gateway = Gateway::start(&(connection + &delivery(more))).await;
    (sandbox, gateway)
}

/// Returns the address at which the LMS receives webhooks.
pub fn hook(sandbox: &Sandbox) -> String {
    format!("http://{}{}", sandbox.lms(), accounts::lms::PATH)
}

/// Creates a webhook, which must succeed.
pub async fn create(gateway: &Gateway, webhook: &Value) -> Value {
    let created = gateway.post("/webhooks", webhook).await;
    assert_eq!(created.status, 201, "{created:?}");
    created.body
}

/// Returns a webhook to the LMS with the secret that it knows; `more` replaces or adds fields.
pub fn to_lms(sandbox: &Sandbox, more: &Value) -> Value {
    let mut webhook = json!({ "url": hook(sandbox), "secret": SECRET });
    for (name, value) in more.as_object().expect("an object") {
        webhook[name] = value.clone();
    }
    webhook
}

pub fn path_of(webhook: &Value) -> String {
    format!("/webhooks/{}", webhook["id"].as_str().expect("an id"))
}

/// Returns what the LMS has received, oldest first.
pub async fn received(sandbox: &Sandbox) -> Vec<Value> {
    let response = http().get(format!("http://{}/_ledger", sandbox.lms())).send().await.expect("the LMS responds");
    let ledger: Value = response.json().await.expect("JSON");
    ledger["webhooks"].as_array().expect("a list").clone()
}

/// Waits until the LMS has received what is wanted, and returns the first of it.
pub async fn wait_for_webhook(sandbox: &Sandbox, wanted: impl Fn(&Value) -> bool) -> Value {
    let started = std::time::Instant::now();
    loop {
        let found = received(sandbox).await;
        if let Some(webhook) = found.iter().find(|webhook| wanted(webhook)) {
            return webhook.clone();
        }
        assert!(started.elapsed().as_secs() < 300, "it never arrived: {found:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Sets switches of the LMS.
pub async fn switch(sandbox: &Sandbox, switches: Value) {
    set_faults(sandbox.lms(), json!({ "switches": switches })).await;
}

/// Makes something happen: an operation that ends. Returns its path.
pub async fn complete_operation(gateway: &Gateway, id: &str) -> String {
    let rows = json!({ "connection": "startexam-main", "items": [{ "externalId": id }] });
    let bulk = gateway.post("/candidates/bulk", &rows).await;
    assert_eq!(bulk.status, 207, "{bulk:?}");
    format!("/operations/{}", bulk.text("/operation"))
}

/// Asks as another client.
async fn ask(gateway: &Gateway, client: &str, method: Method, path: &str, body: Option<Value>) -> ApiResponse {
    let request = gateway.request_as(&key(client), method, path);
    match body {
        Some(body) => request.json(&body).send().await,
        None => request.send().await,
    }
}

/// Returns the configuration of the client `lms` with all scopes and connections.
fn lms() -> String {
    client("lms", "", "[\"*\"]")
}
