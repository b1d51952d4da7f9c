//! The results storm: sessions begin, finish, are corrected and opened again at StartExam's simulator while its feed
//! fails in every way it has, gateways are killed and their store fails. Some are of booked people, some of people
//! without a booking, some of people who become known later, and some of strangers.
//!
//! Afterwards every session is compared with the results: see `results_oracle`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use examgate::sandbox::{Sandbox, accounts};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::cluster::Random;
use super::failing_cluster::{FailingCluster, SETTINGS, TENANTS};
use super::results_oracle::{self, Kind, LAG_SECONDS, Participant};
use super::{TIMEOUT, setting};
use crate::support::connections::startexam;
use crate::support::gateway::{http, sandbox, set_faults};
use crate::support::people::{order, person, with};
use crate::support::postgres::Server;

pub const TENANT: &str = TENANTS[0];
const CONNECTION: &str = "startexam-main";
const TEST: &str = accounts::startexam::TESTS[0].0;
/// Rows of a bulk.
const ROWS: usize = 1_000;
/// Sessions in one post to the simulator.
const SESSIONS: usize = 1_000;

/// What strikes the feed together: faults and, of the switches, what becomes of a token and which end of the feed is told.
const FEED_FAULTS: [&[&str]; 4] = [
    &["rate_limited", "html_page", "truncated_body", "refused", "backwards"],
    &["truncated_json", "server_error", "loop", "absent"],
    &["reset_after_effect", "empty_body", "silent"],
    &["endless_feed", "close_after_effect"],
];

/// The size of a storm.
#[derive(Debug, Clone, Copy)]
struct StormSize {
    sessions: usize,
    kills: usize,
    seed: u64,
    /// The longest outage of the store, in milliseconds.
    outage: u64,
}

impl StormSize {
    /// Reads the size from the environment; the default is a short storm.
    fn from_env_or(sessions: usize, kills: usize) -> Self {
        Self {
            sessions: setting("EXAMGATE_STORM_SESSIONS", sessions),
            kills: setting("EXAMGATE_STORM_KILLS", kills),
            seed: setting("EXAMGATE_STORM_SEED", 1),
            outage: setting("EXAMGATE_STORM_OUTAGE_MS", 1_500),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_has_its_result_while_feed_disk_and_gateway_keep_failing() {
    let sandbox = sandbox().await;
    let cluster = FailingCluster::on_sqlite(&connections(&sandbox)).await;
    run_storm(sandbox, cluster, StormSize::from_env_or(240, 8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_has_its_result_while_feed_database_and_replicas_keep_failing() {
    let sandbox = sandbox().await;
    let cluster = FailingCluster::on_postgres(&connections(&sandbox), &Server::shared().schema().await).await;
    // Others take a dead replica's work over after some seconds, so that each kill takes longer here.
    run_storm(sandbox, cluster, StormSize::from_env_or(120, 4)).await;
}

/// Returns the connection with its feed, and the catalogue.
fn connections(sandbox: &Sandbox) -> String {
    let more = format!(
        "existing_registration = \"repeated\"\nbookings_only_here = true\n\
         profile_fields = {{ given_name = \"First Name\", family_name = \"Last Name\", email = \"Email\" }}\n\
         [connections.{CONNECTION}.results]\nmode = \"feed\"\noverlap = \"30s\"\nowner = \"{TENANT}\""
    );
    let connection = startexam(&format!("http://{}", sandbox.startexam()), &more);
    let catalogue = format!("[assessments.rust]\nname = \"Rust\"\nconnection = \"{CONNECTION}\"\nref = \"{TEST}\"\n");
    connection.replace("settle_grace = \"0s\"\n", SETTINGS) + &catalogue
}

#[expect(clippy::print_stdout, reason = "the figures of a long storm are for the person who ran it")]
async fn run_storm(sandbox: Sandbox, cluster: FailingCluster, size: StormSize) {
    let began = Instant::now();
    let pages = json!({ "existing_registration": "repeated", "session_page_size": (size.sessions / 12).clamp(1, 500) });
    set_faults(sandbox.startexam(), json!({ "switches": pages })).await;
    let cluster = Arc::new(cluster);
    let mut random = Random(size.seed);
    let mut participants: Vec<Participant> =
        (0..size.sessions).map(|number| Participant::draw(number, &mut random)).collect();
    book(&cluster, &mut participants).await;
    let booked = began.elapsed();
    let open = (0..participants.len()).collect();
    let mut storm = Storm { sandbox, cluster, random, participants, open, size };
    let orders: usize = storm.participants.iter().map(|participant| participant.states.len()).sum();
    for round in 0..size.kills {
        storm.run_round(round, orders.div_ceil(size.kills)).await;
        println!("{:.1?}: {} of {} kills", began.elapsed(), round + 1, size.kills);
    }
    storm.calm_down().await;
    let stormed = began.elapsed();
    let Storm { sandbox, cluster, participants, .. } = storm;
    let sessions = read_sessions(&sandbox).await;
    let counts = results_oracle::compare(&cluster, &sessions, &participants).await;
    println!(
        "{cluster}\n{orders} states of {} sessions: {counts}\nbooked after {booked:.1?}, stormed until {stormed:.1?}, compared after {:.1?}\n",
        sessions.len(),
        began.elapsed()
    );
    cluster.assert_no_panic().await;
}

/// Returns every session of the simulator.
async fn read_sessions(sandbox: &Sandbox) -> Vec<Value> {
    let url = format!("http://{}/_effects?calls=false", sandbox.startexam());
    let told: Value = http().get(url).send().await.expect("the sandbox responds").json().await.expect("JSON");
    told["state"]["sessions"].as_array().expect("a list of sessions").clone()
}

/// Registers the people who are known from the start, and books those that have a booking.
async fn book(cluster: &Arc<FailingCluster>, participants: &mut [Participant]) {
    let booked = participants.iter().filter(|participant| participant.kind == Kind::Booked);
    let people: Vec<String> = booked.map(|participant| participant.person.clone()).collect();
    register(cluster, &people).await;
    let window = |id: &str| {
        let booking = with(order(id, "rust"), "validFrom", json!("2020-01-01T00:00:00Z"));
        with(booking, "validUntil", json!("2099-01-01T00:00:00Z"))
    };
    submit(cluster, "/assignments/bulk", &people.iter().map(|id| window(id)).collect::<Vec<_>>()).await;
    let bookings = cluster.list(TENANT, "/assignments?limit=200").await;
    assert_eq!(bookings.len(), people.len(), "everyone is booked");
    let mut bookings = results_oracle::by_person(&bookings);
    for participant in participants.iter_mut().filter(|participant| participant.kind == Kind::Booked) {
        let (assignment, id) = bookings.remove(&participant.person).expect("a booking");
        (participant.assignment, participant.id) = (Some(assignment), id);
    }
}

/// Registers people by their external ids.
async fn register(cluster: &Arc<FailingCluster>, ids: &[String]) {
    submit(cluster, "/candidates/bulk", &ids.iter().map(|id| person(id)).collect::<Vec<_>>()).await;
}

/// Sends bulks of these rows until every row was applied.
async fn submit(cluster: &Arc<FailingCluster>, path: &str, rows: &[Value]) {
    let began = Instant::now();
    for rows in rows.chunks(ROWS) {
        let mut rows = rows.to_vec();
        for attempt in 0.. {
            assert!(began.elapsed() < TIMEOUT, "{path}: never applied");
            let first = rows[0].pointer("/candidate/externalId").unwrap_or(&rows[0]["externalId"]);
            let key = format!("{path}-{}-{attempt}", first.as_str().unwrap_or_default());
            let body = json!({ "connection": CONNECTION, "items": rows });
            let operation = cluster.submit_until_accepted(TENANT, path, &key, &body).await;
            let results = cluster.settled_results(TENANT, &operation, rows.len()).await;
            let failed = rows.into_iter().zip(results).filter(|(_, result)| result["outcome"] != "applied");
            rows = failed.map(|(row, _)| row).collect();
            if rows.is_empty() {
                break;
            }
        }
    }
}

/// A running storm.
struct Storm {
    sandbox: Sandbox,
    cluster: Arc<FailingCluster>,
    random: Random,
    participants: Vec<Participant>,
    /// Participants with states that the simulator does not know yet.
    open: Vec<usize>,
    size: StormSize,
}

impl Storm {
    /// Posts some states, and kills a gateway while they are read, in every fourth round during an outage of the store.
    async fn run_round(&mut self, round: usize, states: usize) {
        let newcomers = self.post(states).await;
        let cluster = Arc::clone(&self.cluster);
        tokio::select! {
            () = register(&cluster, &newcomers) => {}
            never = cluster.keep_running() => match never {},
        }
        set_faults(self.sandbox.startexam(), feed_faults(round, &mut self.random)).await;
        for _ in 0..=self.random.below(4) {
            self.cluster.read_feeds(TENANT, CONNECTION).await;
            tokio::time::sleep(Duration::from_millis(20 + self.random.below(500))).await;
        }
        if round % 4 == 3 {
            let outage = Duration::from_millis(self.size.outage / 10 + self.random.below(self.size.outage));
            let until_kill = outage.mul_f64(0.01 * f64::from(u32::try_from(self.random.below(100)).unwrap_or(0)));
            tokio::join!(self.cluster.fail_store(&mut self.random, outage), async {
                tokio::time::sleep(until_kill).await;
                cluster.kill(round).await;
            });
        } else {
            self.cluster.kill(round).await;
        }
        self.cluster.restart_ended().await;
        // Now and then a run comes to its end, so that the watermark moves between the kills.
        if round % 5 == 4 {
            self.read_to_the_end(Timestamp::now()).await;
        }
    }

    /// Has the simulator take some of the states that are left, in any order but that of each participant. Returns the
    /// people of new participants who are to be registered now.
    async fn post(&mut self, states: usize) -> Vec<String> {
        let (mut orders, mut newcomers) = (Vec::new(), Vec::new());
        while orders.len() < states && !self.open.is_empty() {
            let most = u64::try_from(self.open.len()).expect("a number");
            let at = usize::try_from(self.random.below(most)).expect("an index");
            let participant = &mut self.participants[self.open[at]];
            orders.push(participant.next_order());
            // Reports about them came before.
            if participant.kind == Kind::Newcomer && participant.is_complete() {
                newcomers.push(participant.person.clone());
            }
            if participant.is_complete() {
                self.open.swap_remove(at);
            }
        }
        for orders in orders.chunks(SESSIONS) {
            let url = format!("http://{}/_sessions", self.sandbox.startexam());
            let response = http().post(url).json(orders).send().await.expect("the sandbox responds");
            assert!(response.status().is_success(), "{}", response.text().await.unwrap_or_default());
        }
        newcomers
    }

    /// Ends all faults and reads the feed until nothing the simulator knows can be missing.
    async fn calm_down(&mut self) {
        self.read_to_the_end(Timestamp::now() + SignedDuration::from_secs(LAG_SECONDS + 1)).await;
    }

    /// Reads the feed without faults until it is known up to this time.
    async fn read_to_the_end(&mut self, until: Timestamp) {
        let none = json!({ "faults": [], "switches": { "fresh_token": null, "modified_until": null } });
        set_faults(self.sandbox.startexam(), none).await;
        let cluster = Arc::clone(&self.cluster);
        let read = async {
            let began = Instant::now();
            loop {
                cluster.read_feeds(TENANT, CONNECTION).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
                let shown = cluster.first(TENANT, "/assignments?limit=1").await;
                let as_of = shown["progress"]["asOf"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
                if as_of > Some(until) {
                    return;
                }
                assert!(began.elapsed() < TIMEOUT, "the feed is never read to {until}: {shown}");
            }
        };
        tokio::select! {
            () = read => {}
            never = cluster.keep_running() => match never {},
        }
    }
}

/// Returns what strikes the feed, and reports that are fetched, in a round.
fn feed_faults(round: usize, random: &mut Random) -> Value {
    let mut faults = vec![json!({ "name": "server_error", "operation": "session", "probability": 0.2 })];
    let mut switches = json!({ "fresh_token": null, "modified_until": null });
    for name in FEED_FAULTS[(round + round / FEED_FAULTS.len()) % FEED_FAULTS.len()] {
        let fault = json!({ "name": name, "operation": "sessions", "probability": 0.2 });
        match *name {
            "refused" | "loop" => switches["fresh_token"] = json!(name),
            "backwards" | "absent" => switches["modified_until"] = json!(name),
            "rate_limited" => faults.push(with(fault, "retryAfter", json!(1))),
            "silent" => {
                let silent = with(with(fault, "name", json!("delay_before_effect")), "delayMs", json!(60_000));
                faults.push(with(with(silent, "probability", json!(1)), "after", json!(random.below(4))));
            }
            _ => faults.push(fault),
        }
    }
    json!({ "faults": faults, "switches": switches })
}
