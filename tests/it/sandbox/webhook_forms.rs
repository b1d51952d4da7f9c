//! Results as the webhook sends them: figures that cannot be, other spellings, and many at once.

use tokio::io::AsyncWriteExt;

use super::webhook::{Receiver, bench_with_assignments, deliver, read, result};
use super::*;

/// Returns a result with further members.
fn with(members: Value) -> Value {
    let mut result = result("jo@example.com");
    let members: serde_json::Map<String, Value> = serde_json::from_value(members).expect("an object");
    result.as_object_mut().expect("an object").extend(members);
    result
}

/// Delivers results and returns the bodies the receiver got, in order.
async fn bodies(bench: &Bench, results: Value) -> Vec<Value> {
    let receiver = Receiver::start(&[]).await;
    let order = json!({ "url": format!("http://{}/", receiver.address), "results": results });
    let response = deliver(bench, &order).await;
    assert_eq!(response.status, Some(200), "{}", response.text());
    receiver.requests().into_iter().map(|(_, body)| body).collect()
}

#[tokio::test]
async fn figures_may_be_ones_that_cannot_be() {
    let bench = bench_with_assignments().await;
    let cases = [
        (json!({ "marks": -3.5 }), json!(-3.5), json!(-7), json!("50")),
        (json!({ "marks": 60 }), json!(60), json!(120), json!("50")),
        (json!({ "marks": 31, "percentage": 12.25 }), json!(31), json!(12.25), json!("50")),
        (json!({ "marksText": "absent", "totalMarks": 0 }), json!("absent"), json!(0), json!("0")),
        (json!({ "marks": 1.5, "totalMarks": 4.5, "totalAsNumber": true }), json!(1.5), json!(33.33), json!(4.5)),
        (json!({ "marks": 40, "marksAsStrings": true }), json!("40"), json!("80"), json!("50")),
    ];
    let results: Vec<_> = cases.iter().map(|(members, ..)| with(members.clone())).collect();
    for (body, (members, marks, percentage, total)) in bodies(&bench, json!(results)).await.iter().zip(&cases) {
        let shown = &body["result"];
        assert_eq!(
            (&shown["marks_scored"], &shown["percentage"], &shown["total_marks"]),
            (marks, percentage, total),
            "{members}"
        );
    }
}

#[tokio::test]
async fn subjects_may_differ_in_number_and_fields_be_absent() {
    let bench = bench_with_assignments().await;
    let results = json!([
        with(json!({ "subjectNames": ["Maths", "Logic"], "subjectMarks": ["12.5"] })),
        with(json!({ "subjectMarks": [3, "x"], "enrollmentNo": "E77", "omit": "percentage, details" })),
        with(json!({ "form": "older", "examDate": "30/11/26", "marks": 7.5, "omit": "TEST_ID" })),
    ]);
    let bodies = bodies(&bench, results).await;
    let first = &bodies[0]["result"];
    assert_eq!((&first["subject_name"], &first["subject_marks"]), (&json!(["Maths", "Logic"]), &json!(["12.5"])));
    let second = &bodies[1]["result"];
    assert_eq!((&second["subject_marks"], &second["enrollment_no"]), (&json!([3, "x"]), &json!("E77")));
    assert_eq!((second.get("percentage"), second.get("details"), second.get("age")), (None, None, Some(&json!("0"))));
    let older = &bodies[2];
    assert_eq!(
        (older.get("TEST_ID"), &older["EXAM_DATE"], &older["CORRECT_MARKS"]),
        (None, &json!("30/11/26"), &json!("7.5"))
    );
}

#[tokio::test]
async fn each_result_may_have_its_own_address_key_and_header() {
    let bench = bench_with_assignments().await;
    let receiver = Receiver::start(&[]).await;
    let url = |path: &str| format!("http://{}{path}", receiver.address);
    let results = json!([
        with(json!({ "url": url("/rust?form=2"), "keyHeader": "X-Webhook-Key", "marks": 10 })),
        with(json!({ "key": "old-key", "keyHeader": "webhook_key", "marks": 20 })),
    ]);
    deliver(&bench, &json!({ "url": url("/all"), "results": results })).await;
    let requests = receiver.requests();
    let heads: Vec<_> = requests.iter().map(|(head, _)| head.to_lowercase()).collect();
    let key = accounts::thinkexam::WEBHOOK_KEY;
    assert!(
        heads[0].starts_with("post /rust?form=2 ") && heads[0].contains(&format!("\r\nx-webhook-key: {key}")),
        "{}",
        heads[0]
    );
    assert!(heads[1].starts_with("post /all ") && heads[1].contains("\r\nwebhook_key: old-key"), "{}", heads[1]);
    // Two results of one candidate and test.
    let marks: Vec<_> = requests.iter().map(|(_, body)| body["result"]["marks_scored"].clone()).collect();
    assert_eq!(marks, [10, 20]);
}

#[tokio::test]
async fn many_results_are_delivered_for_the_assignments_or_for_made_up_candidates() {
    let bench = bench_with_assignments().await;
    let receiver = Receiver::start(&[500]).await;
    let url = format!("http://{}/", receiver.address);
    let order = |each: Value, count: usize| json!({ "url": url, "each": each, "count": count, "concurrency": 4 });
    let response = deliver(&bench, &order(json!({ "retryDelayMs": 0 }), 2)).await.json();
    let people = |requests: &[(String, Value)]| -> std::collections::BTreeSet<String> {
        requests.iter().map(|(_, body)| body["result"]["email"].as_str().expect("text").to_owned()).collect()
    };
    // One was refused and retried.
    assert_eq!((response["deliveries"].as_array().map(Vec::len), receiver.requests().len()), (Some(3), 3));
    assert_eq!(people(&receiver.requests()).into_iter().collect::<Vec<_>>(), ["al@example.com", "jo@example.com"]);
    let made_up = order(json!({ "unassigned": true, "testId": "2416" }), 300);
    assert_eq!(deliver(&bench, &made_up).await.json()["deliveries"].as_array().map(Vec::len), Some(300));
    assert_eq!(people(&receiver.requests()).len(), 302);
    for (order, hint) in [
        (order(json!({}), 3), "only 2 assignments"),
        (order(json!({ "testId": "2416" }), 1), "only 0 assignments"),
        (order(json!({}), 0), "count at least 1"),
        (json!({ "url": url, "each": {}, "results": [], "count": 1 }), "either results"),
        (json!({ "url": url, "results": [with(json!({ "subjectNames": "Maths" }))] }), "must be a list"),
        (json!({ "url": url, "results": [with(json!({ "subjectMarks": [null] }))] }), "strings and numbers"),
        (json!({ "url": url, "results": [with(json!({ "url": "http://192.0.2.1/" }))] }), "127.0.0.0/8"),
        (json!({ "url": url, "results": [with(json!({ "key": "a\nb" }))] }), "printable"),
    ] {
        let response = deliver(&bench, &order).await;
        assert_eq!(response.status, Some(400), "{order}");
        assert!(response.json()["error"].as_str().expect("text").contains(hint), "{}", response.text());
    }
    assert_eq!(receiver.requests().len(), 303);
}

#[tokio::test]
async fn several_deliveries_are_made_at_the_same_time() {
    let bench = bench_with_assignments().await;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    // Responds to the first only when the second is there.
    let receiver = tokio::spawn(async move {
        let mut sockets = [listener.accept().await.expect("one").0, listener.accept().await.expect("another").0];
        for socket in &mut sockets {
            read(socket).await;
            let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            socket.write_all(reply).await.expect("written");
        }
    });
    let results = json!([with(json!({ "attempts": 1 })), with(json!({ "attempts": 1 }))]);
    let told = deliver(&bench, &json!({ "url": url, "concurrency": 2, "results": results })).await.json();
    let outcomes: Vec<_> =
        told["deliveries"].as_array().expect("a list").iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(outcomes, ["delivered", "delivered"]);
    receiver.await.expect("no panic");
}

#[tokio::test]
async fn a_receiver_that_is_too_slow_counts_as_silent() {
    let bench = bench_with_assignments().await;
    // Accepts connections and reads nothing.
    let silent = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    let order = json!({ "url": url, "results": [with(json!({ "timeoutMs": 20, "attempts": 2 }))] });
    let told = deliver(&bench, &order).await.json()["deliveries"].clone();
    let outcomes: Vec<_> = told.as_array().expect("a list").iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(outcomes, ["unanswered", "unanswered"]);
}
