//! Audit entries while the store does not tell whether it has written them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::audit::Entry;
use crate::service::simulation::sim::Sim;
use crate::service::simulation::vendor_oracle::Profile;

#[test]
fn an_entry_of_an_undecided_commit_is_written_once_and_delays_no_response_for_long() {
    let mut world = Sim::new(Profile::Employees, 1, Vec::new());
    let fate = Arc::clone(&world.process.as_ref().unwrap().fate);
    fate.calm_down();
    let latency = Duration::from_secs(50);
    fate.meter.set_latency(latency);
    world.run(async |gateway| {
        let begun = Instant::now();
        gateway.record(Entry::example("t", "req_1")).await;
        assert!(begun.elapsed() < latency, "the response does not wait for the commit");
        let undecided = || gateway.0.audit_writer.undecided.load(Ordering::Relaxed);
        assert_eq!(undecided(), 1);
        // The backlog does not repeat an entry that may be written yet.
        gateway.flush_audit_backlog().await;
        while undecided() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        fate.meter.set_latency(Duration::ZERO);
        gateway.flush_audit_backlog().await;
    });
    let entries = world.look(async |store| store.audit("t", 0, 10).await.unwrap());
    assert_eq!(entries.len(), 1);
}
