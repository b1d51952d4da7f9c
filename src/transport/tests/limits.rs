//! Permits, pauses and the circuit breaker.

use super::*;

struct Asking(Client);

#[async_trait]
impl Signer for Asking {
    async fn sign(&self, _: SigningRequest<'_>, _: Timestamp) -> Result<(), VendorError> {
        send(&self.0).await.map(drop)
    }
}

#[tokio::test]
async fn a_signer_uses_separate_limits_while_its_call_holds_the_only_permit() {
    let vendor = Vendor::playing(&[ok()]).await;
    let client = client(&vendor, &ConnectionSettings { max_in_flight: 1, ..settings() });
    client.send(post("{}"), &Asking(client.with_separate_limits()), &call()).await.unwrap();
    assert_eq!(vendor.requests().len(), 2);
}

#[rstest]
#[case::too_many_requests("429 Too Many")]
#[case::service_unavailable("503 Unavailable")]
#[tokio::test]
async fn retry_after_pauses_the_connection(#[case] status: &str) {
    let vendor = Vendor::playing(&[Reply::Keep(answer(status, "Retry-After: 900\r\n", ""))]).await;
    let client = client(&vendor, &settings());
    let response = send(&client).await.unwrap();
    let error = general_error(&client, "assignments.create", &response, None, None).unwrap();
    assert_eq!(error.retry_after, Some(Duration::from_mins(15)));
    let error = send(&client).await.unwrap_err();
    assert_eq!(summary(&error), (Code::VendorRateLimited, Outcome::NotApplied, None));
    assert!(error.retry_after.unwrap() <= Duration::from_mins(1));
    assert_eq!((vendor.requests().len(), client.stats().in_flight), (1, 0));
}

#[tokio::test]
async fn the_circuit_stays_open_until_a_probe_succeeds() {
    let failing = Reply::Keep(answer("500 Oops", "", ""));
    let vendor = Vendor::playing(&[failing.clone(), failing.clone(), failing, ok()]).await;
    let breaker = BreakerSettings { failures: 2, cooldown: ConfigDuration(Duration::from_secs(15)) };
    let clock = held();
    let client = client_at(&vendor.url(""), &ConnectionSettings { breaker, ..settings() }, Arc::clone(&clock));
    send(&client).await.unwrap();
    assert_eq!(client.stats().circuit, CircuitState::Closed);
    send(&client).await.unwrap();
    clock.forward(5);
    let error = send(&client).await.unwrap_err();
    assert_eq!(summary(&error), (Code::VendorCircuitOpen, Outcome::NotApplied, None));
    assert_eq!(error.retry_after, Some(Duration::from_secs(10)));
    clock.forward(10);
    send(&client).await.unwrap();
    assert_eq!(send(&client).await.unwrap_err().code, Code::VendorCircuitOpen);
    assert_eq!(vendor.requests().len(), 3);
    clock.forward(15);
    send(&client).await.unwrap();
    assert_eq!(client.stats().circuit, CircuitState::Closed);
}

#[tokio::test]
async fn a_dropped_call_releases_its_permit_and_probe() {
    let failing = Reply::Keep(answer("500 Oops", "", ""));
    let mut vendor = Vendor::playing(&[failing, Reply::Silence, ok()]).await;
    let breaker = BreakerSettings { failures: 1, cooldown: ConfigDuration(Duration::from_secs(15)) };
    let clock = held();
    let one = ConnectionSettings { max_in_flight: 1, breaker, ..settings() };
    let client = client_at(&vendor.url(""), &one, Arc::clone(&clock));
    send(&client).await.unwrap();
    clock.forward(15);
    vendor.arrivals.recv().await.unwrap();

    let probe = tokio::spawn({
        let client = client.clone();
        async move { send(&client).await }
    });
    vendor.arrivals.recv().await.unwrap();
    assert_eq!((client.stats().circuit, client.stats().in_flight), (CircuitState::HalfOpen, 1));
    assert_eq!(send(&client).await.unwrap_err().code, Code::VendorCircuitOpen);
    probe.abort();
    assert!(probe.await.unwrap_err().is_cancelled());
    assert_eq!(client.stats().in_flight, 0);
    send(&client).await.unwrap();
    assert_eq!(client.stats().circuit, CircuitState::Closed);
}

/// A signer that takes its time, and fails.
struct Slow;

#[async_trait]
impl Signer for Slow {
    async fn sign(&self, _: SigningRequest<'_>, _: Timestamp) -> Result<(), VendorError> {
        tokio::time::sleep(Duration::from_millis(3)).await;
        Err(VendorError::new(Code::VendorUnreachable, "The signature service does not respond."))
    }
}

#[tokio::test]
async fn operations_get_the_last_permit_only_after_a_call_of_theirs_was_sent() {
    let mut vendor = Vendor::playing(&[Reply::Silence, ok(), Reply::Silence]).await;
    let client = client(&vendor, &ConnectionSettings { max_in_flight: 2, ..settings() });
    let bulk = CallContext { priority: Priority::Bulk, ..call() };
    client.send(post("{}"), &Slow, &bulk).await.unwrap_err();
    for in_flight in [1, 2] {
        let mut first = Box::pin(client.send(post("{}"), &NoSignature, &bulk));
        tokio::select! {
            _ = &mut first => panic!("the vendor is silent"),
            arrived = vendor.arrivals.recv() => arrived.unwrap(),
        }
        let mut second = Box::pin(client.send(post("{}"), &NoSignature, &bulk));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(client.stats().in_flight, in_flight);
        drop((first, second));
        if in_flight == 1 {
            client.send(post("{}"), &NoSignature, &bulk).await.unwrap();
            vendor.arrivals.recv().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_call_that_waits_too_long_for_a_permit_is_rejected() {
    let vendor = Vendor::playing(&[Reply::Silence]).await;
    let client = client(&vendor, &ConnectionSettings { max_in_flight: 1, ..hasty() });
    let results = futures_util::future::join_all((0..80).map(|_| send(&client))).await;
    let saturated = results.iter().filter(|result| {
        let error = result.as_ref().unwrap_err();
        error.code == Code::ConnectionSaturated
            && summary(error).1 == Outcome::NotApplied
            && error.retry_after.is_some()
    });
    // One is sent and 64 may queue; how many of those get a permit before they time out depends on timing.
    assert!(saturated.count() >= 15);
    assert!(!vendor.requests().is_empty());
}

#[tokio::test]
async fn the_history_counts_each_end_of_a_call_but_not_those_of_a_signer() {
    let failing = Reply::Keep(answer("500 Oops", "", ""));
    let vendor = Vendor::playing(&[ok(), ok(), failing.clone(), failing, Reply::Silence]).await;
    let breaker = BreakerSettings { failures: 2, cooldown: ConfigDuration(Duration::from_secs(15)) };
    let clock = held();
    let client = client_at(&vendor.url(""), &ConnectionSettings { breaker, ..hasty() }, Arc::clone(&clock));
    assert_eq!(client.call_history().hour, CallCounts::default());
    client.send(post("{}"), &Asking(client.with_separate_limits()), &call()).await.unwrap();
    clock.forward(120);
    send(&client).await.unwrap();
    send(&client).await.unwrap();
    assert_eq!(send(&client).await.unwrap_err().code, Code::VendorCircuitOpen);
    clock.forward(15);
    assert_eq!(send(&client).await.unwrap_err().code, Code::VendorTimeout);
    let history = client.call_history();
    let hour = &history.hour;
    assert_eq!((hour.calls, hour.http_errors, hour.circuit_open), (5, 2, 1), "{history:?}");
    assert_eq!((hour.timeouts, hour.unreachable, hour.other_failures), (1, 0, 0), "{history:?}");
    assert!(
        hour.p95.unwrap() >= Duration::from_millis(1_700),
        "the time-out counts as time at the vendor: {history:?}"
    );
    let calls: Vec<u64> = history.minutes.iter().map(|(_, counts)| counts.calls).collect();
    assert_eq!(calls, [1, 4]);
    clock.forward(3_600);
    assert_eq!(client.call_history().minutes, []);
}

#[tokio::test]
async fn the_history_tells_a_vendor_that_is_not_there_and_outlives_a_change_of_settings() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}", gone.local_addr().unwrap())).unwrap();
    drop(gone);
    let earlier = client_at(&base, &settings(), held());
    assert_eq!(send(&earlier).await.unwrap_err().code, Code::VendorUnreachable);
    let later = client_at(&base, &settings(), held());
    later.inherit_state(&earlier);
    let hour = later.call_history().hour;
    assert_eq!((hour.calls, hour.unreachable, hour.p50), (1, 1, None));
}
