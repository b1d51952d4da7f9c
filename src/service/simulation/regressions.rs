//! Cases with a name: those that once told of a broken promise, and those too rare to wait for.

use super::play;
use crate::domain::assignment::IfAssignmentExists;
use crate::domain::candidate::IfCandidateExists;
use crate::service::simulation::steps::{Case, Newcomer, Order, Rows, Step, Wish};
use crate::service::simulation::vendor_oracle::{Profile, Reply, Script, When};

fn case(profile: Profile, scripts: Vec<Script>, steps: Vec<Step>) {
    play(Case { profile, seed: 1, scripts, steps }).unwrap();
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
fn a_repeat_that_comes_too_early_does_not_say_that_nothing_happened() {
    let ask = Step::Ask { wish: Wish::Register(newcomer(0)), keyed: true, patience: None };
    let again = Step::Again { earlier: 0, patience: None };
    case(Profile::Candidates, vec![lost(When::Late(1), Reply::TimeOut)], vec![ask, again]);
}

#[test]
fn a_row_that_was_not_sent_does_not_stay_unknown_for_anothers_sake() {
    let lost = vec![lost(When::Never, Reply::Reset); 2];
    let ask = Step::Ask { wish: Wish::Register(newcomer(0)), keyed: false, patience: None };
    case(Profile::Employees, lost.clone(), vec![ask, bulk(Rows::People(vec![newcomer(0)]))]);
    let ask = Step::Ask { wish: Wish::Book(order(0, 0)), keyed: false, patience: None };
    case(Profile::Employees, lost, vec![ask, bulk(Rows::Bookings(vec![order(0, 0)]))]);
}

#[test]
fn the_other_parts_of_a_split_call_go_on_when_the_end_of_one_cannot_be_kept() {
    let refused = lost(When::Never, Reply::Refused { proof: false, rows: None });
    // The bulk's arrival is three changes, its start, the claims and the second attempt one each.
    let away = Step::Away { after: 6, changes: 1 };
    let rows = Rows::People(vec![newcomer(0), newcomer(1)]);
    case(Profile::Employees, vec![refused], vec![away, bulk(rows)]);
}

#[test]
fn calls_under_way_go_on_when_the_end_of_one_cannot_be_kept() {
    let slow = Script { latency: 3000, ..Script::PLAIN };
    // The bulk's arrival is three changes, its start and the intents of two calls one each.
    let away = Step::Away { after: 6, changes: 1 };
    let rows = Rows::Bookings(vec![order(0, 0), order(0, 1)]);
    case(Profile::Employees, vec![Script::PLAIN, slow], vec![away, bulk(rows)]);
}

#[test]
fn another_booking_whose_answer_is_lost_is_not_taken_for_the_one_before() {
    let another = Order { if_exists: IfAssignmentExists::CreateNew, ..order(0, 0) };
    let ask = |order| Step::Ask { wish: Wish::Book(order), keyed: true, patience: None };
    for effect in [When::Now, When::Late(20), When::Never] {
        let scripts = vec![Script::PLAIN, lost(effect, Reply::TimeOut)];
        let steps = vec![ask(order(0, 0)), ask(another.clone()), Step::Again { earlier: 1, patience: None }];
        case(Profile::Employees, scripts, steps);
    }
}

#[test]
fn a_row_is_not_sent_again_because_the_store_failed_when_it_was_to_be_settled() {
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
