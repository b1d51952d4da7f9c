use super::*;
use crate::domain::event::EventType;
use crate::domain::ids::{AssignmentId, DeliveryId, EventId, WebhookId};
use crate::domain::webhook::{DeliveryAttempt, DeliveryState};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn id(prefix: &str, number: u64) -> String {
    format!("{prefix}{number:032x}")
}

/// Returns a delivery of an event of this assignment, if one is given, due at this second.
fn delivery(sequence: u64, assignment: Option<u64>, due: i64) -> Delivery {
    Delivery {
        id: DeliveryId::parse(&id("dlv_", sequence)).unwrap(),
        tenant: "lms".to_owned(),
        webhook: WebhookId::parse(&id("wh_", 1)).unwrap(),
        event: EventId::parse(&id("evt_", sequence)).unwrap(),
        sequence,
        event_type: EventType::ResultPublished,
        assignment: assignment.map(|number| AssignmentId::parse(&id("asg_", number)).unwrap()),
        connection: None,
        state: DeliveryState::Pending,
        reason: None,
        step: 0,
        due: Some(at(due)),
        attempts: Vec::new(),
        created: at(0),
        version: 1,
    }
}

fn attempted(mut delivery: Delivery, times: usize) -> Delivery {
    let attempt = DeliveryAttempt { at: at(0), status: Some(500), duration_ms: 1, error: None };
    delivery.attempts = vec![attempt; times];
    delivery
}

fn window(deliveries: impl IntoIterator<Item = Delivery>) -> PendingWindow {
    let mut window = PendingWindow::default();
    window.extend(deliveries);
    window
}

/// Sends everything that may be sent now; returns it in order.
fn send_all(window: &mut PendingWindow, now: i64, order: DeliveryOrder) -> Vec<u64> {
    let mut sent = Vec::new();
    while let Some(next) = window.next(at(now), order, Preference::First) {
        window.begin(next);
        sent.push(next);
    }
    sent
}

#[test]
fn a_failing_event_holds_back_only_those_of_its_own_assignment() {
    let all = || {
        window([
            delivery(1, Some(7), 100),
            delivery(2, Some(8), 0),
            delivery(3, Some(7), 0),
            delivery(4, None, 0),
            delivery(5, Some(8), 0),
            delivery(6, None, 0),
        ])
    };
    assert_eq!(send_all(&mut all(), 10, DeliveryOrder::Resource), [2, 4, 6]);
    assert_eq!(send_all(&mut all(), 10, DeliveryOrder::Unordered), [2, 3, 4, 5, 6]);
    let mut window = all();
    assert_eq!(send_all(&mut window, 100, DeliveryOrder::Resource), [1, 2, 4, 6]);
    // The next of an assignment goes once the one before it has left.
    let ended = |sequence| Delivery { state: DeliveryState::Delivered, due: None, ..delivery(sequence, None, 0) };
    window.end(ended(1));
    assert_eq!(send_all(&mut window, 100, DeliveryOrder::Resource), [3]);
    window.end(ended(2));
    assert_eq!(send_all(&mut window, 100, DeliveryOrder::Resource), [5]);
    assert_eq!((window.len(), window.in_flight()), (4, 4));
}

#[test]
fn a_failed_attempt_keeps_its_place() {
    let mut window = window([delivery(1, Some(7), 0), delivery(2, Some(7), 0)]);
    assert_eq!(send_all(&mut window, 0, DeliveryOrder::Resource), [1]);
    window.end(attempted(delivery(1, Some(7), 5), 1));
    assert_eq!(window.next_due(DeliveryOrder::Resource), Some(at(5)));
    assert_eq!(send_all(&mut window, 4, DeliveryOrder::Resource), [] as [u64; 0]);
    assert_eq!(send_all(&mut window, 5, DeliveryOrder::Resource), [1]);
}

#[test]
fn a_probe_is_the_delivery_with_the_fewest_attempts() {
    let window = window([
        attempted(delivery(1, None, 0), 2),
        attempted(delivery(2, None, 0), 1),
        attempted(delivery(3, None, 0), 1),
        attempted(delivery(4, None, 100), 0),
    ]);
    assert_eq!(window.next(at(0), DeliveryOrder::Resource, Preference::Probe), Some(2));
    assert_eq!(window.next(at(0), DeliveryOrder::Resource, Preference::First), Some(1));
}

#[test]
fn a_reload_keeps_what_is_in_flight() {
    let mut window = window([delivery(1, None, 0), delivery(2, None, 0), delivery(3, None, 0)]);
    window.begin(2);
    window.reload(vec![delivery(1, None, 9), delivery(2, None, 9), delivery(4, None, 0)], DeliveryOrder::Resource);
    let due = |sequence| window.get(sequence).and_then(|delivery| delivery.due);
    assert_eq!([1, 2, 3, 4].map(due), [Some(at(9)), Some(at(0)), None, Some(at(0))]);
    window.remove(&[1, 2, 3]);
    assert_eq!((window.len(), window.fresh(at(0))), (2, 2));
}

#[test]
fn one_that_was_never_attempted_is_preferred_when_asked_for() {
    let of = |deliveries: Vec<Delivery>| window(deliveries);
    let window = of(vec![attempted(delivery(1, None, 0), 2), delivery(2, None, 0), delivery(3, None, 0)]);
    assert_eq!(window.next(at(0), DeliveryOrder::Resource, Preference::Fresh), Some(2));
    let all_attempted = of(vec![attempted(delivery(1, None, 0), 2), attempted(delivery(2, None, 0), 1)]);
    assert_eq!(all_attempted.next(at(0), DeliveryOrder::Resource, Preference::Fresh), Some(1));
}

#[test]
fn an_end_names_the_assignment_of_which_the_store_may_have_more() {
    let ended = |delivery: Delivery| Delivery { state: DeliveryState::Delivered, due: None, ..delivery };
    let assignment = |number| delivery(1, Some(number), 0).assignment;
    let mut window = window([delivery(1, Some(1), 0), delivery(2, Some(2), 0)]);
    window.merge(vec![delivery(3, Some(3), 0)], DeliveryOrder::Resource);
    window.note_follower(&assignment(2).unwrap());
    assert_eq!(window.end(delivery(3, Some(3), 9)), None, "it is still pending");
    assert_eq!(window.end(ended(delivery(1, Some(1), 0))), None, "made alone");
    assert_eq!(window.end(ended(delivery(2, Some(2), 0))), assignment(2));
    assert_eq!(window.end(ended(delivery(3, Some(3), 0))), assignment(3), "read from the store");
    assert_eq!(window.len(), 0);
}

#[test]
fn those_that_are_due_last_leave_memory_first_and_none_that_is_due_or_in_flight() {
    let mut window = window([
        delivery(1, None, 50),
        delivery(2, None, 90),
        delivery(3, None, 0),
        delivery(4, None, 70),
        delivery(5, None, 99),
    ]);
    window.begin(5);
    let left = |window: &PendingWindow| (1..=5).filter(|number| window.get(*number).is_some()).collect::<Vec<_>>();
    let order = DeliveryOrder::Resource;
    assert!(!window.shrink(at(10), 5, order));
    assert!(window.shrink(at(10), 3, order));
    assert_eq!(left(&window), [1, 3, 5]);
    assert!(window.shrink(at(10), 1, order));
    assert_eq!(left(&window), [3, 5]);
    assert_eq!(window.due(at(10)), 1);
}

#[test]
fn a_delivery_that_is_pending_again_takes_the_place_of_a_later_one_of_its_assignment() {
    for (order, left) in [(DeliveryOrder::Resource, vec![1, 4, 5]), (DeliveryOrder::Unordered, vec![1, 2, 3, 4, 5])] {
        let mut window =
            window([delivery(2, Some(7), 0), delivery(3, Some(7), 0), delivery(4, Some(8), 0), delivery(5, None, 0)]);
        window.merge(vec![delivery(1, Some(7), 0)], order);
        assert_eq!(window.waiting(), left, "{order:?}");
    }
    // One in flight stays until its attempt ends.
    let mut window = window([delivery(2, Some(7), 0)]);
    window.begin(2);
    window.merge(vec![delivery(1, Some(7), 0)], DeliveryOrder::Resource);
    assert_eq!((window.len(), window.waiting()), (2, vec![1]));
    // When the earlier one has ended, the store is asked which is next.
    window.begin(1);
    let ended = Delivery { state: DeliveryState::Delivered, due: None, ..delivery(1, Some(7), 0) };
    assert_eq!(window.end(ended), delivery(1, Some(7), 0).assignment);
}

#[test]
fn a_later_delivery_of_an_assignment_leaves_memory_with_one_that_waits() {
    let mut window = window([delivery(1, Some(7), 50), delivery(2, Some(7), 0), delivery(3, Some(8), 0)]);
    assert!(window.shrink(at(10), 2, DeliveryOrder::Resource));
    assert_eq!(send_all(&mut window, 10, DeliveryOrder::Resource), [3]);
}

#[test]
fn what_lies_beyond_the_part_of_the_store_that_was_read_stays_unless_an_earlier_one_may_come_before_it() {
    let all = || {
        let mut window = window([
            delivery(1, None, 0),
            delivery(2, Some(7), 0),
            delivery(3, None, 0),
            delivery(4, Some(8), 0),
            delivery(5, Some(9), 0),
        ]);
        window.begin(5);
        window
    };
    let mut ordered = all();
    let left = ordered.reload_to(2, vec![delivery(1, None, 9)], DeliveryOrder::Resource);
    assert_eq!((ordered.waiting(), left), (vec![1, 3], Vec::from_iter(delivery(4, Some(8), 0).assignment)));
    assert_eq!(ordered.get(1).and_then(|delivery| delivery.due), Some(at(9)));
    assert!(ordered.is_in_flight(5) && ordered.get(5).is_some());
    let mut unordered = all();
    let left = unordered.reload_to(2, Vec::new(), DeliveryOrder::Unordered);
    assert_eq!((unordered.waiting(), left), (vec![3, 4], Vec::new()));
}

#[test]
fn a_delivery_that_was_removed_leaves_nothing_to_follow_it() {
    let mut window = PendingWindow::default();
    window.merge(vec![delivery(1, Some(7), 0)], DeliveryOrder::Resource);
    window.remove(&[1]);
    window.extend([delivery(2, Some(7), 0)]);
    let ended = Delivery { state: DeliveryState::Delivered, due: None, ..delivery(2, Some(7), 0) };
    assert_eq!(window.end(ended), None, "made alone");
}

#[test]
fn only_those_that_are_due_count_as_fresh() {
    let window = window([delivery(1, None, 0), delivery(2, None, 10), attempted(delivery(3, None, 0), 1)]);
    assert_eq!([0, 9, 10].map(|second| window.fresh(at(second))), [1, 1, 2]);
}
