//! `/candidates`.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use crate::domain::candidate::{CandidateState, Identity};
use crate::domain::ids::CandidateId;
use crate::http::app_state::AppState;
use crate::http::dto::candidate::{
    Candidate, CandidateChanges, CandidateList, CandidateSearch, InitialPassword, NewCandidate, ValidRegistration,
};
use crate::http::dto::common::Settlement;
use crate::http::extract::body::{Body, EmptyBody, MergePatch};
use crate::http::extract::merge_patch;
use crate::http::extract::prefer::Preferences;
use crate::http::extract::request_parts::{AuthenticatedCaller, Id, QueryParams, one_of};
use crate::http::extract::write_request::WriteRequest;
use crate::http::pagination::paginate;
use crate::http::problem::ApiError;
use crate::http::response::{removal_response, write_response};
use crate::service::{CandidateQuery, WriteReply, WriteResult};

/// Register a candidate
///
/// Registers a person on a connection. If the gateway already has the person there (same `externalId`, same `userName`,
/// or the same e-mail address if the vendor identifies people by it), the response is 200 and the person is not
/// registered again.
///
/// The gateway keeps fields the vendor cannot store and lists them in `warnings`; with `Prefer: handling=strict` they
/// are an error.
#[utoipa::path(
    post, path = "/candidates", operation_id = "createCandidate", tag = "Candidates",
    params(
        ("connection" = Option<String>, Query, description = "Name of the connection. If the body names one too, it must be the same.", nullable = false),
    ),
    request_body(content = NewCandidate),
    responses(
        (status = 201, description = "The vendor has registered the person.", body = Candidate),
        (status = 200, description = "The gateway already had the person.", body = Candidate),
        (status = 202, description = "The registration is still running; its state appears at `Location`.", body = Candidate),
    ),
)]
pub(in crate::http) async fn create(
    State(app): State<AppState>,
    query: QueryParams,
    WriteRequest { caller, preferences, patience, body: Body(ValidRegistration { connection, new }) }: WriteRequest<
        Body<NewCandidate>,
    >,
) -> Result<Response, ApiError> {
    let connection = query.connection(connection)?;
    let strict = preferences.strict();
    let handle = app.gateway.create_candidate(&caller, connection.as_deref(), new, strict)?;
    Ok(write_response(&app, preferences, patience.wait(handle).await?, Candidate::from))
}

/// List candidates
///
/// Without `externalId`, the list has every candidate, those the vendor rejected included. With it, the list has the
/// candidates who have this id now; a rejected one has given up its id. A page may have fewer entries than `limit`
/// although another one follows. People are returned without their `photo`. To search by identities that are personal
/// data, use `POST /candidates/search`.
#[utoipa::path(
    get, path = "/candidates", operation_id = "listCandidates", tag = "Candidates",
    params(
        ("externalId" = Option<String>, Query, description = "Return only candidates with this id of the caller's own; spaces around it are ignored.", nullable = false, max_length = 250),
        ("connection" = Option<String>, Query, description = "Return only candidates on this connection; by default on all connections the client may use.", nullable = false),
        ("state" = Option<CandidateState>, Query, description = "Return only candidates in this state.", nullable = false),
        ("group" = Option<String>, Query, description = "Return only candidates in this group; must match exactly.", nullable = false),
        ("limit" = Option<usize>, Query, description = "Maximum number of entries in the response.", nullable = false, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page.", nullable = false),
    ),
    responses((status = 200, description = "A page of candidates, newest first.", body = CandidateList)),
)]
pub(in crate::http) async fn list(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    mut query: QueryParams,
) -> Result<Json<CandidateList>, ApiError> {
    let external_id = query.external_id();
    let (connection, group) = (query.text("connection"), query.text("group"));
    let state = query.parsed("state", &one_of(CandidateState::ALL, CandidateState::as_str), CandidateState::parse);
    let (limit, cursor) = query.page();
    query.finish()?;
    let asked = CandidateQuery {
        connection: connection.as_deref(),
        state,
        group: group.as_deref(),
        limit,
        cursor: cursor.as_deref(),
    };
    let (items, next_cursor) = match external_id {
        None => app.gateway.candidates(&caller, asked).await?,
        Some(id) => {
            let identity = Identity::ExternalId(id);
            let mut found = app.gateway.find_candidates(&caller, asked.connection, &identity).await?;
            found.retain(|candidate| asked.matches(candidate));
            // Newest first, as in the list: ids are in order of creation.
            found.sort_by(|one, other| other.id.as_str().cmp(one.id.as_str()));
            paginate(found, limit, asked.cursor)?
        }
    };
    Ok(Json(CandidateList { items: items.into_iter().map(Candidate::listed).collect(), next_cursor }))
}

/// Find a candidate by any identity
///
/// Takes the identity in the body so that no personal data appears in a URL. Changes nothing.
#[utoipa::path(
    post, path = "/candidates/search", operation_id = "searchCandidates", tag = "Candidates",
    params(
        ("connection" = Option<String>, Query, description = "Name of the connection. If the body names one too, it must be the same.", nullable = false),
    ),
    request_body(content = CandidateSearch),
    responses((status = 200, description = "The candidates found.", body = CandidateList)),
)]
pub(in crate::http) async fn search(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    query: QueryParams,
    Body((connection, identity)): Body<CandidateSearch>,
) -> Result<Json<CandidateList>, ApiError> {
    let connection = query.connection(connection)?;
    let found = app.gateway.find_candidates(&caller, connection.as_deref(), &identity).await?;
    Ok(Json(CandidateList { items: found.into_iter().map(Candidate::listed).collect(), next_cursor: None }))
}

/// Read a candidate
#[utoipa::path(
    get, path = "/candidates/{id}", operation_id = "getCandidate", tag = "Candidates",
    params(("id" = String, Path, description = "The candidate's identifier.", example = "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f")),
    responses((status = 200, description = "The candidate.", body = Candidate)),
)]
pub(in crate::http) async fn read(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<CandidateId>,
) -> Result<Json<Candidate>, ApiError> {
    Ok(Json(app.gateway.candidate(&caller, &id).await?.into()))
}

/// Change a candidate
///
/// A merge patch (RFC 7396) of the person's fields. `externalId`, `connection` and `password` cannot be changed. If the
/// vendor cannot change people, the request fails with `capability_unsupported`.
#[utoipa::path(
    patch, path = "/candidates/{id}", operation_id = "updateCandidate", tag = "Candidates",
    params(("id" = String, Path, description = "The candidate's identifier.", example = "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f")),
    request_body(content((CandidateChanges = "application/merge-patch+json"), (CandidateChanges = "application/json"))),
    responses(
        (status = 200, description = "The changed candidate.", body = Candidate),
        (status = 202, description = "The change is still running; its state appears at `Location`.", body = Candidate),
    ),
)]
pub(in crate::http) async fn update(
    State(app): State<AppState>,
    Id(id): Id<CandidateId>,
    WriteRequest { caller, preferences, patience, body: MergePatch(members) }: WriteRequest<MergePatch>,
) -> Result<Response, ApiError> {
    let change = merge_patch::of(members)?;
    let handle = app.gateway.update_candidate(&caller, &id, change, preferences.strict())?;
    let WriteReply { written, replayed } = patience.wait(handle).await?;
    let written = match written {
        WriteResult::Created(candidate) | WriteResult::Existing(candidate) => WriteResult::Existing(candidate),
        WriteResult::Pending(candidate) => WriteResult::Pending(candidate),
    };
    Ok(write_response(&app, preferences, WriteReply { written, replayed }, Candidate::from))
}

/// Delete a candidate
///
/// Hides the person at the vendor, if the vendor supports it, and erases the gateway's record.
#[utoipa::path(
    delete, path = "/candidates/{id}", operation_id = "deleteCandidate", tag = "Candidates",
    params(("id" = String, Path, description = "The candidate's identifier.", example = "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f")),
    responses(
        (status = 204, description = "The record is erased."),
        (status = 202, description = "The deletion is still running; until it ends, the candidate is at `Location`.", body = Candidate),
    ),
)]
pub(in crate::http) async fn delete(
    State(app): State<AppState>,
    Id(id): Id<CandidateId>,
    WriteRequest { caller, preferences, patience, body: EmptyBody }: WriteRequest<EmptyBody>,
) -> Result<Response, ApiError> {
    let handle = app.gateway.delete_candidate(&caller, &id)?;
    Ok(removal_response(&app, preferences, patience.wait(handle).await?, Candidate::from))
}

/// Read a candidate's generated password
///
/// If the gateway generated the password for a registration without an `Idempotency-Key`, it keeps the password as long
/// as it keeps responses under keys, for a caller that got an early response or none. With a key, a retry of the
/// request returns the password; for a row of a bulk request, its result does.
#[utoipa::path(
    post, path = "/candidates/{id}/initial-password", operation_id = "readInitialPassword", tag = "Candidates",
    params(("id" = String, Path, description = "The candidate's identifier.", example = "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f")),
    responses((status = 200, description = "The password.", body = InitialPassword)),
)]
pub(in crate::http) async fn initial_password(
    State(app): State<AppState>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
    Id(id): Id<CandidateId>,
) -> Result<Json<InitialPassword>, ApiError> {
    let password = app.gateway.initial_password(&caller, &id).await?;
    Ok(Json(InitialPassword { initial_password: password.expose().to_owned() }))
}

/// Settle a candidate by hand
///
/// Records the true outcome of an unknown write that the gateway could not settle itself: the candidate's state is
/// `unknown`. Verify it at the vendor first; the gateway does not check what you record.
#[utoipa::path(
    post, path = "/candidates/{id}/settle", operation_id = "settleCandidate", tag = "Candidates",
    params(("id" = String, Path, description = "The candidate's identifier.", example = "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f")),
    request_body(content = Settlement),
    responses((status = 200, description = "The candidate with the recorded outcome.", body = Candidate)),
)]
pub(in crate::http) async fn settle(
    State(app): State<AppState>,
    Id(id): Id<CandidateId>,
    WriteRequest { caller, preferences: _, patience: _, body: Body(outcome) }: WriteRequest<Body<Settlement>>,
) -> Result<Response, ApiError> {
    let reply = app.gateway.settle_candidate(&caller, &id, outcome)?.result(None).await?;
    Ok(write_response(&app, Preferences::default(), reply, Candidate::from))
}
