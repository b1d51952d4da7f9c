//! The layers that a request passes through, from the outside in (see [`crate::transport`] for the reasons of their
//! order).

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use tower::retry::budget::Budget as _;
use tracing::{Instrument as _, Span};
use url::Url;

use super::{Client, Inner};
use crate::domain::error::{Code, ConnectionRef, VendorResponse};
use crate::domain::outcome::Outcome;
use crate::domain::vendor::{CallContext, Priority};
use crate::domain::vendor_error::VendorError;
use crate::telemetry::{metrics, spans};
use crate::transport::attempt::{AttemptError, AttemptErrorKind, BodyGate, exchange};
use crate::transport::call_history::CallEnd;
use crate::transport::circuit_breaker::CallResult;
use crate::transport::concurrency_limit::{LimitError, MAX_BACKOFF};
use crate::transport::request::{Request, Signer, SigningRequest};
use crate::transport::response::Response;
use crate::transport::settings::RetrySettings;
use crate::transport::shared_state::SharedState;

/// Shortest retry delay returned to a caller.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// A call in progress, with its shared state.
pub(super) struct InFlightCall<'a> {
    pub(super) url: Url,
    pub(super) request: &'a Request,
    signer: &'a dyn Signer,
    pub(super) context: &'a CallContext,
    state: Arc<SharedState>,
    pub(super) began: Instant,
    /// Each wait before an attempt ends at this time at the latest.
    deadline: Instant,
    /// Time spent waiting for the breaker and the in-flight permit.
    waited: Duration,
}

/// When an attempt was made and how long it took.
pub(super) struct AttemptTimes {
    pub(super) started: Timestamp,
    /// Time spent waiting before the attempt.
    pub(super) waited: Duration,
    pub(super) took: Duration,
}

impl Client {
    /// Sends the request once through all layers. Cancel-safe: dropping the future releases its permit and the
    /// half-open slot; the caller must then reconcile the request.
    ///
    /// # Errors
    /// Nothing was sent: `vendor_unreachable`, `vendor_circuit_open`, `connection_saturated`, `vendor_rate_limited`
    /// (the vendor asked for a pause longer than the timeout), or the signer's error. Sent, outcome unknown:
    /// `vendor_timeout`, `vendor_bad_response`. Any complete response, whatever its status, is a [`Response`].
    pub async fn send(
        &self,
        request: Request,
        signer: &dyn Signer,
        call: &CallContext,
    ) -> Result<Response, VendorError> {
        let connection = &self.inner.name.connection;
        let span = spans::call(connection, request.operation, call.exchange.request_id());
        let _at_vendor = call.exchange.start_vendor_timer();
        let began = Instant::now();
        let request = with_trace_context(request, call);
        let result = self.admit(&request, signer, call).instrument(span).await;
        let label = match &result {
            Ok(response) => class(response.status),
            Err(error) => error.code.as_str(),
        };
        metrics::vendor_call(connection, request.operation, label, began.elapsed());
        result.map_err(|error| self.error(request.operation, error))
    }

    /// Sends one attempt without the breaker or the concurrency limit and without recording its result; still rate
    /// limited.
    pub(in crate::transport) async fn send_unguarded(
        &self,
        request: &Request,
        signer: &dyn Signer,
        call: &CallContext,
    ) -> Result<Response, AttemptError> {
        let _at_vendor = call.exchange.start_vendor_timer();
        let flight = self.start_call(request, signer, call).map_err(AttemptError::local)?;
        self.rate_limit(&flight, 0).await
    }

    fn start_call<'a>(
        &self,
        request: &'a Request,
        signer: &'a dyn Signer,
        context: &'a CallContext,
    ) -> Result<InFlightCall<'a>, VendorError> {
        let url = self.inner.address(&request.target).map_err(|reason| VendorError::new(Code::Internal, reason))?;
        let timeout = self.inner.settings.timeout.0;
        let patience = match context.priority {
            Priority::Interactive => timeout,
            // No caller waits for it, so it may queue for longer than an attempt takes.
            Priority::Bulk => timeout.max(MAX_BACKOFF),
        };
        let (state, began) = (self.state(), Instant::now());
        let (deadline, waited) = (began + patience, Duration::ZERO);
        Ok(InFlightCall { url, request, signer, context, state, began, deadline, waited })
    }

    /// Breaker, then concurrency limit. The breaker is outermost so that no call queues for a failing vendor; it is
    /// checked again after the wait because it may have opened meanwhile.
    async fn admit(&self, request: &Request, signer: &dyn Signer, call: &CallContext) -> Result<Response, VendorError> {
        let environment = &self.inner.environment;
        let mut flight = self.start_call(request, signer, call)?;
        let state = Arc::clone(&flight.state);
        state.budget.deposit();

        let admitted = async {
            let mut pass = state.breaker.admit(environment.now()).map_err(circuit_open)?;
            let permit = state.limit.acquire(call.priority, flight.deadline).await.map_err(limit_error)?;
            pass.renew(environment.now()).map_err(circuit_open)?;
            Ok((pass, permit))
        };
        let admitted = admitted.await;
        flight.waited = flight.began.elapsed();
        let (pass, mut permit) = admitted.inspect_err(|error| {
            self.record_unsent(&flight, error);
            state.history.record_end(environment.now(), failure_end(error.code));
        })?;

        let result = self.retry_connect(&flight).await;
        if result.as_ref().err().is_none_or(|failed| failed.kind.was_sent()) {
            permit.mark_sent();
        }
        match &result {
            Ok(response) => pass.record(call_result(response.status), environment.now()),
            Err(AttemptError { kind: AttemptErrorKind::NotSent | AttemptErrorKind::Ambiguous, .. }) => {
                pass.record(CallResult::Failing, environment.now());
            }
            Err(AttemptError { kind: AttemptErrorKind::InvalidResponse, status: Some(status), .. }) => {
                pass.record(call_result(*status), environment.now());
            }
            Err(AttemptError { kind: AttemptErrorKind::Local | AttemptErrorKind::InvalidResponse, .. }) => drop(pass),
        }
        let end = match &result {
            Ok(response) => response_end(response.status),
            Err(failed) => failure_end(failed.error.code),
        };
        state.history.record_end(environment.now(), end);
        result.map_err(|failed| failed.error)
    }

    /// Connect retry: retries only requests that never left this machine, within the connection's retry budget and the
    /// deadline. Inside the breaker, so that it counts once; outside the rate limit, so that every attempt is paced.
    async fn retry_connect(&self, flight: &InFlightCall<'_>) -> Result<Response, AttemptError> {
        let Inner { settings, name, environment, .. } = &*self.inner;
        let mut tried = 0;
        loop {
            let result = self.rate_limit(flight, tried).await;
            tried += 1;
            let pause = backoff(&settings.retry, tried, environment.random());
            let again = matches!(result, Err(AttemptError { kind: AttemptErrorKind::NotSent, .. }))
                && tried < settings.retry.attempts
                && Instant::now() + pause < flight.deadline;
            if !again {
                return result;
            }
            let allowed = flight.state.budget.withdraw();
            metrics::retry(&name.connection, allowed);
            if !allowed {
                return result;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Rate limit, applied just before the attempt; also records the rate information in the vendor's response.
    async fn rate_limit(&self, flight: &InFlightCall<'_>, repeats: u32) -> Result<Response, AttemptError> {
        let Inner { name, environment, .. } = &*self.inner;
        let queued = Instant::now();
        if let Err(reason) = flight.state.limit.acquire_slot(flight.context.priority, flight.deadline).await {
            let error = limit_error(reason);
            self.record_unsent(flight, &error);
            return Err(AttemptError::local(error));
        }

        let (began, started) = (Instant::now(), environment.now());
        let span = self.span(flight, repeats);
        let mut headers = flight.request.headers.clone();
        let result = self.attempt(flight, &mut headers).instrument(span.clone()).await;
        let result = result.map_err(|failed| self.finish_error(flight.request, failed));
        let took = began.elapsed();
        let (status, failure) = match &result {
            Ok(response) => (Some(response.status), None),
            Err(failed) => (failed.status, Some((failed.error.code.as_str(), failed.error.outcome.as_str()))),
        };
        let (status, ended) = (status.map(|status| status.as_u16()), failure.map_or("answered", |(code, _)| code));
        spans::attempted(&span, status, failure);
        tracing::debug!(
            connection = name.connection,
            operation = flight.request.operation,
            status,
            millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            outcome = failure.map(|(_, outcome)| outcome),
            ended,
            "attempt at the vendor"
        );
        let label = result.as_ref().map_or(ended, |response| class(response.status));
        metrics::vendor_attempt(&name.connection, flight.request.operation, label, took);
        if result.as_ref().err().is_none_or(|failed| failed.kind.was_sent()) {
            flight.state.history.record_duration(environment.now(), took);
        }
        let waited = flight.waited + began.duration_since(queued);
        self.record_attempt(flight, &headers, &result, &AttemptTimes { started, waited, took });
        if let Ok(response) = &result {
            flight.state.record_clock_skew(response, environment.now());
            if matches!(response.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
                && let Some(wait) = response.retry_after(environment.now())
            {
                flight.state.limit.pause(wait);
            }
        }
        result
    }

    fn span(&self, flight: &InFlightCall<'_>, repeats: u32) -> Span {
        let ConnectionRef { connection, vendor } = &self.inner.name;
        let Request { operation, method, .. } = flight.request;
        spans::attempt(spans::AttemptSpan { connection, vendor, operation, method, url: &flight.url, repeats })
    }

    /// Sends one attempt within its timeout. Signing is innermost, so that each attempt has a fresh date. `headers` are
    /// the request's on entry and those actually sent on return.
    async fn attempt(&self, flight: &InFlightCall<'_>, headers: &mut HeaderMap) -> Result<Response, AttemptError> {
        let Inner { settings, environment, .. } = &*self.inner;
        let InFlightCall { url, request, signer, .. } = flight;
        let deadline = Instant::now() + settings.timeout.0;

        spans::inject(headers);
        if !request.body.is_empty() || matches!(request.method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(request.body.len()));
        }
        let signing = SigningRequest { method: &request.method, url, headers: &mut *headers, body: &request.body };
        match timeout_at(deadline, signer.sign(signing, environment.now())).await {
            Ok(Ok(())) => {}
            // Whatever the result of the signer's own calls, this request was not sent.
            Ok(Err(error)) => {
                return Err(AttemptError::local(VendorError {
                    may_still_complete: false,
                    ..error.with_outcome(Outcome::NotApplied)
                }));
            }
            Err(_) => {
                let detail = format!("Signing took longer than {}; nothing was sent.", settings.timeout);
                return Err(AttemptError::local(VendorError::new(Code::VendorUnreachable, detail)));
            }
        }

        let mut outgoing = reqwest::Request::new(request.method.clone(), url.clone());
        *outgoing.headers_mut() = headers.clone();
        let permit = self.permit.get();
        if permit.is_some_and(|permit| !permit()) {
            let detail = "This instance has lost contact with the shared store, so it sends nothing.";
            let error = VendorError::new(Code::StoreUnavailable, detail).with_retry_after(Some(MIN_WAIT));
            return Err(AttemptError::local(error));
        }
        let gate = BodyGate::new(permit.cloned());
        let http = self.pool.client();
        let limit = settings.max_response_bytes.0.max(request.min_response_limit);
        let exchange = exchange(&http, outgoing, request.body.clone(), limit, &gate);
        timeout_at(deadline, exchange).await.unwrap_or_else(|_| Err(gate.timed_out(settings.timeout)))
    }

    /// Adds the vendor response to an error and masks secrets that its message may contain.
    fn finish_error(&self, request: &Request, mut failed: AttemptError) -> AttemptError {
        if failed.kind == AttemptErrorKind::Local {
            return failed;
        }
        failed.error.detail = self.inner.secrets.mask(&failed.error.detail);
        failed.error.vendor = Some(VendorResponse {
            operation: request.operation.to_owned(),
            http_status: failed.status.map(|status| status.as_u16()),
            ..VendorResponse::default()
        });
        failed
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

fn response_end(status: StatusCode) -> CallEnd {
    if status.as_u16() < 400 { CallEnd::Answered } else { CallEnd::HttpError }
}

const fn failure_end(code: Code) -> CallEnd {
    match code {
        Code::VendorTimeout => CallEnd::Timeout,
        Code::VendorUnreachable => CallEnd::Unreachable,
        Code::VendorCircuitOpen => CallEnd::CircuitOpen,
        _ => CallEnd::Other,
    }
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

fn circuit_open(rest: Duration) -> VendorError {
    let detail = "The vendor failed several times in a row; calls are paused.";
    VendorError::new(Code::VendorCircuitOpen, detail).with_retry_after(Some(rest.max(MIN_WAIT)))
}

fn limit_error(reason: LimitError) -> VendorError {
    match reason {
        LimitError::Saturated => {
            VendorError::new(Code::ConnectionSaturated, "Too many calls are already waiting for this connection.")
                .with_retry_after(Some(MIN_WAIT))
        }
        LimitError::Paused(rest) => {
            VendorError::new(Code::VendorRateLimited, "The vendor asked for a pause; calls resume when it ends.")
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
