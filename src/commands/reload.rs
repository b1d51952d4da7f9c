//! Reload on SIGHUP: reads file, environment and secrets again and, if they are valid, replaces the active
//! configuration in one step. An error leaves everything unchanged. A reload creates no key and opens no store.
//!
//! Settings that need a restart keep their values and are logged; all others take effect.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::signals::ReloadListener;
use super::{Failure, Process};
use crate::commands::load_config;
use crate::config::{
    Auth, Config, ConsoleSettings, Inspected, ServerCertificate, ServerSettings, StoreFingerprint, StoreParts,
};
use crate::http::{ClientWebhookOwners, LiveSettings, Tls};
use crate::service::{ConfigDiff, Gateway, Retention};
use crate::telemetry::metrics;

/// The parts of the active configuration that a new one is compared with.
pub(super) struct ActiveConfig {
    server: ServerSettings,
    auth: Auth,
    console: ConsoleSettings,
    retention: Retention,
    store: StoreFingerprint,
    identity: Option<ServerCertificate>,
}

impl ActiveConfig {
    pub(super) fn new(config: &Config, store: &StoreParts, identity: Option<ServerCertificate>) -> Self {
        let Config { server, auth, console, .. } = config.clone();
        Self { server, auth, console, retention: config.store.kept(), store: store.fingerprint.clone(), identity }
    }
}

/// The task that reloads the configuration on each signal, one reload at a time.
pub(super) struct Reloader {
    file: Option<PathBuf>,
    process: Process,
    gateway: Gateway,
    terms: LiveSettings,
    tls: Option<Tls>,
    in_force: ActiveConfig,
}

impl Reloader {
    pub(super) fn new(
        file: Option<&Path>,
        process: &Process,
        gateway: Gateway,
        (terms, tls): (LiveSettings, Option<Tls>),
        in_force: ActiveConfig,
    ) -> Self {
        Self { file: file.map(Path::to_owned), process: process.clone(), gateway, terms, tls, in_force }
    }

    pub(super) async fn run(mut self, mut hangup: ReloadListener) {
        loop {
            hangup.next().await;
            let applied = match self.read().await {
                Ok(reread) => {
                    self.apply(reread).await;
                    true
                }
                Err(faults) => {
                    for fault in &faults {
                        tracing::error!(%fault, "configuration error");
                    }
                    tracing::error!(
                        faults = faults.len(),
                        "configuration reload rejected; keeping the current configuration"
                    );
                    false
                }
            };
            metrics::reload(applied);
        }
    }

    /// Reads the configuration on a blocking thread: secrets may be on a slow file system, and setting up TLS takes a
    /// moment.
    async fn read(&self) -> Result<Inspected, Vec<String>> {
        let (file, process) = (self.file.clone(), self.process.clone());
        let read = tokio::task::spawn_blocking(move || load_config::inspected(file.as_deref(), &process)).await;
        read.unwrap_or_else(|error| Err(Failure::other("reading the configuration", error)))
            .map_err(Failure::into_lines)
    }

    async fn apply(&mut self, Inspected { config, parts, store, identity }: Inspected) {
        let retention = config.store.kept();
        let Config { mut server, mut auth, mut console, .. } = config;
        let mut waiting = keep_what_a_start_sets_up(&self.in_force, &mut server, &mut auth);
        keep("console", &self.in_force.console, &mut console, &mut waiting);
        waiting.extend(self.in_force.store.differing(&store.fingerprint));
        for key in waiting {
            tracing::warn!(key, "takes a restart to change; keeping the current value");
        }
        let clients = clients_that_differ(&self.in_force.auth, &auth);
        let limits = limits_that_differ(&self.in_force, &server, retention);
        let issuer = matches!((&self.in_force.auth, &auth), (Auth::Jwt(_, now), Auth::Jwt(_, then)) if now != then);
        let (identity, renewed) = self.shown(identity);
        // Connections first, so that a client permitted to use a new one finds it.
        let changed = self.gateway.reconfigure(parts.connections, parts.catalogue, retention).await;
        self.terms.replace(server.clone(), &auth);
        let owners = ClientWebhookOwners::new(self.terms.clone(), self.process.environment.clone());
        if let Err(error) = self.gateway.configure_webhooks(parts.delivery, owners).await {
            tracing::error!(error = error.detail, "the webhooks of the new configuration are not in effect");
        }
        let ConfigDiff { added, changed, removed, catalogue } = changed;
        tracing::info!(
            connections_added = listed(&added),
            connections_changed = listed(&changed),
            connections_removed = listed(&removed),
            clients = listed(&clients),
            issuer = issuer.then_some("changed"),
            limits = listed(&limits),
            catalogue = catalogue.then_some("changed"),
            certificate = renewed.then_some("changed"),
            "configuration reloaded"
        );
        let store = self.in_force.store.clone();
        self.in_force = ActiveConfig { server, auth, console, retention, store, identity };
    }

    /// Installs a new certificate. Returns the active one and whether it changed.
    fn shown(&self, new: Option<ServerCertificate>) -> (Option<ServerCertificate>, bool) {
        let (Some(tls), Some(before), Some(new)) = (&self.tls, &self.in_force.identity, new) else {
            return (self.in_force.identity.clone(), false);
        };
        let renewed = !new.same(before);
        if renewed {
            tls.replace(Arc::clone(&new.server));
        }
        (Some(new), renewed)
    }
}

/// Restores the settings that need a restart, and returns the keys that differ.
fn keep_what_a_start_sets_up(
    in_force: &ActiveConfig,
    server: &mut ServerSettings,
    auth: &mut Auth,
) -> Vec<&'static str> {
    let mut kept = Vec::new();
    let now = &in_force.server;
    keep("server.listen", &now.listen, &mut server.listen, &mut kept);
    keep("server.admin_listen", &now.admin_listen, &mut server.admin_listen, &mut kept);
    keep("server.receiver_listen", &now.receiver_listen, &mut server.receiver_listen, &mut kept);
    keep("server.base_path", &now.base_path, &mut server.base_path, &mut kept);
    keep("server.public_url", &now.public_url, &mut server.public_url, &mut kept);
    keep("server.keep_alive", &now.keep_alive, &mut server.keep_alive, &mut kept);
    keep("server.shutdown_delay", &now.shutdown_delay, &mut server.shutdown_delay, &mut kept);
    keep("server.shutdown_grace", &now.shutdown_grace, &mut server.shutdown_grace, &mut kept);
    // The scheme, http or https, is part of every address that callers know.
    if now.tls.is_some() != server.tls.is_some() {
        server.tls.clone_from(&now.tls);
        kept.push("server.tls");
    }
    // Validation permitted `auth.mode = "none"` by the file's address, which need not be the active listener's.
    if in_force.auth.mode() != auth.mode() {
        *auth = in_force.auth.clone();
        kept.push("auth.mode");
    }
    kept
}

fn keep<T: Clone + PartialEq>(key: &'static str, now: &T, then: &mut T, kept: &mut Vec<&'static str>) {
    if now != then {
        then.clone_from(now);
        kept.push(key);
    }
}

/// Returns the names of clients that were added, removed or changed.
fn clients_that_differ(before: &Auth, after: &Auth) -> Vec<String> {
    let (Some(before), Some(after)) = (before.clients(), after.clients()) else { return Vec::new() };
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

fn limits_that_differ(in_force: &ActiveConfig, server: &ServerSettings, retention: Retention) -> Vec<&'static str> {
    let now = &in_force.server;
    let keys = [
        ("server.cors_origins", now.cors_origins != server.cors_origins),
        ("server.body_limit", now.body_limit != server.body_limit),
        ("server.bulk_body_limit", now.bulk_body_limit != server.bulk_body_limit),
        ("server.request_timeout", now.request_timeout != server.request_timeout),
        ("store.retention", in_force.retention.operations != retention.operations),
        ("store.idempotency_retention", in_force.retention.keys != retention.keys),
        ("store.report_retention", in_force.retention.reports != retention.reports),
        ("store.parked_retention", in_force.retention.parked_reports != retention.parked_reports),
        ("store.event_retention", in_force.retention.events != retention.events),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// Joins names for a log field; `None` if there are none.
fn listed(names: &[impl AsRef<str>]) -> Option<String> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
