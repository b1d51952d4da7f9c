//! `check`: validates the configuration and inspects the store and every connection. It changes nothing anywhere.

use std::fmt;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{Failure, Process, runtime};
use crate::commands::load_config::ConfigOption;
use crate::commands::output::OutputFormat;
use crate::commands::{load_config, open_store};
use crate::config::{Auth, JwkSet, KeySource, KeyView, StoreLocation, StoreView, TokenSettings};
use crate::domain::exchange::Exchange;
use crate::domain::ids::ExchangeId;
use crate::domain::vendor::{CallContext, CallPurpose, Priority};
use crate::service::{CheckResult, ConfiguredWebhook, ConnectionSetup, DeliverySettings, diagnose};
use crate::store::{Inspection, SchemaChange, StoreError};
use crate::transport::delivery::{DeliveryClient, DeliveryClientSettings};
use crate::transport::fetch_document;

/// Check configuration, store and connections without changing anything, here or at a vendor
#[derive(Args)]
#[command(
    after_help = "Examples:\n  examgate check --config examgate.toml\n  examgate check --output json\n\nPrints one line for the store, with what serve would change there \
                        (create the database or its key, migrate the schema, register a key), one for published token keys, \
                        and one for each connection (ok, unchecked or fault) followed by its checks: address, reachability, \
                        tls, clock, credentials, and results if it reads or receives them. Unchecked is not an error: the vendor has no harmless call to check with. \
                        A line for each webhook of the configuration says whether its host resolves to addresses that are allowed; nothing is sent to it.\n\
                        Exit code: 0 no errors, 1 a check of store, token keys, connections or webhooks failed, 2 invalid \
                        configuration."
)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigOption,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    output: OutputFormat,
}

/// What was found in one part; `result` is `ok`, `unchecked` or `fault`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    /// What was checked: `store`, `token keys`, a connection or one of its steps, a webhook.
    name: String,
    result: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    /// What `serve` would change in the store, each completing "serve would …".
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<String>,
    /// The steps of a connection's check.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Finding>,
}

impl Finding {
    fn new(name: impl Into<String>, result: &'static str, detail: impl Into<String>) -> Self {
        let (name, detail) = (name.into(), detail.into());
        Self { name, result, detail, advice: None, changes: Vec::new(), checks: Vec::new() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.name, self.result, self.detail)?;
        if !self.changes.is_empty() {
            write!(f, ": serve would {}", self.changes.join(" and "))?;
        }
        if let Some(advice) = &self.advice {
            write!(f, " Advice: {advice}")?;
        }
        self.checks.iter().try_for_each(|check| write!(f, "\n  {check}"))
    }
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let output = options.output;
    let inspected = match load_config::inspected(options.config.file(), process) {
        Ok(inspected) => inspected,
        Err(Failure::Usage(errors)) => {
            output.say_document(&json!({ "configuration": "fault", "errors": errors }))?;
            return Err(Failure::Usage(errors));
        }
        Err(other) => return Err(other),
    };
    output.say("configuration: ok")?;
    let (store, token_keys, connections, webhooks) = runtime()?.block_on(async {
        let store = shown(self::store(&inspected.store).await, output)?;
        let token_keys = issuer(&inspected.config.auth).await.map(|found| shown(found, output)).transpose()?;
        let mut connections = Vec::new();
        for (name, connection) in &inspected.parts.connections {
            connections.push(shown(self::connection(name, connection, process).await, output)?);
        }
        let mut webhooks = Vec::new();
        for finding in self::webhooks(&inspected.parts.delivery).await {
            webhooks.push(shown(finding, output)?);
        }
        Ok::<_, Failure>((store, token_keys, connections, webhooks))
    })?;
    let parts = [&store].into_iter().chain(&token_keys).chain(&connections).chain(&webhooks);
    let faults: usize = parts.map(faults).sum();
    output.say_document(&json!({
        "configuration": "ok", "store": store, "tokenKeys": token_keys, "connections": connections,
        "webhooks": webhooks, "faults": faults,
    }))?;
    match faults {
        0 => Ok(()),
        1 => Err(Failure::Other("1 check failed".to_owned())),
        several => Err(Failure::Other(format!("{several} checks failed"))),
    }
}

/// Prints the finding at once if the output is text: a check may take a while.
fn shown(finding: Finding, output: OutputFormat) -> Result<Finding, Failure> {
    output.say(&finding).map(|()| finding)
}

/// Counts the errors; those of a connection are those of its steps.
fn faults(finding: &Finding) -> usize {
    let own = usize::from(finding.checks.is_empty() && finding.result == "fault");
    own + finding.checks.iter().map(faults).sum::<usize>()
}

async fn store(StoreView { place, keys, .. }: &StoreView) -> Finding {
    let changes = match keys {
        KeyView::Known(keyring) => open_store::inspect(place, keyring).await.map(|inspection| changes(&inspection)),
        KeyView::ToMake(key) => first_start(place, key),
    };
    match changes {
        Ok(changes) => Finding { changes, ..Finding::new("store", "ok", place.to_string()) },
        Err(error) => Finding::new("store", "fault", with_place(&place.to_string(), &error)),
    }
}

/// Names the place once: most errors of a file name it themselves.
fn with_place(place: &str, error: &StoreError) -> String {
    match error {
        StoreError::Unavailable(detail) if detail.contains(place) => detail.clone(),
        StoreError::Unavailable(detail) => format!("{place}: {detail}"),
        other => format!("{place}: {other}"),
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
            return Err(StoreError::Unavailable(format!(
                "{}: its directory does not exist; create it",
                path.display()
            )));
        }
    }
    Ok(vec!["create the database".to_owned(), format!("create its key in {}", key.display())])
}

/// Checks the token issuer's published keys. Keys in a file were read with the configuration.
async fn issuer(auth: &Auth) -> Option<Finding> {
    let Auth::Jwt(_, TokenSettings { keys: KeySource::Published(url), .. }) = auth else { return None };
    let read = fetch_document(url.clone()).await.and_then(|document| JwkSet::parse(&document));
    Some(match read {
        Ok(_) => Finding::new("token keys", "ok", url.as_str()),
        Err(error) => Finding::new("token keys", "fault", format!("{url}: {error}")),
    })
}

async fn connection(name: &str, setup: &ConnectionSetup, process: &Process) -> Finding {
    let id = ExchangeId::generate(&process.environment);
    let exchange = Exchange::new(id.clone(), id.into(), None, process.environment.now());
    let call = CallContext { purpose: CallPurpose::Initial, priority: Priority::Interactive, exchange };
    let examination = diagnose(&setup.connected, &call).await;
    let summary = examination.summary();
    let (verdict, detail) = (summary.verdict.as_str(), summary.detail.clone());
    let step = |CheckResult { step, verdict, detail, advice }: &CheckResult| Finding {
        advice: advice.as_ref().map(ToString::to_string),
        ..Finding::new(step.as_str(), verdict.as_str(), detail.as_str())
    };
    let checks = examination.findings.iter().map(step).collect();
    Finding { checks, ..Finding::new(format!("connection {name}"), verdict, detail) }
}

/// Resolves and judges the hosts of the configured webhooks; sends nothing.
async fn webhooks(settings: &DeliverySettings) -> Vec<Finding> {
    if settings.webhooks.is_empty() {
        return Vec::new();
    }
    let DeliverySettings { policy, timeout, authorities, webhooks, .. } = settings.clone();
    let client = match DeliveryClient::new(DeliveryClientSettings { policy, timeout, authorities }) {
        Ok(client) => client,
        Err(error) => return vec![Finding::new("webhooks", "fault", error)],
    };
    let mut findings = Vec::new();
    for ConfiguredWebhook { name, settings, .. } in &webhooks {
        let (result, detail) = match client.policy().judge_configured(&settings.url) {
            Ok(url) => match client.check_host(&url).await {
                Ok(()) => ("ok", format!("{} resolves to allowed addresses.", url.host_str().unwrap_or_default())),
                Err(error) => ("fault", error.to_string()),
            },
            Err(refusal) => ("fault", format!("The URL {refusal}.")),
        };
        findings.push(Finding::new(format!("webhook {name}"), result, detail));
    }
    findings
}
