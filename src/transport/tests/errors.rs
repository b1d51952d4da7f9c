//! Errors by status, and texts that must not show too much.

use http::header::RETRY_AFTER;

use super::*;

#[tokio::test]
async fn texts_are_masked_before_they_are_truncated() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &settings());
    let password = Secret::new("pass-w0rd");
    let text = format!("{} {SECRET}", "x".repeat(296));
    assert_eq!(client.clean(&text, []), format!("{} ***", "x".repeat(296)));
    assert_eq!(client.clean(&"y".repeat(500), []).len(), 300);
    assert_eq!(client.clean("a\u{0}pass-w0rd", [&password]), "a ***");
}

#[tokio::test]
async fn debug_output_hides_wire_contents() {
    let mut request = post("body-text");
    request.target = Target::Path("/path-text".to_owned());
    request.headers.insert("x-signature", HeaderValue::from_static("header-text"));
    let response = Response { status: StatusCode::OK, headers: request.headers.clone(), body: request.body.clone() };
    let vendor = Vendor::playing(&[ok()]).await;
    let text = format!("{request:?} {response:?} {:?}", client(&vendor, &settings()));
    assert!(!text.contains("-text") && text.contains("assignments.create") && text.contains("main"), "{text}");
}

#[rstest]
#[case::plain_http("http://api.example.com", "plain http")]
#[case::ftp("ftp://api.example.com/", "scheme")]
fn invalid_addresses_are_rejected(#[case] url: &str, #[case] part: &str) {
    let name = ConnectionRef { connection: "main".to_owned(), vendor: "startexam".to_owned() };
    let environment = System { clock: held(), entropy: Arc::new(Zeros) };
    let url = Url::parse(url).unwrap();
    let error = Client::new(name, &url, &settings(), Redactor::default(), environment).unwrap_err();
    assert!(error.contains(part), "{error}");
}

/// Returns the default error of a response with this status and `Retry-After`.
async fn default_error(status: u16, retry_after: Option<&'static str>) -> Option<VendorError> {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &settings());
    let mut headers = HeaderMap::new();
    headers.extend(retry_after.map(|value| (RETRY_AFTER, HeaderValue::from_static(value))));
    let response = Response { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() };
    general_error(&client, "assignments.create", &response, Some("E1"), Some(&format!("no {SECRET}\n!")))
}

#[rstest]
#[case::switching_protocols(101, Code::VendorBadResponse, Outcome::Unknown)]
#[case::not_modified(304, Code::VendorBadResponse, Outcome::Unknown)]
#[case::bad_request(400, Code::VendorErrorUnmapped, Outcome::Unknown)]
#[case::unauthorized(401, Code::ConnectionCredentialsInvalid, Outcome::NotApplied)]
#[case::forbidden(403, Code::VendorErrorUnmapped, Outcome::Unknown)]
#[case::too_many_requests(429, Code::VendorRateLimited, Outcome::NotApplied)]
#[case::internal_server_error(500, Code::VendorInternalError, Outcome::Unknown)]
#[case::service_unavailable(503, Code::VendorUnavailable, Outcome::Unknown)]
#[case::gateway_timeout(504, Code::VendorInternalError, Outcome::Unknown)]
#[case::outside_the_range(999, Code::VendorBadResponse, Outcome::Unknown)]
#[tokio::test]
async fn unmapped_statuses_have_a_default_error(#[case] status: u16, #[case] code: Code, #[case] outcome: Outcome) {
    let error = default_error(status, None).await.unwrap();
    assert_eq!(summary(&error), (code, outcome, Some(status)));
    let vendor = error.vendor.clone().unwrap();
    assert_eq!((vendor.code.as_deref(), vendor.message.as_deref()), (Some("E1"), Some("no *** !")));
}

#[tokio::test]
async fn a_success_has_no_default_error() {
    assert!(default_error(204, None).await.is_none());
}

// The test clock is fixed at 2027-01-15T08:00:00Z.
#[rstest]
#[case::absent_on_429(429, None, Some(1))]
#[case::seconds(429, Some("7"), Some(7))]
#[case::zero(429, Some("0"), Some(1))]
#[case::absent_on_503(503, None, None)]
#[case::date(503, Some("Fri, 15 Jan 2027 08:02:00 GMT"), Some(120))]
#[case::date_in_the_past(503, Some("Fri, 15 Jan 2027 07:00:00 GMT"), Some(1))]
#[case::ignored_on_500(500, Some("7"), None)]
#[case::no_number(503, Some("soon"), None)]
#[case::negative(503, Some("-1"), None)]
#[case::a_century(429, Some("3155760000"), Some(3600))]
#[case::beyond_64_bits(429, Some("99999999999999999999999"), Some(3600))]
#[case::date_in_the_far_future(429, Some("Fri, 31 Dec 9999 23:59:59 GMT"), Some(3600))]
#[tokio::test]
async fn retry_after_is_read_and_bounded(
    #[case] status: u16,
    #[case] retry_after: Option<&'static str>,
    #[case] seconds: Option<u64>,
) {
    let error = default_error(status, retry_after).await.unwrap();
    assert_eq!(error.retry_after.map(|wait| wait.as_secs()), seconds);
}
