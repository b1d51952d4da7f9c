//! `check`: validates the configuration, opens the store, looks at every connection.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Process, runtime, say, settings, store};
use crate::config::{Auth, KeySet, KeySource, StoreParts, TokenSettings};
use crate::dispatch::{ConnectionSetup, Finding, examine};
use crate::domain::exchange::Exchange;
use crate::domain::ids::ExchangeId;
use crate::domain::vendor::{Attempt, Call, Lane};
use crate::transport::published;

/// Check configuration, store and connections, without side effects at a vendor.
#[derive(Args)]
#[command(
    after_help = "Example:\n  examgate check --config examgate.toml\n\nA line for the store, for published token keys and for each \
                        connection (ok, unchecked or fault), and below that one for each step: address, reachability, tls, clock, \
                        credentials. Unchecked is no fault: nothing harmless could tell.\nExit code: 0 no fault, 1 store or \
                        connection at fault, 2 configuration at fault."
)]
pub(super) struct Options {
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        help = "The configuration file [default: $EXAMGATE_CONFIG, then ./examgate.toml]"
    )]
    config: Option<PathBuf>,
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let prepared = settings::prepared(options.config.as_deref(), process)?;
    say("configuration: ok")?;
    let faults = runtime()?.block_on(async {
        let mut faults = self::store(prepared.store, process).await?;
        faults += issuer(&prepared.config.auth).await?;
        for (name, connection) in &prepared.parts.connections {
            faults += self::connection(name, connection, process).await?;
        }
        Ok::<usize, Failure>(faults)
    })?;
    match faults {
        0 => Ok(()),
        1 => Err(Failure::Other("1 fault".to_owned())),
        several => Err(Failure::Other(format!("{several} faults"))),
    }
}

async fn store(parts: StoreParts, process: &Process) -> Result<usize, Failure> {
    let place = parts.place.clone();
    let opened = match store::to_look_at(parts, process).await {
        Ok(store) => store.ping().await,
        Err(error) => Err(error),
    };
    match opened {
        Ok(()) => say(format_args!("store: ok: {place}")).map(|()| 0),
        Err(error) => say(format_args!("store: fault: {place}: {error}")).map(|()| 1),
    }
}

/// The keys of the tokens' issuer, where it publishes them; those in a file were read with the configuration.
async fn issuer(auth: &Auth) -> Result<usize, Failure> {
    let Auth::Jwt(_, TokenSettings { keys: KeySource::Published(url), .. }) = auth else { return Ok(0) };
    match published(url.clone()).await.and_then(|document| KeySet::parse(&document)) {
        Ok(_) => say(format_args!("token keys: ok: {url}")).map(|()| 0),
        Err(error) => say(format_args!("token keys: fault: {url}: {error}")).map(|()| 1),
    }
}

async fn connection(name: &str, setup: &ConnectionSetup, process: &Process) -> Result<usize, Failure> {
    let id = ExchangeId::generate(&process.environment);
    let exchange = Exchange::new(id.clone(), id.into(), None, process.environment.now());
    let call = Call { attempt: Attempt::First, lane: Lane::Single, exchange };
    let examination = examine(&setup.connected, &call).await;
    let summary = examination.summary();
    say(format_args!("connection {name}: {}: {}", summary.verdict.as_str(), summary.detail))?;
    for Finding { step, verdict, detail, advice } in &examination.findings {
        let advice = advice.as_ref().map(|advice| format!(" What to do: {advice}")).unwrap_or_default();
        say(format_args!("  {}: {}: {detail}{advice}", step.as_str(), verdict.as_str()))?;
    }
    Ok(examination.faults())
}
