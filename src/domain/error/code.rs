//! Every problem code, with who must act and whether a repeat can help: the table behind `GET /problems/{code}`.

use serde::{Deserialize, Serialize};

/// Who has to do something about a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Responsibility {
    /// The caller: the request has to change.
    Request,
    /// The operator: the account or its settings at the vendor have to change.
    Connection,
    /// The vendor: its service answered wrongly, late or not at all.
    Vendor,
    /// The operator: the gateway itself cannot serve at the moment.
    Gateway,
}

macro_rules! codes {
    ($($variant:ident $code:literal $origin:ident $retryable:literal $title:literal $meaning:literal $action:literal;)*) => {
        /// A problem code: the word a program acts on (`code`, and the last part of `type`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant's title and meaning stand in the table")]
        pub enum Code { $($variant,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word used in the API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// Who must act.
            #[must_use]
            pub const fn origin(self) -> Responsibility {
                match self { $(Self::$variant => Responsibility::$origin,)* }
            }

            /// Whether the same request can succeed later without anybody changing anything.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// One short sentence, the same for every occurrence (RFC 9457 `title`).
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What it means, for `GET /problems/{code}`.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What whoever must act should do.
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
        "The request said `ifExists: fail` and the gateway knows an assignment of this candidate to this assessment."
        "Use the existing assignment, or send `reuse` or `create_new`.";
    CandidateAlreadyExists "candidate_already_exists" Request false
        "The candidate already exists"
        "The request said `ifExists: fail` and the gateway knows the candidate, or the vendor already has an account with this user name that the gateway did not create."
        "Use the existing candidate, or choose another user name.";
    CandidateConflict "candidate_conflict" Request false
        "The candidate's identities belong to different people"
        "The identities given match two different candidates, or one that must not be changed through this request."
        "Find out which person is meant and send only that person's identities.";
    CandidateNotFound "candidate_not_found" Request false
        "The vendor does not know the candidate"
        "The vendor refused an update because it has no candidate with this id."
        "Register the candidate first, or correct the id.";
    CapabilityUnsupported "capability_unsupported" Request false
        "The vendor cannot do this"
        "The vendor has no such operation, or no place for a member that changes what happens to the person. Nothing was sent."
        "See `GET /vendors/{vendor}` for what it can do; leave the members named in `errors` out.";
    ConnectionCredentialsInvalid "connection_credentials_invalid" Connection false
        "The vendor refused the connection's credentials"
        "The vendor did not accept the account's key, secret or signature. The caller's own credentials were in order."
        "The operator has to correct the connection's credentials.";
    ConnectionForbidden "connection_forbidden" Request false
        "This client may not use the connection"
        "The connection exists but is not among those configured for the calling client."
        "Use another connection, or ask the operator to allow this one.";
    ConnectionMisconfigured "connection_misconfigured" Connection false
        "The connection is configured wrongly"
        "The vendor refused an account setting that only the operator can change."
        "The operator has to correct the connection's configuration.";
    ConnectionNotFound "connection_not_found" Request false
        "There is no such connection"
        "The request names a connection that is not configured."
        "See `GET /connections` for the names.";
    ConnectionRequired "connection_required" Request false
        "The request must name a connection"
        "Several connections are configured and nothing in the request or the client's settings says which one is meant."
        "Add `connection`.";
    ConnectionSaturated "connection_saturated" Gateway true
        "The connection is busy"
        "Too many requests wait for this connection already. Nothing was sent."
        "Repeat after `Retry-After`.";
    Draining "draining" Gateway true
        "The gateway is shutting down"
        "This instance takes no new work. Nothing was sent."
        "Repeat; another instance will answer.";
    DuplicateItem "duplicate_item" Request false
        "The same item stands in the request twice"
        "An earlier row of the same bulk is about the same candidate (and assessment)."
        "Send each only once.";
    GroupNotFound "group_not_found" Request false
        "The vendor does not know the group"
        "The vendor refused the candidate because the group does not exist there."
        "Correct `group`, or have the group created at the vendor.";
    IdempotencyInProgress "idempotency_in_progress" Request true
        "A request with this key is still running"
        "An earlier request with the same `Idempotency-Key` has not been answered yet."
        "Repeat after `Retry-After`.";
    IdempotencyKeyReused "idempotency_key_reused" Request false
        "The key was used for a different request"
        "An earlier request with the same `Idempotency-Key` had another content."
        "Use a fresh key for every new request.";
    InsufficientScope "insufficient_scope" Request false
        "The credentials lack a scope"
        "The calling client is known but may not do this."
        "Ask the operator for the scope named in `detail`.";
    Internal "internal" Gateway false
        "The gateway failed"
        "The gateway hit a fault of its own."
        "Report the request id to the operator.";
    InvalidField "invalid_field" Request false
        "A member has a value the vendor refuses"
        "The vendor refused the value of the member named in `errors`."
        "Correct the member.";
    InvalidReference "invalid_reference" Request false
        "Something referred to does not exist"
        "The candidate, assessment, program or another thing the request refers to is unknown, to the gateway or to the vendor."
        "Correct the reference.";
    IssuerUnavailable "issuer_unavailable" Gateway true
        "The token cannot be verified at the moment"
        "The keys of the token's issuer cannot be had, so whether the token is right is not known. Nothing was sent."
        "Repeat after `Retry-After`.";
    MalformedJson "malformed_json" Request false
        "The body is not valid JSON"
        "The body could not be read as JSON, or names a member twice."
        "Correct the place named in `detail`.";
    MethodNotAllowed "method_not_allowed" Request false
        "This resource does not know the method"
        "The path exists, the method does not."
        "Use one of the methods in `Allow`.";
    MissingField "missing_field" Request false
        "A member is missing"
        "The vendor refused the request because a member it needs is missing or empty."
        "Add the member named in `errors`, or in the vendor's message.";
    NotAcceptable "not_acceptable" Request false
        "The answer cannot have the format asked for"
        "`Accept` admits neither `application/json` nor `application/problem+json`."
        "Accept JSON.";
    NotFound "not_found" Request false
        "There is no such resource"
        "The path or the object does not exist, or belongs to somebody else."
        "Correct the path or the id.";
    Overloaded "overloaded" Gateway true
        "The gateway is overloaded"
        "Too many requests are being served. Nothing was sent."
        "Repeat after `Retry-After`.";
    PayloadTooLarge "payload_too_large" Request false
        "The body is too large"
        "The body is over the configured limit."
        "Send less at once.";
    ProgramNotFound "program_not_found" Request false
        "There is no such program"
        "The id is neither in the catalogue nor a possible id at the vendor. Nothing was sent."
        "See `GET /programs`.";
    RateLimited "rate_limited" Request true
        "Too many requests"
        "The client's own rate limit is used up."
        "Repeat after `Retry-After`.";
    Skipped "skipped" Request false
        "The row was not sent"
        "The bulk stopped before this row: it was cancelled, or `failOnErrors` was reached. Nothing was sent."
        "Retry the operation, or send the row again.";
    StoreUnavailable "store_unavailable" Gateway true
        "The gateway's store cannot be reached"
        "Without its store the gateway cannot keep its promises, so it begins no write. With outcome `unknown` a write was accepted, or may have been, before the store failed."
        "Repeat later. With outcome `unknown`, look at `resource` first.";
    SubjectUnsettled "subject_unsettled" Request true
        "An earlier write is not settled yet"
        "An earlier write about the same person or assignment has an unknown outcome; a later one must wait for it."
        "Repeat after `Retry-After`, or settle the resource by hand.";
    Unauthenticated "unauthenticated" Request false
        "Credentials are missing or wrong"
        "The request carries no valid API key or token."
        "Send `Authorization: Bearer <key>`.";
    UnsupportedMediaType "unsupported_media_type" Request false
        "The body has the wrong media type"
        "This resource does not read bodies of this `Content-Type`."
        "Send `application/json`; a bulk may also be `application/x-ndjson` or `text/csv`.";
    ValidationFailed "validation_failed" Request false
        "The request has invalid members"
        "Members are missing, unknown or have wrong values; `errors` names every one. Nothing was sent."
        "Correct the members named in `errors`.";
    VendorBadResponse "vendor_bad_response" Vendor false
        "The exam vendor's answer could not be understood"
        "The vendor answered, but not in a way that tells what happened."
        "Look at `resource` before sending again.";
    VendorCircuitOpen "vendor_circuit_open" Gateway true
        "The exam vendor is failing; nothing is sent for the moment"
        "The last calls to this vendor failed, so the gateway pauses. Nothing was sent."
        "Repeat after `Retry-After`.";
    VendorClockSkew "vendor_clock_skew" Gateway true
        "The exam vendor finds the gateway's clock wrong"
        "The vendor refused the request's date, even freshly signed. Nothing was changed."
        "The operator has to correct the gateway's clock.";
    VendorContractError "vendor_contract_error" Vendor false
        "The exam vendor refused the call itself"
        "The vendor does not know the operation the gateway called; its interface may have changed."
        "Report it to the operator.";
    VendorErrorUnmapped "vendor_error_unmapped" Vendor false
        "The exam vendor answered with an unknown error"
        "The vendor reported an error nobody has documented; what it means for the write is not known."
        "Look at the vendor's code and message, and at `resource`.";
    VendorInternalError "vendor_internal_error" Vendor true
        "The exam vendor failed"
        "The vendor reported a fault of its own; whether the write happened is not known."
        "Repeat with the same `Idempotency-Key`, or look at `resource`.";
    VendorRateLimited "vendor_rate_limited" Vendor true
        "The exam vendor is limiting requests"
        "The vendor refused the call because too many were made. Nothing was changed."
        "Repeat after `Retry-After`.";
    VendorRejectedRequest "vendor_rejected_request" Request false
        "The exam vendor refused the request"
        "The vendor found the request invalid; its message says why."
        "Correct the request by the vendor's message.";
    VendorSeatLimitReached "vendor_seat_limit_reached" Connection false
        "The account at the exam vendor is full"
        "The vendor's plan allows no more candidates."
        "The operator has to raise the limit at the vendor.";
    VendorTimeout "vendor_timeout" Vendor true
        "The exam vendor did not answer in time"
        "The request was sent and no answer came; whether the write happened is not known."
        "Repeat with the same `Idempotency-Key`, or look at `resource`.";
    VendorUnavailable "vendor_unavailable" Vendor true
        "The exam vendor is unavailable"
        "The vendor reported that it cannot serve at the moment; whether the write happened is not known."
        "Repeat with the same `Idempotency-Key`, or look at `resource`.";
    VendorUnreachable "vendor_unreachable" Vendor true
        "The exam vendor cannot be reached"
        "No connection to the vendor could be made. Nothing was sent."
        "Repeat later.";
}
