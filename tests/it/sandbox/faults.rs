use super::*;

/// Makes a call that succeeds, with one effect, if no fault is injected.
async fn register(bench: &Bench) -> SimulatorResponse {
    bench.startexam("/v2/employees-participants", &registration(&["1", "2"], false)).await
}

async fn bench_with_employees() -> Bench {
    let bench = Bench::start().await;
    bench.startexam("/v1/employees", &employees(&["1", "2"])).await;
    bench
}

#[tokio::test]
async fn a_reset_after_the_effect_sends_no_response_but_lists_the_effect() {
    let bench = bench_with_employees().await;
    let (se, te, et) = (bench.sandbox.startexam(), bench.sandbox.thinkexam(), bench.sandbox.examtesting());
    for address in [se, te, et] {
        bench.inject_fault(address, json!({ "name": "reset_after_effect", "times": 1 })).await;
    }
    assert_eq!(register(&bench).await.status, None);
    assert_eq!(bench.thinkexam("unifiedAuth", &json!({ "name": "Jo", "email": "jo@example.com" })).await.status, None);
    assert_eq!(bench.examtesting("add", &student("jo")).await.status, None);
    assert_eq!(bench.changes(se).await.len(), 4);
    assert_eq!(bench.changes(te).await, ["created jo@example.com"]);
    assert_eq!(bench.changes(et).await, ["created jo"]);
    assert_eq!(
        bench.examtesting("add", &student("jo")).await.text(),
        "status=ERROR&Reason=1007&error=Username already exist"
    );
    let calls = bench.effects(et, "").await["calls"].clone();
    assert_eq!(
        (&calls[0]["fault"], &calls[0]["status"], &calls[0]["finished"]),
        (&json!("reset_after_effect"), &Value::Null, &json!(true))
    );
    assert_eq!((&calls[1]["fault"], &calls[1]["status"]), (&Value::Null, &json!(200)));
}

#[tokio::test]
async fn a_reset_and_a_close_differ_on_the_wire() {
    let bench = Bench::start().await;
    let address = bench.sandbox.examtesting();
    for (fault, is_reset) in [("reset_before_effect", true), ("close_before_effect", false)] {
        bench.inject_fault(address, json!({ "name": fault })).await;
        let mut socket = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let request = b"GET /ManageCandidate.aspx HTTP/1.1\r\nHost: x\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut socket, request).await.expect("written");
        let read = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut Vec::new()).await;
        let kind = read.map_err(|error| error.kind());
        assert_eq!(kind, if is_reset { Err(std::io::ErrorKind::ConnectionReset) } else { Ok(0) }, "{fault}");
    }
    assert!(bench.changes(address).await.is_empty());
}

#[tokio::test]
async fn a_truncated_body_is_shorter_than_its_content_length() {
    let bench = bench_with_employees().await;
    for reset in [false, true] {
        bench.inject_fault(bench.sandbox.startexam(), json!({ "name": "truncated_body", "reset": reset })).await;
        let response = register(&bench).await;
        assert_eq!((response.status, response.body), (Some(200), None));
    }
}

#[tokio::test]
async fn truncated_json_has_a_matching_content_length() {
    let bench = bench_with_employees().await;
    bench.inject_fault(bench.sandbox.startexam(), json!({ "name": "truncated_json" })).await;
    let response = register(&bench).await;
    assert!(serde_json::from_str::<Value>(&response.text()).is_err());
    assert!(response.text().starts_with("{\n  \"participantIds\""));
}

#[tokio::test]
async fn a_wrong_content_length_truncates_or_stalls_the_body() {
    let bench = bench_with_employees().await;
    let address = bench.sandbox.startexam();
    let whole = register(&bench).await.body.expect("a body").len();
    bench.inject_fault(address, json!({ "name": "wrong_content_length", "difference": -5 })).await;
    assert_eq!(register(&bench).await.body.expect("a body").len(), whole - 5);
    bench.inject_fault(address, json!({ "name": "wrong_content_length", "difference": 5 })).await;
    assert_eq!(register(&bench).await.body, None);
}

#[tokio::test]
async fn an_effect_happens_even_if_the_caller_disconnects() {
    let bench = bench_with_employees().await;
    let address = bench.sandbox.startexam();
    bench.inject_fault(address, json!({ "name": "delay_before_effect", "delayMs": 300 })).await;
    let body = registration(&["1"], false).to_string();
    let caller = tokio::spawn(bench.startexam_request("POST", "/v2/employees-participants", &body).send());
    while bench.effects(address, "").await["calls"].as_array().map(Vec::len) < Some(2) {
        tokio::task::yield_now().await;
    }
    caller.abort();
    while bench.changes(address).await.len() < 3 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn error_responses_have_the_configured_content() {
    let bench = bench_with_employees().await;
    let address = bench.sandbox.startexam();
    bench
        .inject_fault(
            address,
            json!({ "name": "rate_limited", "retryAfter": 7, "format": "vendor", "message": "slow down" }),
        )
        .await;
    let response = register(&bench).await;
    assert_eq!((response.status, response.retry_after.as_str()), (Some(429), "7"));
    assert_eq!(response.text(), "{\r\n  \"message\": \"slow down\"\r\n}");
    bench.inject_fault(address, json!({ "name": "rate_limited", "retryAfter": null })).await;
    assert_eq!(register(&bench).await.retry_after, "");
    bench.inject_fault(address, json!({ "name": "unavailable", "format": "empty" })).await;
    let response = register(&bench).await;
    assert_eq!((response.status, response.body.as_deref()), (Some(503), Some(&b""[..])));
    for status in [301, 302, 307, 308] {
        bench.inject_fault(address, json!({ "name": "redirect", "status": status, "location": "/v1/employees" })).await;
        let response = register(&bench).await;
        assert_eq!((response.status, response.location.as_str()), (Some(status), "/v1/employees"), "{status}");
    }
    bench
        .inject_fault(address, json!({ "name": "status", "body": "short and stout", "contentType": "text/teapot" }))
        .await;
    let response = register(&bench).await;
    assert_eq!(
        (response.status, response.content_type.as_str(), response.text().as_str()),
        (Some(418), "text/teapot", "short and stout")
    );
    assert_eq!(bench.changes(address).await.len(), 2, "none of them took effect");
    bench.inject_fault(address, json!({ "name": "server_error", "effect": true })).await;
    assert_eq!(register(&bench).await.status, Some(500));
    assert_eq!(bench.changes(address).await.len(), 4, "this one did");
}

#[tokio::test]
async fn participant_ids_are_corrupted_as_configured() {
    let bench = bench_with_employees().await;
    let address = bench.sandbox.startexam();
    let damaged = async |fault: Value| {
        bench.inject_fault(address, fault).await;
        register(&bench).await.json()["participantIds"].clone()
    };
    assert_eq!(damaged(json!({ "name": "wrong_id_count" })).await.as_array().map(Vec::len), Some(1));
    assert_eq!(damaged(json!({ "name": "wrong_id_count", "difference": 2 })).await.as_array().map(Vec::len), Some(4));
    assert_eq!(damaged(json!({ "name": "null_ids" })).await, json!([null, null]));
    assert_eq!(damaged(json!({ "name": "missing_ids" })).await, Value::Null);
    let same = damaged(json!({ "name": "duplicated_ids" })).await;
    assert_eq!(same[0], same[1]);
}

#[tokio::test]
async fn a_fault_affects_the_named_operation_after_a_number_of_calls() {
    let bench = bench_with_employees().await;
    let address = bench.sandbox.startexam();
    bench
        .inject_fault(
            address,
            json!({ "name": "forbidden", "operation": "employees_participants", "after": 1, "times": 1 }),
        )
        .await;
    assert_eq!(bench.startexam("/v1/employees", &employees(&["1"])).await.status, Some(200));
    let statuses = [register(&bench).await.status, register(&bench).await.status, register(&bench).await.status];
    assert_eq!(statuses, [Some(200), Some(403), Some(200)]);
}

#[tokio::test]
async fn the_signature_endpoint_is_affected_only_by_name() {
    let bench = Bench::start().await;
    let address = bench.sandbox.thinkexam();
    let issue = async || {
        let body = json!({ "apiKey": accounts::thinkexam::API_KEY, "secret": accounts::thinkexam::SECRET });
        bench.send(bench.client.post(format!("http://{address}/sim/signature")).json(&body)).await.status
    };
    bench.inject_fault(address, json!({ "name": "unavailable" })).await;
    assert_eq!(issue().await, Some(200));
    bench.inject_fault(address, json!({ "name": "unavailable", "operation": "signature" })).await;
    assert_eq!(issue().await, Some(503));
}

#[tokio::test]
async fn bulk_responses_are_corrupted_as_configured() {
    let bench = Bench::start().await;
    let address = bench.sandbox.thinkexam();
    let rows = json!([{ "name": "A", "email": "a@example.com" }, { "name": "B", "email": "b@example.com" }]);
    let items = async |fault: Value| {
        bench.inject_fault(address, fault).await;
        bench.thinkexam("bulkCandidateRegister", &rows).await.json()["responseArray"]
            .as_array()
            .cloned()
            .expect("items")
    };
    let failed = items(json!({ "name": "bulk_item_error", "row": 1, "code": "77" })).await;
    assert_eq!((&failed[0]["result"], &failed[1]["error"]["code"]), (&json!("success"), &json!("77")));
    assert_eq!(items(json!({ "name": "bulk_fewer_items" })).await.len(), 1);
    let shuffled = items(json!({ "name": "bulk_shuffled" })).await;
    assert!(shuffled[0]["data"]["studentId"].as_i64() > shuffled[1]["data"]["studentId"].as_i64());
}

/// Makes the call on which a vendor's fault must show, prepared so that it would succeed.
async fn probe(bench: &Bench, vendor: &str, fault: &str, round: usize) -> SimulatorResponse {
    let name = format!("person{round}");
    match (vendor, fault) {
        ("startexam", "numbers_as_strings") => {
            let body = json!({ "programId": accounts::startexam::PROGRAM_ID, "moduleTestsScope": "all", "registerEmployees": ["1"], "unregisterEmployees": [] });
            bench.startexam("/v1/program/employees", &body).await
        }
        ("startexam", "endless_feed") => {
            sessions::get(bench, "/v2/sessions", "center=mycenter&modifiedSince=2026-01-01T00:00:00Z").await
        }
        ("startexam", _) => register(bench).await,
        ("thinkexam", fault) if fault.starts_with("bulk_") => {
            bench
                .thinkexam(
                    "bulkCandidateRegister",
                    &json!([{ "name": "A", "email": "a@example.com" }, { "name": "B", "email": "b@example.com" }]),
                )
                .await
        }
        ("thinkexam", "strings_as_numbers") => {
            bench.thinkexam("unifiedAuth", &json!({ "name": "A", "email": "a@example.com" })).await;
            bench.thinkexam("assignTest", &json!({ "email": "a@example.com", "testId": "2415" })).await
        }
        ("thinkexam", _) => bench.thinkexam("unifiedAuth", &json!({ "name": "A", "email": "a@example.com" })).await,
        ("lms", _) => lms::deliver(bench, &format!("evt_{round}")).await,
        (_, "double_creation") => bench.examtesting("add", &student("taken")).await,
        _ => bench.examtesting("add", &student(&name)).await,
    }
}

/// Returns the response without what differs from call to call.
fn shape(response: &SimulatorResponse) -> SimulatorResponse {
    let ids = regex::Regex::new(r#"[0-9a-f]{8}-[0-9a-f-]{27}|StudentId=[1-9]\d*|"laravelToken":"[^"]*"|:[01]\b"#)
        .expect("a pattern");
    let body = response.body.as_ref().map(|body| match std::str::from_utf8(body) {
        Ok(text) => ids.replace_all(text, "ID").into_owned().into_bytes(),
        Err(_) => body.clone(),
    });
    SimulatorResponse { body, date: String::new(), ..response.clone() }
}

#[tokio::test]
async fn every_known_fault_is_visible_on_the_wire() {
    let bench = bench_with_employees().await;
    bench.examtesting("add", &student("taken")).await;
    for (round, (vendor, fault, _)) in examgate::sandbox::known_faults().enumerate() {
        let address = match vendor {
            "startexam" => bench.sandbox.startexam(),
            "thinkexam" => bench.sandbox.thinkexam(),
            "lms" => bench.sandbox.lms(),
            _ => bench.sandbox.examtesting(),
        };
        probe(&bench, vendor, fault, 10_000 + round).await;
        let usual = probe(&bench, vendor, fault, 20_000 + round).await;
        let mut order = json!({ "name": fault });
        if ["delay_before_effect", "delay_after_effect", "cold_start", "drip"].contains(&fault) {
            order[if fault == "drip" { "intervalMs" } else { "delayMs" }] = json!(0);
        }
        if fault == "huge_body" {
            order["bytes"] = json!(100_000);
        }
        bench.inject_fault(address, order).await;
        let response = probe(&bench, vendor, fault, round).await;
        bench.configure(address, json!({ "faults": [] })).await;
        let calls = bench.effects(address, "").await["calls"].clone();
        let last = calls.as_array().and_then(|calls| calls.last()).expect("a call");
        assert_eq!(last["fault"], fault, "{vendor}");
        let only_timing = ["delay_before_effect", "delay_after_effect", "cold_start", "drip"].contains(&fault);
        let only_ids = ["duplicated_ids", "bulk_shuffled"].contains(&fault);
        if !only_ids {
            assert_eq!(
                shape(&response) == shape(&usual),
                only_timing,
                "{vendor} {fault}: {response:?} against {usual:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_documentation_lists_every_fault_and_switch_with_its_parameters() {
    let bench = Bench::start().await;
    let document = include_str!("../../../docs/SANDBOX.md");
    let value = |knob: &Value| match &knob["values"] {
        Value::Array(words) => {
            words.iter().map(|word| format!("`{}`", word.as_str().expect("a word"))).collect::<Vec<_>>().join(" / ")
        }
        _ if knob["default"].is_null() => "none".to_owned(),
        _ if knob["default"].as_str().is_some_and(|text| text.len() > 60 || text.is_empty()) => "text".to_owned(),
        _ => format!("`{}`", knob["default"]),
    };
    let mut expected: Vec<String> = Vec::new();
    let sandbox = &bench.sandbox;
    for address in [sandbox.startexam(), sandbox.thinkexam(), sandbox.examtesting(), sandbox.lms()] {
        let response = bench.send(bench.client.get(format!("http://{address}/_faults"))).await.json();
        for fault in response["known"].as_array().expect("a list") {
            let parameters = fault["parameters"].as_array().expect("a list").iter();
            let parameters: Vec<_> =
                parameters.map(|knob| format!("{} {}", knob["name"].as_str().expect("text"), value(knob))).collect();
            let text = |name: &str| fault[name].as_str().expect("text");
            expected.push(format!("| `{}` | {} | {} |", text("name"), text("meaning"), parameters.join(", ")));
        }
        for knob in response["knownSwitches"].as_array().expect("a list") {
            let text = |name: &str| knob[name].as_str().expect("text");
            expected.push(format!("| `{}` | {} | {} |", text("name"), text("meaning"), value(knob)));
        }
    }
    let missing: Vec<_> =
        expected.iter().map(String::as_str).filter(|line| !document.lines().any(|other| other == *line)).collect();
    assert!(missing.is_empty(), "docs/SANDBOX.md lacks:\n{}", missing.join("\n"));
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let invented: Vec<_> = rows.filter(|row| !expected.iter().any(|line| line == row)).collect();
    assert!(invented.is_empty(), "docs/SANDBOX.md has what does not exist:\n{}", invented.join("\n"));
}

#[tokio::test]
async fn a_field_may_contain_its_json_as_a_string() {
    let bench = Bench::start().await;
    bench.inject_fault(bench.sandbox.thinkexam(), json!({ "name": "json_in_member" })).await;
    let response = bench.thinkexam("unifiedAuth", &json!({ "name": "A", "email": "a@example.com" })).await.json();
    let data: Value = serde_json::from_str(response["data"].as_str().expect("a string")).expect("JSON");
    assert!(data["studentId"].is_i64());
    assert_eq!(response["result"], "success");
}
