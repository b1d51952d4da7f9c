//! `listen`: a receiver of webhooks on this machine that verifies each delivery and prints it. For those who write a receiver,
//! and to see what a gateway delivers.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use self::verification::{Verified, verify};
use super::process::most_files;
use super::signals::StopListener;
use super::{Failure, Process, runtime};
use crate::commands::output::OutputFormat;
use crate::domain::system::System;
use crate::domain::webhook::secret::{SigningKey, generate_secret};
use crate::http::{self, ListenerOptions, ShutdownHandle};
use crate::secret::{Secret, SecretRef};

mod verification;

/// How long deliveries in flight may take after a stop signal.
const GRACE: Duration = Duration::from_secs(1);
/// How long an idle connection of a gateway is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Maximum number of deliveries that wait to be printed.
const MAX_WAITING: usize = 1000;

/// Receive webhooks on this machine, verify their signatures and print them
#[derive(Args)]
#[command(
    after_help = "Examples:\n  examgate listen\n  examgate listen --secret env:HOOK_SECRET --port 9000\n  examgate listen --status 503   \
                  (see how deliveries are repeated)\n\nIt prints what to configure so that a gateway on this machine delivers to it. It \
                  listens on 127.0.0.1 only. A delivery whose signature is not valid is printed, too, and gets 401.\n\nWith \
                  --output json it prints one document per line: `at`, `verified`, `problem`, `id`, `path` and `event`."
)]
pub(super) struct Options {
    /// The port; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8099)]
    port: u16,
    /// References to the webhook's secrets; several while one is rotated
    #[arg(
        long,
        value_name = "REF",
        value_parser = SecretRef::parse,
        help = "The webhook's secret: env:NAME, file:PATH or plain:VALUE; several while it is rotated [default: a new one]"
    )]
    secret: Vec<SecretRef>,
    /// The status with which verified deliveries are answered
    #[arg(long, value_name = "STATUS", default_value_t = 204, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    output: OutputFormat,
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let (secrets, keys) = secrets(&options.secret, process)?;
    let status = StatusCode::from_u16(options.status).map_err(|error| Failure::other("--status", error))?;
    runtime()?.block_on(async {
        let stop = StopListener::listen()?;
        let listener = bind(options.port).await?;
        let address = listener.local_addr().map_err(|error| Failure::other("no address", error))?;
        if let Some(secret) = secrets.first() {
            // One that was given is known to the user, and stays where it is kept.
            let generated = options.secret.is_empty().then(|| secret.expose());
            options.output.say(introduction(address, generated))?;
            let mut first = json!({ "url": url(address) });
            if let Some((generated, fields)) = generated.zip(first.as_object_mut()) {
                fields.insert("secret".to_owned(), json!(generated));
            }
            options.output.say_line(&first)?;
        }
        let (deliveries, arrivals) = mpsc::channel(MAX_WAITING);
        let receiver = Receiver { keys, status, environment: process.environment.clone(), deliveries };
        let router = Router::new().fallback(receive).with_state(Arc::new(receiver));
        let ending = ShutdownHandle::new(GRACE);
        let serving = http::serve(listener, router, ListenerOptions::within(most_files(), KEEP_ALIVE), ending.clone());
        tokio::select! {
            () = serving => Ok(()),
            printed = print(arrivals, options.output) => printed,
            _ = stop.asked() => Ok(()),
        }
    })
}

/// Reads the secrets, or makes one. Returns them and their keys.
fn secrets(given: &[SecretRef], process: &Process) -> Result<(Vec<Secret>, Vec<SigningKey>), Failure> {
    let secrets = if given.is_empty() {
        vec![generate_secret(&process.environment)]
    } else {
        let read: Result<Vec<Secret>, String> = given.iter().map(|reference| reference.resolve(process)).collect();
        read.map_err(|error| Failure::Usage(vec![format!("--secret: {error}")]))?
    };
    let keys: Result<Vec<SigningKey>, _> = secrets.iter().map(|secret| SigningKey::parse(secret.expose())).collect();
    let keys = keys.map_err(|error| Failure::Usage(vec![format!("--secret: the secret {error}")]))?;
    Ok((secrets, keys))
}

async fn bind(port: u16) -> Result<TcpListener, Failure> {
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Failure::Other(format!(
            "port {port} is in use by another program; choose one with --port PORT, or let --port 0 pick a free one"
        )),
        _ => Failure::other(&format!("cannot listen on port {port}"), error),
    })
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/")
}

fn introduction(address: SocketAddr, generated: Option<&str>) -> String {
    let (url, secret) = (url(address), generated.unwrap_or("…"));
    let hint = if generated.is_none() { ", with the secret that you gave" } else { "" };
    format!(
        "Listening for webhooks on {url}\n\
         \n\
         To have a gateway on this machine deliver here, allow it in its configuration:\n\
         \n\
         \x20 [delivery]\n\
         \x20 allow_hosts = [\"127.0.0.1\"]\n\
         \x20 allow_private = [\"127.0.0.0/8\"]\n\
         \x20 allow_http = true\n\
         \n\
         and create the webhook{hint} (or configure it, with these values, under [webhooks.NAME]):\n\
         \n\
         \x20 curl http://127.0.0.1:8080/webhooks -H \"Authorization: Bearer $EXAMGATE_API_KEY\" \\\n\
         \x20   -H 'Content-Type: application/json' \\\n\
         \x20   -d '{{\"url\": \"{url}\", \"secret\": \"{secret}\"}}'\n\
         \n\
         Stop with Ctrl-C.\n"
    )
}

/// What every request needs.
struct Receiver {
    keys: Vec<SigningKey>,
    status: StatusCode,
    environment: System,
    deliveries: mpsc::Sender<Value>,
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    request: axum::extract::OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let now = receiver.environment.now();
    let verdict = verify(&headers, &body, &receiver.keys, now);
    let status = if verdict.is_ok() { receiver.status } else { StatusCode::UNAUTHORIZED };
    let text = || Value::from(String::from_utf8_lossy(&body));
    let event = serde_json::from_slice(&body).unwrap_or_else(|_| text());
    let mut delivery = json!({ "at": format!("{now:.3}"), "verified": verdict.is_ok(), "path": request.path() });
    match verdict {
        Ok(Verified { id, key }) => {
            delivery["id"] = json!(id);
            // Which of several secrets has signed it, from 1.
            delivery["secret"] = json!(key + 1);
        }
        Err(problem) => delivery["problem"] = json!(problem),
    }
    delivery["event"] = event;
    // A reader of stdout that does not keep up makes the gateway wait, as a slow receiver does.
    if receiver.deliveries.send(delivery).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    status
}

/// Prints deliveries as they come.
async fn print(mut arrivals: mpsc::Receiver<Value>, output: OutputFormat) -> Result<(), Failure> {
    while let Some(delivery) = arrivals.recv().await {
        output.say(text(&delivery))?;
        output.say_line(&delivery)?;
    }
    Ok(())
}

/// Formats a delivery for people: a line about it, then the event.
fn text(delivery: &Value) -> String {
    let word = |pointer: &str| delivery.pointer(pointer).and_then(Value::as_str).unwrap_or("–");
    let verdict = match delivery["problem"].as_str() {
        Some(problem) => format!("NOT VERIFIED: {problem}"),
        None => "verified".to_owned(),
    };
    let number = delivery["event"]["sequence"].as_u64().map(|sequence| format!(" {sequence}")).unwrap_or_default();
    let event = serde_json::to_string_pretty(&delivery["event"]).unwrap_or_default();
    format!("{}  {}{number}  {}  {verdict}\n{event}\n", word("/at"), word("/event/type"), word("/id"))
}
