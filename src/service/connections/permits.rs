//! The permits that the calls and claims of operations acquire at a connection.

use std::sync::Arc;

use super::Connection;
use crate::domain::error::Error;
use crate::service::Gateway;
use crate::service::bulk_limits::{BulkLimits, ClaimPermit};
use crate::service::fair_semaphore::{FairPermit, FairSemaphore, QueueKey};

impl Connection {
    /// Acquires the in-flight permit for a call that so far holds only a claim permit.
    pub(in crate::service) async fn acquire_in_flight(
        &self,
        begun: Option<&ClaimPermit>,
        key: &QueueKey,
    ) -> Option<FairPermit> {
        if begun.is_none_or(|begun| begun.ahead) { Some(self.bulk_limits.calls.acquire(key).await) } else { None }
    }
}

impl Gateway {
    /// Acquires an in-flight permit for a bulk call, and returns it with the connection as configured by then.
    ///
    /// # Errors
    /// `connection_not_found`.
    pub(in crate::service) async fn acquire_bulk(
        &self,
        name: &str,
        key: &QueueKey,
    ) -> Result<(Arc<Connection>, FairPermit), Error> {
        self.acquire_from(name, key, |bulk_limits| &bulk_limits.calls).await
    }

    /// As [`Self::acquire_bulk`], for a call that changes a program's employees.
    ///
    /// # Errors
    /// `connection_not_found`.
    pub(in crate::service) async fn acquire_enrolment(
        &self,
        name: &str,
        key: &QueueKey,
    ) -> Result<(Arc<Connection>, FairPermit), Error> {
        self.acquire_from(name, key, |bulk_limits| &bulk_limits.enrolments).await
    }

    /// Acquires the permit to claim a batch, and returns it with the connection as [`Self::acquire_bulk`] does. Set
    /// `ahead`, to claim before an in-flight permit is available, only if nothing can still prevent the sending.
    ///
    /// # Errors
    /// `connection_not_found`.
    pub(in crate::service) async fn acquire_claim(
        &self,
        name: &str,
        key: &QueueKey,
        ahead: bool,
    ) -> Result<(Arc<Connection>, ClaimPermit), Error> {
        let (connection, permit) = self
            .acquire_from(name, key, |bulk_limits| if ahead { &bulk_limits.begun } else { &bulk_limits.calls })
            .await?;
        Ok((connection, ClaimPermit { _permit: permit, ahead }))
    }

    async fn acquire_from(
        &self,
        name: &str,
        key: &QueueKey,
        among: impl Fn(&BulkLimits) -> &Arc<FairSemaphore>,
    ) -> Result<(Arc<Connection>, FairPermit), Error> {
        loop {
            let connection = self.connection_of(name)?;
            let permit = among(&connection.bulk_limits).acquire(key).await;
            if self.is_current(&connection) {
                return Ok((connection, permit));
            }
        }
    }
}
