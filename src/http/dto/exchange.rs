//! Exchanges: recent requests and the vendors' actual responses.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::{Moment, page_document, word_document};
use crate::domain::exchange::{Cause, ExchangeOwner, ExchangeView, ResponseSummary, VendorCall};

/// One request with the vendor calls it made. Redacted: of requests and responses only the fields on each vendor's
/// allow-list are shown, never a name, an address, a credential or a launch link.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(exchange_example))]
pub struct Exchange {
    /// Identifier of the exchange; `instance` of a problem refers to it.
    pub id: String,
    /// Why the exchange exists.
    pub cause: ExchangeCause,
    /// The request id, as in the logs.
    pub request_id: String,
    /// The W3C `traceparent` the caller sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// When the exchange began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Moment,
    /// The client that sent the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Which of the client's API keys it presented: the first eight hexadecimal digits of the key's SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The HTTP method of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The route of the request; never the path, which may name a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The resource that was settled, or the webhook that was delivered to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The operation the request created, or whose rows were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Status of the response, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Code of the problem in the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Time from the request's headers to the response's headers, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Time spent on vendor calls, including waiting for their limits, in milliseconds; concurrent calls count once.
    pub vendor_ms: u64,
    /// The vendor calls, oldest first.
    pub calls: Vec<ExchangeCall>,
    /// Number of calls not shown: if there are many, the latest and the failed ones are kept.
    pub calls_left_out: u64,
}

word_document! {
    /// Why an exchange exists.
    #[derive(Debug, Clone, Copy, Serialize)]
    pub enum ExchangeCause {
        /// A client sent a request.
        Request,
        /// An operation continued whose request was received by another instance or before a restart.
        Operation,
        /// The gateway read a vendor's reports of attempts in the background.
        Reports,
        /// A receiver did not accept a delivery to a webhook. Deliveries that succeed are not kept.
        Delivery,
        /// The gateway settled an unknown write in the background.
        Settling,
    }
}

/// One attempt at a vendor call, or an attempt that was rejected before it was sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExchangeCall {
    /// The connection.
    pub connection: String,
    /// The kind of vendor.
    pub vendor: String,
    /// The write kind or query, in the gateway's terms.
    pub operation: &'static str,
    /// Whether the call was made to determine the outcome of an earlier one.
    pub settling: bool,
    /// When the call began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Moment,
    /// Time spent waiting for the connection's limits, in milliseconds.
    pub waited_ms: u64,
    /// Time from signing to the end of the response, in milliseconds.
    pub duration_ms: u64,
    /// The HTTP method.
    pub method: String,
    /// Scheme, host and path; never the query.
    pub address: String,
    /// `answered`, or the code of the problem that ended the call.
    pub ended: &'static str,
    /// Why the call ended without a response, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Status of the vendor's response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The allow-listed parts of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
    /// The allow-listed headers of the response.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<&'static str, String>,
    /// The allow-listed parts of the response body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
}

page_document!(ExchangeList, Exchange, exchange_list_example, "Exchanges, newest first.");

impl From<ExchangeView> for Exchange {
    fn from(view: ExchangeView) -> Self {
        let ExchangeView {
            id,
            request_id,
            traceparent,
            started,
            owner: about,
            operation,
            response: answer,
            vendor_time,
            calls,
            left_out,
        } = view;
        let (cause, client, key, method, route, resource) = match about.map(|ExchangeOwner { tenant: _, cause }| cause)
        {
            Some(Cause::Settling { resource }) => (ExchangeCause::Settling, None, None, None, None, Some(resource)),
            Some(Cause::Delivery { resource, .. }) => (ExchangeCause::Delivery, None, None, None, None, Some(resource)),
            Some(Cause::Request { client, key, method, route }) => {
                (ExchangeCause::Request, Some(client), key, Some(method), Some(route), None)
            }
            Some(Cause::Reports) => (ExchangeCause::Reports, None, None, None, None, None),
            Some(Cause::Operation) | None => (ExchangeCause::Operation, None, None, None, None, None),
        };
        let (status, code, took) = match answer {
            Some(ResponseSummary { status, code, took }) => (Some(status), code, Some(millis(took))),
            None => (None, None, None),
        };
        Self {
            id: id.into(),
            cause,
            request_id,
            traceparent,
            started_at: started.into(),
            client,
            key,
            method,
            route,
            resource,
            operation: operation.map(Into::into),
            status,
            code,
            duration_ms: took,
            vendor_ms: millis(vendor_time),
            calls: calls.into_iter().map(Into::into).collect(),
            calls_left_out: left_out,
        }
    }
}

impl From<VendorCall> for ExchangeCall {
    fn from(call: VendorCall) -> Self {
        let VendorCall {
            connection,
            vendor,
            operation,
            settling,
            started,
            waited,
            took,
            method,
            address,
            ended,
            detail,
            status,
            request,
            headers,
            answer,
        } = call;
        let tree = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
        Self {
            connection,
            vendor,
            operation,
            settling,
            started_at: started.into(),
            waited_ms: millis(waited),
            duration_ms: millis(took),
            method,
            address,
            ended,
            detail,
            status,
            request: tree(request),
            headers: headers.into_iter().collect(),
            answer: tree(answer),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn exchange_example() -> Value {
    json!({
        "id": "exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "cause": "request",
        "requestId": "req_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "startedAt": "2026-11-25T09:30:21.024Z", "client": "lms",
        "key": "5994471a", "method": "POST", "route": "/assignments", "status": 422, "code": "invalid_reference", "durationMs": 143,
        "vendorMs": 139, "callsLeftOut": 0,
        "calls": [{
            "connection": "startexam-main", "vendor": "startexam", "operation": "assignments.create", "settling": false,
            "startedAt": "2026-11-25T09:30:21.027Z", "waitedMs": 0, "durationMs": 139, "method": "POST",
            "address": "https://api.startexam.com/v2/employees-participants", "ended": "answered", "status": 404,
            "request": { "center": "mycenter", "doNotCreateIfExist": true, "employees": [{ "…": "1 not shown" }],
                         "tests": ["fa19e351-36d0-49c0-be92-66d640b17878"] },
            "headers": { "content-type": "application/json", "date": "Wed, 25 Nov 2026 09:30:21 GMT" },
            "answer": { "message": "Test not found" },
        }],
    })
}

fn exchange_list_example() -> Value {
    json!({ "items": [exchange_example()], "nextCursor": null })
}
