//! The accept loop: bad connections, and shutdown.

use std::time::Duration;

use examgate::http::{ListenerOptions, ShutdownHandle};
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{api_parts, send, serve_api};

/// Sends these bytes and reads until the gateway closes.
async fn send_raw(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut response = Vec::new();
    // A reset after the response is as good as a close.
    let _ = stream.read_to_end(&mut response).await;
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn a_body_that_never_arrives_ends_in_a_problem() {
    let mut api_parts = api_parts().await;
    api_parts.limits.body_allowance = Duration::from_millis(50);
    let server = serve_api(&api_parts).await;
    let request = format!(
        "POST /candidates HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{",
        super::ALL
    );
    let response = send_raw(server.address, request.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    assert!(response.contains("malformed_json") && response.contains("did not arrive in time"), "{response}");
}

#[tokio::test]
async fn input_that_is_not_http_is_rejected() {
    let server = serve_api(&api_parts().await).await;
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client hello, say"[..], b"EHLO mail.example.com\r\n\r\n"]
    {
        let response = send_raw(server.address, bytes).await;
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 400 "), "{response}");
    }
    let many = (0..200).fold(String::new(), |headers, index| headers + &format!("X-{index}: 1\r\n"));
    let response = send_raw(server.address, format!("GET /livez HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_head_request_gets_the_headers_of_a_get_and_no_body() {
    let server = serve_api(&api_parts().await).await;
    let response = send_raw(server.address, b"HEAD /odd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 404 ") && response.ends_with("\r\n\r\n"), "{response}");
}

#[tokio::test]
async fn shutdown_refuses_new_connections_and_completes() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = ShutdownHandle::new(Duration::from_secs(30));
    let options = ListenerOptions { connections: 100, keep_alive: super::KEEP_ALIVE, busy: None, tls: None };
    let router = examgate::http::router(&api_parts().await);
    let serving = tokio::spawn(examgate::http::serve(listener, router, options, shutdown.clone()));
    // An idle kept-alive connection must not delay the shutdown.
    let client = crate::support::gateway::http();
    let response = send(client.request(Method::GET, format!("http://{address}/livez"))).await;
    assert_eq!(response.status, 200);
    shutdown.close();
    serving.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
