//! Connection diagnostics: checks host name, server, TLS, clock, credentials and the source of results step by step, and
//! advises what to do about a fault. No check has a side effect at the vendor.

use std::time::Duration;

use jiff::SignedDuration;

use crate::domain::error::{Code, Error};
use crate::domain::vendor::{CallContext, CredentialCheck};
use crate::domain::vendor_error::VendorError;
use crate::transport::{ProbeError, ProbeReport, ProbeResponse, TlsFailure};
use crate::vendors::VendorConnection;

mod results;

/// Difference from which on the clocks count as different: both report whole seconds, and a response takes time.
const MIN_DIFFERENCE: SignedDuration = SignedDuration::from_secs(5);

/// Check of a diagnostic report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Whether the host name has an address.
    Address,
    /// Whether a server accepts connections there.
    Reachability,
    /// Whether the connection is encrypted and the certificate valid.
    Tls,
    /// Difference between the clocks.
    Clock,
    /// Whether the vendor accepts the credentials.
    Credentials,
    /// Whether results can reach the gateway; only of a connection that is configured to read or receive them.
    Results,
}

/// Status of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    /// No fault found.
    Ok,
    /// Not checked: there is no check without side effects, or an earlier check failed.
    Unchecked,
    /// Fault found.
    Fault,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// Check.
    pub step: Check,
    /// Status.
    pub verdict: CheckStatus,
    /// Finding in a sentence.
    pub detail: String,
    /// Advice about a fault.
    pub advice: Option<String>,
}

/// Diagnostic report of one connection.
#[derive(Debug, Clone)]
pub struct DiagnosticReport {
    /// Results of all checks, in order.
    pub findings: Vec<CheckResult>,
    /// Result of the credentials check; `None` if the vendor did not respond.
    pub(super) health: Option<CredentialCheck>,
    /// Whether the clock difference exceeds the vendor's tolerance.
    pub(super) skewed: bool,
}

/// Runs all checks of a connection, without side effects at the vendor.
pub async fn diagnose(connected: &VendorConnection, call: &CallContext) -> DiagnosticReport {
    let look = connected.client.probe(call).await;
    let tolerance = connected.vendor.descriptor().clock_tolerance;
    let mut findings = vec![address(&look), reachability(&look), tls(&look)];
    let (clock, skewed) = clock(&look, tolerance);
    findings.push(clock);
    let answered = matches!(look.answer, Some(Ok(_)));
    let health = if answered { Some(connected.vendor.check(call).await) } else { None };
    findings.push(credentials(health.as_ref()));
    if let Some(source) = connected.vendor.report_source() {
        let usable = !matches!(health, None | Some(CredentialCheck::Faulty(_)));
        findings.push(results::check(source, connected.client.connection(), usable, call).await);
    }
    DiagnosticReport { findings, health, skewed }
}

impl DiagnosticReport {
    /// Returns the most important result: the first fault, else the credentials check.
    #[must_use]
    pub fn summary(&self) -> &CheckResult {
        let error = self.findings.iter().find(|finding| finding.verdict == CheckStatus::Fault);
        let credentials = || self.findings.iter().rfind(|finding| finding.step == Check::Credentials);
        // There is one result per check, so the list is not empty.
        error.or_else(credentials).unwrap_or(&self.findings[0])
    }

    /// Returns the first fault as a service error, if there is one. A fault of the results alone is none: writes work.
    pub(super) fn error(&self) -> Option<Error> {
        if let Some(CredentialCheck::Faulty(error)) = &self.health {
            return Some((**error).clone());
        }
        let is_error = |finding: &&CheckResult| finding.verdict == CheckStatus::Fault && finding.step != Check::Results;
        let first = self.findings.iter().find(is_error)?;
        let code = if self.skewed { Code::VendorClockSkew } else { Code::VendorUnreachable };
        let advice = first.advice.as_deref().unwrap_or_default();
        Some(Error::new(code, format!("{} {advice}", first.detail).trim_end()))
    }
}

impl Check {
    /// The word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Reachability => "reachability",
            Self::Tls => "tls",
            Self::Clock => "clock",
            Self::Credentials => "credentials",
            Self::Results => "results",
        }
    }
}

impl CheckStatus {
    /// The word used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unchecked => "unchecked",
            Self::Fault => "fault",
        }
    }
}

impl CheckResult {
    fn ok(step: Check, detail: impl Into<String>) -> Self {
        Self { step, verdict: CheckStatus::Ok, detail: detail.into(), advice: None }
    }

    fn unchecked(step: Check, detail: impl Into<String>) -> Self {
        Self { step, verdict: CheckStatus::Unchecked, detail: detail.into(), advice: None }
    }

    fn error(step: Check, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { step, verdict: CheckStatus::Fault, detail: detail.into(), advice: Some(advice.into()) }
    }
}

fn address(look: &ProbeReport) -> CheckResult {
    match &look.addresses {
        Ok(found) => {
            let found: Vec<String> = found.iter().take(4).map(|address| address.ip().to_string()).collect();
            CheckResult::ok(Check::Address, format!("{} is {}.", look.place, found.join(", ")))
        }
        Err(reason) => CheckResult::error(
            Check::Address,
            format!("{} has no address: {reason}.", look.place),
            "Check the host in base_url for a typo, and whether this machine's DNS server resolves it.",
        ),
    }
}

fn reachability(look: &ProbeReport) -> CheckResult {
    match &look.listening {
        None => CheckResult::unchecked(Check::Reachability, "There is no address to connect to."),
        Some(Ok(took)) => {
            let detail = format!("Connected within {} ms.", took.as_millis());
            CheckResult::ok(Check::Reachability, detail)
        }
        Some(Err(reason)) => CheckResult::error(
            Check::Reachability,
            format!("The server does not accept connections: {reason}."),
            "Check the port in base_url, whether the vendor is up, and whether a firewall blocks this machine.",
        ),
    }
}

fn tls(look: &ProbeReport) -> CheckResult {
    match &look.answer {
        None => CheckResult::unchecked(Check::Tls, "There is no connection to encrypt."),
        Some(_) if !look.encrypted => CheckResult::unchecked(
            Check::Tls,
            "base_url is plain http: nothing is encrypted, not even credentials and personal data.",
        ),
        Some(Ok(_)) => {
            CheckResult::ok(Check::Tls, "The connection is encrypted, and the certificate is valid for the host.")
        }
        Some(Err(ProbeError { reason, tls: Some(failure) })) => {
            CheckResult::error(Check::Tls, format!("No encrypted connection: {reason}"), tls_advice(*failure))
        }
        Some(Err(ProbeError { reason, tls: None })) => {
            CheckResult::unchecked(Check::Tls, format!("Unknown, because the vendor did not respond: {reason}"))
        }
    }
}

/// Returns what an operator can do about a failed handshake.
const fn tls_advice(failure: TlsFailure) -> &'static str {
    match failure {
        TlsFailure::OutsideValidity => {
            "Either the vendor must renew its certificate, or this machine's clock is wrong."
        }
        TlsFailure::WrongHost => {
            "The certificate is not valid for the host in base_url: use the host name the vendor gave."
        }
        TlsFailure::UnknownIssuer => {
            "The certificate's issuer is not trusted by this machine: install the missing root certificate. If a proxy \
             inspects the traffic, ask its operator for an exception."
        }
        TlsFailure::Handshake => {
            "Ask the vendor which TLS versions and certificates it uses; the gateway requires TLS 1.2 or later."
        }
    }
}

/// Returns the clock check's result, and whether the difference exceeds the vendor's tolerance.
fn clock(look: &ProbeReport, tolerance: Option<Duration>) -> (CheckResult, bool) {
    let greeting = match &look.answer {
        None | Some(Err(_)) => return (CheckResult::unchecked(Check::Clock, "The vendor did not respond."), false),
        Some(Ok(greeting)) => greeting,
    };
    let ProbeResponse { status: _, ahead: Some(ahead) } = greeting else {
        return (
            CheckResult::unchecked(Check::Clock, "The response has no Date header, so the vendor's clock is unknown."),
            false,
        );
    };
    let apart = ahead.abs();
    if apart < MIN_DIFFERENCE {
        return (CheckResult::ok(Check::Clock, "The vendor's and this machine's clocks agree."), false);
    }
    let side = if ahead.is_positive() { "behind" } else { "ahead of" };
    let detail = format!("This machine's clock is {} s {side} the vendor's.", apart.as_secs());
    let Some(tolerance) = tolerance else {
        return (CheckResult::ok(Check::Clock, format!("{detail} Its calls carry no timestamp.")), false);
    };
    let too_far = SignedDuration::try_from(tolerance).is_ok_and(|tolerance| apart > tolerance);
    if too_far {
        let detail = format!("{detail} It rejects calls that are more than {} s off.", tolerance.as_secs());
        let advice =
            "Synchronise this machine's clock with NTP. If it is right, tell the vendor that their clock is wrong.";
        return (CheckResult::error(Check::Clock, detail, advice), true);
    }
    (CheckResult::ok(Check::Clock, format!("{detail} It accepts calls up to {} s off.", tolerance.as_secs())), false)
}

fn credentials(health: Option<&CredentialCheck>) -> CheckResult {
    match health {
        None => CheckResult::unchecked(Check::Credentials, "The vendor could not be reached."),
        Some(CredentialCheck::Ok { detail }) => CheckResult::ok(Check::Credentials, detail.clone()),
        Some(CredentialCheck::Unchecked { detail }) => CheckResult::unchecked(Check::Credentials, detail.clone()),
        Some(CredentialCheck::Faulty(error)) => {
            CheckResult::error(Check::Credentials, with_message(error), error.code.action())
        }
    }
}

/// Returns the detail of an error with the vendor's message.
fn with_message(error: &VendorError) -> String {
    let message = error.vendor.as_ref().and_then(|message| message.message.as_deref());
    let message = message.map(|message| format!(" Vendor message: {message}")).unwrap_or_default();
    format!("{}{message}", error.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(answer: Result<Option<i64>, ProbeError>) -> ProbeReport {
        let answer = answer.map(|ahead| ProbeResponse { status: 404, ahead: ahead.map(SignedDuration::from_secs) });
        ProbeReport {
            place: "v.example:443".to_owned(),
            encrypted: true,
            addresses: Ok(vec![([203, 0, 113, 5], 443).into()]),
            listening: Some(Ok(Duration::from_millis(12))),
            answer: Some(answer),
        }
    }

    #[test]
    fn only_a_difference_beyond_the_vendors_tolerance_is_a_fault() {
        let quarter = Some(Duration::from_mins(15));
        for (ahead, tolerance, verdict, skewed) in [
            (Some(0), quarter, CheckStatus::Ok, false),
            (Some(-4), quarter, CheckStatus::Ok, false),
            (Some(600), quarter, CheckStatus::Ok, false),
            (Some(901), quarter, CheckStatus::Fault, true),
            (Some(-86_400), quarter, CheckStatus::Fault, true),
            (Some(86_400), None, CheckStatus::Ok, false),
            (None, quarter, CheckStatus::Unchecked, false),
        ] {
            let (finding, too_far) = clock(&look(Ok(ahead)), tolerance);
            assert_eq!((finding.verdict, too_far), (verdict, skewed), "{ahead:?}: {}", finding.detail);
        }
        assert!(clock(&look(Ok(Some(1_000))), quarter).0.detail.contains("behind"), "theirs is ahead");
    }

    #[test]
    fn a_fault_of_the_results_is_no_fault_of_the_connection() {
        let fault = CheckResult::error(Check::Results, "The feed cannot be read.", "Wait.");
        let findings = vec![CheckResult::ok(Check::Credentials, "Fine."), fault];
        let health = Some(CredentialCheck::Ok { detail: "Fine.".to_owned() });
        let mut report = DiagnosticReport { findings, health, skewed: false };
        assert_eq!((report.summary().step, report.error()), (Check::Results, None));
        report.findings[1] = CheckResult::ok(Check::Results, "Read.");
        assert_eq!(report.summary().step, Check::Credentials, "without a fault");
    }

    #[test]
    fn a_failed_handshake_has_advice_and_other_failures_do_not() {
        let no_greeting = |tls| {
            let reason = "reason".to_owned();
            ProbeReport { answer: Some(Err(ProbeError { reason, tls })), ..look(Ok(None)) }
        };
        for (failure, word) in [
            (TlsFailure::OutsideValidity, "clock"),
            (TlsFailure::UnknownIssuer, "root"),
            (TlsFailure::WrongHost, "host"),
            (TlsFailure::Handshake, "TLS 1.2"),
        ] {
            let finding = tls(&no_greeting(Some(failure)));
            assert_eq!(finding.verdict, CheckStatus::Fault);
            assert!(finding.advice.as_deref().unwrap().contains(word), "{finding:?}");
        }
        assert_eq!(tls(&no_greeting(None)).verdict, CheckStatus::Unchecked);
    }
}
