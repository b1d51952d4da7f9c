//! Hostile callers and vendors: their input is rejected or sanitized in bounded time and memory, and all other callers
//! are served meanwhile.

use std::net::SocketAddr;

use bytes::Bytes;
use examgate::sandbox::accounts;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::connections::{examtesting, sandbox_connections, startexam, thinkexam};
use crate::support::gateway::{Gateway, key, sandbox, set_faults};
use crate::support::vendor::{Stub, build_response, json_response};

/// Sends these bytes and reads until the gateway closes.
async fn send_raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let (mut from, mut to) = stream.split();
    let mut response = Vec::new();
    // The gateway may respond and close before it has read everything; both ends then see a reset.
    let (_, _) = tokio::join!(to.write_all(bytes), from.read_to_end(&mut response));
    String::from_utf8_lossy(&response).into_owned()
}

/// Returns a candidate with a value for every string field, replaced at this pointer.
fn candidate_with(pointer: &str, value: &str) -> Value {
    let mut body = json!({ "externalId": "a", "userName": "a", "password": "pass word", "email": "ada@example.com",
        "name": { "givenName": "a", "familyName": "a", "formatted": "a" }, "group": "a", "birthDate": "1990-01-01",
        "gender": "a", "photo": "a", "phoneNumbers": [{ "type": "work", "value": "1" }], "custom": { "a": "a" },
        "address": { "streetAddress": "a", "locality": "a", "region": "a", "postalCode": "a", "country": "a" } });
    *body.pointer_mut(pointer).expect("a field") = json!(value);
    body
}

#[tokio::test]
async fn control_characters_are_rejected_in_every_field() {
    let stub = Stub::accepting().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let pointers = [
        "/externalId",
        "/userName",
        "/password",
        "/email",
        "/name/givenName",
        "/name/familyName",
        "/name/formatted",
        "/group",
        "/birthDate",
        "/gender",
        "/photo",
        "/phoneNumbers/0/value",
        "/custom/a",
        "/address/streetAddress",
        "/address/locality",
        "/address/region",
        "/address/postalCode",
        "/address/country",
    ];
    for pointer in pointers {
        for value in ["a\r\nX-Evil: 1", "a\u{0}b", "a\u{1b}[31m", "a\u{7f}", "a\u{85}b", "\n"] {
            if pointer == "/address/streetAddress" && value == "a\r\nX-Evil: 1" {
                // Line breaks are a part of such an address.
                continue;
            }
            let response = gateway.post("/candidates", &candidate_with(pointer, value)).await;
            assert_eq!(response.problem(), (422, "validation_failed", "not_applied"), "{pointer} {value:?}");
            assert!(
                response.body["errors"].as_array().unwrap().iter().all(|error| error["pointer"] == pointer),
                "{response:?}"
            );
        }
    }
    for body in [
        json!({ "candidate": { "externalId": "a\r\nb" }, "assessment": accounts::startexam::TESTS[0].0 }),
        json!({ "candidate": { "email": "a@b\r\n.c" }, "assessment": accounts::startexam::TESTS[0].0 }),
        json!({ "candidate": { "externalId": "a" }, "assessment": "a\r\nb" }),
        json!({ "candidate": { "externalId": "a" }, "assessment": accounts::startexam::TESTS[0].0, "center": "a\r\nb" }),
        json!({ "candidate": { "externalId": "a" }, "assessment": accounts::startexam::TESTS[0].0, "reference": "a\nb" }),
        json!({ "candidate": { "externalId": "a" }, "assessment": accounts::startexam::TESTS[0].0, "proctoring": { "enabled": true, "parameters": { "a": "b\r\nc" } } }),
        json!({ "candidate": { "externalId": "a" }, "assessment": accounts::startexam::TESTS[0].0, "proctoring": { "enabled": true, "parameters": { "a\r\n": "b" } } }),
    ] {
        let response = gateway.post("/assignments", &body).await;
        assert_eq!(response.problem().0, 422, "{body} {response:?}");
    }
    for entry in [json!("a\r\nb"), json!(""), json!({ "id": "cand_x\r\n" })] {
        let body = json!({ "scope": "all", "register": [entry] });
        let response = gateway.post(&format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID), &body).await;
        assert_eq!(response.problem().0, 422, "{body} {response:?}");
    }
    let named = json!({ "externalId": "a", "custom": { "a\r\nb": "c" } });
    assert_eq!(gateway.post("/candidates", &named).await.problem().0, 422);
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test]
async fn paths_with_traversal_or_encoded_slashes_are_not_found() {
    let stub = Stub::accepting().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    for id in [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f",
        "..;/",
        "%00",
        "%0d%0aX-Evil:%201",
        "%ff%fe",
        "cand_%2e%2e",
        "%5c..%5c",
        "a%2Fb",
        "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f%2fsettle",
    ] {
        for path in [
            format!("/candidates/{id}"),
            format!("/assignments/{id}"),
            format!("/connections/{id}"),
            format!("/vendors/{id}"),
            format!("/problems/{id}"),
            format!("/docs/{id}"),
        ] {
            let bytes = format!(
                "GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
                key("lms")
            );
            let response = send_raw(gateway.address, bytes.as_bytes()).await;
            let (head, _) = response.split_once("\r\n\r\n").expect("a whole head");
            assert!(head.starts_with("HTTP/1.1 404 ") && !head.contains("X-Evil"), "{path}: {response}");
            assert!(response.contains("application/problem+json"), "{path}: {response}");
        }
    }
    let body = json!({ "scope": "all", "register": ["a"] });
    for id in ["..%2f..%2fv1%2fparticipants", "%2e%2e", "ext:%0d%0a", "ext:", "ext:%00", "%00", "a%2fb"] {
        let response = gateway.post(&format!("/programs/{id}/employees"), &body).await;
        assert!([404, 422].contains(&response.problem().0), "{id} {response:?}");
    }
    assert_eq!(stub.seen().len(), 0);
    // A vendor's own id may contain anything printable; it is sent in the body, never in the path.
    let response = gateway.post("/programs/ext:..%2f..%2fx/employees", &body).await;
    for seen in stub.seen() {
        assert_eq!(seen.uri.path(), "/v1/program/employees", "{response:?}");
    }
}

#[tokio::test]
async fn redirects_are_never_followed() {
    let target = Stub::accepting().await;
    let address = target.url();
    for status in [301, 302, 303, 307, 308] {
        let location = address.clone();
        let stub = Stub::start(move |seen| {
            if seen.uri.path() == "/sim/signature" && status != 302 {
                return json_response(200, &json!({ "ak": "ak", "sgn": "sgn", "ts": "1" }));
            }
            let mut response = build_response(status, "text/html", "moved");
            response
                .headers_mut()
                .insert("location", format!("{location}{}", seen.uri.path()).parse().expect("a header"));
            response
        })
        .await;
        let url = stub.url();
        let gateway = Gateway::start(&(startexam(&url, "") + &thinkexam(&url, "") + &examtesting(&url, ""))).await;
        for connection in ["startexam-main", "thinkexam-main", "examtesting-main"] {
            let person = json!({ "connection": connection, "externalId": "a", "email": "a@example.com", "name": { "formatted": "A" } });
            let response = gateway.post("/candidates", &person).await;
            assert!(response.problem().0 >= 424, "{status} {response:?}");
            assert!(!response.body.to_string().contains(&target.address.to_string()), "{response:?}");
        }
    }
    assert_eq!(target.seen().len(), 0);
}

#[tokio::test]
async fn vendor_messages_are_sanitized_and_truncated() {
    let long = "x".repeat(1 << 20);
    let odd = "bad\r\nlevel=ERROR forged=true\u{1b}[31m<script>alert(1)</script>\u{0}\u{202e}\u{200f}\u{2028}end";
    for message in [odd, long.as_str(), "\u{feff}", "\u{1f600}\u{1f600}", &"\u{1f600}".repeat(400)] {
        let text = message.to_owned();
        let stub = Stub::start(move |seen| match seen.uri.path() {
            "/sim/signature" => json_response(200, &json!({ "ak": "ak", "sgn": "sgn", "ts": "1" })),
            "/ManageCandidate.aspx" => {
                build_response(200, "text/html", format!("status=ERROR&Reason=1004&error={text}"))
            }
            path if path.starts_with("/api/v1/") => {
                json_response(200, &json!({ "result": "error", "error": { "code": text, "msg": text } }))
            }
            _ => json_response(400, &json!({ "message": text })),
        })
        .await;
        let url = stub.url();
        let mut gateway = Gateway::start(&(startexam(&url, "") + &thinkexam(&url, "") + &examtesting(&url, ""))).await;
        for connection in ["startexam-main", "thinkexam-main", "examtesting-main"] {
            let person = json!({ "connection": connection, "externalId": "a", "email": "a@example.com", "name": { "formatted": "A" } });
            let response = gateway.post("/candidates", &person).await;
            response.problem();
            for pointer in ["/vendor/message", "/vendor/code", "/detail"] {
                let text = response.text(pointer);
                assert!(text.chars().count() <= 300, "{connection} {pointer} has {}", text.chars().count());
                let unfit = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
                assert!(!text.chars().any(unfit), "{connection} {pointer}: {text:?}");
            }
        }
        let output = gateway.take_log();
        assert!(!output.contains('\u{1b}') && !output.lines().any(|line| line.starts_with("level=ERROR")), "{output}");
    }
}

#[tokio::test]
async fn vendor_responses_that_are_not_text_do_no_harm() {
    let gateway_of = |bytes: &'static [u8], status: u16| async move {
        let stub = Stub::start(move |_| {
            let mut response = build_response(status, "application/json", "");
            *response.body_mut() = axum::body::Body::from(bytes);
            response
        })
        .await;
        (Gateway::start(&(startexam(&stub.url(), "") + &examtesting(&stub.url(), ""))).await, stub)
    };
    for (bytes, status) in [
        (&b"{\"message\":\"caf\xe9 \xff\xfe\"}"[..], 400),
        (b"status=ERROR&Reason=1004&error=caf\xe9\xff", 200),
        (b"\x00\x01\x02\x1f\x8b", 500),
    ] {
        let (gateway, _stub) = gateway_of(bytes, status).await;
        for connection in ["startexam-main", "examtesting-main"] {
            let person = json!({ "connection": connection, "externalId": "a", "email": "a@example.com" });
            let response = gateway.post("/candidates", &person).await;
            if response.status >= 400 {
                response.problem();
                assert!(!response.text("/vendor/message").chars().any(char::is_control), "{response:?}");
            }
        }
    }
}

#[tokio::test]
async fn endless_and_slow_responses_end_in_bounded_time_and_memory() {
    let sandbox = sandbox().await;
    let more = "max_response_bytes = \"64KiB\"\nbreaker = { failures = 1000, cooldown = \"1s\" }";
    let gateway = Gateway::start(&sandbox_connections(&sandbox, more)).await;
    // Only a response that is too slow may time out.
    let hasty = Gateway::start(&sandbox_connections(&sandbox, &format!("timeout = \"2s\"\n{more}"))).await;
    let endless = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let endless_address = endless.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = endless.accept().await {
            tokio::spawn(async move {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                let received = stream.read(&mut [0; 1024]).await;
                if received.is_err() || stream.write_all(head.as_bytes()).await.is_err() {
                    return;
                }
                let piece = format!("{:x}\r\n{}\r\n", 4096, " ".repeat(4096));
                while stream.write_all(piece.as_bytes()).await.is_ok() {}
            });
        }
    });
    let person = |connection: &str, id: &str| json!({ "connection": connection, "externalId": id, "email": format!("{id}@example.com"), "name": { "formatted": "A" } });
    for (name, fault) in
        [("huge", json!({ "name": "huge_body" })), ("drip", json!({ "name": "drip", "bytes": 1, "intervalMs": 400 }))]
    {
        for (connection, port) in [
            ("startexam-main", sandbox.startexam()),
            ("thinkexam-main", sandbox.thinkexam()),
            ("examtesting-main", sandbox.examtesting()),
        ] {
            set_faults(port, json!({ "faults": [fault] })).await;
            let sender = if name == "huge" { &gateway } else { &hasty };
            let response = sender.post("/candidates", &person(connection, name)).await;
            let reported = response.problem();
            let expected = if name == "huge" {
                (502, "vendor_bad_response", "unknown")
            } else {
                (504, "vendor_timeout", "unknown")
            };
            assert_eq!(reported, expected, "{name} {connection} {response:?}");
        }
    }
    let second = Gateway::start(&startexam(&format!("http://{endless_address}"), more)).await;
    let response = second.post("/candidates", &person("startexam-main", "endless")).await;
    assert_eq!(response.problem(), (502, "vendor_bad_response", "unknown"), "{response:?}");
    serving.abort();
}

/// Reads the gateway's response on a connection on which nothing more is sent.
async fn read_until_closed(mut stream: TcpStream) -> String {
    let mut response = Vec::new();
    // Any end will do; the gateway's own limits are 10 to 15 seconds.
    let closed = tokio::time::timeout(crate::support::gateway::TIMEOUT, stream.read_to_end(&mut response)).await;
    assert!(closed.is_ok(), "the gateway never closed: {}", String::from_utf8_lossy(&response));
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn slow_callers_are_disconnected_and_block_no_other_caller() {
    let stub = Stub::accepting().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let open = async |bytes: String| {
        let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
        stream.write_all(bytes.as_bytes()).await.expect("bytes go out");
        stream
    };
    let half_head = open("GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ".to_owned()).await;
    let post = |length: &str| {
        format!(
            "POST /candidates HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n{length}\r\n\r\n",
            key("lms")
        )
    };
    let half_body = open(post("Content-Length: 1000") + "{\"a").await;
    let half_chunk = open(post("Transfer-Encoding: chunked") + "5\r\n{\"a").await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(open(String::new()).await);
    }
    for number in 0..20 {
        let response = gateway.post("/candidates", &json!({ "externalId": format!("id{number}") })).await;
        assert_eq!(response.status, 201, "{response:?}");
    }
    let silent = idle.pop().expect("one of them");
    let (head, body, chunk, nothing) = tokio::join!(
        read_until_closed(half_head),
        read_until_closed(half_body),
        read_until_closed(half_chunk),
        read_until_closed(silent)
    );
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408 "), "{head}");
    for response in [body, chunk] {
        assert!(response.starts_with("HTTP/1.1 4") && response.contains("application/problem+json"), "{response}");
    }
    assert_eq!(nothing, "");
}

#[tokio::test]
async fn malformed_requests_get_an_error_or_a_closed_connection() {
    let stub = Stub::accepting().await;
    let mut gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let auth = format!("Authorization: Bearer {}\r\n", key("lms"));
    let many = "X-Many: 1\r\n".repeat(150);
    let huge = format!("X-Huge: {}\r\n", "x".repeat(200_000));
    for (bytes, statuses) in [
        (format!("GET /livez HTTP/1.1\r\nHost: a\r\n{many}\r\n"), &["431"][..]),
        (format!("GET /livez HTTP/1.1\r\nHost: a\r\n{huge}\r\n"), &["431", "400"]),
        (
            format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "x".repeat(200_000)),
            &["414", "431", "400"],
        ),
        ("GET /livez HTTP/9.9\r\nHost: a\r\n\r\n".to_owned(), &["400", "505"]),
        ("GET /livez HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n".to_owned(), &["400"]),
        ("G\u{e4}T /livez HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), &["400"]),
        (
            format!("POST /candidates HTTP/1.1\r\nHost: a\r\n{auth}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{{}}"),
            &["400"],
        ),
        (format!("POST /candidates HTTP/1.1\r\nHost: a\r\n{auth}Content-Length: x\r\n\r\n{{}}"), &["400"]),
        (
            format!(
                "POST /candidates HTTP/1.1\r\nHost: a\r\n{auth}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
            ),
            &["400"],
        ),
        ("\0\0\0\0\0\0\0\0\r\n\r\n".to_owned(), &["400"]),
        (format!("BREW /vendors HTTP/1.1\r\nHost: a\r\n{auth}Connection: close\r\n\r\n"), &["405"]),
        (format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{auth}Connection: close\r\n\r\n"), &["404", "405", "200", "204"]),
        (format!("CONNECT vendors:80 HTTP/1.1\r\nHost: a\r\n{auth}Connection: close\r\n\r\n"), &["404", "405", "400"]),
        (
            format!("GET http://elsewhere.example/livez HTTP/1.1\r\nHost: a\r\n{auth}Connection: close\r\n\r\n"),
            &["200"],
        ),
    ] {
        let response = send_raw(gateway.address, bytes.as_bytes()).await;
        let shown: String = bytes.chars().take(80).collect();
        let status = response.get(9..12).unwrap_or("none");
        assert!(statuses.contains(&status), "{shown:?}: {}", response.chars().take(300).collect::<String>());
    }
    let both = format!(
        "POST /candidates HTTP/1.1\r\nHost: a\r\n{auth}Content-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    );
    let smuggled = send_raw(gateway.address, both.as_bytes()).await;
    assert!(smuggled.starts_with("HTTP/1.1 400 "), "{smuggled}");

    let piped = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50)
        + "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(send_raw(gateway.address, piped.as_bytes()).await.matches("HTTP/1.1 200 OK").count(), 51);
    for (method, expected) in [("HEAD", "200"), ("GET", "200")] {
        let response = send_raw(
            gateway.address,
            format!("{method} /vendors HTTP/1.1\r\nHost: a\r\n{auth}Connection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert_eq!(&response[9..12], expected, "{method}");
        assert_eq!(response.ends_with("\r\n\r\n"), method == "HEAD", "{response}");
    }
    for (name, value) in [
        ("prefer", "\u{e4}\u{f6}"),
        ("accept", "\u{e4}"),
        ("content-type", "\u{e4}"),
        ("traceparent", "\u{e4}"),
        ("authorization", "Bearer \u{e4}"),
        ("idempotency-key", "\u{e4}"),
    ] {
        let response = gateway
            .anonymous(Method::POST, "/candidates")
            .header("x-api-key", &key("lms"))
            .header(name, value)
            .json(&json!({}))
            .send()
            .await;
        assert!((400..500).contains(&response.status), "{name} {response:?}");
    }
    assert_eq!(gateway.get("/livez").await.status, 200);
    assert_eq!(stub.seen().len(), 0);
    assert!(!gateway.take_log().contains("panicked"));
}

#[tokio::test]
async fn http_2_with_prior_knowledge_works() {
    let stub = Stub::accepting().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let stream = TcpStream::connect(gateway.address).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    let driving = tokio::spawn(connection);
    for path in ["/vendors", "/livez"] {
        let request = http::Request::get(format!("http://{}{path}", gateway.address)).header("x-api-key", key("lms"));
        let response =
            sender.send_request(request.body(Empty::<Bytes>::new()).expect("a request")).await.expect("a response");
        assert_eq!((response.status(), response.version()), (http::StatusCode::OK, http::Version::HTTP_2), "{path}");
        assert!(!response.into_body().collect().await.expect("a body").to_bytes().is_empty(), "{path}");
    }
    driving.abort();
}
