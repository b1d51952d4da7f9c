//! Receives a bulk request: its rows are parsed on a separate thread while the body arrives, and stored as they are
//! parsed, so that a bulk request of any size takes little memory. No row takes effect until the whole body has arrived
//! and is valid.
//!
//! Three tasks run at once and wait for each other: one receives the body, one parses rows, one stores them.

use axum::extract::{FromRequest, FromRequestParts as _, Request};
use bytes::Bytes;
use http::request::Parts;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::validation::FieldErrors;
use crate::http::app_state::AppState;
use crate::http::extract::body::media_type;
use crate::http::extract::content_coding::DecodedBody;
use crate::http::extract::fingerprint::{BodyFormat, Fingerprint, request_fingerprint};
use crate::http::extract::idempotency::IdempotencyHeader;
use crate::http::extract::prefer::Preferences;
use crate::http::extract::request_parts::{AuthenticatedCaller, QueryParams};
use crate::http::handlers::bulk::chunk_reader::ChunkReader;
use crate::http::handlers::bulk::rows::{BulkItem, ConnectionConsensus, ReadError, RowSink};
use crate::http::handlers::bulk::{csv, json, ndjson};
use crate::http::problem::ApiError;
use crate::http::server::shutdown::ShutdownSignal;
use crate::service::{AcceptedOperation, BulkOptions, BulkRow, BulkUpload, RequestContext};

/// Media types of bulk bodies.
const TYPES: [&str; 3] = ["application/json", "application/x-ndjson", "text/csv"];
/// Maximum number of rows in JSON.
const MAX_JSON_ROWS: u64 = 10_000;
/// Maximum number of rows in the other formats.
pub(super) const MAX_ROWS: u64 = 100_000;

/// A bulk request of which only the head has been read.
pub(in crate::http) struct BulkRequest {
    pub(super) caller: RequestContext,
    pub(super) preferences: Preferences,
    keyed: Option<IdempotencyHeader>,
    query: Option<String>,
    form: BodyFormat,
    /// The options in the query.
    options: BulkOptions,
    /// Whether ids in a table that a spreadsheet has damaged are taken as they are.
    allow_damaged_ids: bool,
    body: DecodedBody,
}

impl FromRequest<AppState> for BulkRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        ShutdownSignal::of(&parts).reject_after_close()?;
        let caller = AuthenticatedCaller::take(&mut parts)?;
        let keyed = IdempotencyHeader::of(&parts.headers, &parts.method, parts.uri.path())?;
        let form = match media_type(&parts.headers, &TYPES)? {
            "application/json" => BodyFormat::Json,
            "text/csv" => BodyFormat::Csv,
            _ => BodyFormat::Lines,
        };
        let (options, allow_damaged_ids) = query_options(&mut parts, app, form).await?;
        let (query, preferences) = (parts.uri.query().map(str::to_owned), Preferences::of(&parts.headers));
        let body =
            DecodedBody::new(Request::from_parts(parts, body), app.terms.now().server.bulk_body_limit.0, app.limits)?;
        Ok(Self { caller, preferences, keyed, query, form, options, allow_damaged_ids, body })
    }
}

/// Reads `connection` and `failOnErrors` from the query, which a JSON body holds itself, and `allowDamagedIds`.
async fn query_options(parts: &mut Parts, app: &AppState, form: BodyFormat) -> Result<(BulkOptions, bool), ApiError> {
    let mut query = QueryParams::from_request_parts(parts, app).await?;
    let connection = query.text("connection");
    let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
    let fail_on_errors = query.parsed("failOnErrors", "a number of at least 1", number);
    let allow_damaged_ids = query.parsed("allowDamagedIds", "true or false", |text| text.parse::<bool>().ok());
    if allow_damaged_ids.is_some() && form != BodyFormat::Csv {
        query.add_error("allowDamagedIds", "is for text/csv only; ids in JSON are taken as they are");
    }
    if form == BodyFormat::Json {
        let given = [("connection", connection.is_some()), ("failOnErrors", fail_on_errors.is_some())];
        for (name, _) in given.into_iter().filter(|(_, given)| *given) {
            query.add_error(name, "belongs in the body of a JSON bulk request");
        }
    }
    query.finish()?;
    let mut errors = FieldErrors::new();
    errors.check_line("?connection", connection.as_deref(), 200);
    let options = errors.into_result(BulkOptions { connection, fail_on_errors }).map_err(Error::from_fields)?;
    Ok((options, allow_damaged_ids.unwrap_or(false)))
}

impl BulkRequest {
    /// Receives the whole bulk request and stores its rows.
    ///
    /// # Errors
    /// Whatever is wrong with the bulk request as a whole; nothing is then kept, and nothing was sent.
    pub(super) async fn receive_all(self, app: &AppState, kind: BulkItem) -> Result<AcceptedOperation, Error> {
        let Self { caller, preferences, keyed, query, form, options, allow_damaged_ids, body } = self;
        let _permit = app.acquire_permit(&app.receptions, &caller.client)?;
        let mut reception = app.gateway.receive(&caller, kind.into(), preferences.strict()).await?;
        let (pieces, arriving) = mpsc::channel::<Bytes>(2);
        let (batches, rows) = mpsc::channel::<Vec<BulkRow>>(1);
        let reading =
            tokio::task::spawn_blocking(move || read(form, kind, options, allow_damaged_ids, arriving, &batches));
        let (raw, kept) = tokio::join!(receive(body, pieces), keep(&mut reception, rows));
        let read = reading.await.unwrap_or_else(|error| {
            tracing::error!(panicked = error.is_panic(), "the bulk parser ended without a result");
            Err(Error::new(Code::Internal, "The gateway failed while reading the bulk request.").into())
        });
        // An incomplete body takes precedence: its other errors prove nothing. A failure to store rows needs no
        // further reason.
        let raw = raw?;
        kept?;
        let (envelope, hash) = match read {
            Ok(read) => read,
            Err(ReadError::Fault(fault)) => return Err(*fault),
            Err(ReadError::Closed) => {
                return Err(Error::new(Code::Internal, "The bulk request was not read to its end."));
            }
        };
        let key = keyed
            .map(|keyed| keyed.with_fingerprint(request_fingerprint(query.as_deref(), form, &hash.unwrap_or(raw))));
        reception.finish(envelope, key).await
    }
}

/// Passes the decoded body on chunk by chunk and returns its hash. Keeps receiving after the parser has stopped: callers read
/// the response only once they have sent everything.
async fn receive(mut body: DecodedBody, pieces: mpsc::Sender<Bytes>) -> Result<Fingerprint, Error> {
    let mut hash = Sha256::new();
    while let Some(piece) = body.next().await? {
        hash.update(&piece);
        // If the parser stopped, its own error gives the reason.
        let _ = pieces.send(piece).await;
    }
    Ok(hash.finalize().into())
}

async fn keep(reception: &mut BulkUpload, mut rows: mpsc::Receiver<Vec<BulkRow>>) -> Result<(), Error> {
    while let Some(batch) = rows.recv().await {
        reception.push(batch).await?;
    }
    Ok(())
}

/// Parses the body, on a thread that may block. Returns the hash of its meaning, if that differs from the hash of its
/// bytes.
fn read(
    form: BodyFormat,
    kind: BulkItem,
    options: BulkOptions,
    allow_damaged_ids: bool,
    mut arriving: mpsc::Receiver<Bytes>,
    batches: &mpsc::Sender<Vec<BulkRow>>,
) -> Result<(BulkOptions, Option<Fingerprint>), ReadError> {
    let pieces = ChunkReader::new(move || arriving.blocking_recv()).without_mark();
    let most = if form == BodyFormat::Json { MAX_JSON_ROWS } else { MAX_ROWS };
    let connections = ConnectionConsensus::of(options.connection.clone());
    let mut rows = RowSink::new(kind, most, connections, |batch| batches.blocking_send(batch).is_ok());
    match form {
        BodyFormat::Json => return json::read(pieces, &mut rows).map(|(envelope, hash)| (envelope, Some(hash))),
        BodyFormat::Csv => csv::read(pieces, &mut rows, allow_damaged_ids)?,
        BodyFormat::Lines | BodyFormat::Empty => ndjson::read(pieces, &mut rows)?,
    }
    let agreed = rows.connections.agreed(options.connection, "?connection");
    let connection = agreed.map_err(|error: FieldError| Error::from_fields(vec![error]))?;
    Ok((BulkOptions { connection, fail_on_errors: options.fail_on_errors }, None))
}
