//! The screens of webhooks: what is done there is looked at through the API, and at the LMS.

use serde_json::{Value, json};

use super::browser::{Browser, Page};
use crate::support::connections::{client, client_with, startexam};
use crate::support::gateway::{Gateway, key, sandbox, set_faults};
use crate::support::watch::wait_until;
use crate::webhooks::{
    OTHER_SECRET, SECRET, complete_operation, create, delivery, hook, path_of, received, start, switch, to_lms,
    wait_for_webhook,
};

async fn browser(gateway: &Gateway) -> Browser {
    Browser::signed_in(gateway.address, &key("lms")).await
}

fn id_of(webhook: &Value) -> String {
    webhook["id"].as_str().expect("an id").to_owned()
}

/// Returns the secret on a page.
fn secret_on(page: &Page) -> Option<String> {
    let (_, rest) = page.text.split_once("whsec_")?;
    rest.split_once('<').map(|(end, _)| format!("whsec_{end}"))
}

#[tokio::test]
async fn a_webhook_is_created_changed_and_deleted_with_forms() {
    let (sandbox, gateway) = start("").await;
    let mut browser = browser(&gateway).await;
    let list = browser.get("webhooks").await;
    assert!(list.words().contains("There is no webhook.") && list.has_link("webhooks/new"), "{}", list.words());

    let form = browser.get("webhooks/new").await.form("webhooks");
    let refused = browser.submit(&form.clone().with("url", "ftp://lms/in").with("types", "result.done")).await;
    assert_eq!((refused.status, refused.title()), (422, "New webhook · examgate"));
    let words = refused.words();
    assert!(words.contains("must be an absolute URL") && words.contains("is no type of event"), "{words}");
    assert!(
        refused.text.contains("value=\"ftp://lms/in\"") && refused.text.contains("aria-invalid"),
        "kept to be mended"
    );
    assert_eq!(gateway.get("/webhooks").await.body["items"], json!([]));

    let form = refused.form("webhooks").with("url", &hook(&sandbox)).with("types", "result.* report.parked");
    let form = form.with("connections", "startexam-main\r\n").with("payload", "full").with("maxInFlight", "7");
    let created = browser.submit(&form).await;
    assert_eq!(created.status, 200, "{created:?}");
    let secret = secret_on(&created).expect("the secret");
    assert!(
        created.words().contains("The receiver responded with status 401"),
        "of the first ping: {}",
        created.words()
    );
    // A second click, or a reload, makes no second one and shows the same secret.
    assert_eq!(secret_on(&browser.submit(&form).await), Some(secret.clone()));
    let listed = gateway.get("/webhooks").await;
    let [webhook] = &listed.body["items"].as_array().expect("a list")[..] else { panic!("{listed:?}") };
    assert_eq!(webhook["types"], json!(["result.*", "report.parked"]), "{webhook}");
    assert_eq!((&webhook["connections"], &webhook["payload"]), (&json!(["startexam-main"]), &json!("full")));
    assert_eq!(webhook["maxInFlight"], 7);
    let id = id_of(webhook);
    switch(&sandbox, json!({ "secrets": secret })).await;
    assert_eq!(gateway.post(&format!("/webhooks/{id}/ping"), &json!(null)).await.body["delivered"], true);

    let page = browser.get(&format!("webhooks/{id}")).await;
    assert!(!page.text.contains("whsec_ZX") && secret_on(&page).is_none_or(|shown| shown != secret), "shown once");
    assert_eq!(page.title(), format!("Webhook {id} · examgate"));
    let edit = browser.get(&format!("webhooks/{id}/edit")).await;
    assert!(edit.text.contains(">startexam-main</textarea>"), "{}", edit.text);
    let form = edit.form(&format!("webhooks/{id}/edit")).with("types", "").with("connections", "");
    let saved = browser.submit(&form.with("assessments", "").with("payload", "thin").with("order", "none")).await;
    assert_eq!((saved.status, saved.header("location")), (303, &*format!("../../webhooks/{id}?notice=changed")));
    let changed = gateway.get(&format!("/webhooks/{id}")).await;
    assert!(changed.body.get("types").is_none() && changed.body.get("connections").is_none(), "{changed:?}");
    assert_eq!((changed.text("/payload"), changed.text("/order")), ("thin", "none"), "{changed:?}");

    let page = browser.follow(saved).await;
    assert!(page.words().contains("The webhook is changed."), "{}", page.words());
    let deleted = browser.submit(&page.form(&format!("webhooks/{id}/delete"))).await;
    let list = browser.follow(deleted).await;
    assert!(list.words().contains("The webhook is deleted. Webhooks"), "{}", list.words());
    assert_eq!(gateway.get(&format!("/webhooks/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_form_does_not_overwrite_what_was_changed_meanwhile() {
    let (sandbox, gateway) = start("").await;
    let webhook = create(&gateway, &to_lms(&sandbox, &json!({ "description": "first", "maxInFlight": 4 }))).await;
    let (id, path) = (id_of(&webhook), path_of(&webhook));
    let mut browser = browser(&gateway).await;
    let address = format!("webhooks/{id}/edit");
    let page = browser.get(&address).await;
    // A browser sends all fields of a form; those of text areas are empty here.
    let filled = |page: &Page| {
        let form = page.form(&address).with("connections", "").with("assessments", "");
        form.with("payload", "thin").with("order", "resource")
    };
    let form = filled(&page).with("description", "mine");
    assert_eq!(gateway.patch(&path, &json!({ "maxInFlight": 9 })).await.status, 200);
    // Pausing it changes no setting.
    assert_eq!(gateway.post(&format!("{path}/pause"), &json!(null)).await.status, 200);

    let refused = browser.submit(&form).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let words = refused.words();
    assert!(words.contains("The webhook was changed meanwhile Nothing was saved."), "{words}");
    assert!(words.contains("At most in flight 9") && !words.contains("Description first"), "{words}");
    assert!(refused.has_link(&address), "{}", refused.text);
    let kept = gateway.get(&path).await;
    assert_eq!((kept.text("/description"), &kept.body["maxInFlight"]), ("first", &json!(9)), "{kept:?}");

    // What was entered is kept; saved again, it counts.
    let form = filled(&refused);
    assert!(form.fields.contains(&("description".to_owned(), "mine".to_owned())), "{form:?}");
    let saved = browser.submit(&form.clone().with("maxInFlight", "9")).await;
    assert_eq!(saved.status, 303, "{saved:?}");
    let changed = gateway.get(&path).await;
    assert_eq!((changed.text("/description"), &changed.body["maxInFlight"]), ("mine", &json!(9)), "{changed:?}");
    // A second click finds what the first has changed, and is no conflict.
    assert_eq!(browser.submit(&form.with("maxInFlight", "9")).await.status, 303);

    // A form that does not say what it has shown overwrites nothing.
    let form = filled(&browser.get(&address).await).with("description", "again");
    assert_eq!(browser.submit(&form.clone().without("shown")).await.status, 409);
    assert_eq!(browser.submit(&form).await.status, 303);
    assert_eq!(gateway.get(&path).await.text("/description"), "again");
}

#[tokio::test]
async fn a_webhook_is_pinged_paused_resumed_and_its_secret_rotated() {
    let (sandbox, gateway) = start("").await;
    let webhook = create(&gateway, &to_lms(&sandbox, &json!({ "description": "<b>LMS</b>" }))).await;
    let (id, path) = (id_of(&webhook), path_of(&webhook));
    let mut browser = browser(&gateway).await;
    let list = browser.get("webhooks").await;
    assert!(list.words().contains("enabled") && !list.text.contains("<b>LMS"), "{}", list.text);
    let pinged = browser.submit(&list.form(&format!("webhooks/{id}/ping"))).await;
    assert_eq!(pinged.status, 200);
    let words = pinged.words();
    assert!(words.contains("The receiver has accepted the ping. The receiver responded with status 200"), "{words}");
    assert_eq!(received(&sandbox).await.last().expect("a ping")["body"]["type"], "ping");
    // Its address leads to the webhook when it is opened, as after signing in again.
    let opened = browser.open(&format!("webhooks/{id}/ping")).await;
    assert_eq!((opened.status, opened.url.path()), (200, &*format!("/console/webhooks/{id}")));

    let paused = browser.submit(&pinged.form(&format!("webhooks/{id}/pause"))).await;
    assert_eq!(gateway.get(&path).await.text("/state"), "paused");
    let page = browser.follow(paused).await;
    assert!(page.words().contains("It is paused: nothing is sent."), "{}", page.words());
    assert!(page.find_form(&format!("webhooks/{id}/pause")).is_none(), "it is paused already");
    let resumed = browser.submit(&page.form(&format!("webhooks/{id}/resume"))).await;
    assert_eq!(gateway.get(&path).await.text("/state"), "enabled");
    let page = browser.follow(resumed).await;
    assert!(page.words().contains("The webhook continues where it was."), "{}", page.words());

    let form = page.form(&format!("webhooks/{id}/rotate"));
    let refused = browser.submit(&form.clone().with("overlap", "soon")).await;
    assert_eq!(refused.status, 422);
    assert!(refused.words().contains("must be a duration"), "{}", refused.words());
    let given = browser.submit(&form.with("overlap", "0s").with("secret", OTHER_SECRET)).await;
    assert_eq!(given.status, 200, "{given:?}");
    assert!(given.words().contains("It is the one that you have given.") && !given.text.contains(OTHER_SECRET));
    switch(&sandbox, json!({ "secrets": OTHER_SECRET })).await;
    assert_eq!(gateway.post(&format!("{path}/ping"), &json!(null)).await.body["delivered"], true, "it signs now");
    let page = browser.get(&format!("webhooks/{id}")).await;
    let rotated = browser.submit(&page.form(&format!("webhooks/{id}/rotate"))).await;
    let secret = secret_on(&rotated).expect("a secret that the gateway made");
    assert!(rotated.words().contains("signs as well for 24h"), "{}", rotated.words());
    switch(&sandbox, json!({ "secrets": secret })).await;
    assert_eq!(gateway.post(&format!("{path}/ping"), &json!(null)).await.body["delivered"], true, "and so does that");
}

#[tokio::test]
async fn a_failed_delivery_is_shown_with_its_attempts_retried_and_replayed() {
    let (sandbox, gateway) = start("schedule = [\"0s\"]").await;
    let webhook = create(&gateway, &to_lms(&sandbox, &json!({ "types": ["operation.completed"] }))).await;
    let (id, path) = (id_of(&webhook), path_of(&webhook));
    let fault = json!({ "faults": [{ "name": "server_error", "operation": "hook" }] });
    set_faults(sandbox.lms(), fault).await;
    complete_operation(&gateway, "e1").await;
    let failed = format!("{path}/deliveries?state=failed");
    let failed = wait_until(&gateway, &failed, |page| page.body["items"][0].is_object()).await;
    let delivery_id = failed.body["items"][0]["id"].as_str().expect("an id").to_owned();
    let mut browser = browser(&gateway).await;
    let list = browser.get("webhooks").await;
    assert!(list.words().contains("The receiver responded with status 500"), "the last response: {}", list.words());
    let none = browser.get(&format!("webhooks/{id}?state=delivered")).await;
    assert!(none.words().contains("No delivery is delivered."), "{}", none.words());
    let page = browser.get(&format!("webhooks/{id}?state=failed")).await;
    assert!(
        page.words().contains("operation.completed failed No. 1: The receiver responded with status 500"),
        "{}",
        page.words()
    );
    let link = format!("webhooks/{id}/deliveries/{delivery_id}");
    assert!(page.has_link(&link), "{}", page.text);
    let one = browser.get(&link).await;
    assert!(one.words().contains("500") && one.words().contains("Attempts 1"), "{}", one.words());

    set_faults(sandbox.lms(), json!({ "faults": [] })).await;
    let retried = browser.submit(&page.form(&format!("deliveries/{delivery_id}/retry"))).await;
    let delivered =
        wait_until(&gateway, &format!("/deliveries/{delivery_id}"), |one| one.text("/state") == "delivered").await;
    let page = browser.follow(retried).await;
    let words = page.words();
    assert!(words.contains("The delivery is being attempted.") && words.contains("Delivery delivered"), "{words}");
    assert!(page.find_form("retry").is_none(), "it is delivered");

    let event = delivered.text("/event").to_owned();
    let page = browser.get(&format!("webhooks/{id}")).await;
    let form = page.form(&format!("webhooks/{id}/replay")).with("only", "all");
    let refused = browser.submit(&form.clone().with("types", "nothing")).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.words().contains("/since is missing") && refused.text.contains("value=\"nothing\""),
        "{}",
        refused.words()
    );
    let replayed = browser.submit(&form.with("after", "0")).await;
    let operation =
        replayed.header("location").trim_start_matches("../../").trim_end_matches("?notice=begun").to_owned();
    assert!(replayed.status == 303 && operation.starts_with("operations/op_"), "{replayed:?}");
    assert_eq!(gateway.get(&format!("/{operation}")).await.text("/kind"), "replay");
    let again = |webhook: &Value| webhook["webhookId"] == event.as_str() && webhook["duplicate"] == true;
    wait_for_webhook(&sandbox, again).await;
}

#[tokio::test]
async fn a_configured_webhook_says_so_and_cannot_be_changed() {
    let sandbox = sandbox().await;
    let connection = startexam(&format!("http://{}", sandbox.startexam()), "");
    let configured =
        format!("[webhooks.lms]\ntenant = \"lms\"\nurl = \"{}\"\nsecret = \"plain:{SECRET}\"\n", hook(&sandbox));
    let gateway = Gateway::start(&(connection + &delivery("") + &configured)).await;
    let listed = wait_until(&gateway, "/webhooks", |response| response.body["items"][0].is_object()).await;
    let id = id_of(&listed.body["items"][0]);
    let mut browser = browser(&gateway).await;
    let page = browser.get(&format!("webhooks/{id}")).await;
    assert!(page.words().contains("It is in the operator's configuration, as webhooks.lms"), "{}", page.words());
    for action in ["pause", "rotate", "delete"] {
        assert!(page.find_form(&format!("webhooks/{id}/{action}")).is_none(), "{action}");
    }
    assert!(!page.has_link(&format!("webhooks/{id}/edit")));
    let edit = browser.get(&format!("webhooks/{id}/edit")).await;
    assert_eq!(edit.status, 303, "{edit:?}");
    // It can be pinged, and a form that is sent all the same is refused by the API.
    let form = page.form(&format!("webhooks/{id}/ping"));
    assert_eq!(browser.submit(&form).await.status, 200);
    let mut forged = form;
    forged.action = forged.action.join("delete").expect("an address");
    let refused = browser.submit(&forged).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.words().contains("webhook_configured"), "{}", refused.words());
}

#[tokio::test]
async fn a_client_sees_its_tenants_webhooks_and_what_its_scopes_allow() {
    let sandbox = sandbox().await;
    let connection = startexam(&format!("http://{}", sandbox.startexam()), "");
    let clients = client("lms", "", "[\"*\"]")
        + &client("other", "", "[\"*\"]")
        + &client_with("reader", "lms", "[\"*\"]", "[\"webhooks:read\"]")
        + &client_with("stranger", "lms", "[\"*\"]", "[\"candidates:read\"]");
    let gateway = Gateway::start_with(&(connection + &delivery("")), &clients).await;
    let webhook = create(&gateway, &to_lms(&sandbox, &json!({}))).await;
    let (id, path) = (id_of(&webhook), path_of(&webhook));

    let mut other = Browser::signed_in(gateway.address, &key("other")).await;
    let list = other.get("webhooks").await;
    assert!(list.words().contains("There is no webhook.") && !list.text.contains(&id), "{}", list.text);
    let missing = other.get(&format!("webhooks/{id}")).await;
    assert_eq!(missing.status, 404);
    assert!(!missing.text.contains("127.0.0.1"), "{}", missing.text);

    let mut reader = Browser::signed_in(gateway.address, &key("reader")).await;
    let page = reader.get(&format!("webhooks/{id}")).await;
    assert_eq!(page.status, 200);
    assert!(page.find_form(&format!("webhooks/{id}/ping")).is_none() && page.find_form("replay").is_none());
    let sign_out = page.form("sign-out");
    for action in ["ping", "pause", "delete", "rotate", "replay"] {
        let mut forged = sign_out.clone();
        forged.action = page.url.join(&format!("{id}/{action}")).expect("an address");
        let refused = reader.submit(&forged).await;
        assert_eq!(refused.status, 403, "{action}: {refused:?}");
        assert!(refused.words().contains("webhooks:write"), "{action}: {}", refused.words());
    }
    assert_eq!(reader.get("webhooks/new").await.status, 403);
    assert_eq!(gateway.get(&path).await.text("/state"), "enabled");

    let mut stranger = Browser::signed_in(gateway.address, &key("stranger")).await;
    let page = stranger.get("webhooks").await;
    assert_eq!(page.status, 403);
    assert!(page.words().contains("webhooks:read") && !page.words().contains("Webhooks"), "{}", page.words());
}
