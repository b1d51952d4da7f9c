//! The configured connections, and what an examination found.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::Moment;
use crate::service::{
    Check, CheckResult, CheckStatus, CircuitState, ConnectionInfo, ConnectionStatus, DiagnosticReport,
};

/// The condition of a connection.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionCondition {
    /// The last call was answered.
    Ok,
    /// The last calls failed.
    Degraded,
    /// Nothing is sent at the moment.
    CircuitOpen,
    /// The vendor refuses the credentials.
    CredentialsInvalid,
    /// The vendor finds the gateway's clock wrong.
    ClockSkew,
    /// Nothing was called yet, or nothing harmless can be.
    Unchecked,
}

impl From<ConnectionStatus> for ConnectionCondition {
    fn from(status: ConnectionStatus) -> Self {
        match status {
            ConnectionStatus::Ok => Self::Ok,
            ConnectionStatus::Degraded => Self::Degraded,
            ConnectionStatus::CircuitOpen => Self::CircuitOpen,
            ConnectionStatus::CredentialsInvalid => Self::CredentialsInvalid,
            ConnectionStatus::ClockSkew => Self::ClockSkew,
            ConnectionStatus::Unchecked => Self::Unchecked,
        }
    }
}

/// Whether calls go out.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionCircuit {
    /// They do.
    Closed,
    /// The vendor failed several times in a row; nothing is sent until the cool-down is over.
    Open,
    /// One call probes whether the vendor is back.
    HalfOpen,
}

/// A configured account at a vendor. Its secrets and addresses are never shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(connection_example))]
pub struct Connection {
    /// The operator's name for it.
    pub name: String,
    /// The kind of vendor it leads to.
    pub vendor: &'static str,
    /// Its condition.
    pub status: ConnectionCondition,
    /// The condition in a sentence, with what to do about it.
    pub detail: String,
    /// When that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Moment>,
    /// The circuit breaker of this instance.
    pub circuit: ConnectionCircuit,
    /// Calls of this instance at the vendor now.
    pub in_flight: usize,
    /// Calls of this instance that wait for the connection's limits.
    pub waiting: usize,
    /// How far the vendor's clock was ahead of the gateway's by its last answer, in seconds; negative when it was behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_seconds: Option<i64>,
}

/// A connection with what an examination found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(checked_connection_example))]
pub struct CheckedConnection {
    /// The connection as it stands now.
    #[serde(flatten)]
    pub connection: Connection,
    /// What was looked at, in this order: `address`, `reachability`, `tls`, `clock`, `credentials`.
    pub checks: Vec<ConnectionCheck>,
}

/// One step of an examination.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionCheck {
    /// What was looked at.
    pub check: ConnectionStep,
    /// What was found.
    pub result: ConnectionVerdict,
    /// The finding in a sentence.
    pub detail: String,
    /// What to do about a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionStep {
    /// Whether the host's name has an address.
    Address,
    /// Whether somebody listens there.
    Reachability,
    /// Whether the connection is encrypted and the certificate good.
    Tls,
    /// How far the clocks are apart.
    Clock,
    /// Whether the vendor accepts the credentials, as far as that can be told without side effects.
    Credentials,
}

/// What was found.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionVerdict {
    /// In order.
    Ok,
    /// Nothing harmless could tell, or an earlier step stood in the way.
    Unchecked,
    /// Out of order.
    Fault,
}

/// The connections the client may use.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(connection_list_example))]
pub struct ConnectionList {
    /// This part of the list.
    pub items: Vec<Connection>,
    /// Gives the next part as `cursor`; `null` at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

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

impl From<CircuitState> for ConnectionCircuit {
    fn from(state: CircuitState) -> Self {
        match state {
            CircuitState::Closed => Self::Closed,
            CircuitState::Open => Self::Open,
            CircuitState::HalfOpen => Self::HalfOpen,
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
        let check = match step {
            Check::Address => ConnectionStep::Address,
            Check::Reachability => ConnectionStep::Reachability,
            Check::Tls => ConnectionStep::Tls,
            Check::Clock => ConnectionStep::Clock,
            Check::Credentials => ConnectionStep::Credentials,
        };
        let result = match verdict {
            CheckStatus::Ok => ConnectionVerdict::Ok,
            CheckStatus::Unchecked => ConnectionVerdict::Unchecked,
            CheckStatus::Fault => ConnectionVerdict::Fault,
        };
        Self { check, result, detail, advice }
    }
}

fn connection_example() -> Value {
    json!({ "name": "startexam-main", "vendor": "startexam", "status": "ok", "detail": "The vendor answers.",
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
        { "check": "reachability", "result": "ok", "detail": "A connection was made within 12 ms." },
        { "check": "tls", "result": "ok",
          "detail": "The connection is encrypted, and the certificate is good for the host." },
        { "check": "clock", "result": "fault",
          "detail": "This machine's clock is 1000 s behind the vendor's. It refuses calls that are more than 900 s apart.",
          "advice": "Have this machine's clock set by NTP. Where it is right, tell the vendor that theirs is wrong." },
        { "check": "credentials", "result": "ok", "detail": "StartExam listed the account's tests." },
    ]);
    example
}
