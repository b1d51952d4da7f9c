//! `serve`: the gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::process::{no_core_dumps, raise_most_files};
use super::reload::{ActiveConfig, Reloader};
use super::signals::{ReloadListener, StopListener, StopSignal};
use super::{Failure, Process, runtime, say, telemetry};
use crate::commands::{load_config, open_store};
use crate::config::{Config, ServerSettings, Startup};
use crate::http::{
    self, ApiParts, JwksFetcher, Limits, ListenerOptions, LiveSettings, LoadGauges, ShutdownHandle, Tls,
};
use crate::service::Gateway;
use crate::telemetry::metrics;
use crate::transport::fetch_document;

/// How often summaries are folded; without it they would grow with every request (`metrics-exporter-prometheus`, upkeep).
const UPKEEP: Duration = Duration::from_secs(5);
/// Connections of operators at once.
const OPERATORS: usize = 64;

/// How long what still runs on a thread of its own may take at the end.
const LAST: Duration = Duration::from_secs(5);

/// Run the gateway until SIGTERM or SIGINT.
#[derive(Args)]
#[command(after_help = "Examples:\n  examgate serve --config examgate.toml\n  EXAMGATE__SERVER__LISTEN=0.0.0.0:8080 \
                        examgate serve\n\nSIGTERM: not ready any more, but still serving for server.shutdown_delay, then no \
                        new requests, and those under way get server.shutdown_grace; SIGINT: the same without the \
                        delay. A second signal ends the process at once. SIGHUP has the \
                        configuration read again. RUST_LOG sets what is \
                        logged. Traces are sent where OTEL_EXPORTER_OTLP_ENDPOINT says.")]
pub(super) struct Options {
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        help = "The configuration file [default: $EXAMGATE_CONFIG, then ./examgate.toml]"
    )]
    config: Option<PathBuf>,
    /// How log lines look
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        help = "How log lines look [default: $EXAMGATE_LOG_FORMAT, then auto]"
    )]
    log_format: Option<telemetry::Format>,
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let runtime = runtime()?;
    let telemetry = telemetry::start(options.log_format, process, runtime.handle())?;
    no_core_dumps();
    let served = gateway(options, process, &runtime);
    // The runtime still sends what telemetry has left.
    telemetry.end();
    // A secret's file system that never answers a reload must not keep the process, nor a look-up of a name.
    runtime.shutdown_timeout(LAST);
    served
}

fn gateway(options: &Options, process: &Process, runtime: &Runtime) -> Result<(), Failure> {
    let hangup = {
        // Before the configuration is read: what changes it meanwhile is then read after the start.
        let _within = runtime.enter();
        ReloadListener::listen()?
    };
    let file = options.config.as_deref();
    let prepared = load_config::prepared(file, process)?;
    runtime.block_on(serve(prepared, (file, hangup), process))
}

async fn serve(
    prepared: Startup,
    (file, hangup): (Option<&Path>, ReloadListener),
    process: &Process,
) -> Result<(), Failure> {
    let stop = StopListener::listen()?;
    let files = raise_most_files();
    let Startup { config, parts, store, identity } = prepared;
    if config.connections.is_empty() {
        tracing::warn!("no connection is configured: nothing can be registered or booked");
    }
    let tls = identity.as_ref().map(|identity| Tls::new(Arc::clone(&identity.server)));
    let in_force = ActiveConfig::new(&config, &store, identity);
    let place = store.place.clone();
    let store =
        open_store::to_serve(store, process).await.map_err(|error| Failure::other(&format!("store {place}"), error))?;
    let public = bound("server.listen", config.server.listen).await?;
    let admin = match config.server.admin_listen {
        Some(address) => Some(bound("server.admin_listen", address).await?),
        None => None,
    };
    // Before the first caller: a write an earlier process left open must not be taken for one under way.
    let (environment, retention) = (process.environment.clone(), config.store.kept());
    let gateway = Gateway::start(store, parts.connections, parts.catalogue, environment, retention)
        .await
        .map_err(|fault| Failure::other("the gateway cannot start", fault.detail))?;
    let face = face(config, gateway.clone(), process);
    let terms = LiveSettings::of(&face);
    let reloader = Reloader::new(file, process, gateway.clone(), (terms.clone(), tls.clone()), in_force);

    let ended = ShutdownHandle::new(Duration::from_secs(1));
    let operators = admin.map(|listener| operators(listener, &face, ended.clone())).transpose()?;
    announce(&public, if tls.is_some() { "https" } else { "http" })?;
    let keep_alive = face.server.keep_alive.0;
    let keeping = ListenerOptions { busy: Some(face.busy.clone()), tls, ..ListenerOptions::within(files, keep_alive) };
    tracing::info!(files, connections = keeping.connections, "room for callers");
    let callers = ShutdownHandle::new(face.server.shutdown_grace.0);
    let reloading = tokio::spawn(until_closed(callers.clone(), reloader.run(hangup)));
    let serving = http::serve(public, http::router_under(&face, &terms), keeping, callers.clone());
    let ((), closed) = tokio::join!(serving, stopped(stop, &gateway, &callers, &face.server));
    // Whatever was taken has begun by now. What goes on without its caller has the rest of the grace.
    gateway.drain(face.server.shutdown_grace.0.saturating_sub(closed.elapsed())).await;
    let lost = gateway.is_lost();
    if let Err(error) = reloading.await {
        tracing::error!(panicked = error.is_panic(), "the configuration was not read again any more");
    }
    if !lost {
        gateway.release_lease().await;
    }
    // Operators see the end: their listener goes last.
    ended.close();
    if let Some(operators) = operators {
        operators.await.map_err(|error| Failure::other("the operators' listener", error))?;
    }
    tracing::info!("stopped");
    if lost {
        return Err(Failure::Other("another instance took this one for dead and has taken its work over".to_owned()));
    }
    Ok(())
}

/// Waits for the end and leads to it; when nothing more was taken.
async fn stopped(stop: StopListener, gateway: &Gateway, callers: &ShutdownHandle, server: &ServerSettings) -> Instant {
    let asked = tokio::select! {
        asked = stop.asked() => Some(asked),
        // What was this process's is another's now; nothing it still wants to write is taken.
        () = gateway.fenced_off() => None,
    };
    if asked == Some(StopSignal::Terminate) && !server.shutdown_delay.0.is_zero() {
        tracing::info!(delay = %server.shutdown_delay, "leaving: not ready any more, requests are still taken");
        gateway.start_draining();
        callers.announce();
        tokio::select! {
            () = tokio::time::sleep(server.shutdown_delay.0) => {}
            () = gateway.fenced_off() => {}
        }
    }
    let grace = server.shutdown_grace;
    tracing::info!(%grace, "stopping: no new requests, waiting for those under way");
    callers.close();
    gateway.stop_background_work();
    Instant::now()
}

async fn until_closed(callers: ShutdownHandle, work: impl Future<Output = ()>) {
    tokio::select! {
        () = callers.closed() => {}
        () = work => {}
    }
}

/// The public face over this gateway.
pub(super) fn face(config: Config, gateway: Gateway, process: &Process) -> ApiParts {
    let Config { server, auth, .. } = config;
    let (environment, limits, busy) = (process.environment.clone(), Limits::default(), LoadGauges::default());
    let ask: JwksFetcher = Arc::new(|url| Box::pin(fetch_document(url)));
    ApiParts { gateway, server, auth, environment, limits, busy, ask }
}

async fn bound(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::Other(format!("{key}: cannot listen on {address}: {error}")))
}

fn announce(listener: &TcpListener, scheme: &str) -> Result<(), Failure> {
    let address = listener.local_addr().map_err(|error| Failure::other("server.listen", error))?;
    tracing::info!(%address, "ready for callers");
    say(format_args!("examgate listening on {scheme}://{address}"))
}

/// The operators' listener with `/metrics`, in a task of its own.
fn operators(
    listener: TcpListener,
    face: &ApiParts,
    ended: ShutdownHandle,
) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let address = listener.local_addr().map_err(|error| Failure::other("server.admin_listen", error))?;
    tracing::info!(%address, "ready for operators");
    let metrics = PrometheusBuilder::new()
        .set_buckets(&metrics::BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| Failure::other("metrics cannot start", error))?;
    metrics::describe();
    let (render, busy, gateway) = (metrics.clone(), face.busy.clone(), face.gateway.clone());
    let page = move || {
        busy.tell();
        gateway.update_gauges();
        render.render()
    };
    let router = http::admin_router(face, Some(Arc::new(page)));
    let keeping =
        ListenerOptions { connections: OPERATORS, keep_alive: face.server.keep_alive.0, busy: None, tls: None };
    let serving = http::serve(listener, router, keeping, ended);
    Ok(tokio::spawn(async move {
        tokio::select! {
            () = serving => {}
            () = upkeep(metrics) => {}
        }
    }))
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}
