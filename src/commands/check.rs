//! `check`: validates the configuration and inspects the store and every connection. It changes nothing anywhere.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, Process, runtime, say};
use crate::commands::{load_config, open_store};
use crate::config::{Auth, JwkSet, KeySource, KeyView, StoreLocation, StoreView, TokenSettings};
use crate::domain::exchange::Exchange;
use crate::domain::ids::ExchangeId;
use crate::domain::vendor::{CallContext, CallPurpose, Priority};
use crate::service::{CheckResult, ConnectionSetup, diagnose};
use crate::store::{Inspection, SchemaChange, StoreError};
use crate::transport::fetch_document;

/// Check configuration, store and connections without changing anything, here or at a vendor
#[derive(Args)]
#[command(
    after_help = "Example:\n  examgate check --config examgate.toml\n\nPrints one line for the store, with what serve would change there \
                        (create the database or its key, migrate the schema, register a key), one for published token keys, \
                        and one for each connection (ok, unchecked or fault) followed by its checks: address, reachability, \
                        tls, clock, credentials. Unchecked is not an error: the vendor has no harmless call to check with.\n\
                        Exit code: 0 no errors, 1 a check of store, token keys or connections failed, 2 invalid \
                        configuration."
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
    let inspected = load_config::inspected(options.config.as_deref(), process)?;
    say("configuration: ok")?;
    let faults = runtime()?.block_on(async {
        let mut faults = self::store(&inspected.store).await?;
        faults += issuer(&inspected.config.auth).await?;
        for (name, connection) in &inspected.parts.connections {
            faults += self::connection(name, connection, process).await?;
        }
        Ok::<usize, Failure>(faults)
    })?;
    match faults {
        0 => Ok(()),
        1 => Err(Failure::Other("1 check failed".to_owned())),
        several => Err(Failure::Other(format!("{several} checks failed"))),
    }
}

async fn store(StoreView { place, keys, .. }: &StoreView) -> Result<usize, Failure> {
    let changes = match keys {
        KeyView::Known(keyring) => open_store::inspect(place, keyring).await.map(|inspection| changes(&inspection)),
        KeyView::ToMake(key) => first_start(place, key),
    };
    match changes {
        Ok(changes) if changes.is_empty() => say(format_args!("store: ok: {place}")).map(|()| 0),
        Ok(changes) => say(format_args!("store: ok: {place}: serve would {}", changes.join(" and "))).map(|()| 0),
        Err(error) => say(format_args!("store: fault: {place}: {error}")).map(|()| 1),
    }
}

/// Lists what `serve` would change, each phrase completing "serve would …".
fn changes(Inspection { schema, registers_key }: &Inspection) -> Vec<String> {
    let schema = match schema {
        SchemaChange::None => None,
        SchemaChange::Create => Some("create the schema".to_owned()),
        SchemaChange::Migrate { from, to } => Some(format!("migrate the schema {from} → {to}")),
    };
    let key = registers_key.then(|| "register a new encryption key".to_owned());
    schema.into_iter().chain(key).collect()
}

/// Lists what the first start would create. A key is created only together with a new database.
fn first_start(place: &StoreLocation, key: &Path) -> Result<Vec<String>, StoreError> {
    let database = match place {
        StoreLocation::Sqlite(path) => Some(path.as_path()),
        StoreLocation::Postgres { .. } => None,
    };
    for path in database.into_iter().chain([key]) {
        let absolute = std::path::absolute(path).ok();
        if !absolute.as_deref().and_then(Path::parent).is_some_and(Path::is_dir) {
            return Err(StoreError::Unavailable(format!("{}: its directory does not exist", path.display())));
        }
    }
    Ok(vec!["create the database".to_owned(), format!("create its key in {}", key.display())])
}

/// Checks the token issuer's published keys and returns the number of errors. Keys in a file were read with the
/// configuration.
async fn issuer(auth: &Auth) -> Result<usize, Failure> {
    let Auth::Jwt(_, TokenSettings { keys: KeySource::Published(url), .. }) = auth else { return Ok(0) };
    match fetch_document(url.clone()).await.and_then(|document| JwkSet::parse(&document)) {
        Ok(_) => say(format_args!("token keys: ok: {url}")).map(|()| 0),
        Err(error) => say(format_args!("token keys: fault: {url}: {error}")).map(|()| 1),
    }
}

async fn connection(name: &str, setup: &ConnectionSetup, process: &Process) -> Result<usize, Failure> {
    let id = ExchangeId::generate(&process.environment);
    let exchange = Exchange::new(id.clone(), id.into(), None, process.environment.now());
    let call = CallContext { purpose: CallPurpose::Initial, priority: Priority::Interactive, exchange };
    let examination = diagnose(&setup.connected, &call).await;
    let summary = examination.summary();
    say(format_args!("connection {name}: {}: {}", summary.verdict.as_str(), summary.detail))?;
    for CheckResult { step, verdict, detail, advice } in &examination.findings {
        let advice = advice.as_ref().map(|advice| format!(" Advice: {advice}")).unwrap_or_default();
        say(format_args!("  {}: {}: {detail}{advice}", step.as_str(), verdict.as_str()))?;
    }
    Ok(examination.errors())
}
