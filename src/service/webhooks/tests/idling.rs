//! What webhooks cost while nothing happens: reads of the store, counted.

use tokio::time::Instant;

use super::*;
use crate::service::simulation::count_calls;
use crate::service::webhooks::registry::Supervision;
use crate::service::webhooks::sender::Opened;
use crate::service::webhooks::state::SenderSignals;

#[tokio::test]
async fn a_look_at_idle_webhooks_costs_as_many_reads_however_many_there_are() {
    let mut reads = Vec::new();
    for number in [1, 40] {
        let world = World::without_senders().await;
        world.emit(None).await;
        let mut locks = Vec::new();
        for at in 0..number {
            let webhook = world.webhook(&format!("host-{at}")).await;
            // Their senders are not what is counted.
            locks.push(world.gateway.0.subject_locks.try_lock(&SubjectKey::webhook(&webhook)).await.unwrap().unwrap());
        }
        let (gateway, mut supervision) = (&world.gateway, Supervision::default());
        let mut look = async || {
            // With the gauges.
            supervision.counted = None;
            let look = async {
                gateway.look_after_webhooks(&mut supervision).await;
                gateway.read_heads().await.unwrap();
            };
            count_calls(look).await.1
        };
        let first = look().await;
        let later = look().await;
        assert!(0 < later && later < first, "{later} after {first}");
        reads.push(later);
    }
    assert_eq!(reads[0], reads[1]);
}

#[tokio::test]
async fn an_idle_sender_that_is_woken_reads_nothing() {
    let world = World::without_senders().await;
    let webhook = world.webhook("a").await;
    let signals = Arc::new(SenderSignals::default());
    let opened = world.gateway.open_sender(TENANT, &webhook, &signals).await.unwrap();
    let Opened::Sender(mut sender, _lock) = opened else { panic!("it has no sender") };
    let gateway = &world.gateway;
    sender.step(gateway).await.unwrap();
    let now = Some(Instant::now());
    (sender.times.refreshed, sender.times.expired) = (now, now);
    let (stepped, calls) = count_calls(sender.step(gateway)).await;
    assert!(stepped.unwrap().is_some());
    assert_eq!(calls, 0);
    // With an event, it reads.
    world.emit(None).await;
    gateway.read_heads().await.unwrap();
    assert!(count_calls(sender.step(gateway)).await.1 > 0);
}
