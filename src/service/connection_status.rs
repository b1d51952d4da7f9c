//! What the last call to a vendor shows about its connection.

use jiff::Timestamp;

use crate::domain::error::{Code, Error};

/// Observed status of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionStatus {
    /// The vendor responded to the last call.
    Ok,
    /// The last call failed.
    Degraded,
    /// The circuit breaker is open, so nothing is sent.
    CircuitOpen,
    /// The vendor rejects the credentials.
    CredentialsInvalid,
    /// The vendor rejects the gateway's timestamps.
    ClockSkew,
    /// No call was made yet, or the vendor has no call without side effects.
    Unchecked,
}

/// What the last call showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastCheck {
    pub(super) status: ConnectionStatus,
    /// The status in a sentence.
    pub(super) detail: String,
    pub(super) since: Option<Timestamp>,
    /// The problem that led to the status.
    code: Option<Code>,
}

impl Default for LastCheck {
    fn default() -> Self {
        let detail = "No call was made yet.".to_owned();
        Self { status: ConnectionStatus::Unchecked, detail, since: None, code: None }
    }
}

impl LastCheck {
    pub(super) fn ok(detail: String, now: Timestamp) -> Self {
        Self { status: ConnectionStatus::Ok, detail, since: Some(now), code: None }
    }

    pub(super) fn unchecked(detail: String, now: Timestamp) -> Self {
        Self { status: ConnectionStatus::Unchecked, detail, since: Some(now), code: None }
    }

    /// Returns what the result of a call shows; `None` if it says nothing about the vendor.
    pub(super) fn of_call(end: Result<(), &Error>, now: Timestamp) -> Option<Self> {
        let responds = || Self::ok("The vendor responds.".to_owned(), now);
        let Err(error) = end else { return Some(responds()) };
        let status = match error.code {
            Code::ConnectionCredentialsInvalid => ConnectionStatus::CredentialsInvalid,
            Code::VendorClockSkew => ConnectionStatus::ClockSkew,
            Code::VendorTimeout
            | Code::VendorUnreachable
            | Code::VendorUnavailable
            | Code::VendorInternalError
            | Code::VendorBadResponse
            | Code::VendorContractError
            | Code::ConnectionMisconfigured => ConnectionStatus::Degraded,
            // Says nothing about the vendor, or only that it limits the rate, so the status is unchanged.
            Code::VendorCircuitOpen
            | Code::ConnectionSaturated
            | Code::VendorRateLimited
            | Code::StoreUnavailable
            | Code::Draining
            | Code::Internal => return None,
            _ => return Some(responds()),
        };
        Some(Self { status, detail: error.detail.clone(), since: Some(now), code: Some(error.code) })
    }

    /// Returns the problem if it lasts until an operator solves it.
    pub(super) fn lasting_problem(&self) -> Option<Code> {
        self.code.filter(|code| {
            matches!(
                code,
                Code::ConnectionCredentialsInvalid
                    | Code::ConnectionMisconfigured
                    | Code::VendorClockSkew
                    | Code::VendorContractError
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::credentials(Code::ConnectionCredentialsInvalid, Some(ConnectionStatus::CredentialsInvalid), true)]
    #[case::clock(Code::VendorClockSkew, Some(ConnectionStatus::ClockSkew), true)]
    #[case::configuration(Code::ConnectionMisconfigured, Some(ConnectionStatus::Degraded), true)]
    #[case::contract(Code::VendorContractError, Some(ConnectionStatus::Degraded), true)]
    #[case::timeout(Code::VendorTimeout, Some(ConnectionStatus::Degraded), false)]
    #[case::request_at_fault(Code::InvalidReference, Some(ConnectionStatus::Ok), false)]
    #[case::own_failure(Code::StoreUnavailable, None, false)]
    fn a_problem_shows_the_status_and_who_must_act(
        #[case] code: Code,
        #[case] status: Option<ConnectionStatus>,
        #[case] lasting: bool,
    ) {
        let error = Error::new(code, "x");
        let seen = LastCheck::of_call(Err(&error), Timestamp::UNIX_EPOCH);
        assert_eq!(seen.as_ref().map(|seen| seen.status), status);
        assert_eq!(seen.and_then(|seen| seen.lasting_problem()), lasting.then_some(code));
    }
}
