//! What has to come of the sessions of a results storm: every session of someone who is known has exactly one result,
//! which says what the vendor said last; no other result exists; its versions are numbered without gaps, and each says
//! something that the vendor has said.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cluster::Random;
use super::failing_cluster::FailingCluster;
use super::results::TENANT;

/// The longest time, in seconds, after which the feed has a session.
pub const LAG_SECONDS: i64 = 8;
/// How long reports that have become due may take to be looked at after the last run.
const PATIENCE: Duration = Duration::from_mins(2);

/// Who takes a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Someone who is booked.
    Booked,
    /// Someone who is known and takes the test under another registration than that of their booking.
    Known,
    /// Someone who becomes known after the test.
    Newcomer,
    /// Someone whom the gateway never gets to know.
    Stranger,
}

/// What the vendor says of a session at some time: its score, unless it is unfinished.
#[derive(Debug, Clone)]
pub struct State {
    attempt: usize,
    score: Option<f64>,
    lag: Option<u64>,
}

/// Someone who takes the test, once or twice.
#[derive(Debug)]
pub struct Participant {
    pub kind: Kind,
    /// The vendor's id.
    pub id: String,
    /// The external id, from which the e-mail address is made.
    pub person: String,
    pub assignment: Option<String>,
    pub states: Vec<State>,
    started: Vec<Timestamp>,
    posted: usize,
}

impl Participant {
    /// Draws what becomes of the participant with this number.
    pub fn draw(number: usize, random: &mut Random) -> Self {
        // Of twenty, the first is always booked, so that there is someone for those who are known otherwise.
        let kind = match number % 20 {
            0..=12 => Kind::Booked,
            13..=16 => Kind::Known,
            17 | 18 => Kind::Newcomer,
            _ => Kind::Stranger,
        };
        let person = match kind {
            Kind::Booked | Kind::Newcomer => format!("e{number}"),
            Kind::Known => format!("e{}", number - 13),
            Kind::Stranger => format!("stranger{number}"),
        };
        let attempts = if kind == Kind::Booked && random.below(10) == 0 { 2 } else { 1 };
        let mut states = Vec::new();
        for attempt in 0..attempts {
            let lag = (random.below(8) == 0).then(|| 1 + random.below(LAG_SECONDS.unsigned_abs()));
            let is_never_finished = random.below(50) == 0;
            let corrections = if is_never_finished { 0 } else { 1 + number % 3 };
            let mut scores = Vec::new();
            if is_never_finished || random.below(10) > 0 {
                scores.push(None);
            }
            // Few different scores, so that a correction of a correction is often the first score again.
            let mut draw_score = || Some(f64::from(u32::try_from(random.below(4)).unwrap_or(0)));
            scores.extend((0..corrections).map(|_| draw_score()));
            if number.is_multiple_of(31) {
                // Opened again.
                scores.extend([None, draw_score()]);
            }
            states.extend(scores.into_iter().map(|score| State { attempt, score, lag }));
        }
        // Each at a second of its own: a session is known by its participant and its start.
        let start = i64::try_from(number).expect("a number");
        let started = (0..2).map(|attempt| second(start + attempt * 50_000_000)).collect();
        let id = format!("00000000-0000-4000-9000-{number:012}");
        Self { kind, id, person, assignment: None, states, started, posted: 0 }
    }

    /// Returns whether the simulator knows every state.
    pub const fn is_complete(&self) -> bool {
        self.posted == self.states.len()
    }

    /// Returns the next state as `POST /_sessions` takes it.
    pub fn next_order(&mut self) -> Value {
        let state = &self.states[self.posted];
        let is_restart = state.attempt > 0 && self.states[self.posted - 1].attempt < state.attempt;
        self.posted += 1;
        let mut order = json!({
            "participantId": self.id, "unregistered": true, "restart": is_restart, "maxScore": 8,
            "started": self.started[state.attempt].to_string(), "finished": state.score.is_some(),
        });
        if let Some(score) = state.score {
            order["score"] = json!(score);
            order["sections"] = json!([{ "title": "Section #1", "score": score, "maxScore": 8, "level": "passed" }]);
        }
        if self.kind != Kind::Booked {
            order["data"] = json!([{ "name": "Email", "value": format!("{}@example.com", self.person) }]);
        }
        if let Some(lag) = state.lag {
            order["lagSeconds"] = json!(lag);
        }
        order
    }

    /// Returns how many different states the simulator shows.
    fn distinct_states(&self) -> usize {
        let is_new = |(at, state): &(usize, &State)| {
            let same = |earlier: &State| (earlier.attempt, earlier.score) == (state.attempt, state.score);
            !self.states[..*at].iter().any(same)
        };
        self.states.iter().enumerate().filter(is_new).count()
    }

    /// Returns whether the vendor ever said this of a session.
    fn has_said(&self, started: Timestamp, score: Option<f64>) -> bool {
        self.states.iter().any(|state| self.started[state.attempt] == started && state.score == score)
    }
}

/// What was compared.
pub struct Counts {
    sessions: usize,
    results: usize,
    versions: usize,
    parked: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, results, versions, parked } = self;
        let strangers = sessions - results;
        write!(
            f,
            "{results} results, {versions} versions, 0 lost, 0 invented; {strangers} sessions of strangers, {parked} parked reports"
        )
    }
}

/// Returns the assignment and the vendor's id of each booking, by the person.
pub fn by_person(bookings: &[Value]) -> BTreeMap<String, (String, String)> {
    let text = |booking: &Value, pointer: &str| booking.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let entry = |booking: &Value| {
        Some((text(booking, "/candidate/externalId")?, (text(booking, "/id")?, text(booking, "/vendorRef/id")?)))
    };
    bookings.iter().filter_map(entry).collect()
}

/// Compares the simulator's sessions with the results, once what is due was looked at.
///
/// # Panics
/// If anything differs.
pub async fn compare(cluster: &Arc<FailingCluster>, sessions: &[Value], participants: &[Participant]) -> Counts {
    let participants: BTreeMap<&str, &Participant> = participants.iter().map(|one| (one.id.as_str(), one)).collect();
    let began = Instant::now();
    let results = loop {
        let results = cluster.list(TENANT, "/results?limit=200").await;
        let wrong = differences(sessions, &results, &participants);
        if wrong.is_empty() {
            break results;
        }
        assert!(began.elapsed() < PATIENCE, "{} wrong: {}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let checks = futures_util::stream::iter(&results).map(|result| check_versions(cluster, result, &participants));
    let versions: Vec<Result<usize, String>> = checks.buffer_unordered(16).collect().await;
    let wrong: Vec<&String> = versions.iter().filter_map(|checked| checked.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{} results have wrong versions: {:?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    let rejected = cluster.list(TENANT, "/reports?state=rejected&limit=200").await;
    assert!(rejected.is_empty(), "what a fault distorts is no report: {:?}", rejected.first());
    // The same state again is the same report.
    let known = participants.values().filter(|one| one.kind != Kind::Stranger);
    let distinct: usize = known.map(|one| one.distinct_states()).sum();
    let applied = cluster.list(TENANT, "/reports?state=applied&limit=200").await;
    let from_feed = applied.iter().filter(|report| report["kind"] == "feed").count();
    assert!((results.len()..=distinct).contains(&from_feed), "{from_feed} reports of at most {distinct} states");
    let parked = cluster.list(TENANT, "/reports?state=parked&limit=200").await.len();
    let strangers = participants.values().filter(|one| one.kind == Kind::Stranger);
    let said: Vec<usize> = strangers.map(|one| one.states.len()).collect();
    assert!((said.len()..=said.iter().sum()).contains(&parked), "{parked} reports of {} strangers", said.len());
    let versions = versions.into_iter().filter_map(Result::ok).sum();
    Counts { sessions: sessions.len(), results: results.len(), versions, parked }
}

/// Returns how the results differ from the sessions.
fn differences(sessions: &[Value], results: &[Value], participants: &BTreeMap<&str, &Participant>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut shown: BTreeMap<(&str, Timestamp), Vec<&Value>> = BTreeMap::new();
    for result in results {
        match (result["vendorRef"]["participantId"].as_str(), started(&result["attempt"]["startedAt"])) {
            (Some(participant), Some(started)) => shown.entry((participant, started)).or_default().push(result),
            _ => wrong.push(format!("of no session: {result}")),
        }
    }
    for session in sessions {
        let id = session["participantId"].as_str().unwrap_or_default();
        let Some(participant) = participants.get(id) else {
            wrong.push(format!("not of this storm: {session}"));
            continue;
        };
        let found = started(&session["started"]).and_then(|started| shown.remove(&(id, started))).unwrap_or_default();
        if participant.kind == Kind::Stranger {
            wrong.extend(found.first().map(|result| format!("of a stranger: {result}")));
            continue;
        }
        let &[result] = found.as_slice() else {
            wrong.push(format!("{} results instead of one of {:?}: {session}", found.len(), participant.kind));
            continue;
        };
        let finished = session["finished"] == true;
        let expected = if finished {
            json!(["completed", "fully_graded", session["score"], participant.assignment])
        } else {
            json!(["in_progress", "not_ready", null, participant.assignment])
        };
        let score = result.pointer("/score/given").unwrap_or(&Value::Null);
        let assignment = result.pointer("/assignment/id").unwrap_or(&Value::Null);
        if json!([result["activity"], result["grading"], score, assignment]) != expected {
            wrong.push(format!("expected {expected} of {:?}: {result}", participant.kind));
        }
    }
    wrong.extend(shown.into_values().flatten().map(|result| format!("invented: {result}")));
    wrong
}

fn started(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(|text| text.parse().ok())
}

/// Checks that the versions of a result are numbered without gaps, end with what it says, and say what the vendor has said.
/// Returns their number.
async fn check_versions(
    cluster: &Arc<FailingCluster>,
    result: &Value,
    participants: &BTreeMap<&str, &Participant>,
) -> Result<usize, String> {
    let id = result["id"].as_str().unwrap_or_default();
    let versions = cluster.list(TENANT, &format!("/results/{id}/versions")).await;
    let numbers: Vec<u64> = versions.iter().filter_map(|version| version["version"].as_u64()).collect();
    let count = u64::try_from(versions.len()).expect("a number");
    if !numbers.iter().copied().eq(1..=count) || result["version"] != count {
        return Err(format!("{numbers:?} of {result}"));
    }
    let participant = participants.get(result["vendorRef"]["participantId"].as_str().unwrap_or_default());
    for version in &versions {
        let score = version.pointer("/score/given").and_then(Value::as_f64);
        let said = participant.zip(started(&version["attempt"]["startedAt"]));
        if !said.is_some_and(|(participant, started)| participant.has_said(started, score)) {
            return Err(format!("the vendor never said {version}"));
        }
    }
    let last = versions.last().map(|version| version.pointer("/score/given"));
    if last != Some(result.pointer("/score/given")) {
        return Err(format!("{last:?} is last of {result}"));
    }
    Ok(versions.len())
}

/// Returns a time in the past.
fn second(number: i64) -> Timestamp {
    Timestamp::from_second(1_600_000_000 + number).expect("a time")
}
