//! What is wrong with a connection, step by step, and what to do about it: its name, its server, its TLS, its clock, its
//! credentials. Nothing is done at the vendor that has a side effect.

use std::time::Duration;

use jiff::SignedDuration;

use crate::domain::error::{Code, Error};
use crate::domain::vendor::{CallContext, CredentialCheck};
use crate::transport::{NoGreeting, ProbeReport, ProbeResponse, TlsFailure};
use crate::vendors::VendorConnection;

/// From this difference on the clocks are not called equal; both tell whole seconds, and an answer takes its time.
const EQUAL: SignedDuration = SignedDuration::from_secs(5);

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Whether the host's name has an address.
    Address,
    /// Whether somebody listens there.
    Reachability,
    /// Whether the connection is encrypted and the certificate good.
    Tls,
    /// How far the clocks are apart.
    Clock,
    /// Whether the vendor accepts the credentials.
    Credentials,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    /// In order.
    Ok,
    /// Nothing harmless could tell, or an earlier step stood in the way.
    Unchecked,
    /// Out of order.
    Fault,
}

/// One step of an examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// What was looked at.
    pub step: Check,
    /// What was found.
    pub verdict: CheckStatus,
    /// The finding in a sentence.
    pub detail: String,
    /// What to do about a fault.
    pub advice: Option<String>,
}

/// Everything that was found at one connection.
#[derive(Debug, Clone)]
pub struct DiagnosticReport {
    /// One for every step, in order.
    pub findings: Vec<CheckResult>,
    /// What the credentials' check found; `None` where it was not come to.
    pub(super) health: Option<CredentialCheck>,
    /// Whether the clocks are too far apart for the vendor.
    pub(super) skewed: bool,
}

/// Looks at a connection as far as that has no side effects at the vendor.
pub async fn diagnose(connected: &VendorConnection, call: &CallContext) -> DiagnosticReport {
    let look = connected.client.probe(call).await;
    let tolerance = connected.vendor.descriptor().clock_tolerance;
    let mut findings = vec![address(&look), reachability(&look), tls(&look)];
    let (clock, skewed) = clock(&look, tolerance);
    findings.push(clock);
    let answered = matches!(look.answer, Some(Ok(_)));
    let health = if answered { Some(connected.vendor.check(call).await) } else { None };
    findings.push(credentials(health.as_ref()));
    DiagnosticReport { findings, health, skewed }
}

impl DiagnosticReport {
    /// Steps that found something out of order.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == CheckStatus::Fault).count()
    }

    /// The finding that matters most: the first fault, or else what the credentials' check found.
    #[must_use]
    pub fn summary(&self) -> &CheckResult {
        let fault = self.findings.iter().find(|finding| finding.verdict == CheckStatus::Fault);
        // There is one finding for every step.
        fault.unwrap_or(&self.findings[self.findings.len() - 1])
    }

    /// The first fault as one of the gateway's own, if there is any.
    pub(super) fn fault(&self) -> Option<Error> {
        if let Some(CredentialCheck::Faulty(fault)) = &self.health {
            return Some((**fault).clone());
        }
        let first = self.findings.iter().find(|finding| finding.verdict == CheckStatus::Fault)?;
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

    fn fault(step: Check, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { step, verdict: CheckStatus::Fault, detail: detail.into(), advice: Some(advice.into()) }
    }
}

fn address(look: &ProbeReport) -> CheckResult {
    match &look.addresses {
        Ok(found) => {
            let found: Vec<String> = found.iter().take(4).map(|address| address.ip().to_string()).collect();
            CheckResult::ok(Check::Address, format!("{} is {}.", look.place, found.join(", ")))
        }
        Err(reason) => CheckResult::fault(
            Check::Address,
            format!("{} has no address: {reason}.", look.place),
            "Check the host in base_url for a slip, and whether this machine's name server knows it.",
        ),
    }
}

fn reachability(look: &ProbeReport) -> CheckResult {
    match &look.listening {
        None => CheckResult::unchecked(Check::Reachability, "There is no address to go to."),
        Some(Ok(took)) => {
            let detail = format!("A connection was made within {} ms.", took.as_millis());
            CheckResult::ok(Check::Reachability, detail)
        }
        Some(Err(reason)) => CheckResult::fault(
            Check::Reachability,
            format!("Nobody answers: {reason}."),
            "Check the port in base_url, whether the vendor is up, and whether a firewall lets this machine out to it.",
        ),
    }
}

fn tls(look: &ProbeReport) -> CheckResult {
    match &look.answer {
        None => CheckResult::unchecked(Check::Tls, "There is no connection to encrypt."),
        Some(_) if !look.encrypted => CheckResult::unchecked(
            Check::Tls,
            "base_url is plain http: nothing is encrypted, credentials and people included.",
        ),
        Some(Ok(_)) => {
            CheckResult::ok(Check::Tls, "The connection is encrypted, and the certificate is good for the host.")
        }
        Some(Err(NoGreeting { reason, tls: Some(failure) })) => {
            CheckResult::fault(Check::Tls, format!("No encrypted connection: {reason}"), tls_advice(*failure))
        }
        Some(Err(NoGreeting { reason, tls: None })) => {
            CheckResult::unchecked(Check::Tls, format!("Not known, because the vendor did not respond: {reason}"))
        }
    }
}

/// Returns what an operator can do about a failed handshake.
const fn tls_advice(failure: TlsFailure) -> &'static str {
    match failure {
        TlsFailure::OutsideValidity => {
            "Either the vendor has to renew its certificate, or this machine's clock is wrong."
        }
        TlsFailure::WrongHost => "base_url names a host the certificate is not for: use the name the vendor gave.",
        TlsFailure::UnknownIssuer => {
            "The certificate is from an authority this machine does not trust: install the missing root certificate. If a \
             proxy inspects the traffic, ask its operator for an exception."
        }
        TlsFailure::Handshake => {
            "Ask the vendor which TLS versions and certificates it uses; at least TLS 1.2 is needed here."
        }
    }
}

/// The clock's finding, and whether the difference is more than the vendor takes.
fn clock(look: &ProbeReport, tolerance: Option<Duration>) -> (CheckResult, bool) {
    let greeting = match &look.answer {
        None | Some(Err(_)) => return (CheckResult::unchecked(Check::Clock, "Nothing was answered."), false),
        Some(Ok(greeting)) => greeting,
    };
    let ProbeResponse { status: _, ahead: Some(ahead) } = greeting else {
        return (
            CheckResult::unchecked(Check::Clock, "The answer has no Date header, so its clock is not known."),
            false,
        );
    };
    let apart = ahead.abs();
    if apart < EQUAL {
        return (CheckResult::ok(Check::Clock, "The vendor's clock and this machine's agree."), false);
    }
    let side = if ahead.is_positive() { "behind" } else { "ahead of" };
    let detail = format!("This machine's clock is {} s {side} the vendor's.", apart.as_secs());
    let Some(tolerance) = tolerance else {
        return (CheckResult::ok(Check::Clock, format!("{detail} Its calls carry no time of ours.")), false);
    };
    let too_far = SignedDuration::try_from(tolerance).is_ok_and(|tolerance| apart > tolerance);
    if too_far {
        let detail = format!("{detail} It refuses calls that are more than {} s apart.", tolerance.as_secs());
        let advice = "Have this machine's clock set by NTP. Where it is right, tell the vendor that theirs is wrong.";
        return (CheckResult::fault(Check::Clock, detail, advice), true);
    }
    (CheckResult::ok(Check::Clock, format!("{detail} It takes calls up to {} s old.", tolerance.as_secs())), false)
}

fn credentials(health: Option<&CredentialCheck>) -> CheckResult {
    match health {
        None => CheckResult::unchecked(Check::Credentials, "The vendor could not be asked."),
        Some(CredentialCheck::Ok { detail }) => CheckResult::ok(Check::Credentials, detail.clone()),
        Some(CredentialCheck::Unchecked { detail }) => CheckResult::unchecked(Check::Credentials, detail.clone()),
        Some(CredentialCheck::Faulty(fault)) => {
            let said = fault.vendor.as_ref().and_then(|said| said.message.as_deref());
            let said = said.map(|said| format!(" The vendor said: {said}")).unwrap_or_default();
            CheckResult::fault(Check::Credentials, format!("{}{said}", fault.detail), fault.code.action())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(answer: Result<Option<i64>, NoGreeting>) -> ProbeReport {
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
    fn only_a_difference_the_vendor_minds_is_a_fault() {
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
    fn a_failed_handshake_has_advice_and_other_failures_do_not() {
        let no_greeting = |tls| {
            let reason = "reason".to_owned();
            ProbeReport { answer: Some(Err(NoGreeting { reason, tls })), ..look(Ok(None)) }
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
