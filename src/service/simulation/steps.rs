//! The steps of a case, and the strategies that draw cases.

use std::fmt;

use jiff::SignedDuration;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::domain::assignment::IfAssignmentExists;
use crate::domain::candidate::IfCandidateExists;
use crate::service::simulation::sim::CrashPoint;
use crate::service::simulation::vendor_oracle::{Profile, Reply, Script, When};

/// One step of a case.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A caller sends a request, with or without a key, and waits this many milliseconds, or to the end.
    Ask { wish: Wish, keyed: bool, patience: Option<u16> },
    /// The caller of an earlier request with a key retries it.
    Again { earlier: u8, patience: Option<u16> },
    /// A caller uses the key of an earlier request for a different one.
    Altered { earlier: u8 },
    /// A caller sends a bulk request and waits this many seconds.
    Bulk { rows: Rows, fail_on_errors: Option<u64>, keyed: bool, wait: u8 },
    /// The caller of an earlier bulk request retries it.
    BulkAgain { earlier: u8 },
    /// A caller cancels a bulk operation.
    CancelBulk { earlier: u8 },
    /// A caller retries a bulk operation.
    RetryBulk { earlier: u8 },
    /// An operator settles an unknown write truthfully.
    Settle { which: u8 },
    /// The process, and the ones after it, die at these points.
    Doom(Vec<(CrashPoint, u32)>),
    /// The process is killed now; the next one starts after this many seconds.
    Kill { downtime: u8 },
    /// This many seconds pass.
    Pass { seconds: u8 },
    /// The wall clock steps.
    Clock { step: i64 },
    /// The store fails for some changes.
    Away { after: u8, changes: u8 },
    /// The responses to some commits are lost; the commits were done, or not.
    Doubt { after: u8, changes: u8, done: bool },
    /// The store fails for some reads.
    Unread { after: u8, reads: u8 },
    /// Someone takes a test at the vendor.
    Sit(Sitting),
    /// The gateway is asked to read the vendor's feed.
    ReadFeed,
}

/// What happens to someone's session.
#[derive(Debug, Clone)]
pub(super) struct Sitting {
    pub(super) who: u8,
    /// Whether it is someone without a booking.
    pub(super) walks_in: bool,
    /// Whether the test is started again.
    pub(super) again: bool,
    /// The score, if it is finished.
    pub(super) given: Option<u8>,
}

/// A request with unresolved targets.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    Register(Newcomer),
    Update { person: u8, rename: bool },
    Delete { person: u8 },
    Book(Order),
    Cancel { person: u8, exam: u8 },
    Enrol { program: u8, register: Vec<u8>, unregister: Vec<u8> },
}

#[derive(Debug, Clone)]
pub(super) struct Newcomer {
    pub(super) person: u8,
    pub(super) user_name: bool,
    pub(super) password: bool,
    pub(super) if_exists: IfCandidateExists,
}

#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) person: u8,
    pub(super) exam: u8,
    pub(super) if_exists: IfAssignmentExists,
    pub(super) mail: bool,
    pub(super) by_id: bool,
}

/// The rows of a bulk.
#[derive(Debug, Clone)]
pub(super) enum Rows {
    People(Vec<Newcomer>),
    Bookings(Vec<Order>),
}

/// One case: a vendor, how it handles its successive calls, and the steps.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) profile: Profile,
    pub(super) seed: u64,
    pub(super) scripts: Vec<Script>,
    pub(super) steps: Vec<Step>,
    /// How far the vendor's feed of sessions is read again; `None` if it has none.
    pub(super) overlap: Option<SignedDuration>,
}

/// Prints one line per step, since proptest shows a failing case in full.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}, seed {}", self.profile, self.seed)?;
        self.scripts.iter().try_for_each(|script| writeln!(f, "    {script:?}"))?;
        self.steps.iter().enumerate().try_for_each(|(number, step)| writeln!(f, "  {number}: {step:?}"))
    }
}

pub(super) fn cases(profile: Profile) -> impl Strategy<Value = Case> {
    (any::<u64>(), vec(script(), 0..30), vec(step(profile), 1..16)).prop_map(move |(seed, scripts, steps)| Case {
        profile,
        seed,
        scripts,
        steps,
        overlap: None,
    })
}

/// Draws cases of a vendor with a feed: people are registered and booked, and take tests.
pub(super) fn cases_with_feed() -> impl Strategy<Value = Case> {
    let profile = Profile::Employees;
    let sit = (any::<u8>(), prop::bool::weighted(0.3), prop::bool::weighted(0.1), prop::option::weighted(0.7, 0..8_u8))
        .prop_map(|(who, walks_in, again, given)| Step::Sit(Sitting { who, walks_in, again, given }));
    let wish = prop_oneof![newcomer(person()).prop_map(Wish::Register), order(0..3_u8, profile).prop_map(Wish::Book)];
    // Keys and their expiry are not what these cases are about.
    let ask = (wish, patience()).prop_map(|(wish, patience)| Step::Ask { wish, keyed: false, patience });
    let step = prop_oneof![5 => sit, 3 => Just(Step::ReadFeed), 3 => ask, 5 => disturbance()];
    (any::<u64>(), vec(script(), 0..10), vec(step, 4..30)).prop_map(move |(seed, scripts, steps)| Case {
        profile,
        seed,
        scripts,
        steps,
        overlap: Some(SignedDuration::from_mins(5)),
    })
}

fn script() -> impl Strategy<Value = Script> {
    let effect = prop_oneof![
        3 => Just(When::AtTheEnd),
        2 => Just(When::Now),
        2 => Just(When::Never),
        2 => (1..25_u8).prop_map(When::Late),
    ];
    let rows = prop_oneof![Just(None), any::<u8>().prop_map(Some)];
    let reply = prop_oneof![
        8 => Just(Reply::True),
        3 => Just(Reply::Reset),
        4 => Just(Reply::TimeOut),
        1 => Just(Reply::Garbage),
        1 => Just(Reply::Down),
        2 => Just(Reply::Busy),
        3 => (any::<bool>(), rows).prop_map(|(proof, rows)| Reply::Refused { proof, rows }),
    ];
    let latency = prop_oneof![Just(1_u16), 1..4000_u16];
    (effect, reply, latency).prop_map(|(effect, reply, latency)| Script { effect, reply, latency })
}

fn step(profile: Profile) -> impl Strategy<Value = Step> {
    prop_oneof![
        14 => (wish(profile), any::<bool>(), patience())
            .prop_map(|(wish, keyed, patience)| Step::Ask { wish, keyed, patience }),
        5 => (any::<u8>(), patience()).prop_map(|(earlier, patience)| Step::Again { earlier, patience }),
        1 => any::<u8>().prop_map(|earlier| Step::Altered { earlier }),
        4 => (rows(profile), prop_oneof![3 => Just(None), 1 => (1..4_u64).prop_map(Some)], any::<bool>(), 0..60_u8)
            .prop_map(|(rows, fail_on_errors, keyed, wait)| Step::Bulk { rows, fail_on_errors, keyed, wait }),
        1 => any::<u8>().prop_map(|earlier| Step::BulkAgain { earlier }),
        1 => any::<u8>().prop_map(|earlier| Step::CancelBulk { earlier }),
        2 => any::<u8>().prop_map(|earlier| Step::RetryBulk { earlier }),
        1 => any::<u8>().prop_map(|which| Step::Settle { which }),
        13 => disturbance(),
    ]
}

/// Draws kills, failures of the store, and time.
fn disturbance() -> impl Strategy<Value = Step> {
    let place = prop_oneof![
        Just(CrashPoint::BeforeCommit),
        Just(CrashPoint::AfterCommit),
        Just(CrashPoint::BeforeCall),
        Just(CrashPoint::DuringCall)
    ];
    prop_oneof![
        4 => vec((place, 0..8_u32), 1..3).prop_map(Step::Doom),
        1 => (0..40_u8).prop_map(|downtime| Step::Kill { downtime }),
        4 => (0..45_u8).prop_map(|seconds| Step::Pass { seconds }),
        1 => prop_oneof![-300..300_i64, Just(25 * 3600), Just(-25 * 3600), Just(40 * 86_400)]
            .prop_map(|step| Step::Clock { step }),
        1 => (0..8_u8, 1..4_u8).prop_map(|(after, changes)| Step::Away { after, changes }),
        1 => (0..8_u8, 1..3_u8, any::<bool>()).prop_map(|(after, changes, done)| Step::Doubt { after, changes, done }),
        1 => (0..20_u8, 1..8_u8).prop_map(|(after, reads)| Step::Unread { after, reads }),
    ]
}

fn patience() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![3 => Just(None), 1 => Just(Some(0)), 1 => (0..6000_u16).prop_map(Some)]
}

/// Draws from few people, so that requests collide.
fn person() -> impl Strategy<Value = u8> {
    0..4_u8
}

/// Draws mostly the same test, for the same reason.
fn exam() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(0_u8), 1 => Just(1)]
}

fn newcomer(person: impl Strategy<Value = u8>) -> impl Strategy<Value = Newcomer> {
    let if_exists = prop_oneof![
        3 => Just(IfCandidateExists::Reuse),
        1 => Just(IfCandidateExists::Update),
        1 => Just(IfCandidateExists::Fail),
    ];
    (person, prop::bool::weighted(0.3), any::<bool>(), if_exists)
        .prop_map(|(person, user_name, password, if_exists)| Newcomer { person, user_name, password, if_exists })
}

fn order(person: impl Strategy<Value = u8>, profile: Profile) -> impl Strategy<Value = Order> {
    let if_exists = prop_oneof![
        3 => Just(IfAssignmentExists::Reuse),
        3 => Just(IfAssignmentExists::CreateNew),
        1 => Just(IfAssignmentExists::Fail),
    ];
    (person, exam(), if_exists, any::<bool>(), any::<bool>()).prop_map(move |(person, exam, if_exists, mail, by_id)| {
        // Only a vendor that allows two bookings of a test accepts `create_new`.
        let once = profile == Profile::Candidates && if_exists == IfAssignmentExists::CreateNew;
        let if_exists = if once { IfAssignmentExists::Reuse } else { if_exists };
        Order { person, exam, if_exists, mail: mail && profile == Profile::Candidates, by_id }
    })
}

fn wish(profile: Profile) -> BoxedStrategy<Wish> {
    let register = newcomer(person()).prop_map(Wish::Register);
    let update = (person(), any::<bool>()).prop_map(|(person, rename)| Wish::Update { person, rename });
    let delete = person().prop_map(|person| Wish::Delete { person });
    let book = order(0..2_u8, profile).prop_map(Wish::Book);
    let cancel = (0..2_u8, exam()).prop_map(|(person, exam)| Wish::Cancel { person, exam });
    let enrol =
        (0..2_u8, prop::collection::btree_set(0..8_u8, 1..6), any::<u8>()).prop_map(|(program, members, mask)| {
            let (register, unregister) = members.into_iter().partition(|member| mask >> member & 1 == 1);
            Wish::Enrol { program, register, unregister }
        });
    match profile {
        Profile::Employees => prop_oneof![5 => register, 2 => update, 2 => delete, 6 => book, 2 => enrol].boxed(),
        Profile::Candidates => prop_oneof![5 => register, 1 => update, 1 => delete, 4 => book, 3 => cancel].boxed(),
        Profile::Students => prop_oneof![5 => register, 2 => update, 2 => delete].boxed(),
    }
}

fn rows(profile: Profile) -> BoxedStrategy<Rows> {
    // Person 13 of a bulk is one that no vendor accepts.
    let people = vec(newcomer(0..14_u8), 1..16).prop_map(Rows::People);
    if profile == Profile::Students {
        return people.boxed();
    }
    let bookings = vec(order(0..5_u8, profile), 1..10).prop_map(Rows::Bookings);
    prop_oneof![people, bookings].boxed()
}
