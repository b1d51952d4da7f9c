//! `serve`: runs the gateway.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::process::{disable_core_dumps, raise_open_file_limit};
use super::reload::{ActiveConfig, Reloader};
use super::signals::{ReloadListener, StopListener, StopSignal};
use super::{Failure, Process, runtime, say, telemetry};
use crate::commands::load_config::ConfigOption;
use crate::commands::{load_config, open_store};
use crate::config::{Config, ServerSettings, Startup};
use crate::http::{
    self, ApiParts, ClientWebhookOwners, ConsoleParts, JwksFetcher, Limits, ListenerOptions, LiveSettings, LoadGauges,
    SessionKeys, ShutdownHandle, Tls,
};
use crate::service::Gateway;
use crate::telemetry::{metrics, process as process_metrics};
use crate::transport::fetch_document;

/// Interval at which the metrics recorder compacts its summaries; without it they would grow with every request
/// (`metrics-exporter-prometheus`, upkeep).
const UPKEEP: Duration = Duration::from_secs(5);
/// Maximum concurrent connections to the admin listener.
const MAX_ADMIN_CONNECTIONS: usize = 64;
/// Maximum concurrent connections to the listener for vendors' webhooks.
const MAX_RECEIVER_CONNECTIONS: usize = 128;

/// Maximum concurrent connections to the listener for the console.
const MAX_CONSOLE_CONNECTIONS: usize = 128;

/// How long blocking threads may take at shutdown.
const BLOCKING_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Run the gateway until SIGTERM or SIGINT
#[derive(Args)]
#[command(after_help = "Examples:\n  examgate serve --config examgate.toml\n  EXAMGATE__SERVER__LISTEN=0.0.0.0:8080 \
                        examgate serve\n\nSIGTERM stops gracefully: the gateway reports not ready but keeps serving for \
                        server.shutdown_delay, then accepts no new requests and gives those in flight \
                        server.shutdown_grace to finish. SIGINT does the same without the delay. A second signal ends \
                        the process at once. SIGHUP reloads the configuration. RUST_LOG sets the log level. \
                        OTEL_EXPORTER_OTLP_ENDPOINT turns traces on.")]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigOption,
    /// Log format
    #[arg(long, value_name = "FORMAT", value_enum, help = "Log format [default: $EXAMGATE_LOG_FORMAT, then auto]")]
    log_format: Option<telemetry::Format>,
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let runtime = runtime()?;
    let telemetry = telemetry::start(options.log_format, process, runtime.handle())?;
    disable_core_dumps();
    let served = gateway(options, process, &runtime);
    // Flush telemetry while the runtime can still send.
    telemetry.end();
    // A hung file system of a secret, or a hung name lookup, must not keep the process alive.
    runtime.shutdown_timeout(BLOCKING_SHUTDOWN_TIMEOUT);
    served
}

fn gateway(options: &Options, process: &Process, runtime: &Runtime) -> Result<(), Failure> {
    let hangup = {
        // Listen before reading the configuration: a change during startup then triggers a reload afterwards.
        let _within = runtime.enter();
        ReloadListener::listen()?
    };
    let file = options.config.file();
    let prepared = load_config::prepared(file, process)?;
    runtime.block_on(serve(prepared, (file, hangup), process))
}

async fn serve(
    prepared: Startup,
    (file, hangup): (Option<&Path>, ReloadListener),
    process: &Process,
) -> Result<(), Failure> {
    let stop = StopListener::listen()?;
    let files = raise_open_file_limit();
    let Startup { config, parts, store, identity } = prepared;
    if config.connections.is_empty() {
        tracing::warn!("no connection is configured; the gateway cannot register or book anything");
    }
    let tls = identity.as_ref().map(|identity| Tls::new(Arc::clone(&identity.server)));
    let in_force = ActiveConfig::new(&config, &store, identity);
    let (place, session_keys) = (store.place.clone(), SessionKeys::new(&store.keyring.session_keys()));
    let store =
        open_store::to_serve(store, process).await.map_err(|error| Failure::other(&format!("store {place}"), error))?;
    let public = bind("server.listen", config.server.listen).await?;
    let admin = match config.server.admin_listen {
        Some(address) => Some(bind("server.admin_listen", address).await?),
        None => None,
    };
    let vendors = match config.server.receiver_listen {
        Some(address) => Some(bind("server.receiver_listen", address).await?),
        None => None,
    };
    let operators_pages = match config.console.listen.filter(|_| config.console.enabled) {
        Some(address) => Some(bind("console.listen", address).await?),
        None => None,
    };
    // Start before accepting requests: writes left open by an earlier process must not pass for writes in flight.
    let (environment, retention) = (process.environment.clone(), config.store.kept());
    let gateway = Gateway::start(store, parts.connections, parts.catalogue, environment, retention)
        .await
        .map_err(|fault| Failure::other("the gateway cannot start", fault.detail))?;
    let face = api_parts(config, gateway.clone(), process, session_keys);
    let terms = LiveSettings::of(&face);
    let owners = ClientWebhookOwners::new(terms.clone(), process.environment.clone());
    gateway
        .configure_webhooks(parts.delivery, owners)
        .await
        .map_err(|fault| Failure::other("webhooks cannot be delivered", fault.detail))?;
    let reloader = Reloader::new(file, process, gateway.clone(), (terms.clone(), tls.clone()), in_force);

    let ended = ShutdownHandle::new(Duration::from_secs(1));
    let operators = admin.map(|listener| serve_admin(listener, &face, ended.clone())).transpose()?;
    announce(&public, if tls.is_some() { "https" } else { "http" })?;
    let keep_alive = face.server.keep_alive.0;
    let keeping = ListenerOptions {
        busy: Some(face.busy.clone()),
        tls: tls.clone(),
        ..ListenerOptions::within(files, keep_alive)
    };
    tracing::info!(files, connections = keeping.connections, "connection limit set");
    let callers = ShutdownHandle::new(face.server.shutdown_grace.0);
    let reloading = tokio::spawn(until_closed(callers.clone(), reloader.run(hangup)));
    let receiving = serve_receivers(vendors, (&face, &terms), callers.clone());
    let showing = serve_console(operators_pages, (&face, &terms, tls.clone()), callers.clone());
    let serving = http::serve(public, http::router_with_settings(&face, &terms), keeping, callers.clone());
    let ((), (), (), closed) =
        tokio::join!(serving, receiving, showing, wait_and_drain(stop, &gateway, &callers, &face.server));
    // All accepted requests have begun. Work that continues without its caller gets the rest of the grace period.
    gateway.drain(face.server.shutdown_grace.0.saturating_sub(closed.elapsed())).await;
    let lost = gateway.is_lost();
    if let Err(error) = reloading.await {
        tracing::error!(panicked = error.is_panic(), "configuration reload task ended unexpectedly");
    }
    if !lost {
        gateway.release_lease().await;
    }
    // Close the admin listener last, so that operators can observe the shutdown.
    ended.close();
    if let Some(operators) = operators {
        operators.await.map_err(|error| Failure::other("the admin listener failed", error))?;
    }
    tracing::info!("stopped");
    if lost {
        return Err(Failure::Other(
            "this instance lost its lease; another instance has taken over its work".to_owned(),
        ));
    }
    Ok(())
}

/// Waits for a stop signal or the loss of the lease, then drains. Returns when the listener stopped accepting.
async fn wait_and_drain(
    stop: StopListener,
    gateway: &Gateway,
    callers: &ShutdownHandle,
    server: &ServerSettings,
) -> Instant {
    let asked = tokio::select! {
        asked = stop.asked() => Some(asked),
        // Another instance owns this one's work now; the store rejects its writes.
        () = gateway.fenced_off() => None,
    };
    if asked == Some(StopSignal::Terminate) && !server.shutdown_delay.0.is_zero() {
        tracing::info!(delay = %server.shutdown_delay, "draining: reporting not ready, still accepting requests");
        gateway.start_draining();
        callers.announce();
        tokio::select! {
            () = tokio::time::sleep(server.shutdown_delay.0) => {}
            () = gateway.fenced_off() => {}
        }
    }
    let grace = server.shutdown_grace;
    tracing::info!(%grace, "stopping: accepting no new requests, waiting for those in flight");
    callers.close();
    gateway.stop_background_work();
    Instant::now()
}

async fn until_closed(callers: ShutdownHandle, work: impl Future<Output = ()>) {
    tokio::select! {
        () = callers.wait_closed() => {}
        () = work => {}
    }
}

/// Builds the parts of the public API for this gateway.
pub(super) fn api_parts(config: Config, gateway: Gateway, process: &Process, keys: SessionKeys) -> ApiParts {
    let Config { server, auth, console: settings, .. } = config;
    let console = settings.enabled.then_some(ConsoleParts { settings, keys });
    let (environment, limits, busy) = (process.environment.clone(), Limits::default(), LoadGauges::default());
    let ask: JwksFetcher = Arc::new(|url| Box::pin(fetch_document(url)));
    ApiParts { gateway, server, auth, environment, limits, busy, ask, console }
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            ErrorKind::AddrInUse => "another program listens there; stop it or choose another port".to_owned(),
            ErrorKind::AddrNotAvailable => "this is not an address of this machine".to_owned(),
            ErrorKind::PermissionDenied => "this user may not; ports below 1024 need a privilege".to_owned(),
            _ => error.to_string(),
        };
        Failure::Other(format!("{key}: cannot listen on {address}: {why}"))
    })
}

fn announce(listener: &TcpListener, scheme: &str) -> Result<(), Failure> {
    let address = listener.local_addr().map_err(|error| Failure::other("server.listen", error))?;
    tracing::info!(%address, "API listener ready");
    if say(format_args!("examgate listening on {scheme}://{address}")).is_err() {
        // A gateway outlives the reader of its output.
        tracing::warn!("stdout cannot be written to; the address is in the log only");
    }
    Ok(())
}

/// Serves the receivers on a listener of their own, if there is one, as long as callers are served.
async fn serve_receivers(
    listener: Option<TcpListener>,
    (face, terms): (&ApiParts, &LiveSettings),
    ending: ShutdownHandle,
) {
    let Some(listener) = listener else { return };
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "receiver listener ready"),
        Err(error) => tracing::warn!(%error, "receiver listener ready; its address cannot be read"),
    }
    let options = ListenerOptions {
        connections: MAX_RECEIVER_CONNECTIONS,
        keep_alive: face.server.keep_alive.0,
        busy: None,
        tls: None,
    };
    http::serve(listener, http::receiver_router(face, terms), options, ending).await;
}

/// Serves the console on a listener of its own, if there is one, as long as callers are served.
async fn serve_console(
    listener: Option<TcpListener>,
    (face, terms, tls): (&ApiParts, &LiveSettings, Option<Tls>),
    ending: ShutdownHandle,
) {
    let Some(listener) = listener else { return };
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "console listener ready"),
        Err(error) => tracing::warn!(%error, "console listener ready; its address cannot be read"),
    }
    let keep_alive = face.server.keep_alive.0;
    let options = ListenerOptions { connections: MAX_CONSOLE_CONNECTIONS, keep_alive, busy: None, tls };
    http::serve(listener, http::console_router(face, terms), options, ending).await;
}

/// Starts the admin listener, which serves `/metrics`, in a task of its own.
fn serve_admin(
    listener: TcpListener,
    face: &ApiParts,
    ended: ShutdownHandle,
) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let address = listener.local_addr().map_err(|error| Failure::other("server.admin_listen", error))?;
    tracing::info!(%address, "admin listener ready");
    let metrics = PrometheusBuilder::new()
        .set_buckets(&metrics::BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| Failure::other("metrics cannot start", error))?;
    metrics::describe();
    let (render, busy, gateway) = (metrics.clone(), face.busy.clone(), face.gateway.clone());
    let page = move || {
        busy.update_metrics();
        gateway.update_gauges();
        render.render() + &process_metrics::render()
    };
    let router = http::admin_router(face, Some(Arc::new(page)));
    let keeping = ListenerOptions {
        connections: MAX_ADMIN_CONNECTIONS,
        keep_alive: face.server.keep_alive.0,
        busy: None,
        tls: None,
    };
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
