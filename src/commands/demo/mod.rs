//! `demo`: simulators, gateway and store in one process, and a scenario that covers all three vendors.
//!
//! The scenario is a client of the public API over real HTTP; nothing is staged. The demo reads and writes no files,
//! and listens on loopback only, since its vendor accounts are public.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::JoinHandle;

use self::client::Client;
use super::process::most_files;
use super::serve::api_parts;
use super::signals::StopListener;
use super::{Failure, Process, runtime, telemetry};
use crate::commands::demo::people::Vendor;
use crate::commands::demo::scenario::{PLANNED, Scenario};
use crate::commands::demo::terminal::{Closing, Screen};
use crate::commands::output::OutputFormat;
use crate::config::Startup;
use crate::http::{self, ClientWebhookOwners, ListenerOptions, LiveSettings, SessionKeys, ShutdownHandle};
use crate::sandbox::Sandbox;
use crate::secret::Secret;
use crate::service::Gateway;
use crate::store::SqliteStore;

mod client;
mod document;
mod expectations;
mod people;
mod scenario;
mod setup;
mod terminal;

const PORT: u16 = 8080;
/// What is logged: warnings, but not that a webhook is failing, since the scenario has one fail.
const LOG: &str = "warn,examgate::service::webhooks=error";
/// How long requests in flight may take after a stop signal.
const GRACE: Duration = Duration::from_secs(2);

/// Show the gateway at work: three simulated vendors, a class of 24, no files needed
#[derive(Args)]
#[command(
    after_help = "Examples:\n  examgate demo\n  examgate demo --port 0          (any free port)\n  examgate demo \
                        --exit            (stop after the run; exit code 0 if every outcome was as expected)\n\nEverything \
                        is kept in memory and listens on 127.0.0.1 only. RUST_LOG=info shows the gateway's log."
)]
pub(super) struct Options {
    /// Stop after the run; exit code 1 if an outcome is not as expected
    #[arg(long)]
    exit: bool,
    /// The gateway's port; 0 picks a free one [default: 8080; with --exit a free one]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Form of the output; json prints one document after the run
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    output: OutputFormat,
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    telemetry::log_at(LOG, process)?;
    runtime()?.block_on(async {
        let mut stop = pin!(StopListener::listen()?.asked());
        let screen = Screen::new(PLANNED, options.output, process);
        let shown = tokio::select! {
            biased;
            _ = &mut stop => Err(Failure::Other("stopped before the run was complete".to_owned())),
            shown = show(options, &screen, process) => shown,
        };
        screen.clear();
        let (running, as_expected) = shown?;
        if !options.exit {
            stop.await;
        }
        running.stop().await;
        // Without --exit the user has seen the summary and stopped the demo by hand: not a failure.
        if as_expected || !options.exit {
            return Ok(());
        }
        Err(Failure::Other("some outcomes were not as expected".to_owned()))
    })
}

/// Starts everything, runs the scenario and prints the results. Returns whether every outcome was as expected.
async fn show(options: &Options, screen: &Screen, process: &Process) -> Result<(Running, bool), Failure> {
    let started = Instant::now();
    let port = options.port.unwrap_or(if options.exit { 0 } else { PORT });
    let key = super::key::generate(process);
    let running = Running::start(port, &key, process).await?;
    screen.opening(running.address)?;
    let client = Client::new(running.address, key.clone())?;
    let (rows, ledger) = Scenario::new(&client, &running.sandbox, screen).run().await?;
    screen.clear();
    let addresses = Vendor::ALL.map(|vendor| (vendor.name(), setup::simulator(&running.sandbox, vendor)));
    let lms = running.sandbox.lms();
    let closing = Closing { gateway: running.address, simulators: addresses, lms, key: &key, stays: !options.exit };
    let taken = started.elapsed();
    match options.output {
        OutputFormat::Text => {
            screen.table(&rows)?;
            screen.summary(&ledger, taken)?;
            screen.closing(&closing)?;
        }
        OutputFormat::Json => options.output.say_document(&document::of(&rows, &ledger, taken, &closing))?,
    }
    Ok((running, ledger.is_clean()))
}

/// The gateway and its vendors, all on loopback.
struct Running {
    sandbox: Sandbox,
    gateway: Gateway,
    address: SocketAddr,
    ending: ShutdownHandle,
    server: JoinHandle<()>,
}

impl Running {
    async fn start(port: u16, key: &Secret, process: &Process) -> Result<Self, Failure> {
        let listener = setup::listen(port).await?;
        let address = listener.local_addr().map_err(|error| Failure::other("no address", error))?;
        let sandbox = setup::sandbox(process).await?;
        let Startup { config, parts, store, identity: _ } = setup::prepared(address, &sandbox, key, process)?;
        let environment = &process.environment;
        let session_keys = SessionKeys::new(&store.keyring.session_keys());
        let store = SqliteStore::in_memory(store.keyring, environment.clone());
        let store = store.map_err(|error| Failure::other("the in-memory store cannot be opened", error))?;
        let retention = config.store.kept();
        let gateway =
            Gateway::start(Arc::new(store), parts.connections, parts.catalogue, environment.clone(), retention)
                .await
                .map_err(|fault| Failure::other("the gateway cannot start", fault.detail))?;
        let keeping = ListenerOptions::within(most_files(), config.server.keep_alive.0);
        let face = api_parts(config, gateway.clone(), process, session_keys);
        let terms = LiveSettings::of(&face);
        let owners = ClientWebhookOwners::new(terms.clone(), environment.clone());
        gateway
            .configure_webhooks(parts.delivery, owners)
            .await
            .map_err(|fault| Failure::other("webhooks cannot be delivered", fault.detail))?;
        let router = http::router_with_settings(&face, &terms);
        let ending = ShutdownHandle::new(GRACE);
        let server = tokio::spawn(http::serve(listener, router, keeping, ending.clone()));
        Ok(Self { sandbox, gateway, address, ending, server })
    }

    async fn stop(self) {
        self.ending.close();
        if let Err(error) = self.server.await {
            tracing::error!(panicked = error.is_panic(), "server task ended unexpectedly");
        }
        self.gateway.drain(GRACE).await;
        self.sandbox.stop().await;
    }
}
