//! What reaches the vendor: address, headers, body, signature.

use super::*;

#[tokio::test]
async fn the_request_is_sent_unchanged() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client_at(&vendor.url("/Base/"), &settings(), held());
    let mut request = post("{\"a\":\"ü\"}");
    request.target = Target::Path("/v1/Employees/%7eX%2Fy?Name=a%c3%BC+b&Z".to_owned());
    request.headers.insert("x-signature", HeaderValue::from_static("AbC+/="));
    let response = client.send(request, &NoSignature, &call()).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (StatusCode::OK, &b"done"[..]));

    let seen = vendor.requests().remove(0);
    assert!(seen.starts_with("POST /Base/v1/Employees/%7eX%2Fy?Name=a%c3%BC+b&Z HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("x-signature: AbC+/=\r\n") && seen.contains("content-length: 10\r\n"), "{seen}");
    assert!(seen.contains(concat!("user-agent: examgate/", env!("CARGO_PKG_VERSION"), "\r\n")), "{seen}");
    assert!(seen.ends_with("\r\n\r\n{\"a\":\"ü\"}"), "{seen}");
    assert!(seen.contains("traceparent: 00-abc-def-01\r\n"), "the caller's trace is passed on: {seen}");
    for added in ["tracestate", "accept-encoding", "transfer-encoding"] {
        assert!(!seen.contains(added), "{seen}");
    }
}

#[tokio::test]
async fn only_methods_with_a_body_send_a_zero_content_length() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &settings());
    client.send(post(""), &NoSignature, &call()).await.unwrap();
    client.send(Request { method: Method::GET, ..post("") }, &NoSignature, &call()).await.unwrap();
    let seen = vendor.requests();
    assert!(seen[0].contains("content-length: 0\r\n"), "{}", seen[0]);
    assert!(!seen[1].contains("content-length"), "{}", seen[1]);
    assert_eq!(vendor.connections(), 1);
}

#[rstest]
#[case::dot_segment("/a/../b")]
#[case::space("/a b")]
#[case::fragment("/a#b")]
#[case::not_ascii("/ü")]
#[case::backslash("/a\\b")]
#[tokio::test]
async fn a_path_that_a_url_parser_would_rewrite_is_not_sent(#[case] path: &str) {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &settings());
    let request = Request { target: Target::Path(path.to_owned()), ..post("x") };
    let error = client.send(request, &NoSignature, &call()).await.unwrap_err();
    assert_eq!(summary(&error), (Code::Internal, Outcome::NotApplied, None));
    assert_eq!(vendor.requests().len(), 0);
}

#[tokio::test]
async fn a_query_or_an_empty_path_is_appended_unchanged() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client_at(&vendor.url("/api.php"), &settings(), held());
    for path in ["?action=add", ""] {
        client
            .send(Request { target: Target::Path(path.to_owned()), ..post("x") }, &NoSignature, &call())
            .await
            .unwrap();
    }
    let seen = vendor.requests();
    assert!(seen[0].starts_with("POST /api.php?action=add HTTP") && seen[1].starts_with("POST /api.php HTTP"));
}

#[rstest]
#[case::moved_permanently("301 Moved", Outcome::Unknown)]
#[case::found("302 Found", Outcome::Unknown)]
#[case::see_other("303 See Other", Outcome::Unknown)]
#[case::temporary_redirect("307 Temporary Redirect", Outcome::NotApplied)]
#[case::permanent_redirect("308 Permanent Redirect", Outcome::NotApplied)]
#[tokio::test]
async fn redirects_are_never_followed(#[case] status: &str, #[case] outcome: Outcome) {
    let vendor = Vendor::playing(&[Reply::Keep(answer(status, "Location: /elsewhere\r\n", ""))]).await;
    let client = client(&vendor, &settings());
    let response = send(&client).await.unwrap();
    let error = general_error(&client, "assignments.create", &response, None, None).unwrap();
    assert_eq!(summary(&error), (Code::VendorBadResponse, outcome, Some(response.status.as_u16())));
    assert_eq!(vendor.requests().len(), 1);
}

struct Counting(Mutex<Vec<String>>);

#[async_trait]
impl Signer for Counting {
    async fn sign(&self, request: SigningRequest<'_>, now: Timestamp) -> Result<(), VendorError> {
        let length = request.headers.get("content-length").unwrap().to_str().unwrap().to_owned();
        let text =
            format!("{} {} {length} {}", request.method, request.url.path(), String::from_utf8_lossy(request.body));
        self.0.lock().unwrap().push(text);
        request.headers.insert("x-date", HeaderValue::from(now.as_second()));
        Ok(())
    }
}

#[tokio::test]
async fn failed_tls_is_retried_with_a_fresh_signature() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    let connections = Arc::new(Mutex::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            *count.lock().unwrap() += 1;
            stream.write_all(b"HTTP/1.1 400 This is not TLS\r\n\r\n").await.unwrap();
        }
    });
    let signer = Counting(Mutex::default());
    let client = client_at(&base, &settings(), held());
    let error = client.send(post("{}"), &signer, &call()).await.unwrap_err();
    assert_eq!(summary(&error), (Code::VendorUnreachable, Outcome::NotApplied, None));
    assert_eq!(*signer.0.lock().unwrap(), ["POST /v1/things 2 {}"; 3]);
    assert_eq!(*connections.lock().unwrap(), 3);
}

struct Refusing;

#[async_trait]
impl Signer for Refusing {
    async fn sign(&self, _: SigningRequest<'_>, _: Timestamp) -> Result<(), VendorError> {
        Err(VendorError::unknown(Code::VendorTimeout, "The signature service did not respond."))
    }
}

#[tokio::test]
async fn an_unsigned_request_is_not_sent_and_does_not_count_as_a_failure() {
    let vendor = Vendor::playing(&[ok()]).await;
    let breaker = BreakerSettings { failures: 1, ..BreakerSettings::default() };
    let client = client(&vendor, &ConnectionSettings { breaker, ..settings() });
    let error = client.send(post("{}"), &Refusing, &call()).await.unwrap_err();
    assert_eq!(summary(&error), (Code::VendorTimeout, Outcome::NotApplied, None));
    assert_eq!((vendor.connections(), client.stats().circuit, client.stats().in_flight), (0, CircuitState::Closed, 0));
}
