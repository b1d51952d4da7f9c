//! The tasks that read a connection's reports: one looks at what has come or become due, one reads the feeds and sweeps, one
//! fetches reports. They hold the gateway weakly, and end with it or with the connection's source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::domain::error::{Code, Error};
use crate::domain::results::{FeedPlan, ReportChannel};
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::expiry::ending_windows;
use crate::service::results::feed_reader::FeedRead;
use crate::service::results::state::ReaderSignals;
use crate::service::results::sweep::SWEEP_RETRY;
use crate::telemetry::{metrics, spans};

/// Interval between looks at what has come or become due, and at what the schedule of the feeds says.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest interval between looks while they fail; each is twice as long as the one before.
const MAX_INTERVAL: Duration = Duration::from_secs(15);
/// First pause after a failed run over the feeds; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Number of bookings that are read at once for their centres.
const PAGE: usize = 500;

/// When the feeds of a connection are read.
#[derive(Default)]
struct FeedSchedule {
    /// The connection as it was configured at the last run.
    connection: Option<std::sync::Weak<Connection>>,
    due: Option<Instant>,
    failures: u32,
    sweep_due: Option<Instant>,
}

impl FeedSchedule {
    /// Returns whether the connection is configured as at the last run.
    fn knows(&self, connection: &Arc<Connection>) -> bool {
        self.connection.as_ref().is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(connection)))
    }

    fn is_due(&self, connection: &Arc<Connection>) -> bool {
        !self.knows(connection) || self.due.is_none_or(|due| due <= Instant::now())
    }

    /// Plans the next run: after the interval, or earlier if a run over the feeds says so.
    fn plan_next(&mut self, connection: &Arc<Connection>, plan: &FeedPlan, end: &Result<SignedDuration, Error>) {
        self.connection = Some(Arc::downgrade(connection));
        let every = Duration::try_from(plan.every).unwrap_or(FIRST_PAUSE);
        let pause = match end {
            Ok(wait) => {
                self.failures = 0;
                Duration::try_from(*wait).unwrap_or(FIRST_PAUSE)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let doublings = 1_u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX);
                let pause = FIRST_PAUSE.saturating_mul(doublings).min(every);
                error.retry_after.map_or(pause, |wait| wait.max(pause))
            }
        };
        self.due = Some(Instant::now() + pause);
    }
}

/// The work of one of a connection's tasks.
enum Work {
    /// Looks at what has come or become due.
    Looks,
    /// Fetches reports.
    Fetches,
    /// Reads the feeds, and sweeps.
    Feeds(FeedSchedule),
}

impl Work {
    /// Does the work once; returns the interval until the next time.
    async fn run(
        &mut self,
        gateway: &Gateway,
        connection: &Arc<Connection>,
        signals: &ReaderSignals,
        interval: Duration,
    ) -> Duration {
        match self {
            Self::Looks => gateway.look_once(connection, interval).await,
            Self::Fetches => gateway.fetch_once(connection, interval).await,
            Self::Feeds(schedule) => {
                gateway.keep_schedule(connection, signals, schedule).await;
                INTERVAL
            }
        }
    }

    /// Returns the signal that shortens the interval; `None` if nothing does: fetches that fail keep their pause.
    fn signal<'a>(&self, signals: &'a ReaderSignals, interval: Duration) -> Option<&'a Notify> {
        match self {
            Self::Looks => Some(&signals.reports),
            Self::Fetches => Some(&signals.fetches).filter(|_| interval == INTERVAL),
            Self::Feeds(_) => Some(&signals.feed),
        }
    }
}

/// Returns the interval after a look that has failed or not.
fn next_interval(interval: Duration, failed: bool) -> Duration {
    if failed { interval.saturating_mul(2).min(MAX_INTERVAL) } else { INTERVAL }
}

impl Gateway {
    /// Spawns the tasks of each connection with reports that has none.
    pub(in crate::service) fn spawn_report_readers(&self) {
        let configured = self.configured();
        let with_source = configured.connections.values().filter(|connection| connection.report_source().is_some());
        for name in with_source.map(|connection| connection.name.clone()) {
            let Some(signals) = self.0.results.begin_reading(&name) else { continue };
            // Counters that first appear with a value show no increase.
            metrics::feed_faults(&name, 0);
            metrics::feed_holes(&name, 0);
            metrics::fetch_failures(&name, 0);
            for work in [Work::Looks, Work::Fetches, Work::Feeds(FeedSchedule::default())] {
                self.spawn_reader(name.clone(), Arc::clone(&signals), work);
            }
        }
    }

    /// Returns the connection if these are still its readers, and no others are needed.
    fn connection_to_read(&self, name: &str, signals: &Arc<ReaderSignals>) -> Option<Arc<Connection>> {
        let connection = self.connection_of(name).ok().filter(|connection| connection.report_source().is_some());
        if self.0.results.is_reading(name, signals, connection.is_some()) { connection } else { None }
    }

    /// Spawns a task that does this work at intervals, and at once when it is signalled.
    fn spawn_reader(&self, name: String, signals: Arc<ReaderSignals>, mut work: Work) {
        let gateway = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut interval = INTERVAL;
            loop {
                let Some(inner) = gateway.upgrade() else { return };
                let gateway = Self(inner);
                let Some(connection) = gateway.connection_to_read(&name, &signals) else { return };
                if !gateway.is_stopping() && gateway.0.lease.holds() {
                    interval = work.run(&gateway, &connection, &signals, interval).await;
                }
                drop((connection, gateway));
                let pause = tokio::time::sleep(interval);
                match work.signal(&signals, interval) {
                    Some(signal) => tokio::select! {
                        () = pause => {}
                        () = signal.notified() => {}
                    },
                    None => pause.await,
                }
            }
        });
    }

    /// Reads what has arrived and looks at the reports that are due; returns the interval until the next look.
    async fn look_once(&self, connection: &Connection, interval: Duration) -> Duration {
        let read = self.read_inbox(connection).await;
        let looked = self.look_at_due_reports(connection).await;
        let interval = next_interval(interval, read.is_err() || looked.is_err());
        for error in [read, looked].into_iter().filter_map(Result::err) {
            let (code, detail) = (error.code.as_str(), error.detail);
            tracing::warn!(connection = connection.name, code, detail, "reading reports failed; will retry");
        }
        interval
    }

    /// Fetches the reports that are due; returns the interval until the next ones.
    async fn fetch_once(&self, connection: &Connection, interval: Duration) -> Duration {
        let fetched = self.fetch_due_reports(connection).await;
        let interval = next_interval(interval, fetched.is_err());
        let Err(error) = fetched else { return interval };
        let (code, detail) = (error.code.as_str(), error.detail.as_str());
        tracing::warn!(connection = connection.name, code, detail, "fetching reports failed; will retry");
        error.retry_after.map_or(interval, |wait| wait.max(interval))
    }

    async fn keep_schedule(&self, connection: &Arc<Connection>, signals: &ReaderSignals, schedule: &mut FeedSchedule) {
        let Some(source) = connection.report_source() else { return };
        if let ReportChannel::Feed(plan) = source.channel() {
            let asked = signals.take_feed_request();
            if !asked && !schedule.is_due(connection) {
                return;
            }
            // Replicas keep the interval together; at the start, and for other settings, each reads at once.
            let only_due = !asked && schedule.knows(connection);
            let reading = self.read_feeds(connection, plan, only_due);
            let end = reading.instrument(spans::reports(&connection.name)).await;
            schedule.plan_next(connection, plan, &end);
            if end.is_err() {
                return;
            }
        }
        if schedule.sweep_due.is_none_or(|due| due <= Instant::now()) {
            self.0.results.forget_centers(&connection.name);
            let swept = self.sweep_if_due(connection).await;
            let pause = *swept.as_ref().unwrap_or(&SWEEP_RETRY);
            schedule.sweep_due = Some(Instant::now() + pause.unsigned_abs());
            if let Err(error) = swept {
                let (code, detail) = (error.code.as_str(), error.detail);
                tracing::warn!(connection = connection.name, code, detail, "sweeping reports failed; will retry");
            }
        }
    }

    /// Reads the feeds of all centres, one after the other; with `only_due`, those that no instance has read within the
    /// interval. Returns how long it is until one is due again.
    ///
    /// # Errors
    /// The first error; the feeds of the other centres are read nevertheless.
    pub(super) async fn read_feeds(
        &self,
        connection: &Connection,
        plan: &FeedPlan,
        only_due: bool,
    ) -> Result<SignedDuration, Error> {
        let mut all = Ok(plan.every);
        for center in self.centers(connection, plan).await? {
            let name = center.as_deref().unwrap_or_default();
            match self.read_feed(connection, plan, center.as_deref(), only_due).await {
                Ok(FeedRead::Read | FeedRead::Locked) => connection.set_feed_fault(name, None),
                Ok(FeedRead::Recent(wait)) => {
                    connection.set_feed_fault(name, None);
                    all = all.map(|least| least.min(wait));
                }
                Err(error) if error.code == Code::Draining => return Err(error),
                Err(error) => {
                    let (code, detail) = (error.code.as_str(), error.detail.as_str());
                    tracing::warn!(connection = connection.name, code, detail, "reading a feed failed; will retry");
                    metrics::feed_faults(&connection.name, 1);
                    connection.set_feed_fault(name, Some(format!("The feed of results was not read: {detail}")));
                    all = all.and(Err(error));
                }
            }
        }
        self.show_feed_time(&connection.name).await;
        if let Err(error) = self.report_expired(connection, plan).await {
            let (code, detail) = (error.code.as_str(), error.detail);
            tracing::warn!(connection = connection.name, code, detail, "reporting expired bookings failed; will retry");
        }
        all
    }

    /// Returns the centres whose feeds are read: the configured ones and those of bookings.
    async fn centers(&self, connection: &Connection, plan: &FeedPlan) -> Result<BTreeSet<Option<String>>, Error> {
        let mut known = self.0.results.known_centers(&connection.name);
        let positions = self.feed_positions(&connection.name).await?;
        loop {
            let page = self.0.store.booked_assignments(&connection.name, known.after.as_ref(), PAGE).await;
            let page = page.or_not_applied()?;
            let Some(last) = page.last() else { break };
            known.after = Some(last.id.clone());
            self.0.results.keep_ending_windows(&connection.name, ending_windows(&page, plan, &positions));
            known.centers.extend(page.into_iter().filter_map(|booking| booking.order.center));
        }
        let centers = plan.centers.iter().cloned().chain(known.centers.iter().cloned().map(Some)).collect();
        self.0.results.keep_centers(&connection.name, known);
        Ok(centers)
    }

    /// Sets the gauge of the time until which all feeds of the connection are known.
    pub(super) async fn show_feed_time(&self, connection: &str) {
        if let Ok(positions) = self.feed_positions(connection).await
            && let Some(as_of) = positions.earliest()
        {
            metrics::results_as_of(connection, as_of.as_second());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_fail_become_rare_and_are_frequent_again_after_a_success() {
        let failing = std::iter::successors(Some(INTERVAL), |interval| Some(next_interval(*interval, true)));
        let seconds: Vec<u64> = failing.take(6).map(|interval| interval.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 15, 15]);
        assert_eq!(next_interval(MAX_INTERVAL, false), INTERVAL);
    }

    #[test]
    fn only_fetches_that_fail_keep_their_pause_when_they_are_signalled() {
        let signals = ReaderSignals::default();
        let is_shortened = |work: &Work, interval| work.signal(&signals, interval).is_some();
        let all = [Work::Looks, Work::Fetches, Work::Feeds(FeedSchedule::default())];
        let of = |interval| all.iter().map(|work| is_shortened(work, interval)).collect::<Vec<_>>();
        assert_eq!(of(INTERVAL), [true, true, true]);
        assert_eq!(of(next_interval(INTERVAL, true)), [true, false, true]);
    }
}
