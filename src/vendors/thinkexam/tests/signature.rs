//! Sources of the signature, how often it is fetched, and what happens when the vendor rejects it.

use serde_json::{Value, json};

use super::stub::{Canned, Seen, Stub, ok};
use super::*;
use crate::domain::error::Code;
use crate::domain::outcome::Outcome;
use crate::domain::vendor::{Booked, CredentialCheck, RowResult};

const SIGNATURE: &str = "/api/v1/signature";
const ASSIGN: &str = "/api/v1/assignTest";

/// Starts a vendor whose n-th triple is `sig-n`, with this response to its other calls.
async fn vendor_with(answer: impl Fn(&Seen) -> Canned + Send + Sync + 'static) -> Stub {
    Stub::start(move |seen, before| match seen.path.as_str() {
        SIGNATURE => {
            ok(&json!({ "data": { "ak": "key-1", "sgn": format!("sig-{}", before + 1), "ts": 1_795_348_800 } }))
        }
        _ => answer(seen),
    })
    .await
}

fn remote(stub: &Stub, more: &Value) -> (VendorConnection, Arc<Still>) {
    let mut signature = json!({
        "mode": "remote",
        "url": format!("{}{SIGNATURE}", stub.url),
        "api_key": "plain:demo-\"key\"",
        "secret": "plain:demo-secret",
        "ak_pointer": "/data/ak",
        "sgn_pointer": "/data/sgn",
        "ts_pointer": "/data/ts",
    });
    signature.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (environment, clock) = environment();
    let settings = json!({ "base_url": stub.url, "signature": signature });
    // One in-flight permit is enough: fetching a signature must not need the permit of the call it signs.
    let connection = ConnectionSettings { max_in_flight: 1, ..unlimited() };
    (attempt_connect_in(settings, &connection, environment).unwrap(), clock)
}

/// Like [`remote`], with twenty in-flight permits.
fn many_at_once(stub: &Stub) -> VendorConnection {
    let signature = json!({
        "mode": "remote",
        "url": format!("{}{SIGNATURE}", stub.url),
        "api_key": "plain:demo-key",
        "secret": "plain:demo-secret",
        "ak_pointer": "/data/ak",
        "sgn_pointer": "/data/sgn",
        "ts_pointer": "/data/ts",
    });
    attempt_connect(json!({ "base_url": stub.url, "signature": signature }), &unlimited()).unwrap()
}

async fn twenty(connected: &VendorConnection) -> Vec<Vec<RowResult<Booked>>> {
    let (call, rows) = (first(), [booking()]);
    futures_util::future::join_all((0..20).map(|_| connected.vendor.assign(&rows, &call))).await
}

fn accepting(good: &'static [&'static str]) -> impl Fn(&Seen) -> Canned + Send + Sync {
    move |seen| {
        let accepted = good.contains(&seen.header("sgn"));
        ok(&if accepted { fixture!("assign_success") } else { fixture!("error_signature") })
    }
}

#[tokio::test]
async fn the_service_request_follows_the_template_and_its_response_signs_the_call() {
    let stub = vendor_with(accepting(&["sig-1"])).await;
    let headers = json!({ "headers": { "X-Key": "{api_key}", "X-Now": "{now}" } });
    let (connected, _) = remote(&stub, &headers);
    connected.vendor.assign(&[booking()], &first()).await[0].as_ref().unwrap();
    let asked = &stub.at(SIGNATURE)[0];
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.json(), fixture!("signature_request"));
    assert_eq!((asked.header("x-key"), asked.header("x-now")), ("demo-\"key\"", "1795348800"));
    assert!(!asked.headers.contains_key("sgn"));
    let sent = &stub.at(ASSIGN)[0];
    assert_eq!(["ak", "sgn", "ts"].map(|name| sent.header(name)), ["key-1", "sig-1", "1795348800"]);
}

#[tokio::test]
async fn a_triple_is_reused_until_its_ttl_expires() {
    let stub = vendor_with(accepting(&["sig-1", "sig-2"])).await;
    let (connected, clock) = remote(&stub, &json!({ "ttl": "60s" }));
    for seconds in [0, 59, 1] {
        clock.forward(seconds);
        connected.vendor.assign(&[booking()], &first()).await[0].as_ref().unwrap();
    }
    assert_eq!(stub.at(ASSIGN).iter().map(|seen| seen.header("sgn")).collect::<Vec<_>>(), ["sig-1", "sig-1", "sig-2"]);
}

#[tokio::test]
async fn with_zero_ttl_every_call_fetches_its_own_triple() {
    let stub = vendor_with(accepting(&["sig-1", "sig-2"])).await;
    let (connected, _) = remote(&stub, &json!({ "ttl": "0s" }));
    connected.vendor.assign(&[booking(), booking()], &first()).await.iter().for_each(|row| assert!(row.is_ok()));
    assert_eq!(stub.at(ASSIGN).iter().map(|seen| seen.header("sgn")).collect::<Vec<_>>(), ["sig-1", "sig-2"]);
}

#[tokio::test]
async fn concurrent_calls_fetch_once() {
    let stub = vendor_with(accepting(&["sig-1"])).await;
    let connected = many_at_once(&stub);
    for rows in twenty(&connected).await {
        rows[0].as_ref().unwrap();
    }
    assert_eq!((stub.at(SIGNATURE).len(), stub.at(ASSIGN).len()), (1, 20));
}

#[tokio::test]
async fn concurrent_calls_share_a_failure() {
    let stub = Stub::answering((403, b"{}".to_vec())).await;
    let connected = many_at_once(&stub);
    for rows in twenty(&connected).await {
        assert_eq!(rows[0].as_ref().unwrap_err().code, Code::ConnectionCredentialsInvalid);
    }
    assert_eq!((stub.at(SIGNATURE).len(), stub.at(ASSIGN).len()), (1, 0));
}

#[tokio::test]
async fn concurrent_rejected_calls_renew_once() {
    let stub = vendor_with(accepting(&["sig-2"])).await;
    let connected = many_at_once(&stub);
    connected.vendor.check(&first()).await;
    for rows in twenty(&connected).await {
        rows[0].as_ref().unwrap();
    }
    assert_eq!(stub.at(SIGNATURE).len(), 2);
}

#[tokio::test]
async fn a_second_rejected_signature_is_a_credentials_error() {
    let stub = vendor_with(accepting(&[])).await;
    let (connected, _) = remote(&stub, &json!({}));
    let fault = connected.vendor.assign(&[booking()], &first()).await.remove(0).unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::ConnectionCredentialsInvalid, Outcome::NotApplied));
    assert_eq!(fault.vendor.clone().unwrap().code.as_deref(), Some("3001"));
    assert_eq!(stub.at(ASSIGN).iter().map(|seen| seen.header("sgn")).collect::<Vec<_>>(), ["sig-1", "sig-2"]);
}

#[rstest]
#[tokio::test]
async fn a_rejection_by_status_counts_like_one_by_message(#[values(401, 403)] status: u16) {
    let stub = vendor_with(move |seen| match seen.header("sgn") {
        "sig-1" => (status, b"<html>".to_vec()),
        _ => ok(&fixture!("assign_success")),
    })
    .await;
    let (connected, _) = remote(&stub, &json!({}));
    connected.vendor.assign(&[booking()], &first()).await[0].as_ref().unwrap();
    assert_eq!(stub.at(ASSIGN).len(), 2);
}

#[tokio::test]
async fn messages_about_an_assigned_or_expired_test_are_not_credentials_errors() {
    let stub = vendor_with(|_| ok(&fixture!("error_already_assigned"))).await;
    let (connected, _) = remote(&stub, &json!({}));
    let fault = connected.vendor.assign(&[booking()], &first()).await.remove(0).unwrap_err();
    assert_eq!((fault.code, stub.at(ASSIGN).len()), (Code::VendorErrorUnmapped, 1));

    let stub =
        vendor_with(|_| ok(&json!({ "result": "error", "error": { "code": "7", "msg": "Test expired" } }))).await;
    let (connected, _) = remote(&stub, &json!({}));
    let fault = connected.vendor.assign(&[booking()], &first()).await.remove(0).unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::VendorErrorUnmapped, Outcome::Unknown));
}

#[tokio::test]
async fn static_values_are_not_tried_twice() {
    let stub = Stub::answering(ok(&fixture!("error_signature"))).await;
    let fault = connected(&stub.url).vendor.assign(&[booking()], &first()).await.remove(0).unwrap_err();
    assert_eq!((fault.code, stub.at(ASSIGN).len()), (Code::ConnectionCredentialsInvalid, 1));
}

#[tokio::test]
async fn a_formula_signs_every_attempt_by_the_clock() {
    let stub = Stub::answering(ok(&fixture!("assign_success"))).await;
    let signature = json!({ "mode": "hmac", "api_key": "plain:demo-key", "secret": "plain:demo-secret" });
    let settings = json!({ "base_url": stub.url, "signature": signature });
    let vendor = attempt_connect(settings, &unlimited()).unwrap().vendor;
    vendor.assign(&[booking()], &first()).await[0].as_ref().unwrap();
    let sent = &stub.seen()[0];
    let expected = "d5ece88912866dfcd80186f3864291a2b36c7789d272f8155d67e0693cd68268";
    assert_eq!(["ak", "sgn", "ts"].map(|name| sent.header(name)), ["demo-key", expected, "1795348800"]);
}

#[rstest]
#[case::unauthorized((401, b"{}".to_vec()), Code::ConnectionCredentialsInvalid, "rejected")]
#[case::unprocessable((422, b"{}".to_vec()), Code::ConnectionCredentialsInvalid, "rejected")]
#[case::error_of_the_signature(ok(&fixture!("error_signature")), Code::ConnectionCredentialsInvalid, "rejected")]
#[case::not_found((404, b"<html>".to_vec()), Code::ConnectionMisconfigured, "signature.url")]
#[case::without_sgn(
    ok(&json!({ "data": { "ak": "a", "ts": "1" } })),
    Code::ConnectionMisconfigured,
    "/data/sgn"
)]
#[case::line_break_in_sgn(
    ok(&json!({ "data": { "ak": "a", "sgn": "b\nc", "ts": "1" } })),
    Code::ConnectionMisconfigured,
    "sgn_pointer"
)]
#[case::service_unavailable((503, b"<html>".to_vec()), Code::VendorUnavailable, "503")]
#[tokio::test]
async fn without_a_signature_the_write_is_not_sent(#[case] response: Canned, #[case] code: Code, #[case] words: &str) {
    let stub = Stub::answering(response).await;
    let (connected, _) = remote(&stub, &json!({}));
    let error = connected.vendor.assign(&[booking()], &first()).await.remove(0).unwrap_err();
    assert_eq!((error.code, error.outcome, error.proves_no_effect), (code, Outcome::NotApplied, false), "{error}");
    assert!(error.detail.contains(words), "{error}");
    assert!(stub.at(ASSIGN).is_empty());
}

#[tokio::test]
async fn an_unreachable_signature_service_leaves_the_write_not_applied() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}/signature", listener.local_addr().unwrap());
    drop(listener);
    let stub = vendor_with(accepting(&[])).await;
    let (connected, _) = remote(&stub, &json!({ "url": nobody }));
    let fault = connected.vendor.assign(&[booking()], &first()).await.remove(0).unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::VendorUnreachable, Outcome::NotApplied));
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_check_fetches_a_fresh_triple_and_changes_nothing() {
    let stub = vendor_with(accepting(&[])).await;
    let (connected, _) = remote(&stub, &json!({}));
    for _ in 0..2 {
        assert!(matches!(connected.vendor.check(&first()).await, CredentialCheck::Ok { .. }));
    }
    assert_eq!((stub.at(SIGNATURE).len(), stub.seen().len()), (2, 2));
    let closed = Stub::answering((401, Vec::new())).await;
    let (connected, _) = remote(&closed, &json!({}));
    assert!(matches!(connected.vendor.check(&first()).await, CredentialCheck::Faulty(_)));
}

#[tokio::test]
async fn a_signature_service_timeout_leaves_the_write_not_applied() {
    // Bound but never accepted from: the client connects and never gets a response.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/signature", silent.local_addr().unwrap());
    let stub = vendor_with(accepting(&[])).await;
    let signature = json!({ "mode": "remote", "url": url, "api_key": "plain:demo-key", "secret": "plain:demo-secret" });
    let connection = ConnectionSettings {
        timeout: crate::domain::units::ConfigDuration(std::time::Duration::from_millis(50)),
        ..unlimited()
    };
    let settings = json!({ "base_url": stub.url, "signature": signature });
    let vendor = attempt_connect(settings, &connection).unwrap().vendor;
    let fault = vendor.assign(&[booking()], &first()).await.remove(0).unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::VendorUnreachable, Outcome::NotApplied));
    let CredentialCheck::Faulty(fault) = vendor.check(&first()).await else { panic!("nobody answered") };
    assert_eq!((fault.code, fault.outcome), (Code::VendorUnreachable, Outcome::NotApplied));
    assert!(stub.seen().is_empty());
}
