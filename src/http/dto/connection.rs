//! The configured connections, and the findings of a connection check.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::{Moment, page_document, word_document};
use crate::service::{
    Check, CheckResult, CheckStatus, CircuitState, ConnectionInfo, ConnectionStatus, DiagnosticReport,
};

word_document! {
    /// The status of a connection.
    pub enum ConnectionCondition from ConnectionStatus {
        /// The vendor responded to the last call.
        Ok,
        /// The most recent calls failed.
        Degraded,
        /// The circuit breaker is open; nothing is sent at the moment.
        CircuitOpen,
        /// The vendor rejects the credentials.
        CredentialsInvalid,
        /// The vendor rejects requests because the gateway's clock differs from its own.
        ClockSkew,
        /// No call has been made yet, or no call without side effects is possible.
        Unchecked,
    }
}

word_document! {
    /// The state of a circuit breaker.
    pub enum ConnectionCircuit from CircuitState {
        /// Calls are sent.
        Closed,
        /// The vendor failed several times in a row; nothing is sent until the cool-down ends.
        Open,
        /// One call probes whether the vendor has recovered.
        HalfOpen,
    }
}

/// A configured account at a vendor. Its secrets and addresses are never shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(connection_example))]
pub struct Connection {
    /// The connection's name, as the operator configured it.
    pub name: String,
    /// The kind of vendor.
    pub vendor: &'static str,
    /// The status of the connection.
    pub status: ConnectionCondition,
    /// The status in one sentence, with what to do about it.
    pub detail: String,
    /// When this status was observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Moment>,
    /// The state of this instance's circuit breaker.
    pub circuit: ConnectionCircuit,
    /// Number of this instance's calls in flight at the vendor.
    pub in_flight: usize,
    /// Number of this instance's calls waiting for the connection's limits.
    pub waiting: usize,
    /// How far the vendor's clock was ahead of the gateway's in its last response, in seconds; negative if it was
    /// behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_seconds: Option<i64>,
}

/// A connection with the findings of a check.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(checked_connection_example))]
pub struct CheckedConnection {
    /// The connection with its current status.
    #[serde(flatten)]
    pub connection: Connection,
    /// The steps of the check, in this order: `address`, `reachability`, `tls`, `clock`, `credentials`, and `results` if the
    /// connection reads or receives them.
    pub checks: Vec<ConnectionCheck>,
}

/// One step of a connection check.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionCheck {
    /// The step.
    pub check: ConnectionStep,
    /// The verdict of the step.
    pub result: ConnectionVerdict,
    /// The finding in one sentence.
    pub detail: String,
    /// What to do about the finding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

word_document! {
    /// A step of a connection check.
    pub enum ConnectionStep from Check {
        /// Whether the host name resolves to an address.
        Address,
        /// Whether the host accepts connections.
        Reachability,
        /// Whether the connection is encrypted and the certificate is valid.
        Tls,
        /// How far the clocks differ.
        Clock,
        /// Whether the vendor accepts the credentials, as far as that can be tested without side effects.
        Credentials,
        /// Whether results can reach the gateway: a page of the feed can be read, or webhooks are received. Only of a
        /// connection that is configured for either.
        Results,
    }
}

word_document! {
    /// The verdict of a step.
    pub enum ConnectionVerdict from CheckStatus {
        /// No problem found.
        Ok,
        /// Not determined: no test without side effects exists, the step does not apply (plain `http`), or an earlier
        /// step gave no result.
        Unchecked,
        /// A problem was found.
        Fault,
    }
}

page_document!(ConnectionList, Connection, connection_list_example, "The connections the client may use.");

impl From<ConnectionInfo> for Connection {
    fn from(view: ConnectionInfo) -> Self {
        let ConnectionInfo { name, descriptor, status, detail, since, circuit, in_flight, waiting, clock_ahead } = view;
        Self {
            name,
            vendor: descriptor.kind,
            status: status.into(),
            detail,
            since: since.map(Into::into),
            circuit: circuit.into(),
            in_flight,
            waiting,
            clock_ahead_seconds: clock_ahead,
        }
    }
}

impl From<(ConnectionInfo, DiagnosticReport)> for CheckedConnection {
    fn from((view, examination): (ConnectionInfo, DiagnosticReport)) -> Self {
        Self { connection: view.into(), checks: examination.findings.into_iter().map(Into::into).collect() }
    }
}

impl From<CheckResult> for ConnectionCheck {
    fn from(finding: CheckResult) -> Self {
        let CheckResult { step, verdict, detail, advice } = finding;
        Self { check: step.into(), result: verdict.into(), detail, advice }
    }
}

fn connection_example() -> Value {
    json!({ "name": "startexam-main", "vendor": "startexam", "status": "ok", "detail": "The vendor responds.",
            "since": "2026-11-22T09:30:21.024Z", "circuit": "closed", "inFlight": 1, "waiting": 0,
            "clockAheadSeconds": 0 })
}

fn connection_list_example() -> Value {
    json!({ "items": [connection_example()], "nextCursor": null })
}

fn checked_connection_example() -> Value {
    let mut example = connection_example();
    example["checks"] = json!([
        { "check": "address", "result": "ok", "detail": "api.startexam.com:443 is 203.0.113.5." },
        { "check": "reachability", "result": "ok", "detail": "Connected within 12 ms." },
        { "check": "tls", "result": "ok",
          "detail": "The connection is encrypted, and the certificate is valid for the host." },
        { "check": "clock", "result": "fault",
          "detail": "This machine's clock is 1000 s behind the vendor's. It rejects calls that are more than 900 s off.",
          "advice": "Synchronise this machine's clock with NTP. If it is right, tell the vendor that their clock is wrong." },
        { "check": "credentials", "result": "ok", "detail": "StartExam listed the account's tests." },
    ]);
    example
}
