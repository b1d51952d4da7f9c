//! Authorization: every documented route with every kind of credential; no client sees another tenant's records.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, client_with, startexam};
use crate::support::gateway::{ApiResponse, Gateway, key};
use crate::support::vendor::Stub;

const TEST: &str = "fa19e351-36d0-49c0-be92-66d640b17878";

/// A documented route.
struct Route {
    method: Method,
    path: String,
    /// The scope it needs, "" if credentials are enough; `None` for public ones.
    scope: Option<String>,
}

async fn routes(gateway: &Gateway) -> Vec<Route> {
    let document = gateway.anonymous(Method::GET, "/openapi.json").send().await.body;
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else { continue };
            if !operation.is_object() {
                continue;
            }
            let schemes = operation["security"].as_array().cloned().unwrap_or_default();
            let scope = schemes.iter().flat_map(|scheme| scheme.as_object().expect("a scheme").values()).next();
            let scope = scope.map(|scopes| scopes[0].as_str().unwrap_or_default().to_owned());
            let prefix = match path.split('/').nth(1) {
                Some("assignments") => "asg",
                Some("results") => "res",
                Some("reports") => "rep",
                Some("webhooks") => "wh",
                Some("deliveries") => "dlv",
                _ => "cand",
            };
            let path = path
                .replace("{id}", &format!("{prefix}_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f"))
                .replace("{name}", "startexam-main")
                .replace("{vendor}", "startexam")
                .replace("{code}", "internal")
                .replace("{connection}", "startexam-main")
                .replace("{token}", "wrong-token")
                .replace("{assessment}", TEST);
            assert!(!path.contains('{'), "{path} has a parameter the test does not know");
            routes.push(Route { method, path, scope });
        }
    }
    assert!(routes.len() >= 20, "{}", routes.len());
    routes
}

#[tokio::test]
async fn every_route_requires_credentials_and_its_scope() {
    let stub = Stub::accepting_startexam().await;
    let clients = [
        client("lms", "", "[\"*\"]"),
        client_with("auditor", "", "[\"*\"]", "[\"audit:read\"]"),
        client_with("other", "", "[\"*\"]", "[\"operations:read\"]"),
    ]
    .concat();
    let gateway = Gateway::start_with(&startexam(&stub.url(), ""), &clients).await;
    for Route { method, path, scope } in routes(&gateway).await {
        let what = format!("{method} {path}");
        let ask = || gateway.anonymous(method.clone(), &path);
        let Some(scope) = scope else {
            // A receiver takes no credentials of a caller: its address is the secret.
            let expected = if path.starts_with("/receivers/") { 404 } else { 200 };
            assert_eq!(ask().send().await.status, expected, "{what} is public");
            continue;
        };
        let refused = |response: &ApiResponse| {
            assert_eq!(response.problem(), (401, "unauthenticated", "not_applied"), "{what}");
            assert!(response.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{what}");
        };
        refused(&ask().send().await);
        refused(&ask().header("authorization", "Bearer egk_wrong").send().await);
        refused(&ask().header("authorization", &format!("Basic {}", key("lms"))).send().await);
        refused(&ask().header("authorization", "Bearer").send().await);
        refused(&ask().header("x-api-key", "egk_wrong").send().await);
        refused(&ask().header("authorization", "Bearer egk_wrong").header("x-api-key", &key("lms")).send().await);

        let poor = if scope == "audit:read" { "other" } else { "auditor" };
        let poor = ask().header("x-api-key", &key(poor)).send().await;
        if scope.is_empty() {
            assert_eq!((poor.status, path.as_str()), (200, "/client"), "{what} needs no scope");
        } else {
            assert_eq!(poor.problem(), (403, "insufficient_scope", "not_applied"), "{what}");
            assert!(poor.text("/detail").contains(&scope), "{what}: {poor:?} does not name {scope}");
            assert!(poor.header("www-authenticate").is_some_and(|value| value.contains(&scope)), "{what}: {poor:?}");
        }
        for response in
            [ask().header("x-api-key", &key("lms")).send().await, gateway.request(method.clone(), &path).send().await]
        {
            assert!(![401, 403].contains(&response.status), "{what}: {response:?}");
        }
    }
    // Checking a connection is the only write that needs neither body nor record.
    assert!(
        stub.seen().iter().all(|seen| [Method::GET, Method::HEAD].contains(&seen.method)),
        "nothing was written: {:?}",
        stub.seen()
    );
}

/// The records of the first tenant at its connection.
struct TenantRecords {
    candidate: String,
    assignment: String,
    operation: String,
    exchange: String,
    webhook: String,
}

impl TenantRecords {
    async fn create(gateway: &Gateway, receiver: &str) -> Self {
        let person = json!({ "connection": "startexam-main", "externalId": "a", "email": "ada@example.com" });
        let candidate = gateway.post("/candidates", &person).await.text("/id").to_owned();
        let order = json!({ "candidate": { "id": candidate }, "assessment": TEST });
        let assignment = gateway.post("/assignments", &order).await.text("/id").to_owned();
        let rows = json!({ "connection": "startexam-main", "items": [{ "externalId": "b" }] });
        let operation = gateway.post("/candidates/bulk", &rows).await.text("/operation").to_owned();
        let exchanges = gateway.get(&format!("/exchanges?operation={operation}")).await;
        let exchange = exchanges.text("/items/0/id").to_owned();
        // Nothing of this type happens here, so nothing but the ping is delivered.
        let hook = json!({ "url": receiver, "types": ["attempt.reopened"] });
        let webhook = gateway.post("/webhooks", &hook).await.text("/id").to_owned();
        let all = Self { candidate, assignment, operation, exchange, webhook };
        assert!(all.ids().iter().all(|id| id.len() > 30), "{:?}", all.ids());
        all
    }

    fn ids(&self) -> [&str; 5] {
        [&self.candidate, &self.assignment, &self.operation, &self.exchange, &self.webhook]
    }

    /// Returns the record a documented path addresses; `None` if it addresses none of a tenant's records.
    fn object_of(&self, template: &str) -> Option<&str> {
        let first = template.split('/').nth(1).unwrap_or_default();
        template.contains("{id}").then_some(())?;
        match first {
            "candidates" => Some(&self.candidate),
            "assignments" => Some(&self.assignment),
            "operations" => Some(&self.operation),
            "exchanges" => Some(&self.exchange),
            // Those of real attempts are tested in `results::tenants`.
            "results" => Some("res_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f"),
            "reports" => Some("rep_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f"),
            "webhooks" => Some(&self.webhook),
            "deliveries" => Some("dlv_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f"),
            "programs" => None,
            other => panic!("the test does not know whose {other} are: say it here"),
        }
    }
}

/// Returns a body the route accepts, at this connection.
fn body(method: &Method, template: &str, connection: &str) -> Option<Value> {
    let body = match (method.as_str(), template) {
        ("POST", "/candidates" | "/candidates/search") => json!({ "connection": connection, "externalId": "a" }),
        ("POST", "/candidates/bulk") => json!({ "connection": connection, "items": [{ "externalId": "a" }] }),
        ("PATCH", "/candidates/{id}") => json!({ "email": "eve@example.com" }),
        ("PATCH", "/assignments/{id}") => json!({ "validUntil": "2040-01-01T00:00:00Z" }),
        ("POST", "/assignments") => {
            json!({ "connection": connection, "candidate": { "externalId": "a" }, "assessment": TEST })
        }
        ("POST", "/assignments/bulk") => {
            let item = json!({ "candidate": { "externalId": "a" }, "assessment": TEST });
            json!({ "connection": connection, "items": [item] })
        }
        ("POST", "/programs/{id}/employees") => json!({ "connection": connection, "scope": "all", "register": ["a"] }),
        ("POST", path) if path.ends_with("/settle") => json!({ "outcome": "not_applied" }),
        // No connection is named, so the address decides, which nobody may use.
        ("POST", "/webhooks") => json!({ "url": "https://hooks.example.com/" }),
        ("PATCH", "/webhooks/{id}") => json!({ "description": "x" }),
        ("POST", "/webhooks/{id}/rotate") => json!({}),
        ("POST", "/webhooks/{id}/replay") => json!({ "after": 0 }),
        ("POST", "/reports/{id}/match") => json!({ "candidate": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f" }),
        ("POST", path)
            if [
                "/cancel",
                "/retry",
                "/check",
                "/initial-password",
                "/refresh",
                "/dismiss",
                "/reread",
                "/read",
                "/ping",
                "/pause",
                "/resume",
            ]
            .iter()
            .any(|end| path.ends_with(end)) =>
        {
            return None;
        }
        ("POST" | "PATCH" | "PUT", path) => panic!("the test knows no body for {path}: say it here"),
        _ => return None,
    };
    Some(body)
}

/// Tests every documented route with another tenant's record and with a connection the client may not use. Credentials
/// and scopes are tested in `every_route_requires_credentials_and_its_scope`. A route this test does not know fails it.
#[tokio::test]
async fn every_route_isolates_tenants_and_connections() {
    let stub = Stub::accepting_startexam().await;
    let second = startexam(&stub.url(), "").replace("startexam-main", "startexam-two");
    let clients = client("lms", "", "[\"*\"]")
        + &client("stranger", "", "[\"*\"]")
        + &client("narrow", "lms", "[\"startexam-two\"]");
    let delivery = "[delivery]\nallow_hosts = [\"127.0.0.1\"]\nallow_private = [\"127.0.0.1\"]\nallow_http = true\n";
    let gateway = Gateway::start_with(&(startexam(&stub.url(), "") + &second + delivery), &clients).await;
    let own = TenantRecords::create(&gateway, &stub.url()).await;
    let before = stub.seen().len();
    let document = gateway.anonymous(Method::GET, "/openapi.json").send().await.body;
    let mut seen = std::collections::BTreeSet::new();
    for (template, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if operation["security"] == json!([]) {
                continue;
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let what = format!("{method} {template}");
            let ask = async |who: &str, connection: &str| {
                let path = template
                    .replace("{id}", own.object_of(template).unwrap_or("918ae938-8ea5-4298-b5ac-f8ffd873ceb6"))
                    .replace("{name}", connection)
                    .replace("{vendor}", "startexam");
                let names_connection = operation["parameters"].as_array().into_iter().flatten();
                let mut named = names_connection
                    .filter(|parameter| parameter["in"] == "query" && parameter["name"] == "connection");
                let query = if body(&method, template, connection).is_none() && named.next().is_some() {
                    let identity = if template == "/candidates" { "&externalId=a" } else { "" };
                    format!("?connection={connection}{identity}")
                } else {
                    String::new()
                };
                let request = gateway.request_as(&key(who), method.clone(), &format!("{path}{query}"));
                match body(&method, template, connection) {
                    Some(body) => request.json(&body).send().await,
                    None => request.send().await,
                }
            };
            let forbids = operation["responses"]["403"].to_string().contains("connection_forbidden");
            // A client that may not use the connection does not see its records; the existence of the connection is no
            // secret.
            let narrow = ask("narrow", "startexam-main").await;
            let expected = if own.object_of(template).is_some() {
                "hidden"
            } else if forbids {
                "forbidden"
            } else if (method.as_str(), template.as_str()) == ("POST", "/webhooks") {
                "not allowed"
            } else {
                "open"
            };
            match expected {
                "hidden" => assert_eq!(narrow.problem(), (404, "not_found", "not_applied"), "{what}"),
                "not allowed" => assert_eq!(narrow.problem(), (422, "webhook_not_allowed", "not_applied"), "{what}"),
                "forbidden" => assert_eq!(narrow.problem(), (403, "connection_forbidden", "not_applied"), "{what}"),
                _ => assert_eq!(narrow.status, 200, "{what}: {narrow:?}"),
            }
            seen.insert(expected);
            // Another tenant's records do not exist, and nothing reveals them.
            let harmless = matches!(method, Method::GET) || template.ends_with("/search");
            if own.object_of(template).is_some() {
                let stranger = ask("stranger", "startexam-main").await;
                assert_eq!(stranger.problem(), (404, "not_found", "not_applied"), "{what}");
            } else if template == "/audit" {
                // The tenant's whole record, or its chain could not be verified. What the stranger tried is in the
                // stranger's record.
                let entries = ask("stranger", "startexam-main").await.body["items"].clone();
                let entries = entries.as_array().expect("lines");
                assert!(
                    !entries.is_empty() && entries.iter().all(|entry| entry["client"] == "stranger"),
                    "{entries:?}"
                );
            } else if harmless {
                for (who, response) in [("stranger", ask("stranger", "startexam-main").await), ("narrow", narrow)] {
                    let text = response.body.to_string();
                    assert!(!own.ids().iter().any(|id| text.contains(id)), "{what} reveals it to {who}: {text}");
                    assert!(!text.contains("ada@example.com"), "{what} reveals it to {who}: {text}");
                }
            }
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["forbidden", "hidden", "not allowed", "open"]);
    assert_eq!(stub.seen().len(), before, "nothing was sent for any of it");
    let candidate = gateway.get(&format!("/candidates/{}", own.candidate)).await;
    assert_eq!((candidate.status, candidate.text("/email")), (200, "ada@example.com"));
}

#[tokio::test]
async fn public_routes_need_no_credentials_and_ignore_wrong_ones() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    for path in ["/livez", "/readyz", "/docs/", "/openapi.json", "/openapi-3.0.json", "/problems/internal"] {
        assert_eq!(gateway.anonymous(Method::GET, path).send().await.status, 200, "{path}");
        assert_eq!(gateway.request_as("egk_wrong", Method::GET, path).send().await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn records_out_of_a_clients_reach_do_not_exist() {
    let stub = Stub::accepting_startexam().await;
    let second = startexam(&stub.url(), "").replace("startexam-main", "startexam-two");
    let clients = client("lms", "shared", "[\"*\"]")
        + &client("sister", "shared", "[\"*\"]")
        + &client("narrow", "shared", "[\"startexam-two\"]")
        + &client("stranger", "", "[\"*\"]");
    let gateway = Gateway::start_with(&(startexam(&stub.url(), "") + &second), &clients).await;
    let person = json!({ "connection": "startexam-main", "externalId": "a", "email": "ada@example.com" });
    let candidate = gateway.post("/candidates", &person).await;
    assert_eq!(candidate.status, 201, "{candidate:?}");
    let order = json!({ "candidate": { "id": candidate.text("/id") }, "assessment": TEST });
    let assignment = gateway.post("/assignments", &order).await;
    assert_eq!(assignment.status, 201, "{assignment:?}");
    let before = stub.seen().len();
    let paths = [format!("/candidates/{}", candidate.text("/id")), format!("/assignments/{}", assignment.text("/id"))];

    for other in ["stranger", "narrow"] {
        let ask =
            |method: Method, path: &str, body: Value| gateway.request_as(&key(other), method, path).json(&body).send();
        for path in &paths {
            for (method, path, body) in [
                (Method::GET, path.clone(), json!({})),
                (Method::DELETE, path.clone(), json!({})),
                (Method::POST, format!("{path}/settle"), json!({ "outcome": "not_applied" })),
            ] {
                let response = ask(method.clone(), &path, body).await;
                assert_eq!(response.problem(), (404, "not_found", "not_applied"), "{other} {method} {path}");
                assert!(!response.body.to_string().contains("ada@"), "{response:?}");
            }
        }
        let patched = ask(Method::PATCH, &paths[0], json!({ "email": "eve@example.com" })).await;
        assert_eq!(patched.problem(), (404, "not_found", "not_applied"), "{other}");
        let search = ask(Method::POST, "/candidates/search", json!({ "email": "ada@example.com" })).await;
        assert_eq!((search.status, &search.body["items"]), (200, &json!([])), "{other}");
        let listed = gateway.request_as(&key(other), Method::GET, "/assignments").send().await;
        assert_eq!((listed.status, &listed.body["items"]), (200, &json!([])), "{other}");
    }
    let stranger =
        |path: &str, body: &Value| gateway.request_as(&key("stranger"), Method::POST, path).json(body).send();
    let booked = stranger(
        "/assignments",
        &json!({ "connection": "startexam-main", "candidate": { "id": candidate.text("/id") }, "assessment": TEST }),
    )
    .await;
    assert_eq!(booked.problem(), (422, "invalid_reference", "not_applied"));
    let taken = stranger("/candidates", &person).await;
    assert_eq!(taken.problem(), (409, "candidate_conflict", "not_applied"));
    assert!(
        !taken.body.to_string().contains("ada@") && !taken.body.to_string().contains(candidate.text("/id")),
        "{taken:?}"
    );
    let narrow = gateway.request_as(&key("narrow"), Method::POST, "/candidates").json(&person).send().await;
    assert_eq!(narrow.problem(), (403, "connection_forbidden", "not_applied"));
    let shown = gateway.request_as(&key("narrow"), Method::GET, "/connections").send().await;
    assert_eq!(shown.body["items"].as_array().map(Vec::len), Some(1), "{shown:?}");
    assert_eq!(stub.seen().len(), before);

    let sister = gateway.request_as(&key("sister"), Method::GET, &paths[0]).send().await;
    assert_eq!((sister.status, sister.text("/email")), (200, "ada@example.com"), "clients of one tenant share");
}

#[tokio::test]
async fn an_exceeded_rate_limit_is_reported_and_affects_no_other_client() {
    let stub = Stub::accepting_startexam().await;
    let slow = client("slow", "", "[\"*\"]")
        .replace("requests_per_second = 100000, burst = 100000", "requests_per_second = 1, burst = 3");
    let gateway = Gateway::start_with(&startexam(&stub.url(), ""), &(client("lms", "", "[\"*\"]") + &slow)).await;
    let requests = (0..30).map(|_| gateway.request_as(&key("slow"), Method::GET, "/vendors").send());
    let responses = futures_util::future::join_all(requests).await;
    let refused: Vec<&ApiResponse> = responses.iter().filter(|response| response.status != 200).collect();
    assert!(!refused.is_empty() && refused.len() < 30, "{} of 30", refused.len());
    for response in refused {
        assert_eq!(response.problem(), (429, "rate_limited", "not_applied"));
        assert_eq!(response.body["retryable"], true);
        let wait: u64 = response.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
        assert!((1..=30).contains(&wait), "{wait}");
    }
    assert_eq!(gateway.get("/vendors").await.status, 200);
}

#[tokio::test]
async fn without_authentication_no_route_requires_credentials() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start_with(&startexam(&stub.url(), ""), "[auth]\nmode = \"none\"\n").await;
    for route in routes(&gateway).await {
        let response = gateway.anonymous(route.method.clone(), &route.path).send().await;
        assert!(![401, 403].contains(&response.status), "{} {}: {response:?}", route.method, route.path);
    }
    let response = gateway.anonymous(Method::POST, "/candidates").json(&json!({ "externalId": "a" })).send().await;
    assert_eq!(response.status, 201, "{response:?}");
}
