//! Documentation added to every operation in one place: its scope, its problems, and its request and response headers.

use std::collections::BTreeMap;

use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required};

use crate::domain::error::Code;
use crate::domain::scope::Scope;
use crate::http::problem::{MEDIA_TYPE, always_has_retry_after, status};

/// Names of the two ways to present a key.
pub(in crate::http) const BEARER: &str = "bearer";
pub(in crate::http) const API_KEY: &str = "apiKey";

/// Problems of every protected operation.
const ALWAYS: &[Code] = &[
    Code::Unauthenticated,
    Code::NotAcceptable,
    Code::ValidationFailed,
    Code::RateLimited,
    Code::Internal,
    Code::IssuerUnavailable,
    Code::Overloaded,
];
/// Problems of every operation with a body.
const WITH_BODY: &[Code] = &[Code::MalformedJson, Code::PayloadTooLarge, Code::UnsupportedMediaType];

/// Problems of operations that choose a connection.
pub(in crate::http) const CONNECTION: &[Code] =
    &[Code::ConnectionForbidden, Code::ConnectionNotFound, Code::ConnectionRequired];
/// Problems of operations that read the store.
pub(in crate::http) const STORE: &[Code] = &[Code::StoreUnavailable];
/// Problems of operations that settle by hand.
pub(in crate::http) const SETTLE: &[Code] = &[Code::StoreUnavailable, Code::Draining, Code::SubjectUnsettled];
/// Problems of bulk requests; the result holds the problems of their rows.
pub(in crate::http) const BULK: &[Code] = &[Code::CapabilityUnsupported, Code::StoreUnavailable, Code::Draining];
/// Problems of operations that take an `Idempotency-Key`.
pub(in crate::http) const KEYED: &[Code] = &[Code::IdempotencyInProgress, Code::IdempotencyKeyReused];
/// Problems of operations that write at a vendor.
pub(in crate::http) const WRITE: &[Code] = &[
    Code::CapabilityUnsupported,
    Code::ConnectionCredentialsInvalid,
    Code::ConnectionMisconfigured,
    Code::ConnectionSaturated,
    Code::Draining,
    Code::InvalidField,
    Code::MissingField,
    Code::StoreUnavailable,
    Code::SubjectUnsettled,
    Code::VendorBadResponse,
    Code::VendorCircuitOpen,
    Code::VendorClockSkew,
    Code::VendorContractError,
    Code::VendorErrorUnmapped,
    Code::VendorInternalError,
    Code::VendorRateLimited,
    Code::VendorRejectedRequest,
    Code::VendorTimeout,
    Code::VendorUnavailable,
    Code::VendorUnreachable,
];
/// Problems of operations that register or change people.
pub(in crate::http) const PEOPLE: &[Code] = &[
    Code::CandidateAlreadyExists,
    Code::CandidateConflict,
    Code::CandidateNotFound,
    Code::GroupNotFound,
    Code::VendorSeatLimitReached,
];
/// Problems of operations that book.
pub(in crate::http) const BOOKING: &[Code] =
    &[Code::AssignmentAlreadyExists, Code::CandidateConflict, Code::InvalidReference];
/// Problems of operations that enrol.
pub(in crate::http) const ENROLMENT: &[Code] = &[Code::InvalidReference, Code::ProgramNotFound];

/// Returns every operation of a path.
pub(in crate::http) fn of_item_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Documents the scope that calling the operation requires; without one, credentials are enough.
pub(in crate::http) fn protect(operation: &mut Operation, scope: Option<Scope>) {
    let needs = [BEARER, API_KEY].map(|scheme| SecurityRequirement::new(scheme, scope.map(Scope::as_str)));
    operation.security = Some(needs.to_vec());
    let sentence = match scope {
        Some(scope) => format!("Requires the scope `{}`.", scope.as_str()),
        None => "Requires credentials, but no particular scope.".to_owned(),
    };
    operation.description = Some(match operation.description.take().filter(|text| !text.is_empty()) {
        Some(text) => format!("{text}\n\n{sentence}"),
        None => sentence,
    });
}

/// Documents that calling the operation requires no credentials.
pub(in crate::http) fn open(operation: &mut Operation) {
    operation.security = Some(Vec::new());
}

/// Documents the rate limit headers of a protected operation where callers look for them: on success responses and on
/// 429.
pub(in crate::http) fn add_rate_headers(operation: &mut Operation) {
    let refusal = status(Code::RateLimited).as_str().to_owned();
    for (status, answer) in &mut operation.responses.responses {
        if let RefOr::T(answer) = answer
            && (status.starts_with('2') || *status == refusal)
        {
            for (name, component) in [("RateLimit", "RateLimit"), ("RateLimit-Policy", "RateLimitPolicy")] {
                answer.headers.insert(name.to_owned(), header(component));
            }
        }
    }
}

/// Returns whether the operation documents query parameters.
pub(in crate::http) fn reads_query(operation: &Operation) -> bool {
    let in_query = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query);
    operation.parameters.iter().flatten().any(in_query)
}

/// Returns whether the operation has a response of this media type.
pub(in crate::http) fn has_media_type(operation: &Operation, media_type: &str) -> bool {
    let answers = operation.responses.responses.values();
    answers
        .filter_map(|answer| if let RefOr::T(answer) = answer { Some(answer) } else { None })
        .any(|answer| answer.content.contains_key(media_type))
}

/// Documents that a request may leave out the body.
pub(in crate::http) fn allow_no_body(operation: &mut Operation) {
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.required = Some(Required::False);
    }
}

/// Documents the request and response headers of a write.
pub(in crate::http) fn add_write_headers(operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    parameters.extend(
        ["Prefer", "IdempotencyKey"].map(|name| RefOr::Ref(Ref::new(format!("#/components/parameters/{name}")))),
    );
    for answer in operation.responses.responses.values_mut() {
        if let RefOr::T(answer) = answer {
            answer.headers.insert("Idempotent-Replayed".to_owned(), header("IdempotentReplayed"));
        }
    }
}

/// Documents every problem a protected operation can return.
pub(in crate::http) fn add_problems(operation: &mut Operation, scope: Option<Scope>, more: &[&[Code]]) {
    let body: &[Code] = if operation.request_body.is_some() { WITH_BODY } else { &[] };
    let in_path = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Path);
    let named = operation.parameters.iter().flatten().any(in_path);
    let named: &[Code] = if named { &[Code::NotFound] } else { &[] };
    let scoped: &[Code] = if scope.is_some() { &[Code::InsufficientScope] } else { &[] };
    let codes = [ALWAYS, scoped, body, named].into_iter().chain(more.iter().copied()).flatten().copied();
    add_responses(operation, codes);
}

/// Documents these problems.
pub(in crate::http) fn add_responses(operation: &mut Operation, codes: impl IntoIterator<Item = Code>) {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        let codes = by_status.entry(status(code).as_u16()).or_default();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    for (status, codes) in by_status {
        operation.responses.responses.insert(status.to_string(), RefOr::T(response(&codes)));
    }
}

fn response(codes: &[Code]) -> Response {
    let lines = codes.iter().map(|code| format!("* `{}`: {}.", code.as_str(), code.title()));
    let examples = codes.iter().map(|code| {
        let name = example_name(*code);
        (code.as_str().to_owned(), RefOr::Ref(Ref::new(format!("#/components/examples/{name}"))))
    });
    let content =
        ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).examples_from_iter(examples).build();
    let description = lines.collect::<Vec<_>>().join("\n");
    let mut response = ResponseBuilder::new().description(description).content(MEDIA_TYPE, content).build();
    if codes.iter().any(|code| always_has_retry_after(*code)) {
        response.headers.insert("Retry-After".to_owned(), header("RetryAfter"));
    }
    if codes.iter().any(|code| matches!(code, Code::Unauthenticated | Code::InsufficientScope)) {
        response.headers.insert("WWW-Authenticate".to_owned(), header("WWWAuthenticate"));
    }
    response
}

/// References one of [`headers`].
pub(in crate::http) fn header(name: &str) -> RefOr<Header> {
    RefOr::Ref(Ref::new(format!("#/components/headers/{name}")))
}

/// Returns the documented response headers.
pub(in crate::http) fn headers() -> [(&'static str, Header); 8] {
    let text = |description: &str| {
        HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .description(Some(description))
            .build()
    };
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let seconds =
        HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds to wait before retrying.")).build();
    [
        (
            "IdempotentReplayed",
            text("`true` if this is the stored response to an earlier request with the same `Idempotency-Key`."),
        ),
        ("Location", text("Address of the resource.")),
        ("PreferenceApplied", text("The preferences the gateway applied (RFC 7240).")),
        (
            "RateLimit",
            text(
                "The remaining rate of the client (draft-ietf-httpapi-ratelimit-headers): `r` requests now; after `t` \
                 seconds the full quota again or, if none is left, one request. Absent if the client has no limit.",
            ),
        ),
        (
            "RateLimitPolicy",
            text("The client's quota: `q` requests, fully available again after `w` seconds without use."),
        ),
        ("RequestId", text("The request id: the caller's own if it is valid, otherwise generated by the gateway.")),
        ("RetryAfter", seconds),
        (
            "WWWAuthenticate",
            text(
                "The challenge of RFC 6750: `Bearer`, with `error` if the credentials are not valid (`invalid_token`) or \
                 lack the `scope` it names (`insufficient_scope`).",
            ),
        ),
    ]
}

/// Returns the documented request headers of writes.
pub(in crate::http) fn parameters() -> [(&'static str, Parameter); 2] {
    // Without an example: a page that fills examples in would send one key for many writes.
    let parameter = |name: &str, description: &str, schema: ObjectBuilder| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema))
            .build()
    };
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let idempotency = parameter(
        "Idempotency-Key",
        "A key the caller chooses for this one write, such as a UUID: 1 to 255 visible ASCII characters, bare or in \
         double quotes. A retry with the same key, path and content gets the stored response, with \
         `Idempotent-Replayed: true`, and nothing is sent again. A retry while the first request is running gets 409 \
         `idempotency_in_progress`; the same key with other content gets 422 `idempotency_key_reused`. A write that \
         was not applied leaves the key free; if its outcome is unknown, a retry settles it before sending anything.",
        text().min_length(Some(1)).max_length(Some(257)).pattern(Some("^[\\x21-\\x7E]+$")),
    );
    let prefer = parameter(
        "Prefer",
        "Preferences (RFC 7240). `wait=<seconds>` limits how long the request waits; after that the response is 202 \
         and the work continues. `respond-async` returns 202 at once. `handling=strict` rejects fields the vendor \
         cannot store, which `handling=lenient` (the default) keeps at the gateway and lists in `warnings`. Other \
         preferences are ignored. Several are separated by commas: `wait=10, handling=strict`.",
        text(),
    );
    [("IdempotencyKey", idempotency), ("Prefer", prefer)]
}

/// Returns the name of a problem's example.
pub(in crate::http) fn example_name(code: Code) -> String {
    format!("problem_{}", code.as_str())
}
