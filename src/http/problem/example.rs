//! An example of every problem, for the API description.

use crate::domain::capability::WriteKind;
use crate::domain::error::{Code, ConnectionRef, Error, FieldError, Responsibility, VendorResponse};

/// Builds an error with this code as a caller may see it.
pub(super) fn example_error(code: Code) -> Error {
    let unclear = matches!(
        code,
        Code::VendorTimeout
            | Code::VendorUnavailable
            | Code::VendorInternalError
            | Code::VendorErrorUnmapped
            | Code::VendorBadResponse
    );
    let error = Error::new(code, code.meaning());
    let mut error = if unclear {
        error.with_unknown_outcome().with_resource("/candidates/cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f")
    } else {
        error
    };
    if matches!(code.origin(), Responsibility::Vendor | Responsibility::Connection)
        || code == Code::VendorRejectedRequest
    {
        let operation = WriteKind::CandidatesCreate.as_str().to_owned();
        let http_status = match code {
            Code::VendorTimeout | Code::VendorUnreachable => None,
            Code::VendorRateLimited => Some(429),
            Code::VendorUnavailable => Some(503),
            Code::VendorInternalError => Some(500),
            Code::ConnectionCredentialsInvalid => Some(403),
            _ => Some(200),
        };
        error.vendor = Some(VendorResponse { operation, http_status, ..VendorResponse::default() });
        error.connection =
            Some(ConnectionRef { connection: "startexam-main".to_owned(), vendor: "startexam".to_owned() });
    }
    let field = match code {
        Code::ValidationFailed => Some(FieldError::invalid("/email", "is not an e-mail address")),
        Code::CapabilityUnsupported => Some(FieldError::unsupported("/notify", "the vendor sends no mail")),
        Code::MissingField => Some(FieldError::missing("/email", "is needed by the vendor")),
        Code::InvalidField => Some(FieldError::invalid("/externalId", "was refused by the vendor")),
        Code::GroupNotFound => Some(FieldError::invalid("/group", "is unknown to the vendor")),
        Code::InvalidReference => {
            Some(FieldError::new("/candidate/id", Code::InvalidReference.as_str(), "there is no such candidate"))
        }
        _ => None,
    };
    error.errors.extend(field);
    error.oldest = (code == Code::CursorExpired).then_some(4107);
    error
}
