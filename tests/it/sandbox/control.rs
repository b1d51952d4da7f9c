use super::*;

#[tokio::test]
async fn misspelled_control_requests_are_rejected_and_change_nothing() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    bench.inject_fault(address, json!({ "name": "bom" })).await;
    for (order, hint) in [
        (json!({ "faults": [{ "name": "drip" }, { "name": "bomb" }] }), "reset_after_effect"),
        (json!({ "faults": [{ "name": "drip", "byte": 1 }] }), "intervalMs"),
        (json!({ "faults": [{ "name": "drip", "operation": "assignTest" }] }), "employees_participants"),
        (json!({ "fault": [] }), "faults, add, switches"),
        (json!({ "faults": [], "switches": { "existing": "null" } }), "existing_registration"),
        (json!({ "switches": { "existing_registration": "new" } }), "repeated, left_out, null"),
        (json!([]), "an object"),
    ] {
        let response = bench.send(bench.client.post(format!("http://{address}/_faults")).json(&order)).await;
        assert_eq!(response.status, Some(400), "{order}");
        assert!(response.json()["error"].as_str().expect("text").contains(hint), "{}", response.text());
    }
    let response = bench.send(bench.client.get(format!("http://{address}/_faults"))).await.json();
    assert_eq!((response["faults"].as_array().map(Vec::len), &response["faults"][0]["name"]), (Some(1), &json!("bom")));
}

#[tokio::test]
async fn faults_are_replaced_added_and_listed() {
    let bench = Bench::start().await;
    let address = bench.sandbox.thinkexam();
    bench.inject_fault(address, json!({ "name": "bom", "times": 3 })).await;
    bench.configure(address, json!({ "add": [{ "name": "drip", "operation": "assignTest", "bytes": 2 }] })).await;
    let listed = bench.send(bench.client.get(format!("http://{address}/_faults"))).await.json();
    assert_eq!((&listed["faults"][0]["times"], &listed["faults"][1]["bytes"]), (&json!(3), &json!(2)));
    assert_eq!((&listed["switches"]["flags"], &listed["vendor"]), (&json!("strict"), &json!("thinkexam")));
    bench.configure(address, json!({ "faults": [], "switches": { "flags": "loose" } })).await;
    let listed = bench.send(bench.client.get(format!("http://{address}/_faults"))).await.json();
    assert_eq!((&listed["faults"], &listed["switches"]["flags"]), (&json!([]), &json!("loose")));
}

#[tokio::test]
async fn calls_are_recorded_as_received() {
    let bench = Bench::start().await;
    let address = bench.sandbox.examtesting();
    let request =
        bench.client.post(format!("http://{address}/Some%20Path?a=1&b=%3D")).header("X-One", "1").header("X-Two", "2");
    bench.send(request.body("b\u{f6}dy")).await;
    let call = bench.effects(address, "").await["calls"][0].clone();
    assert_eq!(
        (&call["method"], &call["path"], &call["query"], &call["body"]),
        (&json!("POST"), &json!("/Some%20Path"), &json!("a=1&b=%3D"), &json!("b\u{f6}dy"))
    );
    assert_eq!((&call["operation"], &call["status"]), (&json!("unknown"), &json!(404)));
    let headers = call["headers"].as_array().expect("a list");
    let position = |name: &str| headers.iter().position(|header| header[0] == name);
    assert!(position("x-one").is_some() && position("x-one") < position("x-two"));
}

#[tokio::test]
async fn effects_can_be_read_from_a_sequence_number() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    bench.startexam("/v1/employees", &employees(&["1"])).await;
    let first = bench.effects(address, "").await;
    assert_eq!(first["effects"][0]["call"], first["calls"][0]["sequence"]);
    assert_eq!(
        (&first["effects"][0]["operation"], &first["effects"][0]["employee"]),
        (&json!("employees"), &json!("1"))
    );
    bench.startexam("/v1/employees", &employees(&["2"])).await;
    let since = bench.effects(address, &format!("?since={}&calls=false", first["sequence"])).await;
    assert_eq!((since["effects"].as_array().map(Vec::len), &since["effects"][0]["subject"]), (Some(1), &json!("2")));
    assert!(since.get("calls").is_none());
    assert_eq!(bench.send(bench.client.get(format!("http://{address}/_effects?from=1"))).await.status, Some(400));
}

#[tokio::test]
async fn reset_restores_the_seed_but_reuses_no_id() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    let register = async || {
        bench.startexam("/v1/employees", &employees(&["1"])).await;
        bench.startexam("/v2/employees-participants", &registration(&["1"], false)).await.json()["participantIds"][0]
            .clone()
    };
    let before = register().await;
    bench
        .configure(address, json!({ "faults": [{ "name": "bom" }], "switches": { "clock_offset_seconds": 5000 } }))
        .await;
    assert_eq!(bench.send(bench.client.post(format!("http://{address}/_reset"))).await.status, Some(200));
    let after = bench.effects(address, "").await;
    assert_eq!(
        (&after["effects"], &after["calls"], &after["state"]["employees"]),
        (&json!([]), &json!([]), &json!([]))
    );
    assert_ne!(register().await, before);
}

#[tokio::test]
async fn unknown_control_paths_and_methods_are_rejected() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    for (request, status) in [
        (bench.client.get(format!("http://{address}/_reset")), 405),
        (bench.client.post(format!("http://{address}/_effects")), 405),
        (bench.client.delete(format!("http://{address}/_faults")), 405),
        (bench.client.get(format!("http://{address}/_fault")), 404),
    ] {
        assert_eq!(bench.send(request).await.status, Some(status), "{status}");
    }
}

#[tokio::test]
async fn a_stopped_sandbox_accepts_no_connections() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    bench.inject_fault(address, json!({ "name": "delay_after_effect", "delayMs": 3_600_000 })).await;
    let waiting = bench.startexam_request("POST", "/v1/employees", &employees(&["1"]).to_string());
    let waiting = tokio::spawn(waiting.send());
    while bench.changes(address).await.is_empty() {
        tokio::task::yield_now().await;
    }
    bench.sandbox.stop().await;
    assert!(waiting.await.expect("no panic").is_err());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_port_base_without_room_for_four_ports_is_rejected() {
    let settings = Settings { host: IpAddr::V4(Ipv4Addr::LOCALHOST), port_base: 65_533, now: SystemTime::now };
    let refused = Sandbox::start(settings).await.map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(std::io::ErrorKind::InvalidInput));
}

#[tokio::test]
async fn concurrent_calls_take_effect_once_each() {
    let bench = std::sync::Arc::new(Bench::start().await);
    let calls = (0..100).map(|number| {
        let bench = bench.clone();
        tokio::spawn(async move { bench.examtesting("add", &student(&format!("person{}", number / 2))).await.text() })
    });
    let mut successes = 0;
    for call in calls.collect::<Vec<_>>() {
        successes += usize::from(call.await.expect("no panic").contains("SUCCESS"));
    }
    assert_eq!(successes, 50);
    let mut subjects = bench.changes(bench.sandbox.examtesting()).await;
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 50);
}

#[tokio::test]
async fn a_fault_waits_for_the_first_call_it_can_affect() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    bench.inject_fault(address, json!({ "name": "null_ids", "times": 1 })).await;
    bench.startexam("/v1/employees", &employees(&["1"])).await;
    let response = bench.startexam("/v2/employees-participants", &registration(&["1"], false)).await.json();
    assert_eq!(response["participantIds"], json!([null]));
    let order = json!({ "faults": [{ "name": "null_ids", "operation": "employees" }] });
    let response = bench.send(bench.client.post(format!("http://{address}/_faults")).json(&order)).await;
    assert_eq!(response.status, Some(400));
}
