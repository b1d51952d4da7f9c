//! Requests of web pages from other origins.

use examgate::http::{ApiParts, LiveSettings, router_with_settings};
use reqwest::Method;

use super::{ApiResponse, TestServer, api_parts, send, serve_api, serve_router};

const PORTAL: &str = "https://portal.example.com";
const OTHER: &str = "http://10.0.0.5:8443";

async fn parts_with_origins(origins: &[&str]) -> ApiParts {
    let mut api_parts = api_parts().await;
    api_parts.server.cors_origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    api_parts
}

fn allowed(response: &ApiResponse) -> &str {
    response.header("access-control-allow-origin")
}

fn has_cors(response: &ApiResponse) -> bool {
    response.headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

async fn preflight(server: &TestServer, path: &str, origin: &str) -> ApiResponse {
    let request = server.anonymous(Method::OPTIONS, path).header("origin", origin);
    send(request.header("access-control-request-method", "POST").header("access-control-request-headers", "x-api-key"))
        .await
}

#[tokio::test]
async fn without_configured_origins_nothing_changes() {
    let server = serve_api(&api_parts().await).await;
    let response = preflight(&server, "/candidates", PORTAL).await;
    assert_eq!(response.problem(), (405, "method_not_allowed"));
    assert!(!has_cors(&response), "{response:?}");
    let response = send(server.request(Method::GET, "/vendors").header("origin", PORTAL)).await;
    assert_eq!(response.status, 200);
    assert!(!has_cors(&response) && !response.header("vary").contains("origin"), "{response:?}");
}

#[tokio::test]
async fn a_listed_page_may_send_what_the_api_takes_and_read_what_it_returns() {
    let server = serve_api(&parts_with_origins(&[PORTAL, OTHER]).await).await;
    for origin in [PORTAL, OTHER] {
        for path in ["/candidates", "/assignments/bulk", "/nowhere"] {
            let response = preflight(&server, path, origin).await;
            assert_eq!((response.status, allowed(&response)), (200, origin), "{path}");
            assert!(!response.header("x-request-id").is_empty(), "it is logged like any request");
            assert_eq!(response.header("access-control-max-age"), "600");
            assert!(response.header("vary").to_lowercase().contains("origin"), "{response:?}");
            let methods = response.header("access-control-allow-methods");
            assert_eq!(methods, "GET,POST,PATCH,DELETE");
            let headers = response.header("access-control-allow-headers");
            for name in ["authorization", "x-api-key", "content-type", "content-encoding", "idempotency-key", "prefer"]
            {
                assert!(headers.split(',').any(|listed| listed == name), "{name}: {headers}");
            }
            assert_eq!(response.header("access-control-allow-credentials"), "");
        }
        let response = send(server.request(Method::GET, "/vendors").header("origin", origin)).await;
        assert_eq!((response.status, allowed(&response)), (200, origin));
        let exposed = response.header("access-control-expose-headers");
        for name in ["location", "x-request-id", "retry-after", "idempotent-replayed", "www-authenticate"] {
            assert!(exposed.split(',').any(|listed| listed == name), "{name}: {exposed}");
        }
        assert!(response.header("vary").to_lowercase().contains("origin"), "{response:?}");
    }
}

#[tokio::test]
async fn a_listed_page_can_read_every_problem() {
    let server = serve_api(&parts_with_origins(&[PORTAL]).await).await;
    let large = server.request(Method::POST, "/candidates").header("content-type", "application/json");
    for (request, status) in [
        (server.anonymous(Method::GET, "/vendors"), 401),
        (server.anonymous(Method::POST, "/candidates").bearer_auth(super::FEW), 403),
        (server.request(Method::GET, "/nowhere"), 404),
        (server.request(Method::DELETE, "/vendors"), 405),
        (large.body(vec![b' '; 2000]), 413),
        (server.request(Method::POST, "/candidates").body("x"), 415),
    ] {
        let response = send(request.header("origin", PORTAL)).await;
        assert_eq!(response.problem().0, status);
        assert_eq!(allowed(&response), PORTAL, "{status}");
        assert_eq!(response.headers.get_all("access-control-allow-origin").iter().count(), 1);
    }
}

#[tokio::test]
async fn other_pages_are_not_listed() {
    let server = serve_api(&parts_with_origins(&[PORTAL]).await).await;
    for origin in [
        "https://evil.example.com",
        "http://portal.example.com",
        "https://portal.example.com:444",
        "https://portal.example.com.evil.example",
        "https://sub.portal.example.com",
        "null",
        "*",
    ] {
        let response = preflight(&server, "/candidates", origin).await;
        assert_eq!(allowed(&response), "", "{origin}");
        let response = send(server.request(Method::GET, "/vendors").header("origin", origin)).await;
        assert_eq!((response.status, allowed(&response)), (200, ""), "{origin}");
    }
}

#[tokio::test]
async fn only_preflights_are_answered() {
    let server = serve_api(&parts_with_origins(&[PORTAL]).await).await;
    let options = || server.request(Method::OPTIONS, "/vendors");
    for request in
        [options(), options().header("origin", PORTAL), options().header("access-control-request-method", "GET")]
    {
        assert_eq!(send(request).await.problem(), (405, "method_not_allowed"));
    }
}

#[tokio::test]
async fn a_reload_changes_the_list() {
    let api_parts = api_parts().await;
    let live = LiveSettings::of(&api_parts);
    let server = serve_router(router_with_settings(&api_parts, &live)).await;
    assert_eq!(preflight(&server, "/candidates", PORTAL).await.status, 405);
    live.replace(parts_with_origins(&[PORTAL]).await.server, &api_parts.auth);
    assert_eq!(allowed(&preflight(&server, "/candidates", PORTAL).await), PORTAL);
    live.replace(parts_with_origins(&[OTHER]).await.server, &api_parts.auth);
    assert_eq!(allowed(&preflight(&server, "/candidates", PORTAL).await), "");
}
