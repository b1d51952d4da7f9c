//! The one table from problem code to HTTP status.

use http::StatusCode;

use crate::domain::error::Code;

/// Returns the HTTP status of a problem with this code.
#[must_use]
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::MalformedJson => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::InsufficientScope | Code::ConnectionForbidden => StatusCode::FORBIDDEN,
        Code::NotFound | Code::ConnectionNotFound | Code::ProgramNotFound | Code::CandidateNotFound => {
            StatusCode::NOT_FOUND
        }
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        Code::AssignmentAlreadyExists
        | Code::CandidateAlreadyExists
        | Code::CandidateConflict
        | Code::DeliveryDelivered
        | Code::DeliveryExcluded
        | Code::IdempotencyInProgress
        | Code::ReportMatched
        | Code::SubjectUnsettled
        | Code::VendorSeatLimitReached
        | Code::WebhookConfigured => StatusCode::CONFLICT,
        Code::CursorExpired => StatusCode::GONE,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::CapabilityUnsupported
        | Code::ConnectionRequired
        | Code::DuplicateItem
        | Code::GroupNotFound
        | Code::IdempotencyKeyReused
        | Code::InvalidField
        | Code::InvalidReference
        | Code::MissingField
        | Code::ValidationFailed
        | Code::VendorRejectedRequest
        | Code::WebhookNotAllowed => StatusCode::UNPROCESSABLE_ENTITY,
        Code::ConnectionCredentialsInvalid | Code::ConnectionMisconfigured | Code::Skipped => {
            StatusCode::FAILED_DEPENDENCY
        }
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::VendorBadResponse | Code::VendorContractError | Code::VendorErrorUnmapped | Code::VendorInternalError => {
            StatusCode::BAD_GATEWAY
        }
        Code::ConnectionSaturated
        | Code::Draining
        | Code::IssuerUnavailable
        | Code::Overloaded
        | Code::StoreUnavailable
        | Code::VendorCircuitOpen
        | Code::VendorClockSkew
        | Code::VendorRateLimited
        | Code::VendorUnavailable
        | Code::VendorUnreachable => StatusCode::SERVICE_UNAVAILABLE,
        Code::VendorTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// Returns whether a response with this code always carries `Retry-After`.
pub(in crate::http) fn always_has_retry_after(code: Code) -> bool {
    matches!(
        code,
        Code::RateLimited
            | Code::Overloaded
            | Code::Draining
            | Code::IssuerUnavailable
            | Code::ConnectionSaturated
            | Code::VendorCircuitOpen
            | Code::VendorRateLimited
            | Code::IdempotencyInProgress
            | Code::StoreUnavailable
            | Code::SubjectUnsettled
    )
}
