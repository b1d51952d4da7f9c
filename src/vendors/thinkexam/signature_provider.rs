//! Sources of signatures: the vendor's Signature Generation API, a formula, or three fixed values.
//!
//! A remote triple is fetched inside the attempt it signs, so that it is as fresh as possible, but through a separate
//! client: with `max_in_flight = 1` the vendor's client would deadlock with its own call, and a failing signature
//! service must not open the circuit breaker of a vendor that responds, or vice versa. No error here can follow a sent
//! write, so every one is `not_applied`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use url::Url;

use crate::domain::error::{Code, Error};
use crate::domain::outcome::Outcome;
use crate::domain::system::System;
use crate::domain::vendor::CallContext;
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;
use crate::transport::{Client, NoSignature, RedactionPolicy, Request, Response, Signer, SigningRequest, Target};
use crate::vendors::thinkexam::error::ErrorContext;
use crate::vendors::thinkexam::sign::{Formula, SignatureHeaders};
use crate::vendors::thinkexam::template::Template;
use crate::vendors::thinkexam::wire::{Reply, ReplyResult, scalar, tree};

const OPERATION: &str = "signature";

/// Request to the Signature Generation API, which is undocumented, so every part is a setting.
pub(super) struct GeneratorRequest {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) body: Option<Template>,
    pub(super) api_key: Option<Secret>,
    pub(super) secret: Option<Secret>,
    pub(super) ak_pointer: String,
    pub(super) sgn_pointer: String,
    pub(super) ts_pointer: String,
    pub(super) ttl: Duration,
}

/// The signature source of one connection.
pub(super) enum SignatureProvider {
    Remote(Box<RemoteProvider>),
    Formula(Box<Formula>),
    Fixed(SignatureHeaders),
}

impl SignatureProvider {
    /// Returns the signer of one call.
    pub(super) fn ticket<'a>(&'a self, call: &'a CallContext) -> SignatureGuard<'a> {
        SignatureGuard { source: self, call, used: Mutex::new(None) }
    }

    /// Returns whether a fresh signature can replace a rejected one.
    pub(super) const fn renews(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }

    /// Drops the triple that the vendor rejected, unless another call has already replaced it.
    pub(super) async fn refused(&self, triple: Option<&SignatureHeaders>) {
        if let (Self::Remote(remote), Some(triple)) = (self, triple) {
            remote.forget(triple).await;
        }
    }
}

/// Signer of one call; records the triple, so that it can be dropped if rejected, and redacted if the vendor quotes it.
pub(super) struct SignatureGuard<'a> {
    source: &'a SignatureProvider,
    call: &'a CallContext,
    used: Mutex<Option<SignatureHeaders>>,
}

impl SignatureGuard<'_> {
    /// Returns the triple last sent, if any.
    pub(super) fn used(&self) -> Option<SignatureHeaders> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Signer for SignatureGuard<'_> {
    async fn sign(&self, draft: SigningRequest<'_>, now: Timestamp) -> Result<(), VendorError> {
        let triple = match self.source {
            SignatureProvider::Remote(remote) => remote.triple(self.call).await?,
            SignatureProvider::Formula(formula) => formula.at(now)?,
            SignatureProvider::Fixed(triple) => triple.clone(),
        };
        triple.write(draft.headers)?;
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Some(triple);
        Ok(())
    }
}

/// Fetches triples and caches the current one for all calls.
pub(super) struct RemoteProvider {
    client: Client,
    recipe: GeneratorRequest,
    environment: System,
    flight: tokio::sync::Mutex<InFlightFetch>,
    // Number of completed requests, by which a waiting call detects that one completed while it waited.
    landed: AtomicU64,
}

#[derive(Default)]
struct InFlightFetch {
    held: Option<CachedSignature>,
    failed: Option<VendorError>,
}

struct CachedSignature {
    triple: SignatureHeaders,
    asked: Timestamp,
}

impl RemoteProvider {
    pub(super) fn new(client: Client, recipe: GeneratorRequest, environment: System) -> Self {
        Self { client, recipe, environment, flight: tokio::sync::Mutex::default(), landed: AtomicU64::new(0) }
    }

    /// Returns a triple younger than `ttl`. Concurrent calls cause one request and share its result, also an error.
    pub(super) async fn triple(&self, call: &CallContext) -> Result<SignatureHeaders, VendorError> {
        if self.recipe.ttl.is_zero() {
            // Nothing is shared, so there is nothing to wait for.
            return self.fetch(call, self.environment.now()).await;
        }
        let seen = self.landed.load(Ordering::Acquire);
        let mut flight = self.flight.lock().await;
        if let Some(held) = flight.held.as_ref().filter(|held| self.is_fresh(held)) {
            return Ok(held.triple.clone());
        }
        if self.landed.load(Ordering::Acquire) != seen
            && let Some(fault) = &flight.failed
        {
            return Err(fault.clone());
        }
        self.refill(&mut flight, call).await
    }

    /// Fetches a new triple, regardless of the cached one.
    pub(super) async fn renew(&self, call: &CallContext) -> Result<(), VendorError> {
        let mut flight = self.flight.lock().await;
        self.refill(&mut flight, call).await.map(drop)
    }

    async fn forget(&self, triple: &SignatureHeaders) {
        let mut flight = self.flight.lock().await;
        if flight.held.as_ref().is_some_and(|held| held.triple.is(triple)) {
            flight.held = None;
        }
    }

    async fn refill(&self, flight: &mut InFlightFetch, call: &CallContext) -> Result<SignatureHeaders, VendorError> {
        // Count the age from before the request: the vendor does not document when validity starts.
        let asked = self.environment.now();
        let fetched = self.fetch(call, asked).await;
        *flight = match &fetched {
            Ok(triple) => InFlightFetch { held: Some(CachedSignature { triple: triple.clone(), asked }), failed: None },
            Err(fault) => InFlightFetch { held: None, failed: Some(fault.clone()) },
        };
        self.landed.fetch_add(1, Ordering::Release);
        fetched
    }

    fn is_fresh(&self, held: &CachedSignature) -> bool {
        let age = self.environment.now().duration_since(held.asked);
        let ttl = SignedDuration::try_from(self.recipe.ttl).unwrap_or(SignedDuration::MAX);
        !age.is_negative() && age < ttl
    }

    async fn fetch(&self, call: &CallContext, now: Timestamp) -> Result<SignatureHeaders, VendorError> {
        let request = self.recipe.request(now)?;
        let answer = self.client.send(request, &NoSignature, call).await.map_err(as_not_sent)?;
        self.read(&answer)
    }

    fn read(&self, answer: &Response) -> Result<SignatureHeaders, VendorError> {
        let reading = ErrorContext { client: &self.client, operation: OPERATION, answer, masks: Vec::new() };
        let reply = Reply::read(&answer.body);
        if !answer.status.is_success() {
            return Err(refused(&reading, &reply.said));
        }
        let tree = tree(&answer.body).unwrap_or(Value::Null);
        let triple = self.recipe.picked(&tree);
        match (&triple, &reply.said) {
            // The vendor usually reports errors as 200 with an `error`.
            (Err(_), ReplyResult::Error(_)) => Err(credentials(&reading, &reply.said)),
            _ => triple,
        }
    }
}

impl GeneratorRequest {
    fn request(&self, now: Timestamp) -> Result<Request, VendorError> {
        let value = |name: &str| match name {
            "api_key" => self.api_key.as_ref().map(|secret| secret.expose().to_owned()),
            "secret" => self.secret.as_ref().map(|secret| secret.expose().to_owned()),
            // Unix seconds: our choice, because the vendor documents nothing.
            "now" => Some(now.as_second().to_string()),
            _ => None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if self.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, template) in &self.headers {
            let mut value = HeaderValue::from_str(&template.render(value))
                .map_err(|_| misconfigured(format!("signature.headers.{name}: cannot be sent as a header.")))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let escaped = |name: &str| value(name).map(|text| escape_json(&text));
        let body = self.body.as_ref().map(|body| body.render(escaped)).unwrap_or_default();
        Ok(Request {
            operation: OPERATION,
            method: self.method.clone(),
            target: Target::Url(self.url.clone()),
            headers,
            body: Bytes::from(body),
            // The exchange consists of key, secret and signature.
            shown: RedactionPolicy::NOTHING,
            min_response_limit: 0,
        })
    }

    fn picked(&self, tree: &Value) -> Result<SignatureHeaders, VendorError> {
        let pick = |key: &str, pointer: &str| {
            tree.pointer(pointer).and_then(scalar).map(Secret::new).ok_or_else(|| {
                let detail = format!("signature.{key}: the signature service's response has no value at {pointer}.");
                misconfigured(detail)
            })
        };
        let ak = pick("ak_pointer", &self.ak_pointer)?;
        let sgn = pick("sgn_pointer", &self.sgn_pointer)?;
        let ts = pick("ts_pointer", &self.ts_pointer)?;
        SignatureHeaders::new(ak, sgn, ts).map_err(|name| {
            misconfigured(format!("signature.{name}_pointer: the value there cannot be sent as a header."))
        })
    }
}

fn misconfigured(detail: String) -> VendorError {
    VendorError::new(Code::ConnectionMisconfigured, detail)
}

/// Converts an error of the signature request to one of the write, which has not been sent.
fn as_not_sent(fault: VendorError) -> VendorError {
    if fault.code == Code::VendorTimeout {
        let detail = "The signature service did not respond in time; the request itself was not sent.";
        let (code, detail) = (Code::VendorUnreachable, detail.to_owned());
        return not_sent(fault).map(|error| Error { code, detail, ..error });
    }
    not_sent(fault)
}

fn not_sent(fault: VendorError) -> VendorError {
    VendorError { proves_no_effect: false, ..fault.with_outcome(Outcome::NotApplied) }
}

fn refused(reading: &ErrorContext<'_>, said: &ReplyResult) -> VendorError {
    let status = reading.answer.status;
    if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
        return misconfigured(format!(
            "signature.url or signature.method: the service responded with {}.",
            status.as_u16()
        ));
    }
    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        return credentials(reading, said);
    }
    let fault =
        reading.fault(said).unwrap_or_else(|| reading.bad_response("The signature service's response is not valid."));
    not_sent(fault)
}

fn credentials(reading: &ErrorContext<'_>, said: &ReplyResult) -> VendorError {
    let detail = "The signature service rejected the account's key or secret; the request itself was not sent.";
    not_sent(reading.credentials(said)).map(|error| Error { detail: detail.to_owned(), ..error })
}

/// Escapes the text for the inside of a JSON string.
fn escape_json(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
