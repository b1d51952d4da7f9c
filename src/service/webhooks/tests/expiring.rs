//! What is reported of events that retention removes before a webhook got them.

use super::receiver::unreachable;
use super::*;
use crate::domain::webhook::DeliveryReason;

/// Why nothing is sent to a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    PausedBefore,
    PausedWithDeliveries,
    WithoutOwner,
}

#[tokio::test]
async fn what_a_webhook_loses_to_which_nothing_is_sent_is_reported_once_an_hour_and_counted_exactly() {
    for reason in [Reason::PausedBefore, Reason::PausedWithDeliveries, Reason::WithoutOwner] {
        let world = World::new().await;
        world.receiver.script(|_| unreachable());
        let narrow = WebhookSettings { types: vec!["assignment.*".to_owned()], ..settings("https://a.example.com/") };
        let webhook = world.create(narrow).await.view.webhook.id;
        let pause = async || {
            world.gateway.pause_webhook_now(&caller("lms"), &webhook).await.unwrap();
            world.wait_for_sender_end(&webhook).await;
        };
        match reason {
            Reason::PausedBefore => pause().await,
            Reason::PausedWithDeliveries => {}
            Reason::WithoutOwner => {
                world.owners.is_gone.store(true, Ordering::SeqCst);
                world.gateway.0.webhooks.notify(&webhook);
                world.wait_for_sender_end(&webhook).await;
            }
        }
        world.finish_first_purge().await;
        // An event every five minutes of four hours; the webhook is to get every second one.
        let minutes = |number: u64| Duration::from_secs(60 * number);
        let oldest = world.gateway.now() - SignedDuration::try_from(6 * DAY).unwrap();
        let all = (0..48).map(|number| {
            let kind = if number % 2 == 0 { EventType::ResultPublished } else { EventType::AssignmentExpired };
            (kind, EventSubject::default(), (6 * DAY).saturating_sub(minutes(5 * number)))
        });
        world.emit_all(all).await;
        if reason == Reason::PausedWithDeliveries {
            wait_until(async || world.deliveries(&webhook).await.len() == 24).await;
            pause().await;
        }
        let mut kept = 0;
        for step in 0..72 {
            let since = oldest + SignedDuration::try_from(minutes(5 * step)).unwrap();
            world.gateway.purge_events_before(since).await;
            let first_is_kept = world.store.event(TENANT, 2).await.unwrap().is_some();
            kept += usize::from(first_is_kept);
            assert_eq!(world.reported(EventType::WebhookGap).await.is_empty(), first_is_kept, "{reason:?} {step}");
        }
        assert!(kept > 10, "{reason:?}: its first event expires in the second step, and is kept for an hour: {kept}");
        let gaps = world.reported(EventType::WebhookGap).await;
        assert!(gaps.len() <= 5, "{reason:?}: {gaps:?}");
        let number = |gap: &Map<String, Value>, name: &str| gap[name].as_u64().unwrap();
        let mut before = 0;
        for gap in &gaps {
            let [from, to, count] = ["from", "to", "count"].map(|name| number(gap, name));
            assert_eq!((from, count), (before + 2, (to - from) / 2 + 1), "{reason:?}: {gaps:?}");
            before = to;
        }
        assert_eq!(before, 48, "{reason:?}: all of them");
        let deliveries = world.deliveries(&webhook).await;
        assert!(deliveries.iter().all(|it| it.reason == Some(DeliveryReason::Expired)), "{deliveries:?}");
    }
}

#[tokio::test]
async fn a_gap_counts_no_gaps_and_gaps_alone_make_none() {
    let (other, gap) = (EventType::ResultPublished, EventType::WebhookGap);
    for (lost, expected) in [(vec![other, gap, gap, other, gap], vec![json!([1, 4, 2]); 2]), (vec![gap], Vec::new())] {
        let world = World::without_senders().await;
        for host in ["a", "b"] {
            let webhook = world.webhook(host).await;
            world.gateway.pause_webhook_now(&caller("lms"), &webhook).await.unwrap();
        }
        world.finish_first_purge().await;
        world.emit_all(lost.into_iter().map(|kind| (kind, EventSubject::default(), 8 * DAY))).await;
        world.gateway.purge_events().await;
        assert!(world.store.event(TENANT, 1).await.unwrap().is_none(), "removed");
        let gaps = world.reported(EventType::WebhookGap).await;
        let gaps: Vec<Value> = gaps.iter().map(|gap| json!([gap["from"], gap["to"], gap["count"]])).collect();
        assert_eq!(gaps, expected);
    }
}
