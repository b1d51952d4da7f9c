//! Local server that records requests and sends the responses a test defines.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Seen {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// Status and body of a response.
pub(super) type Canned = (u16, Vec<u8>);

pub(super) fn ok(body: &Value) -> Canned {
    (200, body.to_string().into_bytes())
}

pub(super) struct Stub {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stub {
    /// Starts a server that computes each response from the request and the number of earlier ones.
    pub(super) async fn start(answer: impl Fn(&Seen, usize) -> Canned + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (log, answer) = (log.clone(), answer.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| served(request, &log, &*answer));
                    // Ignore a client that hung up; this ends only its own connection.
                    let _ended = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, seen }
    }

    /// Starts a server that sends every request the same response.
    pub(super) async fn answering(canned: Canned) -> Self {
        Self::start(move |_, _| canned.clone()).await
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns the requests to this path.
    pub(super) fn at(&self, path: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.path == path).collect()
    }
}

async fn served(
    request: Request<Incoming>,
    log: &Mutex<Vec<Seen>>,
    answer: &(dyn Fn(&Seen, usize) -> Canned + Send + Sync),
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let seen = Seen { method: head.method, path: head.uri.path().to_owned(), headers: head.headers, body };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.iter().filter(|earlier| earlier.path == seen.path).count() - 1
    };
    let (status, body) = answer(&seen, before);
    let response = Response::builder().status(status).header("content-type", "text/html; charset=UTF-8");
    Ok(response.body(Full::new(Bytes::from(body))).unwrap())
}
