//! Every problem code, who must act on it and whether a retry can help: the table behind `GET /problems/{code}`.

use crate::domain::words::words;

words! {
    /// Who must act on a problem.
    #[schema(as = ProblemOrigin)]
    pub enum Responsibility {
        /// The caller: the request must change.
        Request "request",
        /// The operator: the account or its settings at the vendor must change.
        Connection "connection",
        /// The vendor: its service responded wrongly, late or not at all.
        Vendor "vendor",
        /// The operator: the gateway itself cannot serve the request now.
        Gateway "gateway",
    }
}

macro_rules! codes {
    ($($variant:ident $code:tt $origin:ident $retryable:literal $title:literal $meaning:literal $action:literal;)*) => {
        words! {
            /// A problem code: the machine-readable `code`, also the last segment of `type`.
            pub enum Code { $(#[doc = $meaning] $variant $code,)* }
        }

        impl Code {
            /// Returns the party that must act.
            #[must_use]
            pub const fn origin(self) -> Responsibility {
                match self { $(Self::$variant => Responsibility::$origin,)* }
            }

            /// Returns whether the same request can succeed later without any change.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// Returns a short summary, the same for every occurrence (RFC 9457 `title`).
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// Returns the explanation for `GET /problems/{code}`.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// Returns the action recommended to the responsible party.
            #[must_use]
            pub const fn action(self) -> &'static str {
                match self { $(Self::$variant => $action,)* }
            }
        }
    };
}

codes! {
    AssignmentAlreadyExists "assignment_already_exists" Request false
        "The candidate is already booked for this assessment"
        "The request has `ifExists: fail`, and the gateway already has an assignment of this candidate to this assessment."
        "Use the existing assignment, or send `reuse` or `create_new`.";
    CandidateAlreadyExists "candidate_already_exists" Request false
        "The candidate already exists"
        "The request has `ifExists: fail` and the gateway already has the candidate, or the vendor already has an account with this user name that the gateway did not create."
        "Use the existing candidate, or choose another user name.";
    CandidateConflict "candidate_conflict" Request false
        "The candidate's identities belong to different people"
        "The given identities match two different candidates, or one that this request must not change."
        "Determine which person is meant and send only that person's identities.";
    CandidateNotFound "candidate_not_found" Request false
        "The vendor does not know the candidate"
        "The vendor rejected an update because it has no candidate with this id."
        "Register the candidate first, or correct the id.";
    CapabilityUnsupported "capability_unsupported" Request false
        "Not supported by the vendor"
        "The vendor does not support the operation, or a field that decides what happens to the candidate (other \
         unsupported fields only cause a warning). Nothing was sent."
        "See `GET /vendors/{vendor}` for what the vendor supports; omit the fields listed in `errors`.";
    ConnectionCredentialsInvalid "connection_credentials_invalid" Connection false
        "The vendor rejected the connection's credentials"
        "The vendor did not accept the account's key, secret or signature. The caller's own credentials are valid."
        "The operator must correct the connection's credentials.";
    ConnectionForbidden "connection_forbidden" Request false
        "This client may not use the connection"
        "The connection exists, but the client is not configured to use it."
        "Use another connection, or ask the operator to allow this one.";
    ConnectionMisconfigured "connection_misconfigured" Connection false
        "The connection is misconfigured"
        "The vendor rejected an account setting that only the operator can change."
        "The operator must correct the connection's configuration.";
    ConnectionNotFound "connection_not_found" Request false
        "Connection not found"
        "The request names a connection that is not configured."
        "See `GET /connections` for the available names.";
    ConnectionRequired "connection_required" Request false
        "The request must name a connection"
        "Several connections are configured, and neither the request nor the client's settings select one."
        "Add `connection`.";
    ConnectionSaturated "connection_saturated" Gateway true
        "The connection is busy"
        "Too many requests are already waiting for this connection. Nothing was sent."
        "Retry after the time in `Retry-After`.";
    CursorExpired "cursor_expired" Request false
        "The events after this position are no longer all kept"
        "Events are kept for a limited time, and some of those after the given position have been removed. Nothing can tell which."
        "Begin again at `oldest`, and read what you need of the resources themselves.";
    DeliveryDelivered "delivery_delivered" Request false
        "The delivery has succeeded already"
        "The receiver has accepted the delivery, so it is not sent again by itself."
        "To deliver its event again, replay the webhook's events with `only: all`.";
    DeliveryExcluded "delivery_excluded" Request false
        "The webhook no longer gets the event"
        "The webhook's filters, or what its owner may use, have changed since the delivery was made, or its event is no longer kept. It is not sent again."
        "Change the webhook's filters, or read the event's resource.";
    Draining "draining" Gateway true
        "The gateway is shutting down"
        "This instance accepts no new work. Nothing was sent."
        "Retry; another instance will serve the request.";
    DuplicateItem "duplicate_item" Request false
        "Duplicate item"
        "An earlier row of the same bulk request has the same candidate (and assessment)."
        "Send each item only once.";
    GroupNotFound "group_not_found" Request false
        "The vendor does not know the group"
        "The vendor rejected the candidate because the group does not exist there."
        "Correct `group`, or create the group at the vendor.";
    IdempotencyInProgress "idempotency_in_progress" Request true
        "A request with this key is still running"
        "An earlier request with the same `Idempotency-Key` has not finished, so its outcome is not known yet. This request \
         sent nothing."
        "Retry with the same key after the time in `Retry-After`.";
    IdempotencyKeyReused "idempotency_key_reused" Request false
        "The key was used for a different request"
        "An earlier request with the same `Idempotency-Key` had different content."
        "Use a new key for each new request.";
    InsufficientScope "insufficient_scope" Request false
        "The credentials lack a scope"
        "The client is authenticated but lacks the required scope."
        "Ask the operator for the scope named in `detail`.";
    Internal "internal" Gateway false
        "The gateway failed"
        "The gateway encountered an internal error."
        "Report the request id to the operator.";
    InvalidField "invalid_field" Request false
        "The vendor rejected the value of a field"
        "The vendor rejected the value of the field named in `errors`."
        "Correct the field.";
    InvalidReference "invalid_reference" Request false
        "A referenced resource does not exist"
        "The request refers to a candidate, assessment, program or other resource that the gateway or the vendor does not have."
        "Correct the reference.";
    IssuerUnavailable "issuer_unavailable" Gateway true
        "The token cannot be verified now"
        "The token issuer's signing keys could not be fetched, so the token could not be verified. Nothing was sent."
        "Retry after the time in `Retry-After`.";
    MalformedJson "malformed_json" Request false
        "The body is not valid JSON"
        "The body could not be parsed as JSON, or contains a field twice."
        "Correct the body at the position given in `detail`.";
    MethodNotAllowed "method_not_allowed" Request false
        "Method not allowed"
        "The path exists, but does not support this method."
        "Use one of the methods listed in `Allow`.";
    MissingField "missing_field" Request false
        "A required field is missing"
        "The vendor rejected the request because a required field is missing or empty."
        "Add the field named in `errors` or in the vendor's message.";
    NotAcceptable "not_acceptable" Request false
        "None of the requested media types is available"
        "`Accept` admits neither `application/json` nor `application/problem+json`."
        "Accept JSON.";
    NotFound "not_found" Request false
        "Resource not found"
        "The path or the object does not exist, or belongs to another tenant."
        "Correct the path or the id.";
    Overloaded "overloaded" Gateway true
        "The gateway is overloaded"
        "The gateway is serving too many requests. Nothing was sent."
        "Retry after the time in `Retry-After`.";
    PayloadTooLarge "payload_too_large" Request false
        "The body is too large"
        "The body exceeds the configured limit."
        "Send a smaller body.";
    ProgramNotFound "program_not_found" Request false
        "Program not found"
        "The id is neither in the catalogue nor a valid program id at the vendor. Nothing was sent."
        "See `GET /programs`.";
    RateLimited "rate_limited" Request true
        "Too many requests"
        "The client has exceeded its rate limit."
        "Retry after the time in `Retry-After`.";
    ReportMatched "report_matched" Request false
        "The report belongs to a result already"
        "A result is made from the report, so the report can be neither matched nor dismissed."
        "Read the report: `result` names the result that is made from it.";
    Skipped "skipped" Request false
        "The row was not sent"
        "The operation stopped before this row: it was cancelled, or `failOnErrors` was reached. Nothing was sent."
        "Retry the operation, or send the row again.";
    StoreUnavailable "store_unavailable" Gateway true
        "The gateway's store cannot be reached"
        "Without its store the gateway starts no write, because it could not guarantee the outcome. With outcome `unknown`, a write was accepted, or may have been, before the store failed."
        "Retry later. With outcome `unknown`, check `resource` first.";
    SubjectUnsettled "subject_unsettled" Request true
        "The outcome of an earlier write is still unknown"
        "An earlier write about the same candidate or assignment has an unknown outcome; later writes must wait until it is reconciled."
        "Retry after the time in `Retry-After`, or settle the resource manually.";
    Unauthenticated "unauthenticated" Request false
        "Credentials are missing or invalid"
        "The request carries no valid API key or token."
        "Send `Authorization: Bearer <key>`.";
    UnsupportedMediaType "unsupported_media_type" Request false
        "Unsupported media type"
        "This resource does not accept bodies of this `Content-Type`."
        "Send `application/json`; bulk requests may also be `application/x-ndjson` or `text/csv`.";
    ValidationFailed "validation_failed" Request false
        "The request has invalid fields"
        "Fields are missing, unknown or invalid; `errors` lists each one. Nothing was sent."
        "Correct the fields listed in `errors`.";
    VendorBadResponse "vendor_bad_response" Vendor false
        "The exam vendor sent an invalid response"
        "The vendor responded, but the response does not show what happened."
        "Check `resource` before sending the request again.";
    VendorCircuitOpen "vendor_circuit_open" Gateway true
        "The exam vendor is failing; calls are paused"
        "The last calls to this vendor failed, so the gateway pauses further calls. Nothing was sent."
        "Retry after the time in `Retry-After`.";
    VendorClockSkew "vendor_clock_skew" Gateway true
        "The exam vendor rejected the request's timestamp"
        "The vendor rejected the request's timestamp, even after the request was signed again. Nothing was changed."
        "The operator must correct the gateway's clock.";
    VendorContractError "vendor_contract_error" Vendor false
        "The exam vendor does not support the call"
        "The vendor does not recognise the operation that the gateway called; its API may have changed."
        "Report it to the operator.";
    VendorErrorUnmapped "vendor_error_unmapped" Vendor false
        "The exam vendor returned an unknown error"
        "The vendor returned an undocumented error; its effect on the write is unknown."
        "Check the vendor's code and message, and `resource`.";
    VendorInternalError "vendor_internal_error" Vendor true
        "The exam vendor failed"
        "The vendor reported an internal error; whether the write happened is unknown."
        "Retry with the same `Idempotency-Key`, or check `resource`.";
    VendorRateLimited "vendor_rate_limited" Vendor true
        "The exam vendor is limiting requests"
        "The vendor rejected the call because of its rate limit. Nothing was changed."
        "Retry after the time in `Retry-After`.";
    VendorRejectedRequest "vendor_rejected_request" Request false
        "The exam vendor rejected the request"
        "The vendor considers the request invalid; its message gives the reason."
        "Correct the request according to the vendor's message.";
    VendorSeatLimitReached "vendor_seat_limit_reached" Connection false
        "The account at the exam vendor is full"
        "The vendor's plan allows no more candidates."
        "The operator must raise the limit at the vendor.";
    VendorTimeout "vendor_timeout" Vendor true
        "The exam vendor did not answer in time"
        "The request was sent, but no response arrived; whether the write happened is unknown."
        "Retry with the same `Idempotency-Key`, or check `resource`.";
    VendorUnavailable "vendor_unavailable" Vendor true
        "The exam vendor is unavailable"
        "The vendor reported that it is temporarily unavailable; whether the write happened is unknown."
        "Retry with the same `Idempotency-Key`, or check `resource`.";
    VendorUnreachable "vendor_unreachable" Vendor true
        "The exam vendor cannot be reached"
        "The gateway could not connect to the vendor. Nothing was sent."
        "Retry later.";
    WebhookConfigured "webhook_configured" Request false
        "The webhook belongs to the operator's configuration"
        "The operator has configured this webhook, so the API can neither change nor delete it."
        "Ask the operator to change it, or create a webhook of your own.";
    WebhookNotAllowed "webhook_not_allowed" Request false
        "The webhook's address is not allowed"
        "The operator allows webhooks to certain hosts only, and none to private addresses unless they are named. Nothing was \
         sent."
        "Use an allowed address, or ask the operator to allow this one.";
}
