//! Results on their way to an LMS that is down, or is killed in the middle of deliveries: it gets every event, signed, once it is
//! back, and those of an assignment in order. No one has to do anything.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::support::gateway::TIMEOUT;

/// Returns the configuration of a gateway with a webhook at this address, which is attempted again each second.
fn configuration(sandbox: &Sandbox, address: SocketAddr) -> String {
    let schedule: Vec<&str> = std::iter::once("\"0s\"").chain(std::iter::repeat_n("\"1s\"", 99)).collect();
    connections(sandbox, "", "")
        + &format!(
            "[delivery]\nallow_http = true\nallow_private = [\"127.0.0.0/8\"]\nallow_hosts = [\"127.0.0.1\"]\n\
             schedule = [{}]\n[webhooks.lms]\ntenant = \"lms\"\nurl = \"http://{address}/hook/results\"\n\
             secret = \"plain:{}\"\ntypes = [\"attempt.*\", \"result.*\"]\n",
            schedule.join(", "),
            accounts::lms::SECRET
        )
}

/// Returns the events of attempts and results so far.
async fn events(gateway: &Gateway) -> Vec<Value> {
    let page = gateway.get("/events?limit=200").await;
    let items = page.body["items"].as_array().expect("a list").iter();
    items
        .filter(|event| ["attempt.", "result."].iter().any(|of| text(event, "/type").starts_with(of)))
        .cloned()
        .collect()
}

/// Returns what the LMS has accepted, each event once, in the order in which it accepted them. Every signature was valid.
async fn accepted(sandbox: &Sandbox) -> Vec<Value> {
    let response = http().get(format!("http://{}/_ledger", sandbox.lms())).send().await.expect("the LMS responds");
    let ledger: Value = response.json().await.expect("JSON");
    let webhooks = ledger["webhooks"].as_array().expect("a list");
    assert!(webhooks.iter().all(|webhook| webhook["verified"] == true), "{webhooks:#?}");
    let first = webhooks.iter().filter(|webhook| webhook["accepted"] == true && webhook["duplicate"] == false);
    first.map(|webhook| webhook["body"].clone()).collect()
}

/// Waits until the LMS has accepted all events that there are, and returns them in the order in which it did.
async fn wait_for_all(sandbox: &Sandbox, gateway: &Gateway) -> Vec<Value> {
    let sequence = |event: &Value| event["sequence"].as_u64().expect("a number");
    let (expected, started) = (events(gateway).await, tokio::time::Instant::now());
    loop {
        let arrived = accepted(sandbox).await;
        let mut sorted = arrived.clone();
        sorted.sort_by_key(sequence);
        if sorted.len() >= expected.len() {
            let numbers = |events: &[Value]| events.iter().map(sequence).collect::<Vec<u64>>();
            assert_eq!(numbers(&sorted), numbers(&expected), "every one, and no other");
            let chain = sorted.iter().map(|event| event["previous"].as_u64());
            let before = std::iter::once(None).chain(sorted.iter().map(|event| event["sequence"].as_u64()));
            assert!(chain.eq(before.take(sorted.len())), "{sorted:#?}");
            return arrived;
        }
        assert!(started.elapsed() < TIMEOUT, "only {} of {} events arrived", sorted.len(), expected.len());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Returns the types of the events of each assignment, in the order in which they came.
fn by_assignment(arrived: &[Value]) -> BTreeMap<&str, Vec<&str>> {
    let mut types: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in arrived {
        types.entry(text(event, "/data/assignment")).or_default().push(text(event, "/type"));
    }
    types
}

/// Has participants finish with this score, or be corrected to it, and waits until all of their results say so.
async fn score(sandbox: &Sandbox, gateway: &Gateway, participants: &[String], score: f64) {
    for participant in participants {
        sit(sandbox, &finished(participant, score)).await;
    }
    let reached = |page: &ApiResponse| {
        let items = page.body["items"].as_array().expect("a list");
        let of_participant =
            |result: &&Value| participants.iter().any(|it| it == text(result, "/vendorRef/participantId"));
        let scored = items.iter().filter(of_participant).filter(|result| result["score"]["given"] == score);
        scored.count() == participants.len()
    };
    read_until(gateway, "/results?limit=100", reached).await;
}

#[tokio::test]
async fn an_lms_that_was_down_gets_every_result_by_itself_and_a_correction_as_its_second_version() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&configuration(&sandbox, sandbox.lms())).await;
    let participants = book_many(&gateway, 5).await;
    let down = json!({ "name": "unavailable", "retryAfter": 0 });
    set_faults(sandbox.lms(), json!({ "faults": [down] })).await;
    score(&sandbox, &gateway, &participants, 4.0).await;
    wait_until(&gateway, "/webhooks", |page| page.text("/items/0/state") == "failing").await;
    score(&sandbox, &gateway, &participants[..1], 7.0).await;
    assert!(accepted(&sandbox).await.is_empty(), "it is down");

    set_faults(sandbox.lms(), json!({ "faults": [] })).await;
    let arrived = wait_for_all(&sandbox, &gateway).await;
    let mut types: Vec<Vec<&str>> = by_assignment(&arrived).into_values().collect();
    types.sort_unstable();
    let graded = vec!["attempt.completed", "result.published"];
    let corrected = vec!["attempt.completed", "result.published", "result.corrected"];
    assert_eq!(types, [graded.clone(), graded.clone(), graded.clone(), graded, corrected]);

    // A correction that comes while all is well.
    score(&sandbox, &gateway, &participants[1..2], 6.0).await;
    let arrived = wait_for_all(&sandbox, &gateway).await;
    let corrections: Vec<&Value> = arrived.iter().filter(|event| text(event, "/type") == "result.corrected").collect();
    let versions: Vec<Option<u64>> = corrections.iter().map(|event| event["data"]["version"].as_u64()).collect();
    assert_eq!(versions, [Some(2); 2], "{corrections:#?}");
    for correction in corrections {
        let changed = correction["data"]["changed"].as_array().expect("a list");
        assert!(changed.contains(&json!("score")), "{correction}");
        let result = gateway.get(text(correction, "/data/resource")).await;
        assert_eq!(result.body["version"], 2, "{result:?}");
    }
    let state = wait_until(&gateway, "/webhooks", |page| page.text("/items/0/state") == "enabled").await;
    let position = &state.body["items"][0]["position"];
    assert_eq!(position.get("oldestPending"), None, "{state:?}");
}

/// The way to a receiver, which is killed when it has sent so many pieces of its answers: every connection is closed, and new ones
/// at once, until it is started again.
struct Way {
    address: SocketAddr,
    /// How many more pieces of answers pass; none while the receiver is dead.
    left: watch::Sender<usize>,
}

impl Way {
    async fn to(receiver: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let left = watch::Sender::new(usize::MAX);
        let shared = left.clone();
        tokio::spawn(async move {
            while let Ok((gateway, _)) = listener.accept().await {
                tokio::spawn(pass(gateway, receiver, shared.clone()));
            }
        });
        Self { address, left }
    }

    /// Has the receiver be killed once it has sent so many more pieces of its answers, the last of which is lost.
    fn kill_after(&self, pieces: usize) {
        self.left.send_replace(pieces);
    }

    /// Waits until the receiver is killed, and starts it again.
    async fn restart(&self) {
        let mut left = self.left.subscribe();
        let dead = tokio::time::timeout(TIMEOUT, left.wait_for(|left| *left == 0)).await;
        dead.expect("deliveries go on").expect("the sender lives");
        self.left.send_replace(usize::MAX);
    }
}

/// Passes what the gateway and the receiver send, until the receiver is killed.
async fn pass(mut gateway: TcpStream, receiver: SocketAddr, left: watch::Sender<usize>) {
    let mut dead = left.subscribe();
    if *dead.borrow_and_update() == 0 {
        return;
    }
    let Ok(mut receiver) = TcpStream::connect(receiver).await else { return };
    let (mut sent, mut answered) = (BytesMut::new(), BytesMut::new());
    loop {
        let done = tokio::select! {
            biased;
            () = async { dead.wait_for(|left| *left == 0).await.map(drop).ok(); } => return,
            read = receiver.read_buf(&mut answered) => {
                let mut passes = false;
                left.send_if_modified(|left| {
                    let (before, after) = (*left, left.saturating_sub(1));
                    passes = after > 0;
                    *left = if before == usize::MAX { before } else { after };
                    *left != before
                });
                if !passes || !read.is_ok_and(|read| read > 0) {
                    return;
                }
                gateway.write_all_buf(&mut answered).await
            }
            read = gateway.read_buf(&mut sent) => {
                if !read.is_ok_and(|read| read > 0) {
                    return;
                }
                receiver.write_all_buf(&mut sent).await
            }
        };
        if done.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_receiver_that_is_killed_in_the_middle_of_deliveries_misses_nothing_and_keeps_the_order() {
    let sandbox = sandbox().await;
    let way = Way::to(sandbox.lms()).await;
    let gateway = Gateway::start(&configuration(&sandbox, way.address)).await;
    let participants = book_many(&gateway, 8).await;
    for (round, given) in (1..=5).zip([4.0, 5.0, 6.0, 7.0, 8.0]) {
        // Another place in each round: the first answer, or one in the middle of many.
        way.kill_after(round);
        score(&sandbox, &gateway, &participants, given).await;
        way.restart().await;
    }
    let arrived = wait_for_all(&sandbox, &gateway).await;
    let expected: Vec<&str> =
        ["attempt.completed", "result.published"].into_iter().chain(["result.corrected"; 4]).collect();
    let types = by_assignment(&arrived);
    assert_eq!(types.len(), participants.len());
    assert!(types.values().all(|types| *types == expected), "{types:#?}");
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &arrived {
        let (assignment, sequence) = (text(event, "/data/assignment"), event["sequence"].as_u64().expect("a number"));
        let before = last.insert(assignment, sequence);
        assert!(before.is_none_or(|before| before < sequence), "{event}");
    }
}
