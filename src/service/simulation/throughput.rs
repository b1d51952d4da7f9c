//! How close a bulk comes to its ideal, `rows / batch / in flight × latency`, by the paused clock: the figures depend on
//! what waits for what and how often, not on the machine.

use std::time::Duration;

use crate::domain::assignment::{CandidateKey, IfAssignmentExists};
use crate::domain::candidate::{IfCandidateExists, Name, NewCandidate, Person};
use crate::domain::ids::OperationId;
use crate::domain::operation::{ItemRequest, OperationKind, Progress};
use crate::domain::units::ConfigDuration;
use crate::service::simulation::callers::{caller, order};
use crate::service::simulation::sim::{CONNECTION, GRACE, Sim};
use crate::service::simulation::steps::Order;
use crate::service::simulation::vendor_oracle::{Profile, Reply, Script, When};
use crate::service::{BulkOptions, BulkRow, Gateway, OperationQuery};
use crate::transport::ConnectionSettings;

/// A vendor and a store, as slow as they are.
struct Pace {
    profile: Profile,
    in_flight: usize,
    vendor: Duration,
    store: Duration,
}

/// What a bulk took.
#[derive(Debug)]
struct Measured {
    took: Duration,
    reads: u64,
    writes: u64,
    progress: Progress,
}

impl Pace {
    fn world(&self, scripts: usize) -> Sim {
        let latency = u16::try_from(self.vendor.as_millis()).unwrap();
        let settings = ConnectionSettings {
            settle_grace: ConfigDuration(GRACE),
            max_in_flight: self.in_flight,
            ..ConnectionSettings::default()
        };
        let world = Sim::with_settings(self.profile, 1, vec![Script { latency, ..Script::PLAIN }; scripts], settings);
        let fate = &world.process.as_ref().unwrap().fate;
        fate.calm_down();
        fate.meter.set_latency(self.store);
        world
    }

    /// Runs a bulk of these rows from its acceptance to its end.
    fn run(&self, rows: Vec<ItemRequest>) -> Measured {
        let mut world = self.world(rows.len());
        measure(&mut world, rows)
    }

    fn ideal(&self, rows: usize, batch: usize) -> Duration {
        let rounds = rows.div_ceil(batch).div_ceil(self.in_flight);
        self.vendor * u32::try_from(rounds).unwrap()
    }
}

fn measure(world: &mut Sim, rows: Vec<ItemRequest>) -> Measured {
    let kind = match rows[0] {
        ItemRequest::Assignment(_) => OperationKind::Assignments,
        _ => OperationKind::Candidates,
    };
    let id = world.run(async |gateway| accept(&gateway, kind, rows).await).unwrap();
    let fate = std::sync::Arc::clone(&world.process.as_ref().unwrap().fate);
    let (began, [reads, writes]) = (world.time.passed(), fate.meter.calls());
    let progress = world.run(async |gateway| {
        let patience = Duration::from_mins(10);
        let view = gateway.wait_for_operation(&caller(None), &id, patience).await.unwrap();
        assert!(view.operation.state.is_terminal(), "{view:?}");
        view.progress
    });
    let [reads, writes] = [(0, reads), (1, writes)].map(|(kind, before)| fate.meter.calls()[kind] - before);
    let took = Duration::from_micros(u64::try_from(world.time.passed() - began).unwrap());
    Measured { took, reads, writes, progress: progress.unwrap() }
}

async fn accept(gateway: &Gateway, kind: OperationKind, rows: Vec<ItemRequest>) -> OperationId {
    let mut upload = gateway.receive(&caller(None), kind, false).await.unwrap();
    let rows: Vec<_> = rows.into_iter().map(|row| BulkRow { item_id: None, line: None, row: Ok(row) }).collect();
    for part in rows.chunks(100) {
        upload.push(part.to_vec()).await.unwrap();
    }
    let options = BulkOptions { connection: Some(CONNECTION.to_owned()), fail_on_errors: None };
    upload.finish(options, None).await.unwrap().id().clone()
}

fn people(count: usize) -> Vec<ItemRequest> {
    let person = |number| {
        let person = Person {
            external_id: Some(format!("e{number}").into()),
            email: Some(format!("p{number}@x.org").into()),
            name: Name { formatted: Some(format!("token-{number}")), ..Name::default() },
            ..Person::default()
        };
        let new = NewCandidate { person, password: None, if_exists: IfCandidateExists::Reuse };
        ItemRequest::Candidate(Box::new(new))
    };
    (0..count).map(person).collect()
}

fn bookings(count: usize) -> Vec<ItemRequest> {
    let wanted = Order { person: 0, exam: 1, if_exists: IfAssignmentExists::Reuse, mail: false, by_id: false };
    let booking = |number| {
        let candidate = CandidateKey::ExternalId(format!("e{number}").into());
        ItemRequest::Assignment(Box::new(order(&wanted, candidate, &format!("token-{number}"))))
    };
    (0..count).map(booking).collect()
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn assert_within(measured: &Measured, ideal: Duration, ratio: f64) {
    let of_ideal = measured.took.as_secs_f64() / ideal.as_secs_f64();
    assert!(of_ideal <= ratio, "{of_ideal:.3} × ideal: {measured:?}");
}

#[test]
fn single_rows_take_little_more_than_their_calls() {
    let pace = Pace { profile: Profile::Students, in_flight: 32, vendor: millis(20), store: millis(2) };
    let measured = pace.run(people(640));
    assert_eq!(measured.progress.applied, 640);
    assert_within(&measured, pace.ideal(640, 1), 1.15);
}

#[test]
fn batches_use_every_permit_of_a_connection() {
    let pace = Pace { profile: Profile::Employees, in_flight: 4, vendor: millis(200), store: millis(5) };
    let measured = pace.run(people(100));
    assert_eq!(measured.progress.applied, 100);
    assert_within(&measured, pace.ideal(100, 5), 1.15);
    let measured = pace.run(bookings(100));
    assert_eq!(measured.progress.applied, 100);
    // Each row is looked up before it is sent.
    assert_within(&measured, pace.ideal(100, 5), 1.25);
}

#[test]
fn a_slow_store_delays_a_bulk_only_at_its_beginning_and_end() {
    let pace = Pace { profile: Profile::Employees, in_flight: 4, vendor: millis(200), store: millis(10) };
    let [few, many] = [100, 300].map(|rows| pace.run(bookings(rows)).took);
    // Looking up one row after the other, or claiming only once a permit is free, would cost each round some of it.
    let more = (many.as_secs_f64() - few.as_secs_f64())
        / (pace.ideal(300, 5).as_secs_f64() - pace.ideal(100, 5).as_secs_f64());
    assert!(more <= 1.1, "{more:.3} × ideal: {few:?}, {many:?}");
}

#[test]
fn a_row_takes_two_commits_and_no_read_however_many_there_are() {
    let pace = Pace { profile: Profile::Students, in_flight: 32, vendor: millis(20), store: millis(2) };
    let [few, many] = [128, 640].map(|rows| pace.run(people(rows)));
    assert_eq!(many.writes - few.writes, 2 * (640 - 128), "{few:?}, {many:?}");
    // The pages, and what the background and the waiting caller read meanwhile.
    assert!(many.reads - few.reads <= 640 / 32, "{few:?}, {many:?}");
}

#[test]
fn a_batch_takes_two_commits() {
    let pace = Pace { profile: Profile::Employees, in_flight: 4, vendor: millis(20), store: millis(2) };
    let [few, many] = [100, 300].map(|rows| pace.run(people(rows)));
    // And a few that a clock asks for, such as the heartbeat of the operation.
    let more = many.writes - few.writes;
    assert!((80..=84).contains(&more), "{more}: {few:?}, {many:?}");
}

#[test]
fn unknown_rows_of_a_retried_bulk_are_reconciled_side_by_side() {
    let pace = Pace { profile: Profile::Students, in_flight: 32, vendor: millis(500), store: Duration::ZERO };
    let mut world = pace.world(0);
    let lost = Script { effect: When::Now, reply: Reply::Reset, latency: 1 };
    world.exam.lock().unwrap().scripts.extend(vec![lost; 40]);
    world.exam.lock().unwrap().scripts.extend(vec![Script { latency: 500, ..Script::PLAIN }; 80]);
    let measured = measure(&mut world, people(40));
    assert_eq!(measured.progress.unknown, 40, "{measured:?}");
    let began = world.time.passed();
    let applied = world.run(async |gateway| {
        let query = OperationQuery { limit: 1, ..OperationQuery::default() };
        let id = gateway.operations(&caller(None), query).await.unwrap().0.remove(0).operation.id;
        gateway.retry_operation(&caller(None), &id).await.unwrap();
        gateway.wait_for_operation(&caller(None), &id, Duration::from_mins(10)).await.unwrap().progress.applied
    });
    assert_eq!(applied, Some(40));
    // One after the other they would take 20 seconds.
    let took = Duration::from_micros(u64::try_from(world.time.passed() - began).unwrap());
    assert!(took <= Duration::from_secs(3), "{took:?}");
}
