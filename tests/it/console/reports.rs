//! The screens of reports: whose a parked report is, found and said by a person; what is done is looked at through the API.

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use super::browser::Browser;
use crate::results::{
    APTITUDE, THINK, TOKEN, all, book, connections, deliver, deliver_unnamed, marks, start, text, wait_for_count,
    wait_for_version,
};
use crate::support::connections::{client, client_with};
use crate::support::gateway::{Gateway, key, sandbox};
use crate::support::people::{order, with};

/// Another test at ThinkExam.
const OTHER_TEST: &str = accounts::thinkexam::TESTS[1].0;

async fn browser(gateway: &Gateway) -> Browser {
    Browser::signed_in(gateway.address, &key("lms")).await
}

/// Returns a result of somebody the vendor has and the gateway does not know.
fn stranger(id: &str) -> Value {
    with(marks(id, 31.0), "unassigned", json!(true))
}

/// Waits until one report is parked; returns its id.
async fn parked(gateway: &Gateway) -> String {
    text(&wait_for_count(gateway, "/reports?limit=10&state=parked", 1).await[0], "/id").to_owned()
}

/// Returns the lines of the audit log about a report.
async fn audited(gateway: &Gateway, report: &str) -> usize {
    let log = gateway.request(Method::GET, "/audit").header("accept", "application/x-ndjson").send().await;
    log.body.as_str().expect("lines").lines().filter(|line| line.contains(report)).count()
}

#[tokio::test]
async fn the_body_is_shown_on_demand_and_names_the_person_whose_bookings_are_offered() {
    let (sandbox, gateway) = start().await;
    let first = book(&gateway, THINK, "t1").await;
    let second = gateway.post("/assignments", &with(order("t1", OTHER_TEST), "connection", json!(THINK))).await;
    assert_eq!(second.status, 201, "{second:?}");
    deliver_unnamed(&sandbox, &gateway, &[marks("t1", 31.0)]).await;
    let id = parked(&gateway).await;
    let mut browser = browser(&gateway).await;
    let list = browser.get("reports").await;
    assert!(list.words().contains(&format!("parked several open bookings {THINK} webhook")), "{}", list.words());
    assert!(list.has_link(&format!("reports/{id}")), "{}", list.text);
    let page = browser.get(&format!("reports/{id}")).await;
    assert_eq!(page.title(), format!("Report {id} · examgate"));
    assert!(!page.text.contains("t1@example.com") && !page.text.contains("marks_scored"), "not before it is asked for");
    let before = audited(&gateway, &id).await;
    let shown = browser.submit(&page.form(&format!("reports/{id}/body"))).await;
    assert_eq!(shown.status, 200);
    assert!(shown.text.contains("marks_scored") && !shown.url.as_str().contains('@'), "{}", shown.text);
    assert_eq!(audited(&gateway, &id).await, before + 1, "looking at a body is recorded");
    let words = shown.words();
    assert!(words.contains("People who fit") && words.contains("Ada King · t1 · t1@example.com"), "{words}");
    assert!(shown.text.contains(&format!("value=\"{}\"", text(&first, "/id"))), "{}", shown.text);

    let form = shown.form(&format!("reports/{id}/match")).with("target", second.text("/id"));
    let matched = browser.submit(&form).await;
    assert_eq!((matched.status, matched.header("location")), (303, &*format!("../../reports/{id}?notice=matched")));
    let report = gateway.get(&format!("/reports/{id}")).await;
    assert_eq!((report.text("/state"), report.text("/assignment")), ("applied", second.text("/id")), "{report:?}");
    let result = wait_for_version(&gateway, &second.body, 1).await;
    assert_eq!(result["score"]["given"], 31.0, "{result}");
    let page = browser.follow(matched).await;
    assert!(page.words().contains("The report is matched") && page.words().contains("by a person"), "{}", page.words());
    assert!(page.has_link(&format!("results/{}", text(&result, "/id"))), "{}", page.text);
    assert!(page.find_form("match").is_none() && page.find_form("dismiss").is_none(), "nothing is left to do");
}

#[tokio::test]
async fn the_person_is_searched_for_and_a_report_of_nobody_is_dismissed() {
    let (sandbox, gateway) = start().await;
    let assignment = book(&gateway, THINK, "t1").await;
    let candidate = text(&assignment, "/candidate/id");
    deliver(&sandbox, &gateway, &[stranger("typo-of-t1")]).await;
    let id = parked(&gateway).await;
    let mut browser = browser(&gateway).await;
    let page = browser.get(&format!("reports/{id}")).await;
    let words = page.words();
    assert!(words.contains("It fits no candidate of the connection.") && words.contains(APTITUDE), "{words}");
    let search = page.form(&format!("reports/{id}/search"));
    let nobody = browser.submit(&search.clone().with("by", "externalId").with("value", "t9")).await;
    assert!(nobody.status == 200 && nobody.words().contains("No candidate fits."), "{}", nobody.words());
    let wrong = browser.submit(&search.clone().with("by", "email").with("value", "t1")).await;
    assert_eq!(wrong.status, 422, "{wrong:?}");
    let found = browser.submit(&search.with("by", "email").with("value", " T1@example.com ")).await;
    assert!(found.words().contains("Ada King · t1 · t1@example.com"), "{}", found.words());
    assert!(!found.url.as_str().contains('@') && !found.title().contains('@'), "nothing personal in addresses");
    let matched = browser.submit(&found.form(&format!("reports/{id}/match")).with("target", candidate)).await;
    assert_eq!(matched.status, 303, "{matched:?}");
    let report = gateway.get(&format!("/reports/{id}")).await;
    assert_eq!((report.text("/state"), report.text("/candidate")), ("applied", candidate), "{report:?}");

    deliver(&sandbox, &gateway, &[stranger("stranger")]).await;
    let id = parked(&gateway).await;
    let page = browser.get(&format!("reports/{id}")).await;
    let dismissed = browser.submit(&page.form(&format!("reports/{id}/dismiss"))).await;
    let page = browser.follow(dismissed).await;
    assert!(page.words().contains("The report is dismissed."), "{}", page.words());
    assert_eq!(gateway.get(&format!("/reports/{id}")).await.text("/state"), "dismissed");
    let list = browser.get("reports?state=dismissed").await;
    assert!(list.has_link(&format!("reports/{id}")), "{}", list.text);
    assert!(browser.get("reports").await.words().contains("No report is parked"), "nothing is left to do");
}

#[tokio::test]
async fn a_wrong_match_changes_nothing_and_says_so() {
    let (sandbox, gateway) = start().await;
    deliver(&sandbox, &gateway, &[stranger("t1")]).await;
    let id = parked(&gateway).await;
    let mut browser = browser(&gateway).await;
    let form = browser.get(&format!("reports/{id}")).await.form(&format!("reports/{id}/match"));
    for target in ["asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "<script>", ""] {
        let refused = browser.submit(&form.clone().with("target", target)).await;
        assert_eq!(refused.status, 422, "{target}: {refused:?}");
        let words = refused.words();
        assert!(words.contains("invalid_reference") && words.contains("Report parked"), "{target}: {words}");
        assert!(!refused.text.contains("<script>"), "{target}");
    }
    assert_eq!(gateway.get(&format!("/reports/{id}")).await.text("/state"), "parked");
}

#[tokio::test]
async fn rejected_reports_are_listed_with_what_is_wrong() {
    let (_sandbox, gateway) = start().await;
    let unreadable = gateway.anonymous(Method::POST, &format!("/receivers/{THINK}/{TOKEN}"));
    let unreadable = unreadable.header("x-webhook_key", accounts::thinkexam::WEBHOOK_KEY);
    unreadable.body("application/json", "{\"result\": {\"name\": ").send().await;
    let rejected = wait_for_count(&gateway, "/reports?limit=10&state=rejected", 1).await;
    let id = text(&rejected[0], "/id");
    let mut browser = browser(&gateway).await;
    let list = browser.get("reports").await;
    assert!(
        list.words().contains("No report is parked") && list.words().contains("rejected not json"),
        "{}",
        list.words()
    );
    let page = browser.get(&format!("reports/{id}")).await;
    assert!(page.find_form("match").is_none(), "what cannot be read cannot be matched");
    browser.submit(&page.form(&format!("reports/{id}/dismiss"))).await;
    assert_eq!(gateway.get(&format!("/reports/{id}")).await.text("/state"), "dismissed");
}

#[tokio::test]
async fn a_client_sees_its_tenants_reports_and_what_its_scopes_allow() {
    let sandbox = sandbox().await;
    let owner = "owner = \"lms\"";
    let clients = client("lms", "", "[\"*\"]")
        + &client("other", "", "[\"*\"]")
        + &client_with("reader", "lms", "[\"*\"]", "[\"reports:read\"]")
        + &client_with("stranger", "lms", "[\"*\"]", "[\"candidates:read\"]");
    let gateway = Gateway::start_with(&connections(&sandbox, owner, owner), &clients).await;
    deliver(&sandbox, &gateway, &[stranger("t1")]).await;
    let id = parked(&gateway).await;

    let mut other = Browser::signed_in(gateway.address, &key("other")).await;
    assert!(!other.get("reports").await.text.contains(&id));
    assert_eq!(other.get(&format!("reports/{id}")).await.status, 404);

    let mut reader = Browser::signed_in(gateway.address, &key("reader")).await;
    let page = reader.get(&format!("reports/{id}")).await;
    assert_eq!(page.status, 200);
    assert!(["match", "search", "dismiss"].iter().all(|action| page.find_form(action).is_none()), "{}", page.text);
    let body = page.form(&format!("reports/{id}/body"));
    for action in ["match", "dismiss"] {
        let mut forged = body.clone().with("target", "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f");
        forged.action = forged.action.join(action).expect("an address");
        let refused = reader.submit(&forged).await;
        assert_eq!(refused.status, 403, "{action}: {refused:?}");
        assert!(refused.words().contains("reports:write"), "{action}: {}", refused.words());
    }
    assert!(reader.submit(&body).await.text.contains("t1@example.com"), "the scope permits the body");
    assert_eq!(gateway.get(&format!("/reports/{id}")).await.text("/state"), "parked");

    let mut stranger = Browser::signed_in(gateway.address, &key("stranger")).await;
    let page = stranger.get("reports").await;
    assert_eq!(page.status, 403);
    assert!(page.words().contains("reports:read") && !page.words().contains("Parked reports"), "{}", page.words());
    assert_eq!(all(&gateway, "/reports?limit=10&state=parked").await.len(), 1);
}
