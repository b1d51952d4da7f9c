//! What the owners of webhooks may use, and resources as reads of them respond, for deliveries that hold them.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use crate::domain::assignment::Assignment as AssignmentRecord;
use crate::domain::error::{Code, Error};
use crate::domain::event::EventType;
use crate::domain::exchange::Exchange;
use crate::domain::ids::{AssignmentId, CandidateId, ExchangeId, OperationId, ReportId, ResultId, WebhookId};
use crate::domain::intent::WriteOrigin;
use crate::domain::results::Progress;
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
use crate::service::{ConnectionAccess, EventResource, Gateway, RequestContext, WebhookOwner, WebhookOwners};

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

    async fn read(
        &self,
        gateway: &Gateway,
        webhook: &WebhookRecord,
        event_type: EventType,
        path: &str,
    ) -> Result<EventResource, Error> {
        let Some((collection, id)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return Ok(EventResource::default());
        };
        let Some(caller) = self.caller(webhook, event_type.resource_scope()) else {
            return Ok(EventResource::default());
        };
        match collection {
            "results" => match ResultId::parse(id) {
                Ok(id) => of_person(gateway.result(&caller, &id).await, ExamResult::from),
                Err(_) => Ok(EventResource::default()),
            },
            "assignments" => match AssignmentId::parse(id) {
                Ok(id) => {
                    let read = with_progress(gateway, &caller, &id).await;
                    let is_erased = read.as_ref().is_ok_and(|(assignment, _)| assignment.is_erased());
                    let resource = document(read, |(assignment, progress)| Assignment::of(assignment, progress))?;
                    Ok(EventResource { is_erased, ..resource })
                }
                Err(_) => Ok(EventResource::default()),
            },
            "candidates" => match CandidateId::parse(id) {
                Ok(id) => of_person(gateway.candidate(&caller, &id).await, Candidate::from),
                Err(_) => Ok(EventResource::default()),
            },
            "operations" => match OperationId::parse(id) {
                Ok(id) => document(gateway.operation(&caller, &id).await, Operation::from),
                Err(_) => Ok(EventResource::default()),
            },
            "reports" => match ReportId::parse(id) {
                Ok(id) => document(gateway.report(&caller, &id, false).await, Report::from),
                Err(_) => Ok(EventResource::default()),
            },
            "connections" => document(gateway.connection(&caller, id), Connection::from),
            "webhooks" => match WebhookId::parse(id) {
                Ok(id) => document(gateway.webhook(&caller, &id).await, Webhook::from),
                Err(_) => Ok(EventResource::default()),
            },
            _ => Ok(EventResource::default()),
        }
    }
}

/// Reads an assignment with its progress.
async fn with_progress(
    gateway: &Gateway,
    caller: &RequestContext,
    id: &AssignmentId,
) -> Result<(AssignmentRecord, Option<Progress>), Error> {
    let assignment = gateway.assignment(caller, id).await?;
    let progress = gateway.progress_of(&[&assignment]).await?.into_iter().next().flatten();
    Ok((assignment, progress))
}

/// As [`document`], of what is removed only if its person is erased.
fn of_person<T, D: Serialize>(read: Result<T, Error>, show: impl FnOnce(T) -> D) -> Result<EventResource, Error> {
    let is_erased = read.as_ref().is_err_and(|error| error.code == Code::NotFound);
    Ok(EventResource { is_erased, ..document(read, show)? })
}

/// Returns the document of what was read; none if there is nothing to read for this reader.
///
/// # Errors
/// `store_unavailable` if it may be there.
fn document<T, D: Serialize>(read: Result<T, Error>, show: impl FnOnce(T) -> D) -> Result<EventResource, Error> {
    match read {
        Ok(found) => Ok(EventResource { object: serde_json::to_value(show(found)).ok(), is_erased: false }),
        Err(error) if error.code == Code::StoreUnavailable => Err(error),
        Err(_) => Ok(EventResource::default()),
    }
}
