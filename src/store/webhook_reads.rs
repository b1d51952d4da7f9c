//! The reads of webhooks and deliveries that are the same for every engine.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::ids::{AssignmentId, DeliveryId, EventId, WebhookId};
use crate::domain::webhook::{Delivery, DeliveryOrder, DeliveryState, Webhook};
use crate::store::codec::{DeliveryRow, WebhookRow, micros};
use crate::store::engine::{Access, Engine};
use crate::store::result_reads::{column, lines};
use crate::store::sql::{AFTER_ALL, Sql, SqlValue, values};
use crate::store::webhook_sql as sql;
use crate::store::{DeliveryFilter, Page, SendableDeliveries, StoreError, WebhookBacklog};

/// Number of pending deliveries that one look for those that may be sent goes through.
const EXAMINED: usize = 5_000;
/// Number of assignments in the list of one statement.
const LISTED: usize = 200;

/// The reads of a [`Store`](crate::store::Store) that concern webhooks and deliveries.
#[async_trait]
pub trait WebhookReads: Send + Sync {
    /// Returns the tenant's webhook with this id.
    async fn webhook(&self, tenant: &str, id: &WebhookId) -> Result<Option<Webhook>, StoreError>;

    /// Returns a page of the tenant's webhooks, newest first.
    async fn webhooks(&self, tenant: &str, page: &Page) -> Result<Vec<Webhook>, StoreError>;

    /// Returns the ids, tenants and versions of the webhooks of all tenants, ordered by id. Opens none of them.
    async fn webhook_versions(&self) -> Result<Vec<(WebhookId, String, u64)>, StoreError>;

    /// Returns the webhooks of all tenants, ordered by id. Logs and omits those that cannot be read: one must not stop the
    /// others.
    async fn all_webhooks(&self) -> Result<Vec<Webhook>, StoreError>;

    /// Returns the tenant's delivery with this id, unless its webhook is gone.
    async fn delivery(&self, tenant: &str, id: &DeliveryId) -> Result<Option<Delivery>, StoreError>;

    /// Returns whether a delivery may be attempted as it was read: it is pending in this version, and its webhook has the version
    /// with which the attempt is to be made. Records nothing: only the holder of the webhook's lock attempts its deliveries.
    async fn is_attemptable(&self, delivery: &Delivery, webhook_version: u64) -> Result<bool, StoreError>;

    /// Returns a page of the deliveries to the tenant's webhook, newest first.
    async fn deliveries(
        &self,
        tenant: &str,
        webhook: &WebhookId,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// Returns the next pending deliveries to a webhook, of events after this one, in the order of their events.
    async fn pending_deliveries(
        &self,
        webhook: &WebhookId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// Returns the next pending deliveries to a webhook that may be sent and are due by a time, of events after this one, in the
    /// order of their events: of each assignment only the first pending one, unless they are unordered. Looks at a limited
    /// number of pending deliveries, so that those that wait make no read long.
    async fn sendable_deliveries(
        &self,
        webhook: &WebhookId,
        order: DeliveryOrder,
        after: u64,
        due: Timestamp,
        limit: usize,
    ) -> Result<SendableDeliveries, StoreError>;

    /// Returns the first pending delivery to a webhook of each of these assignments that has one.
    async fn first_pending_deliveries(
        &self,
        webhook: &WebhookId,
        assignments: &[AssignmentId],
    ) -> Result<Vec<Delivery>, StoreError>;

    /// Counts the pending deliveries of each webhook that has any, by its id.
    async fn webhook_backlogs(&self) -> Result<Vec<(String, u64)>, StoreError>;

    /// Counts the pending deliveries to a webhook.
    async fn webhook_backlog(&self, webhook: &WebhookId) -> Result<WebhookBacklog, StoreError>;
}

#[async_trait]
impl<E: Engine> WebhookReads for E {
    async fn webhook(&self, tenant: &str, id: &WebhookId) -> Result<Option<Webhook>, StoreError> {
        let row: Option<WebhookRow> = self.select_one(Access::Key, sql::WEBHOOK, &values![id.as_str(), tenant]).await?;
        row.map(|row| self.codec().webhook(&row)).transpose()
    }

    async fn webhooks(&self, tenant: &str, page: &Page) -> Result<Vec<Webhook>, StoreError> {
        let Some(after) = position(page) else { return Ok(Vec::new()) };
        let rows: Vec<WebhookRow> =
            self.select(Access::List, sql::WEBHOOKS, &values![tenant, after, page.limit]).await?;
        rows.iter().map(|row| self.codec().webhook(row)).collect()
    }

    async fn webhook_versions(&self) -> Result<Vec<(WebhookId, String, u64)>, StoreError> {
        let rows: Vec<(String, String, i64)> = self.select(Access::Scan, sql::WEBHOOK_VERSIONS, &values![]).await?;
        let read = |(id, tenant, version): (String, String, i64)| {
            Some((WebhookId::parse(&id).ok()?, tenant, u64::try_from(version).ok()?))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    async fn all_webhooks(&self) -> Result<Vec<Webhook>, StoreError> {
        let rows: Vec<WebhookRow> = self.select(Access::Scan, sql::ALL_WEBHOOKS, &values![]).await?;
        let read = |row: &WebhookRow| match self.codec().webhook(row) {
            Ok(webhook) => Some(webhook),
            Err(error) => {
                tracing::error!(%error, "a webhook cannot be read; nothing is delivered to it");
                None
            }
        };
        Ok(rows.iter().filter_map(read).collect())
    }

    async fn delivery(&self, tenant: &str, id: &DeliveryId) -> Result<Option<Delivery>, StoreError> {
        Ok(deliveries(self, Access::Key, sql::DELIVERY, &values![id.as_str(), tenant]).await?.pop())
    }

    async fn is_attemptable(&self, delivery: &Delivery, webhook_version: u64) -> Result<bool, StoreError> {
        let values = values![delivery.id.as_str(), column(delivery.version), column(webhook_version)];
        let found: Option<(i64,)> = self.select_one(Access::Key, sql::ATTEMPTABLE_DELIVERY, &values).await?;
        Ok(found.is_some())
    }

    async fn deliveries(
        &self,
        tenant: &str,
        webhook: &WebhookId,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<Vec<Delivery>, StoreError> {
        let Some(after) = position(page) else { return Ok(Vec::new()) };
        let DeliveryFilter { event, state, connections } = filter;
        let connections = connections.as_deref().map(lines);
        let mut values: Vec<SqlValue<'_>> =
            values![webhook.as_str(), after, tenant, state.map(DeliveryState::as_str), connections.as_deref()].into();
        values.extend(event.as_ref().map(EventId::as_str).map(SqlValue::from));
        let sql = if event.is_some() { sql::DELIVERIES_OF_EVENT } else { sql::DELIVERIES };
        values.extend(values![page.limit]);
        deliveries(self, Access::List, sql, &values).await
    }

    async fn pending_deliveries(
        &self,
        webhook: &WebhookId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        let values = values![webhook.as_str(), column(after), limit];
        deliveries(self, Access::Scan, sql::PENDING_DELIVERIES, &values).await
    }

    async fn sendable_deliveries(
        &self,
        webhook: &WebhookId,
        order: DeliveryOrder,
        after: u64,
        due: Timestamp,
        limit: usize,
    ) -> Result<SendableDeliveries, StoreError> {
        let values = values![webhook.as_str(), column(after), EXAMINED - 1];
        let until: Option<(i64,)> = self.select_one(Access::Scan, sql::PENDING_UNTIL, &values).await?;
        let until = until.map(|(until,)| until);
        let sql = match order {
            DeliveryOrder::Resource => sql::SENDABLE_DELIVERIES_IN_ORDER,
            DeliveryOrder::Unordered => sql::SENDABLE_DELIVERIES,
        };
        let last = until.unwrap_or(i64::MAX);
        let values = values![webhook.as_str(), column(after), last, micros(due), limit];
        let found = deliveries(self, Access::Scan, sql, &values).await?;
        let looked_to = match found.last() {
            Some(last) if found.len() >= limit => Some(last.sequence),
            _ => until.map(|until| u64::try_from(until).unwrap_or(0)),
        };
        Ok(SendableDeliveries { deliveries: found, looked_to })
    }

    async fn first_pending_deliveries(
        &self,
        webhook: &WebhookId,
        assignments: &[AssignmentId],
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut found = Vec::new();
        for part in assignments.chunks(LISTED) {
            let part: Vec<String> = part.iter().map(ToString::to_string).collect();
            let values = values![webhook.as_str(), part];
            found.extend(deliveries(self, Access::Scan, sql::FIRST_PENDING_DELIVERIES, &values).await?);
        }
        Ok(found)
    }

    async fn webhook_backlogs(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let counts: Vec<(String, i64)> = self.select(Access::Scan, sql::WEBHOOK_BACKLOGS, &values![]).await?;
        Ok(counts.into_iter().map(|(webhook, pending)| (webhook, u64::try_from(pending).unwrap_or(0))).collect())
    }

    async fn webhook_backlog(&self, webhook: &WebhookId) -> Result<WebhookBacklog, StoreError> {
        let row: Option<(i64, Option<i64>)> =
            self.select_one(Access::Scan, sql::WEBHOOK_BACKLOG, &values![webhook.as_str()]).await?;
        let (pending, oldest) = row.unwrap_or_default();
        let number = |column| u64::try_from(column).unwrap_or(0);
        Ok(WebhookBacklog { pending: number(pending), oldest_pending: oldest.map(number) })
    }
}

/// Reads deliveries and opens them.
async fn deliveries<E: Engine>(
    engine: &E,
    access: Access,
    sql: &'static Sql,
    values: &[SqlValue<'_>],
) -> Result<Vec<Delivery>, StoreError> {
    let rows: Vec<DeliveryRow> = engine.select(access, sql, values).await?;
    rows.iter().map(|row| engine.codec().delivery(row)).collect()
}

/// Returns the id that a page follows; `None` if it is no stored text, so that nothing follows it.
fn position(page: &Page) -> Option<&str> {
    Some(page.after.as_deref().unwrap_or(AFTER_ALL)).filter(|after| !after.contains('\0'))
}
