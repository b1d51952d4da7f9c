//! The vendor: StartExam and ExamTesting on a free port of 127.0.0.1, on the workload's own thread. It accepts
//! everything and responds at once. Its instructions are counted as well.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::Uri;
use http::header::CONTENT_TYPE;

use crate::Failure;

/// Serves until the runtime ends.
pub async fn start() -> Result<SocketAddr, Failure> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn answer(uri: Uri, _body: Bytes) -> Response {
    if uri.path().starts_with("/v1/") {
        return ([(CONTENT_TYPE, "application/json; charset=utf-8")], "{}").into_response();
    }
    // The format of ExamTesting's responses is undocumented; this is one that the adapter reads.
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], "SUCCESS|12345").into_response()
}
