use futures_util::poll;

use super::*;

const SINGLE: Priority = Priority::Interactive;
const BULK: Priority = Priority::Bulk;

fn limit(max_in_flight: usize, rate: u32) -> Arc<Limiter> {
    Arc::new(Limiter::new(max_in_flight, rate))
}

fn hour() -> Instant {
    Instant::now() + Duration::from_hours(1)
}

#[tokio::test]
async fn a_full_queue_rejects_and_a_dropped_wait_frees_its_slot() {
    let limit = limit(1, 0);
    let permit = limit.acquire(SINGLE, hour()).await.unwrap();
    let mut waits: Vec<_> = (0..64).map(|_| Box::pin(limit.acquire(SINGLE, hour()))).collect();
    for wait in &mut waits {
        assert!(poll!(wait).is_pending());
    }
    assert_eq!(limit.acquire(SINGLE, hour()).await.err(), Some(LimitError::Saturated));
    assert!(poll!(Box::pin(limit.acquire(BULK, hour()))).is_pending(), "the other priority has its own queue");
    waits.pop();
    let mut last = Box::pin(limit.acquire(SINGLE, hour()));
    assert!(poll!(&mut last).is_pending());
    drop(permit);
    assert!(poll!(&mut last).is_pending(), "FIFO");
    let first = waits.remove(0).await;
    assert!(first.is_ok());
    assert_eq!((limit.in_flight(), limit.waiting(SINGLE)), (1, 63));
    drop((waits, last, first));
    assert_eq!((limit.in_flight(), limit.waiting(SINGLE), limit.waiting(BULK)), (0, 0, 0));
}

#[tokio::test]
async fn single_requests_go_first_without_starving_operations() {
    let limit = limit(1, 0);
    let mut held = Some(limit.acquire(SINGLE, hour()).await.unwrap());
    let mut bulk = Box::pin(limit.acquire(BULK, hour()));
    assert!(poll!(&mut bulk).is_pending());
    let mut singles: VecDeque<_> = (0..20).map(|_| Box::pin(limit.acquire(SINGLE, hour()))).collect();
    for single in &mut singles {
        assert!(poll!(single).is_pending());
    }
    for _ in 0..MAX_INTERACTIVE_STREAK {
        drop(held.take());
        held = singles.pop_front().unwrap().await.ok();
        assert!(poll!(&mut bulk).is_pending());
    }
    drop(held.take());
    assert!(bulk.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_single_request_takes_the_next_send_slot() {
    let limit = limit(9, 1);
    limit.acquire_slot(BULK, hour()).await.unwrap();
    let mut bulk: Vec<_> = (0..3).map(|_| Box::pin(limit.acquire_slot(BULK, hour()))).collect();
    for turn in &mut bulk {
        assert!(poll!(turn).is_pending());
    }
    let began = Instant::now();
    limit.acquire_slot(SINGLE, hour()).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 1, "no earlier waiter went first");
    for turn in bulk {
        turn.await.unwrap();
    }
    assert_eq!(began.elapsed().as_secs(), 4);
    assert_eq!((limit.waiting(SINGLE), limit.waiting(BULK)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_operation_gets_a_send_slot_among_endless_single_requests() {
    let limit = limit(9, 10);
    let mut bulk = Box::pin(limit.acquire_slot(BULK, hour()));
    assert!(poll!(&mut bulk).is_ready(), "no other call is waiting");
    let mut bulk = std::pin::pin!(limit.acquire_slot(BULK, hour()));
    let mut singles = 0;
    loop {
        let single = limit.acquire_slot(SINGLE, hour());
        tokio::select! {
            biased;
            _ = &mut bulk => break,
            _ = single => singles += 1,
        }
        assert!(singles <= MAX_INTERACTIVE_STREAK, "the operation is starved");
    }
}

#[tokio::test]
async fn new_limits_apply_at_once_and_count_calls_in_flight() {
    let limit = limit(1, 0);
    let first = limit.acquire(SINGLE, hour()).await.unwrap();
    let mut second = Box::pin(limit.acquire(SINGLE, hour()));
    let mut third = Box::pin(limit.acquire(SINGLE, hour()));
    assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
    limit.set(2, 0);
    let second = second.await.unwrap();
    assert!(poll!(&mut third).is_pending());
    limit.set(1, 0);
    drop(first);
    assert!(poll!(&mut third).is_pending(), "the limit is still exceeded");
    drop(second);
    assert!(third.await.is_ok());
}

#[tokio::test]
async fn a_pause_is_never_shortened_and_is_bounded() {
    let limit = limit(1, 0);
    limit.pause(Duration::from_hours(1));
    limit.pause(Duration::ZERO);
    let soon = Instant::now() + Duration::from_secs(1);
    for busy in [limit.acquire(SINGLE, soon).await.err(), limit.acquire_slot(SINGLE, soon).await.err()] {
        let Some(LimitError::Paused(rest)) = busy else { panic!("{busy:?}") };
        assert!(rest > Duration::from_secs(1) && rest <= MAX_BACKOFF);
    }
    let patient = self::limit(1, 0);
    patient.pause(Duration::from_millis(20));
    assert_eq!(patient.acquire_slot(SINGLE, hour()).await, Ok(()));
}

/// Acquires that many permits for calls of operations.
async fn fill(limit: &Arc<Limiter>, calls: usize) -> Vec<ConcurrencyPermit> {
    let mut held = Vec::new();
    while held.len() < calls {
        held.push(limit.acquire(BULK, hour()).await.unwrap());
    }
    held
}

/// Ends a short call of an operation, which was sent.
async fn end_short_call(limit: &Arc<Limiter>) {
    let mut held = limit.acquire(BULK, hour()).await.unwrap();
    held.mark_sent();
    tokio::time::advance(MAX_LENT_CALL / 2).await;
}

#[tokio::test(start_paused = true)]
async fn operations_use_every_permit_until_a_single_request_comes() {
    let limit = limit(4, 0);
    end_short_call(&limit).await;
    let mut held = fill(&limit, 4).await;
    let mut bulk = Box::pin(limit.acquire(BULK, hour()));
    assert!(poll!(&mut bulk).is_pending());
    let mut single = Box::pin(limit.acquire(SINGLE, hour()));
    assert!(poll!(&mut single).is_pending());
    held.pop();
    let single = single.await.unwrap();
    assert!(poll!(&mut bulk).is_pending(), "the single request goes first");
    drop(single);
    assert!(poll!(&mut bulk).is_pending(), "the last permit is kept for the next single request");
    drop(limit.acquire(SINGLE, hour()).await.unwrap());
    held.pop();
    held.push(bulk.await.unwrap());
    assert_eq!((held.len(), limit.in_flight()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn operations_get_the_last_permit_back_after_a_while_without_single_requests() {
    let limit = limit(2, 0);
    end_short_call(&limit).await;
    drop(limit.acquire(SINGLE, hour()).await.unwrap());
    tokio::time::advance(RESERVE_PERIOD.saturating_sub(Duration::from_millis(1))).await;
    let mut held = fill(&limit, 1).await;
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(limit.acquire(BULK, hour()))).collect();
    for bulk in &mut waiting {
        assert!(poll!(bulk).is_pending());
    }
    held.pop();
    held.push(waiting.remove(0).await.unwrap());
    assert!(poll!(&mut waiting[0]).is_pending());
    tokio::time::advance(Duration::from_millis(1)).await;
    drop(held);
    let _two = (waiting.remove(0).await.unwrap(), waiting.remove(0).await.unwrap());
    assert_eq!(limit.in_flight(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_permit_is_not_lent_to_long_calls() {
    let limit = limit(3, 0);
    end_short_call(&limit).await;
    let mut held = fill(&limit, 3).await;
    tokio::time::advance(MAX_LENT_CALL + Duration::from_millis(1)).await;
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(limit.acquire(BULK, hour()))).collect();
    for bulk in &mut waiting {
        assert!(poll!(bulk).is_pending());
    }
    held.pop();
    assert!(poll!(&mut waiting[0]).is_pending(), "two long calls are in flight");
    let single = limit.acquire(SINGLE, hour()).await.unwrap();
    held.pop();
    held.push(waiting.remove(0).await.unwrap());
    assert_eq!((held.len(), limit.in_flight()), (2, 3));
    drop(single);
    assert!(poll!(&mut waiting[0]).is_pending());
}

#[tokio::test(start_paused = true)]
async fn the_last_permit_is_not_lent_before_a_call_that_was_sent_has_ended() {
    let limit = limit(2, 0);
    let held = fill(&limit, 1).await;
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(limit.acquire(BULK, hour()))).collect();
    for bulk in &mut waiting {
        assert!(poll!(bulk).is_pending());
    }
    // However long it took: connecting failed, say.
    tokio::time::advance(MAX_LENT_CALL / 2).await;
    drop(held);
    let mut second = waiting.remove(0).await.unwrap();
    assert!(poll!(&mut waiting[0]).is_pending(), "the first call was not sent");
    // However short it was.
    second.mark_sent();
    drop(second);
    let third = waiting.remove(0).await.unwrap();
    let fourth = limit.acquire(BULK, hour()).await.unwrap();
    drop((third, fourth));
}

#[tokio::test(start_paused = true)]
async fn short_calls_hide_no_long_ones() {
    let limit = limit(3, 0);
    let long = fill(&limit, 1).await;
    tokio::time::advance(MAX_LENT_CALL).await;
    end_short_call(&limit).await;
    let mut held = fill(&limit, 1).await;
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(limit.acquire(BULK, hour()))).collect();
    for bulk in &mut waiting {
        assert!(poll!(bulk).is_pending(), "a long call is in flight");
    }
    drop(long);
    held.push(waiting.remove(0).await.unwrap());
    // The end of a short call gives its own permit away, not the last one as well.
    tokio::time::advance(MAX_LENT_CALL / 2).await;
    drop(held.remove(0));
    held.push(waiting.remove(0).await.unwrap());
    let mut last = Box::pin(limit.acquire(BULK, hour()));
    assert!(poll!(&mut last).is_pending(), "a long call has just ended");
    drop((held, last));
    tokio::time::advance(RESERVE_PERIOD).await;
    drop(fill(&limit, 3).await);
}

#[tokio::test(start_paused = true)]
async fn a_single_permit_is_never_reserved() {
    let limit = limit(1, 0);
    drop(limit.acquire(SINGLE, hour()).await.unwrap());
    drop(fill(&limit, 1).await);
    drop(fill(&limit, 1).await);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gave_up_holds_back_no_later_one() {
    let limit = limit(2, 0);
    end_short_call(&limit).await;
    drop(limit.acquire(SINGLE, hour()).await.unwrap());
    tokio::time::advance(RESERVE_PERIOD.saturating_sub(Duration::from_millis(1))).await;
    let held = fill(&limit, 1).await;
    let mut gone = Box::pin(limit.acquire(BULK, hour()));
    assert!(poll!(&mut gone).is_pending());
    drop(gone);
    tokio::time::advance(Duration::from_millis(1)).await;
    // The permit is free and no longer reserved; only the abandoned wait is in the queue.
    let second = limit.acquire(BULK, hour()).await.unwrap();
    drop((held, second));
    assert_eq!((limit.in_flight(), limit.waiting(BULK)), (0, 0));
}
