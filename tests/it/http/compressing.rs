//! Compressed responses and requests.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
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

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("gzip");
    encoder.finish().expect("gzip")
}

#[tokio::test]
async fn a_gzip_body_is_read_like_a_plain_one() {
    let server = serve_api(&api_parts().await).await;
    // The first error of each: what it says shows that the content was read.
    for (path, kind, content, found) in [
        ("/candidates", "application/json", "{\"odd\":1}", "/odd"),
        ("/candidates/search", "application/json", "{\"odd\":1}", "/odd"),
        ("/candidates/bulk", "application/json", "{\"odd\":1,\"items\":[{}]}", "/odd"),
        ("/candidates/bulk", "application/x-ndjson", "\n\n", ""),
        ("/candidates/bulk", "text/csv", "externalId,odd\r\n1,2\r\n", "/odd"),
    ] {
        let send_as = |coding: &'static str, body: Vec<u8>| {
            let request = server.request(Method::POST, path).header("content-type", kind);
            send(request.header("content-encoding", coding).body(body))
        };
        let plain = send_as("identity", content.into()).await;
        assert!(plain.errors().iter().any(|(pointer, _)| *pointer == found), "{path} {kind}: {plain:?}");
        for coding in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
            let packed = send_as(coding, gzip(content.as_bytes())).await;
            assert_eq!(
                (packed.problem(), packed.errors()),
                (plain.problem(), plain.errors()),
                "{path} {kind} {coding}"
            );
        }
        let (whole, half) = content.split_at(content.len() / 2);
        let members = send_as("gzip", [gzip(whole.as_bytes()), gzip(half.as_bytes())].concat()).await;
        assert_eq!(members.errors(), plain.errors(), "{path} {kind}");
        let mut cut = gzip(content.as_bytes());
        cut.truncate(cut.len() - 3);
        let cut = send_as("gzip", cut).await;
        assert_eq!(cut.problem(), (400, "malformed_json"), "{path} {kind}");
        assert!(cut.body["detail"].as_str().unwrap().contains("incomplete"), "{cut:?}");
        let other = send_as("gzip", content.into()).await;
        assert_eq!(other.problem(), (400, "malformed_json"), "{path} {kind}");
        assert!(other.body["detail"].as_str().unwrap().contains("not valid gzip"), "{other:?}");
    }
}

#[tokio::test]
async fn limits_count_what_comes_out_of_a_gzip_body() {
    let server = serve_api(&api_parts().await).await;
    for (path, kind, limit) in [
        ("/candidates", "application/json", 1000),
        ("/candidates/bulk", "application/json", 100_000),
        ("/candidates/bulk", "application/x-ndjson", 100_000),
        ("/candidates/bulk", "text/csv", 100_000),
    ] {
        let send_spaces = |count: usize| {
            let request = server.request(Method::POST, path).header("content-type", kind);
            send(request.header("content-encoding", "gzip").body(gzip(&vec![b' '; count])))
        };
        assert_eq!(send_spaces(limit + 1).await.problem(), (413, "payload_too_large"), "{path} {kind}");
        assert_eq!(send_spaces(limit * 100).await.problem(), (413, "payload_too_large"), "{path} {kind}");
        assert_ne!(send_spaces(limit).await.status, 413, "{path} {kind}");
    }
}

#[tokio::test]
async fn other_codings_are_rejected_with_the_one_that_is_taken() {
    let server = serve_api(&api_parts().await).await;
    for (path, kind) in [("/candidates", "application/json"), ("/candidates/bulk", "text/csv")] {
        for coding in ["br", "deflate", "zstd", "compress", "gzip, gzip", "br, gzip", "nonsense"] {
            let request = server.request(Method::POST, path).header("content-type", kind);
            let response = send(request.header("content-encoding", coding).body("{}")).await;
            assert_eq!(response.problem(), (415, "unsupported_media_type"), "{path} {coding}");
            assert_eq!(response.header("accept-encoding"), "gzip", "{path} {coding}");
        }
    }
    let request = server.request(Method::POST, "/candidates").header("content-type", "text/plain");
    let response = send(request.header("content-encoding", "gzip").body(gzip(b"{}"))).await;
    assert_eq!(response.problem(), (415, "unsupported_media_type"));
    assert_eq!(response.header("accept-encoding"), "", "the coding is not at fault (RFC 7694 §3)");
}
