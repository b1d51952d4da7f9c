//! Which webhooks there are: takes over those that the operator has configured, and has a sender for each that is to be sent
//! to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::domain::error::{Code, Error};
use crate::domain::ids::WebhookId;
use crate::domain::webhook::{DeliveryState, Webhook, WebhookSecret, WebhookSource, WebhookState};
use crate::service::Gateway;
use crate::service::errors::StoreResultExt as _;
use crate::service::webhooks::sender::{self, is_due, is_sendable};
use crate::service::webhooks::settings::{ConfiguredWebhook, DeliveryContext, DeliverySettings, WebhookOwners};
use crate::service::webhooks::state::Sending;
use crate::store::{Mutation, StoreError, WebhookHealth};
use crate::telemetry::metrics;

/// Interval between looks for webhooks without a sender: another instance may have made or resumed one.
const INTERVAL: Duration = Duration::from_secs(1);
/// Interval between updates of the gauges, and between signals to the senders of webhooks with pending deliveries.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);

/// What the task that looks after webhooks remembers.
#[derive(Default)]
pub(super) struct Supervision {
    known: BTreeMap<WebhookId, KnownWebhook>,
    pub(super) counted: Option<Instant>,
    /// The webhooks that gauges show.
    shown: BTreeSet<String>,
}

/// A webhook as it was when it was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KnownWebhook {
    version: u64,
    is_sendable: bool,
}

impl Gateway {
    /// Sets how webhooks are delivered and which ones the operator defines, at the start and at every reload. From the first
    /// call on, deliveries are sent. A new webhook gets the events from this call on, or from when the store is back.
    ///
    /// # Errors
    /// `internal` if the HTTP client cannot be created; the former settings stay.
    pub async fn configure_webhooks(
        &self,
        settings: DeliverySettings,
        owners: Arc<dyn WebhookOwners>,
    ) -> Result<(), Error> {
        let context = DeliveryContext::new(settings, owners);
        self.start_deliveries(context.map_err(|detail| Error::new(Code::Internal, detail))?).await;
        Ok(())
    }

    /// Sets how webhooks are delivered, and starts the senders if there are none.
    pub(super) async fn start_deliveries(&self, context: DeliveryContext) {
        self.0.webhooks.set_context(context);
        if let Err(error) = self.take_over_configured().await {
            let (code, detail) = (error.code.as_str(), error.detail);
            tracing::warn!(code, detail, "taking over the configured webhooks failed; will retry");
        }
        if self.0.webhooks.begin_supervision() {
            // Counters that first appear with a value show no increase.
            for state in [DeliveryState::Delivered, DeliveryState::Failed] {
                metrics::deliveries(state.as_str(), 0);
            }
            self.spawn_supervisor();
        }
    }

    /// Returns everything that sending needs.
    ///
    /// # Errors
    /// `internal` before it is configured.
    pub(super) fn delivery_context(&self) -> Result<Arc<DeliveryContext>, Error> {
        self.0.webhooks.context().ok_or_else(|| Error::new(Code::Internal, "Deliveries are not configured."))
    }

    fn spawn_supervisor(&self) {
        let gateway = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut supervision = Supervision::default();
            loop {
                let Some(inner) = gateway.upgrade() else { return };
                let current = Self(inner);
                if !current.is_stopping() && current.0.lease.holds() {
                    // In a task of its own, so that a panic does not end what starts senders again.
                    let look = current.clone();
                    let looked = tokio::spawn(async move {
                        look.look_after_webhooks(&mut supervision).await;
                        supervision
                    });
                    supervision = looked.await.unwrap_or_else(|error| {
                        tracing::error!(%error, "looking after webhooks ended unexpectedly; will retry");
                        Supervision::default()
                    });
                }
                let changed = current.0.webhooks.changed();
                drop(current);
                tokio::select! {
                    () = tokio::time::sleep(INTERVAL) => {}
                    () = changed => {}
                }
            }
        });
    }

    pub(super) async fn look_after_webhooks(&self, supervision: &mut Supervision) {
        if let Err(error) = self.serve_webhooks(&mut supervision.known).await {
            let (code, detail) = (error.code.as_str(), error.detail);
            tracing::warn!(code, detail, "looking after webhooks failed; will retry");
        }
        if is_due(supervision.counted, GAUGE_INTERVAL) {
            supervision.counted = Some(Instant::now());
            self.look_at_backlogs(&mut supervision.shown).await;
        }
    }

    /// Takes over the configured webhooks if they have changed, starts the senders that are missing, and has those read their
    /// webhook again that was changed. Reads only webhooks that have changed since the last look.
    async fn serve_webhooks(&self, known: &mut BTreeMap<WebhookId, KnownWebhook>) -> Result<(), Error> {
        self.take_over_configured().await?;
        let (store, state) = (&self.0.store, &self.0.webhooks);
        let mut present = BTreeMap::new();
        for (id, tenant, version) in store.webhook_versions().await.or_not_applied()? {
            let before = known.get(&id).copied();
            let webhook = match before.filter(|before| before.version == version) {
                Some(same) => same,
                None => match store.webhook(&tenant, &id).await {
                    Ok(webhook) => KnownWebhook { version, is_sendable: webhook.as_ref().is_some_and(is_sendable) },
                    Err(StoreError::Unreadable(error)) => {
                        tracing::error!(webhook = %id, error, "a webhook cannot be read; nothing is delivered to it");
                        KnownWebhook { version, is_sendable: false }
                    }
                    Err(error) => return Err(error).or_not_applied(),
                },
            };
            if before.is_some_and(|before| before.version != version) {
                state.refresh(&id);
            }
            present.insert(id.clone(), webhook);
            if webhook.is_sendable
                && let Some(signals) = state.begin_sending(&id)
            {
                let gateway = Arc::downgrade(&self.0);
                let sending = Sending::new(gateway.clone(), id.clone());
                tokio::spawn(async move {
                    let _sending = sending;
                    sender::run(gateway, tenant, id, signals).await;
                });
            }
        }
        *known = present;
        Ok(())
    }

    /// Brings the store's webhooks up to date with the configured ones, unless they are.
    async fn take_over_configured(&self) -> Result<(), Error> {
        let (context, state) = (self.delivery_context()?, &self.0.webhooks);
        if state.is_registered.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let registered = self.register_configured(&context.settings.webhooks).await;
        if registered.is_err() {
            state.is_registered.store(false, Ordering::SeqCst);
        }
        registered
    }

    /// Brings the stored webhooks that the operator defines into the form that is configured now, and removes the others.
    async fn register_configured(&self, configured: &[ConfiguredWebhook]) -> Result<(), Error> {
        let stored = self.0.store.all_webhooks().await.or_not_applied()?;
        let mut changes = Vec::new();
        for wanted in configured {
            let id = configured_id(&wanted.tenant, &wanted.name);
            let change = if let Some(webhook) = stored.iter().find(|webhook| webhook.id == id) {
                self.changed_webhook(webhook, wanted)
            } else {
                vec![Mutation::Webhook(Box::new(self.new_configured(id.clone(), wanted).await?))]
            };
            changes.push((id, change));
        }
        let wanted: BTreeSet<WebhookId> = configured.iter().map(|it| configured_id(&it.tenant, &it.name)).collect();
        let is_gone = |it: &&Webhook| it.source == WebhookSource::Configuration && !wanted.contains(&it.id);
        let gone = stored.iter().filter(is_gone);
        let removal = |it: &Webhook| (it.id.clone(), vec![Mutation::RemoveWebhook(it.tenant.clone(), it.id.clone())]);
        changes.extend(gone.map(removal));
        for (id, change) in changes.into_iter().filter(|(_, change)| !change.is_empty()) {
            match self.0.store.commit(change).await {
                // Another instance has written it, or a client has paused it meanwhile: looked at again.
                Err(StoreError::Superseded) => self.0.webhooks.is_registered.store(false, Ordering::SeqCst),
                committed => {
                    committed.or_not_applied()?;
                    self.0.webhooks.notify(&id);
                }
            }
        }
        Ok(())
    }

    /// Makes a configured webhook, which gets the events from now on.
    async fn new_configured(&self, id: WebhookId, wanted: &ConfiguredWebhook) -> Result<Webhook, Error> {
        let now = self.now();
        // One of the same name may have been removed.
        self.0.store.purge_removed_webhook(&id).await.or_not_applied()?;
        let latest = self.0.store.latest_event(&wanted.tenant).await.or_not_applied()?;
        Ok(Webhook {
            id,
            tenant: wanted.tenant.clone(),
            owner: wanted.name.clone(),
            source: WebhookSource::Configuration,
            settings: wanted.settings.clone(),
            secrets: secrets_of(wanted),
            state: WebhookState::Enabled,
            reason: None,
            scanned: latest,
            failures: 0,
            failing_since: None,
            resume_at: None,
            created: now,
            last_modified: now,
            version: 1,
        })
    }

    /// Returns the changes that make a stored webhook the configured one. One that was disabled or failing at an address or with
    /// a secret that was replaced since is tried again.
    fn changed_webhook(&self, stored: &Webhook, wanted: &ConfiguredWebhook) -> Vec<Mutation> {
        let secrets = secrets_of(wanted);
        let exposed = |secrets: &[WebhookSecret]| -> Vec<String> {
            secrets.iter().map(|secret| secret.value.expose().to_owned()).collect()
        };
        let same_secrets = exposed(&secrets) == exposed(&stored.secrets);
        if stored.settings == wanted.settings && same_secrets {
            return Vec::new();
        }
        let mut webhook = Webhook {
            settings: wanted.settings.clone(),
            secrets,
            last_modified: self.now(),
            version: stored.version + 1,
            ..stored.clone()
        };
        let mut changes = Vec::new();
        if webhook.state != WebhookState::Paused && (stored.settings.url != wanted.settings.url || !same_secrets) {
            enable(&mut webhook);
            changes.push(Mutation::WebhookHealth(healthy(&webhook)));
        }
        // First, because the health belongs to the new version.
        changes.insert(0, Mutation::Webhook(Box::new(webhook)));
        changes
    }

    /// Sets the gauges of what is still to be delivered. On a shared store, has senders with pending deliveries read them again.
    async fn look_at_backlogs(&self, shown: &mut BTreeSet<String>) {
        let Some(context) = self.0.webhooks.context() else { return };
        let store = &self.0.store;
        let read =
            async { Ok((store.all_webhooks().await?, store.webhook_backlogs().await?, store.event_heads().await?)) };
        let read: Result<_, StoreError> = read.await;
        let Ok((webhooks, backlogs, heads)) = read else { return };
        let (pending, heads) = (HashMap::<String, u64>::from_iter(backlogs), HashMap::<String, u64>::from_iter(heads));
        let mut labels = BTreeSet::new();
        for webhook in webhooks {
            let pending = pending.get(webhook.id.as_str()).copied().unwrap_or(0);
            if pending > 0 && store.is_shared() {
                // Another instance may have made deliveries pending again.
                self.0.webhooks.refresh_sending(&webhook.id);
            }
            let Some(owner) = context.owners.owner(&webhook) else { continue };
            let mut unseen = 0;
            // Most webhooks have seen everything.
            if heads.get(&webhook.tenant).is_some_and(|latest| *latest > webhook.scanned) {
                let filter = self.filter_of(&webhook, &owner);
                let Ok(latest) = store.last_event(&webhook.tenant, &filter).await else { continue };
                unseen = latest.unwrap_or(0).saturating_sub(webhook.scanned);
            }
            let label = label_of(&webhook);
            metrics::webhook_lag(&label, pending.saturating_add(unseen));
            labels.insert(label);
        }
        // A gauge would otherwise keep its last value for ever.
        shown.difference(&labels).for_each(|gone| metrics::webhook_lag(gone, 0));
        *shown = labels;
    }
}

/// Returns the label of a webhook in metrics: the configured name, or the id, of which each tenant has a limited number.
fn label_of(webhook: &Webhook) -> String {
    match webhook.source {
        WebhookSource::Configuration => webhook.owner.clone(),
        WebhookSource::Api => webhook.id.to_string(),
    }
}

/// Sets a webhook to be sent to at once; its health is to be committed, too.
pub(super) fn enable(webhook: &mut Webhook) {
    webhook.state = WebhookState::Enabled;
    webhook.reason = None;
    webhook.failures = 0;
    webhook.failing_since = None;
    webhook.resume_at = None;
}

/// Returns the health of a webhook whose receiver is not known to fail.
pub(super) fn healthy(webhook: &Webhook) -> WebhookHealth {
    let (id, version) = (webhook.id.clone(), webhook.version);
    WebhookHealth { id, version, failures: 0, failing_since: None, resume_at: None }
}

fn secrets_of(wanted: &ConfiguredWebhook) -> Vec<WebhookSecret> {
    wanted.secrets.iter().map(|value| WebhookSecret { value: value.clone(), expires: None }).collect()
}

/// Returns the id of a configured webhook, which is the same after each start and at each instance.
fn configured_id(tenant: &str, name: &str) -> WebhookId {
    let mut id = [0; 16];
    let hash = Sha256::digest(format!("{tenant}\n{name}"));
    id.iter_mut().zip(hash).for_each(|(byte, of_hash)| *byte = of_hash);
    WebhookId::of_hash(id)
}
