//! Commit slots of this instance, stored in the table `lanes`: each transaction has one to itself
//! (`migrations/0001_start.sql` gives the reason).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{PgConnection, PgPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::StoreError;
use crate::store::postgres::connect::{LANES, WAIT};
use crate::store::postgres::error::TxError;

/// Pool of the free commit slots. The one that has been free for longest is used next: the server may still be working on
/// a lost transaction in one that has just become free.
pub(super) struct CommitSlots {
    free: Arc<Mutex<VecDeque<Slot>>>,
    permits: Arc<Semaphore>,
}

/// A commit slot and the number of its last transaction.
struct Slot {
    number: i32,
    receipt: i64,
}

/// Guard of a commit slot; returns the slot when dropped.
pub(super) struct SlotGuard {
    lane: Option<Slot>,
    free: Arc<Mutex<VecDeque<Slot>>>,
    // Last field, so dropped last: a waiter that gets the permit finds the slot returned.
    _permit: OwnedSemaphorePermit,
}

impl CommitSlots {
    pub(super) fn new() -> Self {
        let free = (0..LANES).map(|number| Slot { number: i32::from(number), receipt: 0 }).collect();
        Self { free: Arc::new(Mutex::new(free)), permits: Arc::new(Semaphore::new(usize::from(LANES))) }
    }

    pub(super) async fn acquire(&self) -> Result<SlotGuard, StoreError> {
        let permit = tokio::time::timeout(WAIT, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        let lane = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        Ok(SlotGuard { lane, free: Arc::clone(&self.free), _permit: permit })
    }
}

impl SlotGuard {
    /// Exchanges the slot for the one that has been free for longest; keeps it if none is free. Call it after a transaction
    /// was lost: the next one in its slot would wait until the server has ended it.
    pub(super) fn exchange(&mut self) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.extend(self.lane.take());
        self.lane = free.pop_front();
    }

    /// Returns the statements that begin a transaction, enter the slot and take the advisory locks, to be sent at once.
    /// They affect a row of the slot only if the instance has not ended; see [`SlotGuard::enter`].
    pub(super) fn begin(&mut self, instance: &str, locks: &[i64]) -> Result<String, TxError> {
        let lane = self.lane.as_mut().ok_or_else(busy)?;
        lane.receipt += 1;
        let Slot { number, receipt } = lane;
        // The instance's name is of this program: hexadecimal digits.
        let mut begin = format!(
            "BEGIN; UPDATE lanes SET receipt = {receipt} WHERE instance = '{instance}' AND lane = {number} AND NOT ended
             RETURNING set_config('examgate.lane', lane::text, true)"
        );
        if !locks.is_empty() {
            let locks: Vec<String> = locks.iter().map(ToString::to_string).collect();
            let locks = locks.join(",");
            // Returns no row.
            let lock =
                format!("; SELECT FROM unnest('{{{locks}}}'::bigint[]) lock WHERE pg_advisory_xact_lock(lock) IS NULL");
            begin.push_str(&lock);
        }
        Ok(begin)
    }

    /// Enters the slot, as the first statement of a transaction; [`StoreError::Fenced`] if the instance has ended.
    pub(super) async fn enter(&mut self, connection: &mut PgConnection, instance: &str) -> Result<(), TxError> {
        let lane = self.lane.as_mut().ok_or_else(busy)?;
        lane.receipt += 1;
        // Rows of operations are counted per slot (`migrations/0005_counts.sql`).
        let entered = sqlx::query(
            "UPDATE lanes SET receipt = $3 WHERE instance = $1 AND lane = $2 AND NOT ended
             RETURNING set_config('examgate.lane', lane::text, true)",
        )
        .bind(instance)
        .bind(lane.number)
        .bind(lane.receipt)
        .fetch_optional(connection)
        .await?;
        if entered.is_none() { Err(StoreError::Fenced.into()) } else { Ok(()) }
    }

    /// Returns whether the slot's last transaction was committed. Waits while the server is still working on it: that
    /// transaction holds the row lock.
    pub(super) async fn committed(&self, pool: &PgPool, instance: &str) -> Result<bool, TxError> {
        let lane = self.lane.as_ref().ok_or_else(busy)?;
        let receipt: Option<i64> =
            sqlx::query_scalar("SELECT receipt FROM lanes WHERE instance = $1 AND lane = $2 FOR UPDATE")
                .bind(instance)
                .bind(lane.number)
                .fetch_optional(pool)
                .await?;
        // The row disappears only with an ended instance that nothing refers to.
        let receipt = receipt.ok_or(StoreError::Fenced)?;
        Ok(receipt == lane.receipt)
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).extend(self.lane.take());
    }
}

fn busy() -> StoreError {
    StoreError::Unavailable("too many concurrent transactions".to_owned())
}

/// Creates the slots of a new instance.
pub(super) async fn make(connection: &mut PgConnection, instance: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO lanes (instance, lane, receipt, ended) SELECT $1, lane, 0, false FROM generate_series(0, $2) lane",
    )
    .bind(instance)
    .bind(i32::from(LANES) - 1)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(guard: &SlotGuard) -> i32 {
        guard.lane.as_ref().unwrap().number
    }

    #[tokio::test]
    async fn the_slot_of_a_lost_transaction_is_used_last() {
        let slots = CommitSlots::new();
        let mut first = slots.acquire().await.unwrap();
        assert_eq!(number(&first), 0);
        first.exchange();
        assert_eq!(number(&first), 1);
        let mut others = Vec::new();
        for expected in 2..i32::from(LANES) {
            others.push(slots.acquire().await.unwrap());
            assert_eq!(others.last().map(number), Some(expected));
        }
        let lost = slots.acquire().await.unwrap();
        assert_eq!(number(&lost), 0);
        first.exchange();
        assert_eq!(number(&first), 1, "none is free");
        drop(first);
        drop(lost);
        assert_eq!(number(&slots.acquire().await.unwrap()), 1);
    }
}
