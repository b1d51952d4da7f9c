//! What is wrong with a connection, step by step, and what to do about it: its name, its server, its TLS, its clock, its
//! credentials. Nothing is done at the vendor that has a side effect.

use std::time::Duration;

use jiff::SignedDuration;

use crate::domain::problem::{Code, Fault};
use crate::domain::vendor::{Call, Health};
use crate::transport::{Greeting, Look, NoGreeting, TlsFailure};
use crate::vendors::Connected;

/// From this difference on the clocks are not called equal; both tell whole seconds, and an answer takes its time.
const EQUAL: SignedDuration = SignedDuration::from_secs(5);

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
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
pub enum Verdict {
    /// In order.
    Ok,
    /// Nothing harmless could tell, or an earlier step stood in the way.
    Unchecked,
    /// Out of order.
    Fault,
}

/// One step of an examination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub step: Step,
    /// What was found.
    pub verdict: Verdict,
    /// The finding in a sentence.
    pub detail: String,
    /// What to do about a fault.
    pub advice: Option<String>,
}

/// Everything that was found at one connection.
#[derive(Debug, Clone)]
pub struct Examination {
    /// One for every step, in order.
    pub findings: Vec<Finding>,
    /// What the credentials' check found; `None` where it was not come to.
    pub(super) health: Option<Health>,
    /// Whether the clocks are too far apart for the vendor.
    pub(super) skewed: bool,
}

/// Looks at a connection as far as that has no side effects at the vendor.
pub async fn examine(connected: &Connected, call: &Call) -> Examination {
    let look = connected.client.look(call).await;
    let tolerance = connected.vendor.descriptor().clock_tolerance;
    let mut findings = vec![address(&look), reachability(&look), tls(&look)];
    let (clock, skewed) = clock(&look, tolerance);
    findings.push(clock);
    let answered = matches!(look.answer, Some(Ok(_)));
    let health = if answered { Some(connected.vendor.check(call).await) } else { None };
    findings.push(credentials(health.as_ref()));
    Examination { findings, health, skewed }
}

impl Examination {
    /// Steps that found something out of order.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Fault).count()
    }

    /// The finding that matters most: the first fault, or else what the credentials' check found.
    #[must_use]
    pub fn summary(&self) -> &Finding {
        let fault = self.findings.iter().find(|finding| finding.verdict == Verdict::Fault);
        // There is one finding for every step.
        fault.unwrap_or(&self.findings[self.findings.len() - 1])
    }

    /// The first fault as one of the gateway's own, if there is any.
    pub(super) fn fault(&self) -> Option<Fault> {
        if let Some(Health::Faulty(fault)) = &self.health {
            return Some((**fault).clone());
        }
        let first = self.findings.iter().find(|finding| finding.verdict == Verdict::Fault)?;
        let code = if self.skewed { Code::VendorClockSkew } else { Code::VendorUnreachable };
        let advice = first.advice.as_deref().unwrap_or_default();
        Some(Fault::new(code, format!("{} {advice}", first.detail).trim_end()))
    }
}

impl Step {
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

impl Verdict {
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

impl Finding {
    fn ok(step: Step, detail: impl Into<String>) -> Self {
        Self { step, verdict: Verdict::Ok, detail: detail.into(), advice: None }
    }

    fn unchecked(step: Step, detail: impl Into<String>) -> Self {
        Self { step, verdict: Verdict::Unchecked, detail: detail.into(), advice: None }
    }

    fn fault(step: Step, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { step, verdict: Verdict::Fault, detail: detail.into(), advice: Some(advice.into()) }
    }
}

fn address(look: &Look) -> Finding {
    match &look.addresses {
        Ok(found) => {
            let found: Vec<String> = found.iter().take(4).map(|address| address.ip().to_string()).collect();
            Finding::ok(Step::Address, format!("{} is {}.", look.place, found.join(", ")))
        }
        Err(reason) => Finding::fault(
            Step::Address,
            format!("{} has no address: {reason}.", look.place),
            "Check the host in base_url for a slip, and whether this machine's name server knows it.",
        ),
    }
}

fn reachability(look: &Look) -> Finding {
    match &look.listening {
        None => Finding::unchecked(Step::Reachability, "There is no address to go to."),
        Some(Ok(took)) => {
            let detail = format!("A connection was made within {} ms.", took.as_millis());
            Finding::ok(Step::Reachability, detail)
        }
        Some(Err(reason)) => Finding::fault(
            Step::Reachability,
            format!("Nobody answers: {reason}."),
            "Check the port in base_url, whether the vendor is up, and whether a firewall lets this machine out to it.",
        ),
    }
}

fn tls(look: &Look) -> Finding {
    match &look.answer {
        None => Finding::unchecked(Step::Tls, "There is no connection to encrypt."),
        Some(_) if !look.encrypted => Finding::unchecked(
            Step::Tls,
            "base_url is plain http: nothing is encrypted, credentials and people included.",
        ),
        Some(Ok(_)) => Finding::ok(Step::Tls, "The connection is encrypted, and the certificate is good for the host."),
        Some(Err(NoGreeting { reason, tls: Some(failure) })) => {
            Finding::fault(Step::Tls, format!("No encrypted connection: {reason}"), tls_advice(*failure))
        }
        Some(Err(NoGreeting { reason, tls: None })) => {
            Finding::unchecked(Step::Tls, format!("Not known, because the vendor did not respond: {reason}"))
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
fn clock(look: &Look, tolerance: Option<Duration>) -> (Finding, bool) {
    let greeting = match &look.answer {
        None | Some(Err(_)) => return (Finding::unchecked(Step::Clock, "Nothing was answered."), false),
        Some(Ok(greeting)) => greeting,
    };
    let Greeting { status: _, ahead: Some(ahead) } = greeting else {
        return (Finding::unchecked(Step::Clock, "The answer has no Date header, so its clock is not known."), false);
    };
    let apart = ahead.abs();
    if apart < EQUAL {
        return (Finding::ok(Step::Clock, "The vendor's clock and this machine's agree."), false);
    }
    let side = if ahead.is_positive() { "behind" } else { "ahead of" };
    let detail = format!("This machine's clock is {} s {side} the vendor's.", apart.as_secs());
    let Some(tolerance) = tolerance else {
        return (Finding::ok(Step::Clock, format!("{detail} Its calls carry no time of ours.")), false);
    };
    let too_far = SignedDuration::try_from(tolerance).is_ok_and(|tolerance| apart > tolerance);
    if too_far {
        let detail = format!("{detail} It refuses calls that are more than {} s apart.", tolerance.as_secs());
        let advice = "Have this machine's clock set by NTP. Where it is right, tell the vendor that theirs is wrong.";
        return (Finding::fault(Step::Clock, detail, advice), true);
    }
    (Finding::ok(Step::Clock, format!("{detail} It takes calls up to {} s old.", tolerance.as_secs())), false)
}

fn credentials(health: Option<&Health>) -> Finding {
    match health {
        None => Finding::unchecked(Step::Credentials, "The vendor could not be asked."),
        Some(Health::Ok { detail }) => Finding::ok(Step::Credentials, detail.clone()),
        Some(Health::Unchecked { detail }) => Finding::unchecked(Step::Credentials, detail.clone()),
        Some(Health::Faulty(fault)) => {
            let said = fault.vendor.as_ref().and_then(|said| said.message.as_deref());
            let said = said.map(|said| format!(" The vendor said: {said}")).unwrap_or_default();
            Finding::fault(Step::Credentials, format!("{}{said}", fault.detail), fault.code.action())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(answer: Result<Option<i64>, NoGreeting>) -> Look {
        let answer = answer.map(|ahead| Greeting { status: 404, ahead: ahead.map(SignedDuration::from_secs) });
        Look {
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
            (Some(0), quarter, Verdict::Ok, false),
            (Some(-4), quarter, Verdict::Ok, false),
            (Some(600), quarter, Verdict::Ok, false),
            (Some(901), quarter, Verdict::Fault, true),
            (Some(-86_400), quarter, Verdict::Fault, true),
            (Some(86_400), None, Verdict::Ok, false),
            (None, quarter, Verdict::Unchecked, false),
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
            Look { answer: Some(Err(NoGreeting { reason, tls })), ..look(Ok(None)) }
        };
        for (failure, word) in [
            (TlsFailure::OutsideValidity, "clock"),
            (TlsFailure::UnknownIssuer, "root"),
            (TlsFailure::WrongHost, "host"),
            (TlsFailure::Handshake, "TLS 1.2"),
        ] {
            let finding = tls(&no_greeting(Some(failure)));
            assert_eq!(finding.verdict, Verdict::Fault);
            assert!(finding.advice.as_deref().unwrap().contains(word), "{finding:?}");
        }
        assert_eq!(tls(&no_greeting(None)).verdict, Verdict::Unchecked);
    }
}
