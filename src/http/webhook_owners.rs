//! What the owners of webhooks may use, and resources as reads of them respond, for deliveries that hold them.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

use crate::domain::error::Error;
use crate::domain::exchange::Exchange;
use crate::domain::ids::{AssignmentId, CandidateId, ExchangeId, OperationId, ReportId, ResultId, WebhookId};
use crate::domain::intent::WriteOrigin;
use crate::domain::scope::{Scope, ScopeSet};
use crate::domain::system::System;
use crate::domain::vendor::Priority;
use crate::domain::webhook::{Webhook as WebhookRecord, WebhookSource};
use crate::http::app_state::LiveSettings;
use crate::http::dto::assignment::Assignment;
use crate::http::dto::candidate::Candidate;
use crate::http::dto::connection::Connection;
use crate::http::dto::operation::Operation;
use crate::http::dto::report::Report;
use crate::http::dto::result::ExamResult;
use crate::http::dto::webhook::Webhook;
use crate::service::{ConnectionAccess, Gateway, RequestContext, WebhookOwner, WebhookOwners};

/// The clients of the active configuration, as owners of webhooks.
pub struct ClientWebhookOwners {
    terms: LiveSettings,
    environment: System,
}

impl ClientWebhookOwners {
    /// Creates the owners from the clients in these settings, which may be replaced.
    #[must_use]
    pub fn new(terms: LiveSettings, environment: System) -> Arc<Self> {
        Arc::new(Self { terms, environment })
    }

    /// Returns the context in which the owner reads; `None` if it lacks the scope, or there is no such client any more.
    fn caller(&self, webhook: &WebhookRecord, scope: Scope) -> Option<RequestContext> {
        let id = ExchangeId::generate(&self.environment);
        let exchange = Exchange::new(id.clone(), id.into(), None, self.environment.now());
        match webhook.source {
            WebhookSource::Api => {
                let terms = self.terms.now();
                let client = terms.clients.client(&webhook.tenant, &webhook.owner)?;
                client.has_scope(scope).then(|| client.caller(exchange))
            }
            // The operator's own webhooks are bound by their tenant only.
            WebhookSource::Configuration => Some(RequestContext {
                tenant: webhook.tenant.clone(),
                client: webhook.owner.clone(),
                scopes: ScopeSet::all(),
                connections: ConnectionAccess::All,
                default_connection: None,
                exchange,
                priority: Priority::Bulk,
                key: None,
                origin: WriteOrigin::default(),
                resumed: None,
                audit_entry: None,
            }),
        }
    }
}

#[async_trait]
impl WebhookOwners for ClientWebhookOwners {
    fn owner(&self, webhook: &WebhookRecord) -> Option<WebhookOwner> {
        let connections = match webhook.source {
            WebhookSource::Configuration => ConnectionAccess::All,
            WebhookSource::Api => {
                let terms = self.terms.now();
                terms.clients.client(&webhook.tenant, &webhook.owner)?.connections().clone()
            }
        };
        Some(WebhookOwner { connections })
    }

    async fn read(&self, gateway: &Gateway, webhook: &WebhookRecord, path: &str) -> Option<Value> {
        let (collection, id) = path.strip_prefix('/')?.split_once('/')?;
        let caller = |scope| self.caller(webhook, scope);
        match collection {
            "results" => {
                let (caller, id) = (caller(Scope::ResultsRead)?, ResultId::parse(id).ok()?);
                document(gateway.result(&caller, &id).await, ExamResult::from)
            }
            "assignments" => {
                let (caller, id) = (caller(Scope::AssignmentsRead)?, AssignmentId::parse(id).ok()?);
                let assignment = gateway.assignment(&caller, &id).await.ok()?;
                let progress = gateway.progress_of(&[&assignment]).await.ok()?.into_iter().next().flatten();
                serde_json::to_value(Assignment::of(assignment, progress)).ok()
            }
            "candidates" => {
                let (caller, id) = (caller(Scope::CandidatesRead)?, CandidateId::parse(id).ok()?);
                document(gateway.candidate(&caller, &id).await, Candidate::from)
            }
            "operations" => {
                let (caller, id) = (caller(Scope::OperationsRead)?, OperationId::parse(id).ok()?);
                document(gateway.operation(&caller, &id).await, Operation::from)
            }
            "reports" => {
                let (caller, id) = (caller(Scope::ReportsRead)?, ReportId::parse(id).ok()?);
                document(gateway.report(&caller, &id, false).await, Report::from)
            }
            "connections" => document(gateway.connection(&caller(Scope::CatalogueRead)?, id), Connection::from),
            "webhooks" => {
                let (caller, id) = (caller(Scope::WebhooksRead)?, WebhookId::parse(id).ok()?);
                document(gateway.webhook(&caller, &id).await, Webhook::from)
            }
            _ => None,
        }
    }
}

/// Returns the document of what was read; `None` if it could not be read.
fn document<T, D: Serialize>(read: Result<T, Error>, document: impl FnOnce(T) -> D) -> Option<Value> {
    serde_json::to_value(document(read.ok()?)).ok()
}
