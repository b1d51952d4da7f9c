//! [`Client`]: sends one request through all layers and returns the response, or the error that ended it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use tower::retry::budget::Budget as _;
use tracing::{Instrument as _, Span};
use url::Url;

use super::attempt::{AttemptError, AttemptErrorKind, BodyGate, SendPermit, exchange};
use super::circuit_breaker::CallResult;
use super::concurrency_limit::{LimitError, MAX_BACKOFF};
use super::http_client::RotatingClient;
use super::settings::{ConnectionSettings, RetrySettings};
use super::shared_state::{ConnectionStats, SharedState};
use crate::domain::error::{Code, ConnectionRef, Error, VendorResponse};
use crate::domain::exchange::VendorCall;
use crate::domain::outcome::Outcome;
use crate::domain::system::System;
use crate::domain::validation;
use crate::domain::vendor::{CallContext, CallPurpose, Priority};
use crate::secret::{Redactor, Secret};
use crate::telemetry::metrics;
use crate::telemetry::spans;
use crate::transport::redaction;
use crate::transport::redaction::RequestSnapshot;
use crate::transport::request::{Request, Response, Signer, SigningRequest, Target};
use crate::transport::response_error::retry_after;

/// Maximum characters of a vendor text that are kept (as documented for problems).
const SHOWN_CHARACTERS: usize = 300;
/// Longest reasonable timeout.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);
/// Shortest retry delay returned to a caller.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// An error for connection settings that cannot work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClientError(pub String);

/// The HTTP client of one connection; clones share limits, breaker and connection pool.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    name: ConnectionRef,
    base_url: Url,
    settings: ConnectionSettings,
    secrets: Redactor,
    environment: System,
    pool: RotatingClient,
    flow: Mutex<Arc<SharedState>>,
    permit: OnceLock<SendPermit>,
}

/// A call in progress, with its shared state.
struct InFlightCall<'a> {
    url: Url,
    request: &'a Request,
    signer: &'a dyn Signer,
    call: &'a CallContext,
    flow: Arc<SharedState>,
    began: Instant,
    /// Each wait before an attempt ends at this time at the latest.
    deadline: Instant,
    /// Time spent waiting for the breaker and the in-flight permit.
    waited: Duration,
}

impl InFlightCall<'_> {
    fn sent<'a>(&'a self, headers: &'a HeaderMap) -> RequestSnapshot<'a> {
        RequestSnapshot::new(headers, self.url.query(), &self.request.body)
    }
}

impl Client {
    /// Creates a client for this connection. Opens no connection.
    ///
    /// # Errors
    /// [`ClientError`] if the address is not permitted or the TLS set-up fails.
    pub fn new(
        name: ConnectionRef,
        base_url: &Url,
        settings: &ConnectionSettings,
        secrets: Redactor,
        environment: System,
    ) -> Result<Self, ClientError> {
        settings.accepts(base_url).map_err(|reason| ClientError(format!("base_url {reason}")))?;
        if settings.max_in_flight == 0 {
            return Err(ClientError("max_in_flight must be at least 1".to_owned()));
        }
        if settings.timeout.0.is_zero() || settings.timeout.0 > MAX_TIMEOUT {
            return Err(ClientError("timeout must be more than 0s and at most 24h".to_owned()));
        }
        if base_url.query().is_some() || base_url.fragment().is_some() {
            return Err(ClientError("base_url must not have a query or a fragment".to_owned()));
        }
        if !base_url.username().is_empty() || base_url.password().is_some() {
            return Err(ClientError("base_url must not carry credentials".to_owned()));
        }
        let pool = RotatingClient::new(settings)?;
        Ok(Self::from_parts(name, base_url.clone(), settings.clone(), secrets, environment, pool))
    }

    /// Creates a client for the same connection with its own breaker and limits, for the calls of a signer.
    ///
    /// A signer runs while its call holds an in-flight permit and perhaps the breaker's half-open slot; through the
    /// same client it would wait for its own call to end.
    #[must_use]
    pub fn with_separate_limits(&self) -> Self {
        let Inner { name, base_url, settings, secrets, environment, pool, flow: _, permit: _ } = &*self.inner;
        Self::from_parts(
            name.clone(),
            base_url.clone(),
            settings.clone(),
            secrets.clone(),
            environment.clone(),
            pool.shared(),
        )
    }

    /// Creates a client for the same connection with a new connection pool, sharing breaker and limits; for probes that
    /// test whether new connections can be made.
    pub(super) fn with_new_pool(&self) -> Result<Self, ClientError> {
        let Inner { name, base_url, settings, secrets, environment, pool: _, flow: _, permit: _ } = &*self.inner;
        let pool = RotatingClient::new(settings)?;
        let fresh = Self::from_parts(
            name.clone(),
            base_url.clone(),
            settings.clone(),
            secrets.clone(),
            environment.clone(),
            pool,
        );
        *fresh.inner.flow.lock().unwrap_or_else(PoisonError::into_inner) = self.flow();
        Ok(fresh)
    }

    /// Sends one attempt without the breaker or the concurrency limit and without recording its result; still rate
    /// limited.
    pub(super) async fn send_unguarded(
        &self,
        request: &Request,
        signer: &dyn Signer,
        call: &CallContext,
    ) -> Result<Response, AttemptError> {
        let _at_vendor = call.exchange.start_vendor_timer();
        let internal = |reason| AttemptError::local(Error::new(Code::Internal, reason));
        let way = self.start_call(request, signer, call).map_err(internal)?;
        self.rate_limit(&way, 0).await
    }

    /// Returns the base address of all paths.
    #[must_use]
    pub fn base_url(&self) -> &Url {
        &self.inner.base_url
    }

    /// Takes over the earlier client's shared state (circuit, permits, rate) under this client's settings. Call before
    /// using this client; calls in flight on the earlier client keep counting.
    pub fn inherit_state(&self, earlier: &Self) {
        let flow = earlier.flow();
        flow.set(&self.inner.settings);
        *self.inner.flow.lock().unwrap_or_else(PoisonError::into_inner) = flow;
    }

    /// Sends the request once through all layers. Cancel-safe: dropping the future releases its permit and the
    /// half-open slot; the caller must then reconcile the request.
    ///
    /// # Errors
    /// Nothing was sent: `vendor_unreachable`, `vendor_circuit_open`, `connection_saturated`, `vendor_rate_limited`
    /// (the vendor asked for a pause longer than the timeout), or the signer's error. Sent, outcome unknown:
    /// `vendor_timeout`, `vendor_bad_response`. Any complete response, whatever its status, is a [`Response`].
    pub async fn send(&self, request: Request, signer: &dyn Signer, call: &CallContext) -> Result<Response, Error> {
        let span = spans::call(&self.inner.name.connection, request.operation, call.exchange.request_id());
        let _at_vendor = call.exchange.start_vendor_timer();
        let began = Instant::now();
        let request = with_trace_context(request, call);
        let result = self.admit(&request, signer, call).instrument(span).await;
        let elapsed = began.elapsed();
        let status = match &result {
            Ok(answer) => class(answer.status),
            Err(fault) => fault.code.as_str(),
        };
        metrics::vendor_call(&self.inner.name.connection, request.operation, status, elapsed);
        result.map_err(|fault| self.error(request.operation, fault))
    }

    /// Sets a permit that is checked just before the first byte of each request is sent. Call once, before sending the
    /// first request.
    pub fn set_send_permit(&self, permit: impl Fn() -> bool + Send + Sync + 'static) {
        // Set only once; a second gateway over the same client must not replace it.
        drop(self.inner.permit.set(Arc::new(permit)));
    }

    /// Returns the connection's current load and state.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        self.flow().stats()
    }

    /// Sanitises a vendor text for display: masks configured secrets and the given ones, removes control characters,
    /// keeps at most 300 characters.
    #[must_use]
    pub fn clean<'a>(&self, text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
        // Mask before truncating; otherwise the end could show the beginning of a secret.
        validation::sanitize_for_display(&self.inner.secrets.with(secrets).mask(text), SHOWN_CHARACTERS)
    }

    /// Adds the connection and the operation to an error.
    #[must_use]
    pub fn error(&self, operation: &'static str, mut fault: Error) -> Error {
        fault.connection.get_or_insert_with(|| self.inner.name.clone());
        fault
            .vendor
            .get_or_insert_with(|| VendorResponse { operation: operation.to_owned(), ..VendorResponse::default() });
        fault
    }

    pub(super) fn now(&self) -> Timestamp {
        self.inner.environment.now()
    }

    fn flow(&self) -> Arc<SharedState> {
        Arc::clone(&self.inner.flow.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn from_parts(
        name: ConnectionRef,
        base_url: Url,
        settings: ConnectionSettings,
        secrets: Redactor,
        environment: System,
        pool: RotatingClient,
    ) -> Self {
        let flow = Mutex::new(Arc::new(SharedState::new(&settings)));
        let permit = OnceLock::new();
        Self { inner: Arc::new(Inner { name, base_url, settings, secrets, environment, pool, flow, permit }) }
    }

    fn start_call<'a>(
        &self,
        request: &'a Request,
        signer: &'a dyn Signer,
        call: &'a CallContext,
    ) -> Result<InFlightCall<'a>, String> {
        let (url, began) = (self.address(&request.target)?, Instant::now());
        let patience = match call.priority {
            Priority::Interactive => self.inner.settings.timeout.0,
            // No caller waits for it, so it may queue for longer than an attempt takes.
            Priority::Bulk => self.inner.settings.timeout.0.max(MAX_BACKOFF),
        };
        let flow = self.flow();
        Ok(InFlightCall { url, request, signer, call, flow, began, deadline: began + patience, waited: Duration::ZERO })
    }

    /// Breaker, then concurrency limit. The breaker is outermost so that no call queues for a failing vendor; it is
    /// checked again after the wait because it may have opened meanwhile.
    async fn admit(&self, request: &Request, signer: &dyn Signer, call: &CallContext) -> Result<Response, Error> {
        let Inner { environment, .. } = &*self.inner;
        let mut way = self.start_call(request, signer, call).map_err(|reason| Error::new(Code::Internal, reason))?;
        way.flow.budget.deposit();

        let flow = Arc::clone(&way.flow);
        let admitted = async {
            let mut pass = flow.breaker.admit(environment.now()).map_err(circuit_open)?;
            let permit = flow.limit.acquire(call.priority, way.deadline).await.map_err(limit_error)?;
            pass.renew(environment.now()).map_err(circuit_open)?;
            Ok((pass, permit))
        };
        let admitted = admitted.await;
        way.waited = way.began.elapsed();
        let (pass, _permit) = admitted.inspect_err(|fault| self.record_unsent(&way, fault))?;

        let result = self.retry_connect(&way).await;
        match &result {
            Ok(answer) => pass.record(call_result(answer.status), environment.now()),
            Err(AttemptError { kind: AttemptErrorKind::NotSent | AttemptErrorKind::Ambiguous, .. }) => {
                pass.record(CallResult::Failing, environment.now());
            }
            Err(AttemptError { kind: AttemptErrorKind::InvalidResponse, status: Some(status), .. }) => {
                pass.record(call_result(*status), environment.now());
            }
            Err(AttemptError { kind: AttemptErrorKind::Local | AttemptErrorKind::InvalidResponse, .. }) => drop(pass),
        }
        result.map_err(|broken| broken.fault)
    }

    /// Connect retry: retries only requests that never left this machine, within the connection's retry budget and the
    /// deadline. Inside the breaker, so that it counts once; outside the rate limit, so that every attempt is paced.
    async fn retry_connect(&self, way: &InFlightCall<'_>) -> Result<Response, AttemptError> {
        let Inner { settings, name, environment, .. } = &*self.inner;
        let mut tried = 0;
        loop {
            let result = self.rate_limit(way, tried).await;
            tried += 1;
            let pause = backoff(&settings.retry, tried, environment.random());
            let again = matches!(result, Err(AttemptError { kind: AttemptErrorKind::NotSent, .. }))
                && tried < settings.retry.attempts
                && Instant::now() + pause < way.deadline;
            if !again {
                return result;
            }
            let allowed = way.flow.budget.withdraw();
            metrics::retry(&name.connection, allowed);
            if !allowed {
                return result;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Rate limit, applied just before the attempt; also records the rate information in the vendor's response.
    async fn rate_limit(&self, way: &InFlightCall<'_>, repeats: u32) -> Result<Response, AttemptError> {
        let Inner { name, environment, .. } = &*self.inner;
        let asked = Instant::now();
        if let Err(reason) = way.flow.limit.acquire_slot(way.call.priority, way.deadline).await {
            let fault = limit_error(reason);
            self.record_unsent(way, &fault);
            return Err(AttemptError::local(fault));
        }

        let (began, started) = (Instant::now(), environment.now());
        let span = self.span(way, repeats);
        let mut headers = way.request.headers.clone();
        let result = self.attempt(way, &mut headers).instrument(span.clone()).await;
        let result = result.map_err(|broken| self.finish_error(way.request, broken));
        let took = began.elapsed();
        let (status, ended) = match &result {
            Ok(answer) => (Some(answer.status), "answered"),
            Err(broken) => (broken.status, broken.fault.code.as_str()),
        };
        let broken = result.as_ref().err().map(|broken| (ended, broken.fault.outcome.as_str()));
        spans::attempted(&span, status.map(|status| status.as_u16()), broken);
        tracing::debug!(
            connection = name.connection,
            operation = way.request.operation,
            status = status.map(|status| status.as_u16()),
            millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            outcome = result.as_ref().err().map(|broken| broken.fault.outcome.as_str()),
            ended,
            "attempt at the vendor"
        );
        let label = result.as_ref().map_or(ended, |answer| class(answer.status));
        metrics::vendor_attempt(&name.connection, way.request.operation, label, took);
        let times = (started, way.waited + began.duration_since(asked), took);
        self.record_attempt(way, &headers, &result, times);
        if let Ok(answer) = &result {
            way.flow.record_clock_skew(&answer.headers, environment.now());
            if matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
                && let Some(wait) = retry_after(&answer.headers, environment.now())
            {
                way.flow.limit.pause(wait);
            }
        }
        result
    }

    fn span(&self, way: &InFlightCall<'_>, repeats: u32) -> Span {
        let ConnectionRef { connection, vendor } = &self.inner.name;
        let Request { operation, method, .. } = way.request;
        spans::attempt(spans::AttemptSpan { connection, vendor, operation, method, url: &way.url, repeats })
    }

    /// Sends one attempt within its timeout. Signing is innermost, so that each attempt has a fresh date. `headers` are
    /// the request's on entry and those actually sent on return.
    async fn attempt(&self, way: &InFlightCall<'_>, headers: &mut HeaderMap) -> Result<Response, AttemptError> {
        let Inner { settings, environment, pool, .. } = &*self.inner;
        let InFlightCall { url, request, signer, .. } = way;
        let deadline = Instant::now() + settings.timeout.0;

        spans::inject(headers);
        if !request.body.is_empty() || matches!(request.method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(request.body.len()));
        }
        let draft = SigningRequest { method: &request.method, url, headers: &mut *headers, body: &request.body };
        match timeout_at(deadline, signer.sign(draft, environment.now())).await {
            Ok(Ok(())) => {}
            // Whatever the result of the signer's own calls, this request was not sent.
            Ok(Err(fault)) => {
                return Err(AttemptError::local(Error { outcome: Outcome::NotApplied, lingering: false, ..fault }));
            }
            Err(_) => {
                let detail = format!("Signing took longer than {}; nothing was sent.", settings.timeout);
                return Err(AttemptError::local(Error::new(Code::VendorUnreachable, detail)));
            }
        }

        let mut outgoing = reqwest::Request::new(request.method.clone(), url.clone());
        *outgoing.headers_mut() = headers.clone();
        let permit = self.inner.permit.get();
        if permit.is_some_and(|permit| !permit()) {
            let detail = "This instance has lost contact with the shared store, so it sends nothing.";
            return Err(AttemptError::local(
                Error::new(Code::StoreUnavailable, detail).with_retry_after(Some(MIN_WAIT)),
            ));
        }
        let gate = BodyGate::new(permit.cloned());
        let http = pool.client();
        let exchange = exchange(&http, outgoing, request.body.clone(), settings.max_response_bytes.0, &gate);
        match timeout_at(deadline, exchange).await {
            Ok(ended) => ended,
            Err(_) => Err(gate.timed_out(settings.timeout)),
        }
    }

    /// Records what may be shown of an attempt sent with these headers, with its start, its waiting time and its
    /// duration.
    fn record_attempt(
        &self,
        way: &InFlightCall<'_>,
        headers: &HeaderMap,
        result: &Result<Response, AttemptError>,
        (started, waited, took): (Timestamp, Duration, Duration),
    ) {
        let Inner { secrets, .. } = &*self.inner;
        let sent = way.sent(headers);
        let mut call = self.describe_call(way, &sent, started);
        call.waited = waited;
        call.took = took;
        match result {
            Ok(answer) => {
                call.status = Some(answer.status.as_u16());
                call.headers = redaction::headers(&answer.headers);
                call.answer = way.request.shown.redact_response(&sent, answer, secrets);
            }
            Err(broken) => {
                call.status = broken.status.map(|status| status.as_u16());
                call.ended = broken.fault.code.as_str();
                call.detail = Some(broken.fault.detail.clone());
            }
        }
        way.call.exchange.add(call);
    }

    /// Records a call that was rejected before it was sent.
    fn record_unsent(&self, way: &InFlightCall<'_>, fault: &Error) {
        let mut call = self.describe_call(way, &way.sent(&way.request.headers), self.now());
        call.waited = way.began.elapsed();
        call.ended = fault.code.as_str();
        call.detail = Some(fault.detail.clone());
        way.call.exchange.add(call);
    }

    fn describe_call(&self, way: &InFlightCall<'_>, sent: &RequestSnapshot<'_>, started: Timestamp) -> VendorCall {
        let Inner { name, secrets, .. } = &*self.inner;
        let Request { operation, method, shown, .. } = way.request;
        let mut address = way.url.clone();
        address.set_query(None);
        VendorCall {
            connection: name.connection.clone(),
            vendor: name.vendor.clone(),
            operation,
            settling: way.call.purpose == CallPurpose::Reconcile,
            started,
            waited: Duration::ZERO,
            took: Duration::ZERO,
            method: method.to_string(),
            address: secrets.mask(address.as_str()),
            ended: "answered",
            detail: None,
            status: None,
            request: shown.redact_request(sent, secrets),
            headers: Vec::new(),
            answer: None,
        }
    }

    /// Adds the vendor response to an error and masks secrets that its message may contain.
    fn finish_error(&self, request: &Request, mut broken: AttemptError) -> AttemptError {
        if broken.kind == AttemptErrorKind::Local {
            return broken;
        }
        broken.fault.detail = self.inner.secrets.mask(&broken.fault.detail);
        broken.fault.vendor = Some(VendorResponse {
            operation: request.operation.to_owned(),
            http_status: broken.status.map(|status| status.as_u16()),
            ..VendorResponse::default()
        });
        broken
    }

    /// Builds the full address. The path text is sent byte for byte or not at all, because vendors sign it.
    fn address(&self, target: &Target) -> Result<Url, String> {
        let path = match target {
            Target::Url(url) => {
                return self
                    .inner
                    .settings
                    .accepts(url)
                    .map(|()| url.clone())
                    .map_err(|why| format!("The address {why}."));
            }
            Target::Path(path) => path,
        };
        let base = self.inner.base_url.as_str();
        let text = match path.chars().next() {
            None | Some('?') => format!("{base}{path}"),
            Some('/') => format!("{}{path}", base.trim_end_matches('/')),
            Some(_) => format!("{}/{path}", base.trim_end_matches('/')),
        };
        Url::parse(&text)
            .ok()
            .filter(|url| url.as_str() == text && url.fragment().is_none())
            .ok_or_else(|| "A URL parser would rewrite the request's path.".to_owned())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// Passes the caller's trace on unchanged, as an intermediary that takes no part in it does (W3C Trace Context §4.3).
/// If the gateway takes part, each attempt injects its own span instead.
fn with_trace_context(mut request: Request, call: &CallContext) -> Request {
    if let Some(value) = call.exchange.traceparent().and_then(|text| HeaderValue::from_str(text).ok()) {
        request.headers.insert(spans::TRACEPARENT, value);
    }
    request
}

fn call_result(status: StatusCode) -> CallResult {
    if status.is_server_error() { CallResult::Failing } else { CallResult::Alive }
}

const fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}

fn circuit_open(rest: Duration) -> Error {
    let detail = "The vendor failed several times in a row; calls are paused.";
    Error::new(Code::VendorCircuitOpen, detail).with_retry_after(Some(rest.max(MIN_WAIT)))
}

fn limit_error(reason: LimitError) -> Error {
    match reason {
        LimitError::Saturated => {
            Error::new(Code::ConnectionSaturated, "Too many calls are already waiting for this connection.")
                .with_retry_after(Some(MIN_WAIT))
        }
        LimitError::Paused(rest) => {
            Error::new(Code::VendorRateLimited, "The vendor asked for a pause; calls resume when it ends.")
                .with_retry_after(Some(rest.max(MIN_WAIT)))
        }
    }
}

/// Full jitter: returns a random delay between 0 and `min(max, base · 2ⁿ)` after attempt n+1.
fn backoff(retry: &RetrySettings, tried: u32, random: [u8; 4]) -> Duration {
    let doubled = retry.base.0.saturating_mul(1_u32.checked_shl(tried.saturating_sub(1)).unwrap_or(u32::MAX));
    let most = doubled.min(retry.max.0);
    most.mul_f64(f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::units::ConfigDuration;

    #[test]
    fn back_off_doubles_up_to_its_maximum() {
        let millis = |millis| ConfigDuration(Duration::from_millis(millis));
        let retry = RetrySettings { attempts: 9, base: millis(200), max: millis(1_000) };
        let longest: Vec<_> = (1..5).map(|tried| backoff(&retry, tried, [255; 4]).as_millis()).collect();
        assert_eq!(longest, [200, 400, 800, 1_000]);
        assert_eq!(backoff(&retry, 1, [0; 4]), Duration::ZERO);
        assert_eq!(backoff(&retry, u32::MAX, [255; 4]), Duration::from_secs(1));
    }
}
