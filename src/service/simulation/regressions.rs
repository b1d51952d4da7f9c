//! Named cases: those that once found a bug, and those too rare to draw at random.

use std::sync::Arc;
use std::time::Duration;

use super::run_case;
use crate::domain::assignment::IfAssignmentExists;
use crate::domain::candidate::{CandidateState, Identity, IfCandidateExists};
use crate::domain::event::{EventFilter, EventType};
use crate::domain::outcome::Outcome;
use crate::service::simulation::callers::{Action, Asked, Said, TENANT};
use crate::service::simulation::sim::{CONNECTION, CrashPoint, Failure, Sim};
use crate::service::simulation::steps::{Case, Newcomer, Order, Rows, Step, Wish};
use crate::service::simulation::vendor_oracle::{Profile, Reply, Script, When};

fn case(profile: Profile, scripts: Vec<Script>, steps: Vec<Step>) {
    run_case(&Case { profile, seed: 1, scripts, steps, overlap: None }).unwrap();
}

fn lost(effect: When, reply: Reply) -> Script {
    Script { effect, reply, latency: 5 }
}

fn newcomer(person: u8) -> Newcomer {
    Newcomer { person, user_name: false, password: false, if_exists: IfCandidateExists::Reuse }
}

fn order(person: u8, exam: u8) -> Order {
    Order { person, exam, if_exists: IfAssignmentExists::Reuse, mail: false, by_id: false }
}

fn bulk(rows: Rows) -> Step {
    Step::Bulk { rows, fail_on_errors: None, keyed: false, wait: 10 }
}

#[test]
fn a_store_that_does_not_respond_delays_the_start() {
    let mut sim = Sim::new(Profile::Candidates, 1, Vec::new());
    sim.fail_at_start = [5, 0];
    let before = sim.time.passed();
    sim.kill(Duration::ZERO);
    assert!(sim.run(async |gateway| gateway.ready().await.is_ok()).unwrap());
    assert!(sim.time.passed() - before >= 5_000_000, "one retry a second");
}

/// A doubt about an intent is resolved while a later write about the same record begins and is sent: whenever, that
/// write's intent stays.
#[test]
fn the_resolution_of_a_doubt_leaves_a_later_write_alone() {
    for delay in (0..1_500).step_by(50) {
        let slow = Script { latency: 4_000, ..Script::PLAIN };
        let mut sim = Sim::new(Profile::Employees, 1, vec![Script::PLAIN, slow]);
        let fate = Arc::clone(&sim.process.as_ref().unwrap().fate);
        fate.calm_down();
        let asked = |wish, number, sim: &Sim| Asked::new(Action::of(wish, sim).unwrap(), number, false, sim);
        let register = asked(Wish::Register(newcomer(0)), 0, &sim);
        let said = sim.run(async |gateway| register.send(gateway, None).await).unwrap();
        assert!(matches!(said, Said::Done { .. }), "{said:?}");
        let update = |number, sim: &Sim| asked(Wish::Update { person: 0, rename: false }, number, sim);
        let (lost, later) = (update(1, &sim), update(2, &sim));
        fate.fail_changes(0, 1, Failure::InDoubt { done: false });
        let said = sim.run(async |gateway| lost.send(gateway, None).await).unwrap();
        assert!(matches!(&said, Said::Fault(fault) if fault.outcome == Outcome::Unknown), "{said:?}");
        fate.meter.set_latency(Duration::from_millis(100));
        let said = sim.run(async |gateway| {
            let resolution = async {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                gateway.resolve_doubts().await.unwrap();
            };
            tokio::join!(later.send(gateway.clone(), None), resolution).0
        });
        assert!(matches!(said, Some(Said::Done { .. })), "after {delay} ms: {said:?}");
    }
}

/// Registers a person while the store fails at the commits from that of the outcome on, and returns what the caller is told.
fn register_with_failing_outcome(sim: &mut Sim, failing: u32, failure: Failure, patience: Option<u16>) -> Said {
    let fate = Arc::clone(&sim.process.as_ref().unwrap().fate);
    fate.calm_down();
    let register = Asked::new(Action::of(Wish::Register(newcomer(0)), sim).unwrap(), 0, false, sim);
    // What a start commits by itself is committed then; the first change begins the write, the second is its outcome.
    sim.run(async |_| tokio::time::sleep(Duration::from_secs(30)).await).unwrap();
    fate.fail_changes(1, failing, failure);
    sim.run(async |gateway| register.send(gateway, patience).await).unwrap()
}

/// Lets so much time pass that every write is settled, and returns how many events tell of one.
fn settled_events(sim: &mut Sim) -> usize {
    let events = sim.run(async |gateway| {
        tokio::time::sleep(Duration::from_mins(5)).await;
        let filter = EventFilter { types: Some(vec![EventType::CandidateSettled]), ..EventFilter::default() };
        gateway.0.store.events(TENANT, 0, &filter, 100).await.unwrap().events.len()
    });
    events.unwrap()
}

/// The commit of an outcome is in doubt, and made or not: its caller learns the outcome, so that no event has to tell it. Also
/// if more commits after it are in doubt.
#[test]
fn an_outcome_whose_commit_was_in_doubt_is_reported_once_it_is_known() {
    for (done, doubts) in [(true, 1), (true, 2), (true, 3), (false, 1), (false, 2)] {
        let mut sim = Sim::new(Profile::Employees, 1, Vec::new());
        let said = register_with_failing_outcome(&mut sim, doubts, Failure::InDoubt { done }, None);
        assert!(matches!(said, Said::Done { created: true, .. }), "made: {done}, commits in doubt: {doubts}: {said:?}");
        assert_eq!(settled_events(&mut sim), 0, "made: {done}, commits in doubt: {doubts}");
    }
}

/// The store fails from the commit of an outcome on, and the process is killed before it is back. A caller who was told that
/// the outcome is unknown gets an event, whatever became of that commit; one who was not told reads it in the record.
#[test]
fn an_outcome_that_was_reported_as_unknown_has_one_event_although_the_process_dies_before_the_store_is_back() {
    let in_doubt = [true, false].map(|done| Failure::InDoubtThenRefused { done });
    for failure in in_doubt.into_iter().chain([Failure::Refused]) {
        let mut sim = Sim::new(Profile::Employees, 1, Vec::new());
        let said = register_with_failing_outcome(&mut sim, u32::MAX, failure, Some(20_000));
        sim.kill(Duration::ZERO);
        let events = settled_events(&mut sim);
        match &said {
            Said::Pending => assert!(!matches!(failure, Failure::Refused)),
            Said::Fault(fault) => {
                assert_eq!((fault.outcome, events), (Outcome::Unknown, 1), "{failure:?}");
            }
            Said::Done { .. } => panic!("{failure:?}: {said:?}"),
        }
        let identity = Identity::ExternalId("e0".into());
        let known = sim.look(async |store| store.candidates(TENANT, Some(CONNECTION), &identity).await.unwrap());
        let states: Vec<CandidateState> = known.iter().map(|candidate| candidate.state).collect();
        assert_eq!(states, [CandidateState::Registered], "{failure:?}");
    }
}

#[test]
fn an_early_retry_does_not_report_not_applied() {
    let ask = Step::Ask { wish: Wish::Register(newcomer(0)), keyed: true, patience: None };
    let again = Step::Again { earlier: 0, patience: None };
    case(Profile::Candidates, vec![lost(When::Late(1), Reply::TimeOut)], vec![ask, again]);
}

#[test]
fn an_unsent_row_is_not_unknown_because_of_another_write() {
    let lost = vec![lost(When::Never, Reply::Reset); 2];
    let ask = Step::Ask { wish: Wish::Register(newcomer(0)), keyed: false, patience: None };
    case(Profile::Employees, lost.clone(), vec![ask, bulk(Rows::People(vec![newcomer(0)]))]);
    let ask = Step::Ask { wish: Wish::Book(order(0, 0)), keyed: false, patience: None };
    case(Profile::Employees, lost, vec![ask, bulk(Rows::Bookings(vec![order(0, 0)]))]);
}

#[test]
fn a_failed_commit_of_one_part_does_not_stop_a_split_call() {
    let refused = lost(When::Never, Reply::Refused { proof: false, rows: None });
    // Accepting the bulk is three changes, its start, the claims and the second attempt one each.
    let away = Step::Away { after: 6, changes: 1 };
    let rows = Rows::People(vec![newcomer(0), newcomer(1)]);
    case(Profile::Employees, vec![refused], vec![away, bulk(rows)]);
}

#[test]
fn a_failed_commit_of_one_call_does_not_stop_others_in_flight() {
    let slow = Script { latency: 3000, ..Script::PLAIN };
    // Accepting the bulk is three changes, its start and the intents of two calls one each.
    let away = Step::Away { after: 6, changes: 1 };
    let rows = Rows::Bookings(vec![order(0, 0), order(0, 1)]);
    case(Profile::Employees, vec![Script::PLAIN, slow], vec![away, bulk(rows)]);
}

#[test]
fn a_lost_second_booking_is_not_mistaken_for_the_first() {
    let another = Order { if_exists: IfAssignmentExists::CreateNew, ..order(0, 0) };
    let ask = |order| Step::Ask { wish: Wish::Book(order), keyed: true, patience: None };
    for effect in [When::Now, When::Late(20), When::Never] {
        let scripts = vec![Script::PLAIN, lost(effect, Reply::TimeOut)];
        let steps = vec![ask(order(0, 0)), ask(another.clone()), Step::Again { earlier: 1, patience: None }];
        case(Profile::Employees, scripts, steps);
    }
}

#[test]
fn a_store_failure_during_reconciliation_does_not_resend_the_row() {
    let another = Order { if_exists: IfAssignmentExists::CreateNew, ..order(0, 0) };
    for after in 0..6 {
        let steps = vec![
            bulk(Rows::Bookings(vec![another.clone()])),
            Step::Away { after, changes: 1 },
            Step::RetryBulk { earlier: 0 },
            Step::Pass { seconds: 20 },
        ];
        case(Profile::Employees, vec![lost(When::Now, Reply::Reset)], steps);
    }
}

/// A row about a person who is known begins a write of its own, and the commit of its intent is in doubt: the row waits,
/// instead of ending with an outcome that nothing will ever find out.
#[test]
fn a_row_whose_intent_is_in_doubt_does_not_stay_unknown() {
    let scripts = vec![
        Script { effect: When::AtTheEnd, reply: Reply::Refused { proof: false, rows: Some(74) }, latency: 2295 },
        Script { effect: When::AtTheEnd, reply: Reply::True, latency: 1 },
    ];
    let bookings = Rows::Bookings((0..9).map(|_| order(0, 0)).collect());
    let people = Rows::People([2, 2, 3, 4, 5, 6, 0].into_iter().map(newcomer).collect());
    let steps = vec![
        Step::Bulk { rows: bookings, fail_on_errors: Some(1), keyed: false, wait: 4 },
        Step::Bulk { rows: people, fail_on_errors: None, keyed: false, wait: 0 },
        Step::Doubt { after: 1, changes: 2, done: true },
        Step::Ask { wish: Wish::Register(newcomer(2)), keyed: false, patience: Some(0) },
        Step::Doom(vec![(CrashPoint::BeforeCommit, 4), (CrashPoint::AfterCommit, 0)]),
        Step::Pass { seconds: 5 },
        Step::Doubt { after: 3, changes: 1, done: false },
        Step::CancelBulk { earlier: 0 },
    ];
    let seed = 2_779_789_720_594_389_145;
    run_case(&Case { profile: Profile::Candidates, seed, scripts, steps, overlap: None }).unwrap();
}
