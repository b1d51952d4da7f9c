//! `/receivers`: where vendors send their webhooks.
//!
//! Vendors have no credentials of the gateway's: the address holds a secret token, and the vendor may send a key. Neither
//! may reach a log, a span, a metric, a problem or the audit record; all of these name the route, never the path. A wrong
//! token and an unknown connection get the same response, before the body is read.

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};

use crate::domain::error::{Code, Error};
use crate::http::app_state::AppState;
use crate::http::audit_info::AuditInfo;
use crate::http::extract::body::collect;
use crate::http::extract::content_coding::DecodedBody;
use crate::http::problem::ApiError;
use crate::http::server::shutdown::ShutdownSignal;
use crate::service::Refusal;

/// Maximum size of a webhook's body, in bytes.
const MAX_BODY: u64 = 1 << 20;

/// The segments of a receiver's address.
pub(in crate::http) struct ReceiverPath {
    connection: String,
    token: String,
    assessment: Option<String>,
}

impl FromRequestParts<AppState> for ReceiverPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let Ok(Path(segments)) = Path::<Vec<String>>::from_request_parts(parts, app).await else {
            return Err(not_found().into());
        };
        let mut segments = segments.into_iter();
        let (Some(connection), Some(token)) = (segments.next(), segments.next()) else {
            return Err(not_found().into());
        };
        Ok(Self { connection, token, assessment: segments.next() })
    }
}

/// Receive a webhook
///
/// For vendors, not for callers of the API. `examgate receivers` prints the addresses. A webhook that gets 200 is stored;
/// it is read and matched afterwards. Its body may be of any content type. If the operator has set
/// `server.receiver_listen`, this path is served at that address only, and is 404 here.
#[utoipa::path(
    post, path = "/receivers/{connection}/{token}", operation_id = "receiveWebhook", tag = "Receivers",
    params(
        ("connection" = String, Path, description = "The connection's name, as the operator configured it.", example = "thinkexam-main"),
        ("token" = String, Path, description = "The secret token that the operator configured.", example = "a-long-random-token"),
    ),
    request_body(content = Value, description = "What the vendor reports, in its own form; at most 1 MiB.", content_type = "application/json", example = json!(webhook_example())),
    responses((status = 200, description = "The webhook is stored.")),
)]
pub(in crate::http) async fn receive(State(app): State<AppState>, path: ReceiverPath, request: Request) -> Response {
    answered(&app, path, request).await
}

/// Receive a webhook about an assessment
///
/// Like `/receivers/{connection}/{token}`, for webhooks that do not say which assessment they are about: the vendor is
/// given an address of its own for each.
#[utoipa::path(
    post, path = "/receivers/{connection}/{token}/{assessment}", operation_id = "receiveAssessmentWebhook", tag = "Receivers",
    params(
        ("connection" = String, Path, description = "The connection's name, as the operator configured it.", example = "thinkexam-main"),
        ("token" = String, Path, description = "The secret token that the operator configured.", example = "a-long-random-token"),
        ("assessment" = String, Path, description = "The assessment: its catalogue id or the vendor's own id.", example = "rust-101"),
    ),
    request_body(content = Value, description = "What the vendor reports, in its own form; at most 1 MiB.", content_type = "application/json", example = json!(webhook_example())),
    responses((status = 200, description = "The webhook is stored.")),
)]
pub(in crate::http) async fn receive_for_assessment(
    State(app): State<AppState>,
    path: ReceiverPath,
    request: Request,
) -> Response {
    answered(&app, path, request).await
}

/// Responds to a webhook. Only the name of a connection whose token was right may be logged.
async fn answered(app: &AppState, path: ReceiverPath, request: Request) -> Response {
    let ReceiverPath { connection, token, assessment } = path;
    let receiver = match app.gateway.find_receiver(&connection, &token) {
        Ok(receiver) => receiver,
        Err(Refusal::NotFound) => return ApiError::from(not_found()).into_response(),
        Err(refusal) => return refused(refusal, &connection),
    };
    let stored = async {
        let (parts, body) = request.into_parts();
        ShutdownSignal::of(&parts).reject_after_close()?;
        app.gateway.ensure_store_available()?;
        // Never all permits: vendors must not keep callers out.
        let _permit = app.requests.acquire(&format!("receiver of {connection}"), false)?;
        let headers = parts.headers.clone();
        let body = collect(DecodedBody::new(Request::from_parts(parts, body), MAX_BODY, app.limits)?).await?;
        let key_of = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok::<_, Error>(app.gateway.receive_webhook(receiver, assessment.as_deref(), key_of, body.into()).await)
    };
    match stored.await {
        Ok(Ok(())) => AuditInfo::connection(&connection).on(StatusCode::OK.into_response()),
        Ok(Err(refusal)) => refused(refusal, &connection),
        Err(error) => AuditInfo::connection(&connection).on(ApiError::from(error).into_response()),
    }
}

fn refused(refusal: Refusal, connection: &str) -> Response {
    let error = match refusal {
        Refusal::NotFound => not_found(),
        Refusal::Busy => Error::new(Code::Overloaded, "Too many webhooks of this connection are being received."),
        Refusal::WrongKey(status) => {
            tracing::warn!(connection, status, "a webhook came with a wrong key, or with none, and was not taken");
            if status == StatusCode::OK.as_u16() {
                return AuditInfo::connection(connection).on(StatusCode::OK.into_response());
            }
            Error::new(Code::Unauthenticated, "The webhook's key is missing or wrong.")
        }
        Refusal::Failed(error) => *error,
    };
    AuditInfo::connection(connection).on(ApiError::from(error).into_response())
}

fn not_found() -> Error {
    Error::new(Code::NotFound, "There is no such receiver.")
}

/// Builds the example of a webhook.
fn webhook_example() -> Value {
    json!({ "result": { "enrollment_no": "GW0001", "email": "jane.doe@example.com", "status": "COMPLETED",
                        "marks_scored": 17, "total_marks": "20", "percentage": 85 } })
}
