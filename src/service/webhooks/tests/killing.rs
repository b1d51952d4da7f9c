//! The process dies at random points while the receiver misbehaves: every event arrives, in the order of its assignment.

use std::collections::BTreeMap;

use super::receiver::{respond, unreachable};
use super::*;
use crate::transport::delivery::{DeliveryError, DeliveryResponse};

/// Deterministic randomness (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[tokio::test]
async fn nothing_is_lost_and_assignments_stay_in_order_over_kills_and_a_random_receiver() {
    // Long enough that no event fails for good.
    let schedule = RetrySchedule::new(&[Duration::ZERO; 64].map(|zero| zero + Duration::from_millis(1))).unwrap();
    let settings = || DeliverySettings { schedule: schedule.clone(), ..delivery_settings() };
    let mut world = World::with(settings()).await;
    let webhook = world.webhook("a").await;
    let mut random = Random(7);
    world.receiver.script(move |_| match random.next() % 12 {
        0 => respond(500),
        1 => unreachable(),
        2 => respond(302),
        3 => Err(DeliveryError::TimedOut(Duration::from_secs(20))),
        4 => Ok(DeliveryResponse { status: 429, retry_after: Some("0".to_owned()) }),
        _ => respond(200),
    });
    let (mut random, mut assignments) = (Random(8), BTreeMap::new());
    for round in 0..20 {
        for _ in 0..20 {
            let assignment = random.next() % 5;
            let id = world.emit(Some(assignment)).await;
            assignments.insert(id.to_string(), assignment);
        }
        if round % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(random.next() % 20)).await;
        }
        world.restart(settings()).await;
        let webhook = world.stored(&webhook).await;
        if webhook.state == WebhookState::Disabled {
            world.gateway.resume_webhook_now(&caller("lms"), &webhook.id).await.unwrap();
        }
    }
    let is_done = async || {
        let position = world.gateway.webhook(&caller("lms"), &webhook).await.unwrap().position;
        position.oldest_pending.is_none() && position.delivered >= 400
    };
    wait_until(is_done).await;
    let mut first_arrivals: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for one in world.receiver.accepted("a") {
        if let Some(assignment) = assignments.get(&one.headers.id)
            && seen.insert(one.headers.id.clone())
        {
            first_arrivals.entry(*assignment).or_default().extend(one.sequence);
        }
    }
    assert_eq!(seen.len(), 400, "every event arrived");
    for (assignment, order) in first_arrivals {
        assert!(order.is_sorted(), "assignment {assignment}: {order:?}");
    }
    let states: Vec<DeliveryState> = world.deliveries(&webhook).await.into_iter().map(|it| it.state).collect();
    assert!(states.iter().all(|state| *state == DeliveryState::Delivered), "{states:?}");
}
