//! Compressed responses, and requests that must not be compressed.

use std::io::Read as _;

use flate2::read::GzDecoder;
use reqwest::Method;
use serde_json::Value;

use super::{TestServer, api_parts, send, serve_api};

/// Fetches the headers and the raw bytes.
async fn fetch(server: &TestServer, method: Method, path: &str, encoding: &str) -> (u16, http::HeaderMap, Vec<u8>) {
    let request = server.request(method, path).header("accept-encoding", encoding);
    let response = request.send().await.expect("a response");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.bytes().await.expect("a body").to_vec())
}

fn text<'a>(headers: &'a http::HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

#[tokio::test]
async fn a_long_response_is_compressed_for_callers_that_accept_it() {
    let server = serve_api(&api_parts().await).await;
    for path in ["/openapi.json", "/docs/swagger-ui.css", "/vendors"] {
        let (_, plain_headers, plain) = fetch(&server, Method::GET, path, "identity").await;
        assert_eq!(text(&plain_headers, "content-encoding"), "", "{path}");
        assert!(text(&plain_headers, "vary").contains("accept-encoding"), "{path} {plain_headers:?}");
        let (status, headers, packed) = fetch(&server, Method::GET, path, "gzip, br").await;
        assert_eq!((status, text(&headers, "content-encoding")), (200, "gzip"), "{path}");
        assert!(text(&headers, "vary").contains("accept-encoding"), "a cache has to know: {path}");
        assert!(packed.len() < plain.len() / 2, "{path}: {} of {}", packed.len(), plain.len());
        let stated = text(&headers, "content-length");
        assert!(
            stated.is_empty() || stated == packed.len().to_string(),
            "the length is that of the compressed body: {path}"
        );
        let mut unpacked = Vec::new();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain, "{path}");
    }
}

#[tokio::test]
async fn short_responses_and_head_responses_are_not_compressed() {
    let server = serve_api(&api_parts().await).await;
    for path in ["/livez", "/problems/overloaded", "/candidates/none"] {
        let (_, headers, bytes) = fetch(&server, Method::GET, path, "gzip").await;
        assert_eq!(text(&headers, "content-encoding"), "", "{path}");
        assert!(serde_json::from_slice::<Value>(&bytes).is_ok(), "{path}");
    }
    let (status, headers, bytes) = fetch(&server, Method::HEAD, "/openapi.json", "gzip").await;
    assert_eq!((status, bytes.len()), (200, 0));
    let stated = text(&headers, "content-length");
    let (_, _, plain) = fetch(&server, Method::GET, "/openapi.json", "identity").await;
    assert!(text(&headers, "content-encoding") == "gzip" || stated == plain.len().to_string(), "{headers:?}");
}

#[tokio::test]
async fn a_compressed_request_is_rejected_with_the_reason() {
    let server = serve_api(&api_parts().await).await;
    for (path, kind) in [("/candidates", "application/json"), ("/candidates/bulk", "text/csv")] {
        let request =
            server.request(Method::POST, path).header("content-type", kind).header("content-encoding", "gzip");
        let response = send(request.body("\x1f\u{8b}")).await;
        assert_eq!(response.problem(), (415, "unsupported_media_type"), "{path}");
        assert!(response.body["detail"].as_str().unwrap().contains("not compressed"), "{response:?}");
    }
}
