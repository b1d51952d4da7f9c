//! What is known of a write after each way in which an attempt can end.

use super::*;

#[rstest]
#[case::closed(Reply::Close(String::new()), Code::VendorTimeout, None)]
#[case::reset(Reply::Reset, Code::VendorTimeout, None)]
#[case::half_a_head(Reply::Close("HTTP/1.1 200 OK\r\nContent-Le".to_owned()), Code::VendorTimeout, None)]
#[case::half_a_body(
    Reply::Close("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned()),
    Code::VendorTimeout,
    Some(200)
)]
#[case::bad_chunk(
    Reply::Close("HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned()),
    Code::VendorTimeout,
    Some(400)
)]
#[case::not_http(Reply::Close("220 mail.example.com ESMTP\r\n\r\n".to_owned()), Code::VendorBadResponse, None)]
#[tokio::test]
async fn a_connection_lost_after_sending_is_unknown_and_not_retried(
    #[case] reply: Reply,
    #[case] code: Code,
    #[case] status: Option<u16>,
) {
    let vendor = Vendor::playing(&[reply]).await;
    let client = client(&vendor, &settings());
    for body in ["{}", ""] {
        let error = client.send(post(body), &NoSignature, &call()).await.unwrap_err();
        assert_eq!(summary(&error), (code, Outcome::Unknown, status), "{body:?}: {}", error.detail);
    }
    assert_eq!(vendor.requests().len(), 2);
}

#[tokio::test]
async fn a_reused_connection_lost_after_sending_is_unknown() {
    let vendor = Vendor::playing(&[ok(), Reply::Close(String::new()), ok()]).await;
    let client = client(&vendor, &settings());
    send(&client).await.unwrap();
    let error = send(&client).await.unwrap_err();
    assert_eq!(summary(&error), (Code::VendorTimeout, Outcome::Unknown, None));
    assert_eq!((vendor.requests().len(), vendor.connections()), (2, 1));
}

#[tokio::test]
async fn a_request_that_arrived_is_never_reported_as_unsent() {
    let vendor = Vendor::playing(&[Reply::Close(answer("200 OK", "", "done"))]).await;
    let client = client(
        &vendor,
        &ConnectionSettings { breaker: BreakerSettings { failures: 0, ..BreakerSettings::default() }, ..settings() },
    );
    for _ in 0..100 {
        let before = vendor.requests().len();
        let result = send(&client).await;
        let arrived = vendor.requests().len() - before;
        match result {
            Ok(_) => assert_eq!(arrived, 1),
            Err(error) if error.outcome == Outcome::NotApplied => assert_eq!(arrived, 0),
            Err(error) => assert_eq!((error.outcome, arrived.min(1)), (Outcome::Unknown, arrived)),
        }
    }
}

#[tokio::test]
async fn an_early_response_to_a_long_request_never_counts_as_unsent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut some = [0; 64];
        stream.read_exact(&mut some).await.unwrap();
        stream.write_all(answer("413 Too Long", "Connection: close\r\n", "").as_bytes()).await.unwrap();
    });
    let client = client_at(&base, &settings(), held());
    let request = Request { body: Bytes::from(vec![b'x'; 8 << 20]), ..post("") };
    match client.send(request, &NoSignature, &call()).await {
        Ok(response) => assert_eq!(response.status, StatusCode::PAYLOAD_TOO_LARGE),
        Err(error) => assert_eq!((error.code, error.outcome), (Code::VendorTimeout, Outcome::Unknown)),
    }
}

#[rstest]
#[case::silence(Reply::Silence, None)]
#[case::half_a_body(Reply::Keep("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned()), Some(200))]
#[tokio::test]
async fn a_silent_vendor_leaves_the_outcome_unknown(#[case] reply: Reply, #[case] status: Option<u16>) {
    let vendor = Vendor::playing(&[reply]).await;
    let error = send(&client(&vendor, &hasty())).await.unwrap_err();
    assert_eq!(summary(&error), (Code::VendorTimeout, Outcome::Unknown, status));
    assert_eq!(vendor.requests().len(), 1);
}

#[tokio::test]
async fn a_failed_connection_leaves_the_write_not_applied() {
    // Nothing listens there; a free port could be taken by another test.
    let base = Url::parse("http://127.0.0.1:1").unwrap();
    let error = send(&client_at(&base, &settings(), held())).await.unwrap_err();
    assert_eq!(summary(&error), (Code::VendorUnreachable, Outcome::NotApplied, None));
}

#[rstest]
#[case::with_a_body("{}")]
#[case::without_a_body("")]
#[tokio::test]
async fn a_handshake_timeout_leaves_the_write_not_applied(#[case] body: &'static str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    let client = client_at(&base, &hasty(), held());
    let error = client.send(post(body), &NoSignature, &call()).await.unwrap_err();
    assert_eq!(summary(&error), (Code::VendorUnreachable, Outcome::NotApplied, None), "{}", error.detail);
}

#[rstest]
#[case::length_announced(answer("200 OK", "", "123456789"), false)]
#[case::chunked(
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n".to_owned(),
    false
)]
#[case::of_the_greatest_length(answer("200 OK", "", "12345678"), true)]
#[tokio::test]
async fn a_response_that_is_too_long_is_rejected(#[case] text: String, #[case] fits: bool) {
    let vendor = Vendor::playing(&[Reply::Keep(text)]).await;
    let client = client(&vendor, &ConnectionSettings { max_response_bytes: ByteSize(8), ..settings() });
    match send(&client).await {
        Ok(response) => assert!(fits && response.body.len() == 8),
        Err(error) => {
            assert!(!fits);
            assert_eq!(summary(&error), (Code::VendorBadResponse, Outcome::Unknown, Some(200)));
        }
    }
    assert_eq!(client.stats().circuit, CircuitState::Closed);
}

#[rstest]
#[case::of_the_requests_limit(answer("200 OK", "", "1234567890"), 10, true)]
#[case::longer(answer("200 OK", "", "1234567890"), 9, false)]
#[case::of_the_connections_limit(answer("200 OK", "", "12345678"), 1, true)]
#[tokio::test]
async fn a_request_may_raise_the_limit_of_its_response_and_not_lower_it(
    #[case] text: String,
    #[case] min_response_limit: u64,
    #[case] fits: bool,
) {
    let vendor = Vendor::playing(&[Reply::Keep(text)]).await;
    let client = client(&vendor, &ConnectionSettings { max_response_bytes: ByteSize(8), ..settings() });
    let request = Request { min_response_limit, ..post("{}") };
    assert_eq!(client.send(request, &NoSignature, &call()).await.is_ok(), fits);
}
