//! Two tenants at one connection: each sees its own results and nothing of the other's, and what matches no tenant belongs to
//! the tenant that the operator names.

use serde_json::{Value, json};

use super::*;
use crate::support::connections::client;
use crate::support::gateway::key;

async fn start_for_two(owner: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let owner = format!("owner = \"{owner}\"");
    let clients = client("a", "", "[\"*\"]") + &client("b", "", "[\"*\"]") + &client("lms", "c", "[\"*\"]");
    let gateway = Gateway::start_with(&connections(&sandbox, &owner, &owner), &clients).await;
    (sandbox, gateway)
}

async fn post(gateway: &Gateway, who: &str, path: &str, body: &Value) -> ApiResponse {
    gateway.request_as(&key(who), Method::POST, path).json(body).send().await
}

async fn get(gateway: &Gateway, who: &str, path: &str) -> ApiResponse {
    gateway.request_as(&key(who), Method::GET, path).send().await
}

async fn book_for(gateway: &Gateway, who: &str, connection: &str, id: &str) -> Value {
    let registered = post(gateway, who, "/candidates", &person_at(connection, id)).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let booked = post(gateway, who, "/assignments", &booking(connection, id)).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    booked.body
}

async fn wait_for_one(gateway: &Gateway, who: &str, path: &str) -> Value {
    let started = std::time::Instant::now();
    loop {
        let page = get(gateway, who, path).await;
        if let Some([one]) = page.body["items"].as_array().map(Vec::as_slice) {
            return one.clone();
        }
        assert!(started.elapsed().as_secs() < 300, "{path}: {page:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn each_tenant_sees_its_own_results_and_reports_only() {
    let (sandbox, gateway) = start_for_two("").await;
    let of_a = book_for(&gateway, "a", START, "e1").await;
    let of_b = book_for(&gateway, "b", START, "e2").await;
    let webhook_of_a = book_for(&gateway, "a", THINK, "t1").await;
    sit(&sandbox, &json!([finished(text(&of_a, "/vendorRef/id"), 5.0), finished(text(&of_b, "/vendorRef/id"), 6.0)]))
        .await;
    let asked = gateway.request_as(&key("a"), Method::POST, &format!("/connections/{START}/read")).send().await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let at_start = format!("/results?connection={START}");
    let [result_a, result_b] =
        [wait_for_one(&gateway, "a", &at_start).await, wait_for_one(&gateway, "b", &at_start).await];
    assert_eq!((&result_a["score"]["given"], &result_b["score"]["given"]), (&json!(5.0), &json!(6.0)));
    deliver(&sandbox, &gateway, &[marks("t1", 31.0)]).await;
    let webhook = wait_for_one(&gateway, "a", &format!("/results?connection={THINK}")).await;
    assert_eq!(webhook["assignment"]["id"], webhook_of_a["id"]);

    for path in [format!("/results/{}", text(&result_a, "/id")), format!("/results/{}/versions", text(&webhook, "/id"))]
    {
        assert_eq!(get(&gateway, "a", &path).await.status, 200);
        assert_eq!(get(&gateway, "b", &path).await.problem(), (404, "not_found", "not_applied"), "{path}");
    }
    let refused = post(&gateway, "b", &format!("{}/refresh", path_of(&of_a)), &json!({})).await;
    assert_eq!(refused.problem(), (404, "not_found", "not_applied"), "{refused:?}");
    for filter in [
        format!("assignment={}", text(&of_a, "/id")),
        format!("candidate={}", text(&of_a, "/candidate/id")),
        "externalId=e1".to_owned(),
        format!("connection={THINK}"),
    ] {
        let shown = get(&gateway, "b", &format!("/results?{filter}")).await;
        assert_eq!(shown.body["items"].as_array().map(Vec::len).unwrap_or_default(), 0, "{filter}: {shown:?}");
    }
    let reports = get(&gateway, "a", "/reports?limit=10").await;
    assert_eq!(reports.body["items"].as_array().map(Vec::len), Some(2), "{reports:?}");
    let id = text(&reports.body["items"][0], "/id");
    assert_eq!(get(&gateway, "b", &format!("/reports/{id}?include=body")).await.status, 404);
    assert_eq!(get(&gateway, "b", "/reports?limit=10").await.body["items"].as_array().map(Vec::len), Some(1));
    // Nor does a third tenant see any of it.
    assert_eq!(gateway.get("/results").await.body["items"], json!([]));
}

#[tokio::test]
async fn what_fits_no_tenant_belongs_to_the_one_that_the_operator_names_else_to_none() {
    for owner in ["a", ""] {
        let (sandbox, gateway) = start_for_two(owner).await;
        let stranger = with(marks("stranger", 31.0), "unassigned", json!(true));
        deliver(&sandbox, &gateway, &[stranger]).await;
        // This one is read after it.
        let own = book_for(&gateway, "a", THINK, "t1").await;
        deliver(&sandbox, &gateway, &[marks("t1", 32.0)]).await;
        wait_for_one(&gateway, "a", &format!("/results?assignment={}", text(&own, "/id"))).await;
        let seen =
            async |who: &str| get(&gateway, who, "/reports?state=parked").await.body["items"].as_array().map(Vec::len);
        assert_eq!((seen("a").await, seen("b").await), (Some(usize::from(owner == "a")), Some(0)), "{owner}");
        // The tenant that registers the person has the result: a report is matched, not owned.
        let booked = book_for(&gateway, "b", THINK, "stranger").await;
        let result = wait_for_one(&gateway, "b", "/results?externalId=stranger").await;
        assert_eq!(result["candidate"]["id"], booked["candidate"]["id"]);
        assert_eq!(seen("a").await, Some(0), "{owner}");
    }
}
