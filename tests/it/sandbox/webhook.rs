use super::*;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A webhook receiver: the requests it got, and the statuses to respond with (200 once they are used up).
pub struct Receiver {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
    statuses: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    pub async fn start(statuses: &[u16]) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let receiver = Receiver {
            address,
            requests: Arc::default(),
            statuses: Arc::new(Mutex::new(statuses.iter().copied().collect())),
        };
        let (requests, statuses) = (receiver.requests.clone(), receiver.statuses.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (head, body) = read(&mut socket).await;
                requests.lock().expect("no panic").push((head, body));
                let status = statuses.lock().expect("no panic").pop_front().unwrap_or(200);
                let reply = format!(
                    "HTTP/1.1 {status} x\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                // Status 0 stands for no response at all.
                if status != 0 {
                    socket.write_all(reply.as_bytes()).await.expect("written");
                }
            }
        });
        receiver
    }

    /// Returns head and body of every request so far, the head in its original case.
    pub fn requests(&self) -> Vec<(String, Value)> {
        self.requests.lock().expect("no panic").clone()
    }
}

pub async fn read(socket: &mut tokio::net::TcpStream) -> (String, Value) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.expect("a length") {
                return (head.to_owned(), serde_json::from_str(body).expect("JSON"));
            }
        }
        assert_ne!(socket.read_buf(&mut bytes).await.expect("read"), 0, "the request ends early: {text}");
    }
}

pub async fn deliver(bench: &Bench, order: &Value) -> SimulatorResponse {
    bench.control(bench.sandbox.thinkexam(), "/_webhooks", order).await
}

/// Returns a bench where Jo and Al are assigned test 2415.
pub async fn bench_with_assignments() -> Bench {
    let bench = Bench::start().await;
    for email in ["jo@example.com", "al@example.com"] {
        bench.thinkexam("unifiedAuth", &json!({ "name": "Jo", "email": email, "enrollment_number": "E1" })).await;
        bench.thinkexam("assignTest", &json!({ "email": email, "testId": "2415" })).await;
    }
    bench
}

pub fn result(email: &str) -> Value {
    json!({ "email": email, "testId": "2415", "retryDelayMs": 0 })
}

#[tokio::test]
async fn a_result_has_either_published_format_and_its_key_header() {
    let bench = bench_with_assignments().await;
    let receiver = Receiver::start(&[]).await;
    let mut flat_form = result("jo@example.com");
    flat_form["form"] = json!("older");
    let mut loose = result("jo@example.com");
    loose["marksAsStrings"] = json!(true);
    loose["marks"] = json!(7);
    loose["totalMarks"] = json!(9);
    let order = json!({ "url": format!("http://{}/hook?x=1", receiver.address), "results": [result("JO@example.com"), flat_form, loose] });
    let response = deliver(&bench, &order).await;
    assert_eq!(
        response.json()["deliveries"][0],
        json!({ "subject": "jo@example.com/2415", "attempt": 1, "outcome": "delivered", "status": 200 })
    );
    let requests = receiver.requests();
    let key = accounts::thinkexam::WEBHOOK_KEY;
    assert!(requests[0].0.starts_with("POST /hook?x=1 HTTP/1.1"), "{}", requests[0].0);
    assert!(requests[0].0.to_lowercase().contains(&format!("\r\nx-webhook_key: {key}")), "{}", requests[0].0);
    assert!(requests[1].0.to_lowercase().contains(&format!("\r\nwebhook_key: {key}")), "{}", requests[1].0);
    let current = &requests[0].1["result"];
    assert_eq!(
        (&current["marks_scored"], &current["total_marks"], &current["percentage"], &current["status"]),
        (&json!(42), &json!("50"), &json!(84), &json!("COMPLETED"))
    );
    assert_eq!(
        (&current["enrollment_no"], &current["city"], &current["gender"]),
        (&json!("E1"), &json!("NA"), &Value::Null)
    );
    assert!(current.get("testId").is_none() && current["details"][0]["RESPONSE"].is_array());
    let flat = requests[1].1.as_object().expect("an object");
    assert!(flat.iter().all(|(name, value)| *name == name.to_uppercase() && value.is_string()), "{flat:?}");
    assert_eq!(
        (&flat["TEST_ID"], &flat["EMAIL"], flat["EXAM_DATE"].as_str().map(str::len)),
        (&json!("2415"), &json!("jo@example.com"), Some(8))
    );
    assert_eq!(
        (&requests[2].1["result"]["marks_scored"], &requests[2].1["result"]["percentage"]),
        (&json!("7"), &json!("77.77"))
    );
}

#[tokio::test]
async fn deliveries_can_be_repeated_reversed_and_sent_with_a_wrong_key() {
    let bench = bench_with_assignments().await;
    let receiver = Receiver::start(&[]).await;
    let mut twice = result("al@example.com");
    twice["copies"] = json!(2);
    twice["delayMs"] = json!(1);
    let mut keyless = result("jo@example.com");
    keyless["keyHeader"] = json!("none");
    keyless["status"] = json!("IN PROGRESS");
    let order = json!({ "url": format!("http://localhost:{}/", receiver.address.port()), "key": "wrong", "reversed": true, "results": [keyless, twice] });
    assert_eq!(deliver(&bench, &order).await.status, Some(200));
    let requests = receiver.requests();
    let people: Vec<_> = requests.iter().map(|(_, body)| body["result"]["email"].as_str().expect("text")).collect();
    assert_eq!(people, ["al@example.com", "al@example.com", "jo@example.com"]);
    assert_eq!(requests[0].1, requests[1].1);
    assert_eq!(requests[2].1["result"]["status"], "IN PROGRESS");
    assert!(requests[0].0.to_lowercase().contains("x-webhook_key: wrong"));
    assert!(!requests[2].0.to_lowercase().contains("webhook_key"));
}

#[tokio::test]
async fn deliveries_without_a_200_response_are_retried_until_given_up() {
    let bench = bench_with_assignments().await;
    // A redirect counts as an error, and so does no response at all.
    let receiver = Receiver::start(&[500, 302, 200, 0, 204]).await;
    let mut stubborn = result("jo@example.com");
    stubborn["attempts"] = json!(2);
    let order =
        json!({ "url": format!("http://{}/", receiver.address), "results": [result("al@example.com"), stubborn] });
    let deliveries = deliver(&bench, &order).await.json()["deliveries"].clone();
    let deliveries: Vec<_> = deliveries
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["attempt"].clone(), one["status"].clone()))
        .collect();
    let expected = [(1, json!(500)), (2, json!(302)), (3, json!(200)), (1, Value::Null), (2, json!(204))];
    assert_eq!(deliveries, expected.map(|(attempt, status)| (json!(attempt), status)));
    let effects = bench.effects(bench.sandbox.thinkexam(), "?calls=false").await["effects"].clone();
    let changes: Vec<_> = effects
        .as_array()
        .expect("a list")
        .iter()
        .filter(|effect| effect["operation"] == "webhook")
        .map(|effect| effect["change"].as_str().expect("text").to_owned())
        .collect();
    assert_eq!(changes, ["refused", "refused", "delivered", "unanswered", "refused"]);
}

#[tokio::test]
async fn a_result_may_precede_its_assignment_only_if_requested() {
    let bench = Bench::start().await;
    let receiver = Receiver::start(&[]).await;
    let mut order = json!({ "url": format!("http://{}/", receiver.address), "results": [result("new@example.com")] });
    assert_eq!(deliver(&bench, &order).await.status, Some(400));
    assert!(receiver.requests().is_empty());
    order["results"][0]["unassigned"] = json!(true);
    assert_eq!(deliver(&bench, &order).await.status, Some(200));
    assert_eq!(receiver.requests()[0].1["result"]["email"], "new@example.com");
}

#[tokio::test]
async fn invalid_deliveries_are_rejected_and_nothing_is_sent() {
    let bench = bench_with_assignments().await;
    let receiver = Receiver::start(&[]).await;
    let good = json!({ "url": format!("http://{}/", receiver.address), "results": [result("jo@example.com")] });
    let with = |name: &str, value: Value| {
        let mut order = good.clone();
        order[name] = value;
        order
    };
    for order in [
        with("url", json!("http://192.0.2.1/")),
        with("url", json!("http://example.com/")),
        with("url", json!("https://127.0.0.1/")),
        with("url", Value::Null),
        with("key", json!("a\r\nb")),
        with("results", json!([])),
        with("results", json!([{ "email": "jo@example.com", "testId": "2415", "mark": 1 }])),
        with("results", json!([result("jo@example.com"), { "email": "jo@example.com", "testId": "2416" }])),
        with("copies", json!(2)),
        json!([]),
    ] {
        assert_eq!(deliver(&bench, &order).await.status, Some(400), "{order}");
    }
    assert!(receiver.requests().is_empty());
    let elsewhere = bench.client.post(format!("http://{}/_webhooks", bench.sandbox.startexam())).json(&good);
    assert_eq!(bench.send(elsewhere).await.status, Some(404));
}
