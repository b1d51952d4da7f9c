//! Errors by status, and texts that must not show too much.

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

#[test]
fn invalid_addresses_are_rejected() {
    for (url, part) in [("http://api.example.com", "plain http"), ("ftp://api.example.com/", "scheme")] {
        let name = ConnectionRef { connection: "main".to_owned(), vendor: "startexam".to_owned() };
        let environment = System { clock: held(), entropy: Arc::new(Zeros) };
        let url = Url::parse(url).unwrap();
        let error = Client::new(name, &url, &settings(), Redactor::default(), environment).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn unmapped_statuses_have_a_default_error() {
    use Code::*;
    use Outcome::{NotApplied, Unknown};
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &settings());
    let error_of = |status: u16, wait: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        if let Some(wait) = wait {
            headers.insert("retry-after", HeaderValue::from_static(wait));
        }
        let response = Response { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() };
        general_error(&client, "assignments.create", &response, Some("E1"), Some(&format!("no {SECRET}\n!")))
    };
    for (status, code, outcome) in [
        (101, VendorBadResponse, Unknown),
        (304, VendorBadResponse, Unknown),
        (400, VendorErrorUnmapped, Unknown),
        (401, ConnectionCredentialsInvalid, NotApplied),
        (403, VendorErrorUnmapped, Unknown),
        (429, VendorRateLimited, NotApplied),
        (500, VendorInternalError, Unknown),
        (503, VendorUnavailable, Unknown),
        (504, VendorInternalError, Unknown),
        (999, VendorBadResponse, Unknown),
    ] {
        let error = error_of(status, None).unwrap();
        assert_eq!(summary(&error), (code, outcome, Some(status)));
        let vendor = error.vendor.clone().unwrap();
        assert_eq!((vendor.code.as_deref(), vendor.message.as_deref()), (Some("E1"), Some("no *** !")));
    }
    assert!(error_of(204, None).is_none());
    let wait = |status, text| error_of(status, text).unwrap().retry_after.map(|wait| wait.as_secs());
    // The test clock is fixed at 2027-01-15T08:00:00Z.
    let date = Some("Fri, 15 Jan 2027 08:02:00 GMT");
    assert_eq!([wait(429, None), wait(429, Some("7")), wait(429, Some("0"))], [Some(1), Some(7), Some(1)]);
    assert_eq!([wait(503, None), wait(503, date), wait(500, Some("7"))], [None, Some(120), None]);
    assert_eq!([wait(503, Some("soon")), wait(503, Some("-1"))], [None, None]);
    assert_eq!(wait(503, Some("Fri, 15 Jan 2027 07:00:00 GMT")), Some(1));
    for century in ["3155760000", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        assert_eq!(wait(429, Some(century)), Some(3600), "{century}");
    }
}
