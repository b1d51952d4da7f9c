//! A bulk on its way in: the body is taken as it arrives, read on a thread of its own, and its rows are stored as they are
//! read, so that a bulk of any size takes little memory. Until all of it is there and in order, nothing of it counts.
//!
//! Three things go on at once and wait for each other: the body is received, a reader makes rows of it, the rows are kept.

use axum::extract::{FromRequest, FromRequestParts as _, Request};
use bytes::Bytes;
use http::request::Parts;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::pieces::Pieces;
use super::rows::{Connections, Kind, Rows, Stop};
use super::{csv, json, lines};
use crate::dispatch::{BulkEnvelope, BulkRow, Caller, Received, Reception};
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::domain::text::Faults;
use crate::http::body::{Paced, media_type};
use crate::http::canonical::{Form, Hash, content};
use crate::http::idempotency::Keyed;
use crate::http::prefer::Preferences;
use crate::http::problem::Refused;
use crate::http::request::{Asking, Query};
use crate::http::state::App;
use crate::http::stopping::Stopping;

/// Media types and the forms they stand for.
const TYPES: [&str; 3] = ["application/json", "application/x-ndjson", "text/csv"];
/// Most rows in JSON.
const MOST_IN_JSON: u64 = 10_000;
/// Most rows in the other forms.
const MOST: u64 = 100_000;

/// A bulk of which nothing but the head was read.
pub(in crate::http) struct Bulk {
    pub(super) caller: Caller,
    pub(super) preferences: Preferences,
    keyed: Option<Keyed>,
    query: Option<String>,
    form: Form,
    /// What the query says besides the rows.
    said: BulkEnvelope,
    body: Paced,
}

impl FromRequest<App> for Bulk {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refused> {
        let (mut parts, body) = request.into_parts();
        Stopping::of(&parts).refuse_late()?;
        let Asking(caller) = Asking::from_request_parts(&mut parts, app).await?;
        let keyed = Keyed::of(&parts.headers, &parts.method, parts.uri.path())?;
        let form = match media_type(&parts.headers, &TYPES)? {
            "application/json" => Form::Json,
            "text/csv" => Form::Csv,
            _ => Form::Lines,
        };
        let said = said(&mut parts, app, form).await?;
        let (query, preferences) = (parts.uri.query().map(str::to_owned), Preferences::of(&parts.headers));
        let body = Paced::new(Request::from_parts(parts, body), app.terms.now().server.bulk_body_limit.0, app.limits)?;
        Ok(Self { caller, preferences, keyed, query, form, said, body })
    }
}

/// `connection` and `failOnErrors` of the query. A bulk in JSON says both in its body.
async fn said(parts: &mut Parts, app: &App, form: Form) -> Result<BulkEnvelope, Refused> {
    let mut query = Query::from_request_parts(parts, app).await?;
    let connection = query.text("connection");
    let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
    let fail_on_errors = query.parsed("failOnErrors", "a number of at least 1", number);
    if form == Form::Json {
        let given = [("connection", connection.is_some()), ("failOnErrors", fail_on_errors.is_some())];
        for (name, _) in given.into_iter().filter(|(_, given)| *given) {
            query.fault(name, "stands in the body of a bulk in JSON");
        }
    }
    query.finish()?;
    let mut faults = Faults::new();
    faults.line("?connection", connection.as_deref(), 200);
    Ok(faults.or(BulkEnvelope { connection, fail_on_errors }).map_err(Fault::of_fields)?)
}

impl Bulk {
    /// Takes the whole bulk in.
    ///
    /// # Errors
    /// What is wrong with it as a whole; nothing of it is kept then, and nothing was sent.
    pub(super) async fn received(self, app: &App, kind: Kind) -> Result<Received, Fault> {
        let Self { caller, preferences, keyed, query, form, said, body } = self;
        let _place = app.place(&app.receptions, &caller.client)?;
        let mut reception = app.gateway.receive(&caller, kind.into(), preferences.strict()).await?;
        let (pieces, arriving) = mpsc::channel::<Bytes>(2);
        let (batches, rows) = mpsc::channel::<Vec<BulkRow>>(1);
        let reading = tokio::task::spawn_blocking(move || read(form, kind, said, arriving, &batches));
        let (raw, kept) = tokio::join!(receive(body, pieces), keep(&mut reception, rows));
        let read = reading.await.unwrap_or_else(|error| {
            tracing::error!(panicked = error.is_panic(), "a bulk's reader ended without an answer");
            Err(Fault::new(Code::Internal, "The gateway failed while it was reading the bulk.").into())
        });
        // A body that was not whole cannot be judged; rows that could not be kept need no further reason.
        let raw = raw?;
        kept?;
        let (envelope, hash) = match read {
            Ok(read) => read,
            Err(Stop::Fault(fault)) => return Err(*fault),
            Err(Stop::Closed) => return Err(Fault::new(Code::Internal, "The bulk was not read to its end.")),
        };
        let key = keyed.map(|keyed| keyed.saying(content(query.as_deref(), form, &hash.unwrap_or(raw))));
        reception.finish(envelope, key).await
    }
}

/// Hands the body on piece by piece, and gives its hash. A reader that has had enough does not end it: callers read the
/// answer when they have sent everything.
async fn receive(mut body: Paced, pieces: mpsc::Sender<Bytes>) -> Result<Hash, Fault> {
    let mut hash = Sha256::new();
    while let Some(piece) = body.next().await? {
        hash.update(&piece);
        // The reader's own fault tells why it does not want more.
        let _ = pieces.send(piece).await;
    }
    Ok(hash.finalize().into())
}

async fn keep(reception: &mut Reception, mut rows: mpsc::Receiver<Vec<BulkRow>>) -> Result<(), Fault> {
    while let Some(batch) = rows.recv().await {
        reception.push(batch).await?;
    }
    Ok(())
}

/// Reads the body, on a thread that may wait. The hash is that of what was said, where that is not the bytes' own.
fn read(
    form: Form,
    kind: Kind,
    said: BulkEnvelope,
    mut arriving: mpsc::Receiver<Bytes>,
    batches: &mpsc::Sender<Vec<BulkRow>>,
) -> Result<(BulkEnvelope, Option<Hash>), Stop> {
    let pieces = Pieces::new(move || arriving.blocking_recv());
    let most = if form == Form::Json { MOST_IN_JSON } else { MOST };
    let connections = Connections::of(said.connection.clone());
    let mut rows = Rows::new(kind, most, connections, |batch| batches.blocking_send(batch).is_ok());
    match form {
        Form::Json => return json::read(pieces, &mut rows).map(|(envelope, hash)| (envelope, Some(hash))),
        Form::Csv => csv::read(pieces.without_mark(), &mut rows)?,
        Form::Lines | Form::Empty => lines::read(pieces.without_mark(), &mut rows)?,
    }
    let agreed = rows.connections.agreed(said.connection, "?connection");
    let connection = agreed.map_err(|fault: FieldFault| Fault::of_fields(vec![fault]))?;
    Ok((BulkEnvelope { connection, fail_on_errors: said.fail_on_errors }, None))
}
