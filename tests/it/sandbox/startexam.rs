use super::*;

#[tokio::test]
async fn startexam_validates_in_the_documented_order() {
    let bench = Bench::start().await;
    let base = format!("http://{}", bench.sandbox.startexam());
    let now = httpdate::fmt_http_date(SystemTime::now());
    let old = httpdate::fmt_http_date(SystemTime::now() - Duration::from_mins(16));
    let zeros = BASE64.encode(&[0; 32]);
    let signed = |date: &str, length: usize| {
        format!("SharedKey 99:{}", startexam_signature(&format!("POST /v1/employees {date} {length}")))
    };
    // Each call also has every error that later checks would find.
    let cases = [
        ("/v1/nowhere", None, None, "not json", 404, "No method"),
        ("/v1/employees", None, None, "not json", 403, "'Date' is missing"),
        ("/v1/employees", Some("yesterday"), None, "not json", 403, "RFC 1123"),
        ("/v1/employees", Some(old.as_str()), None, "not json", 403, "it's older than 15 minutes"),
        ("/v1/employees", Some(now.as_str()), None, "not json", 403, "'Authorization' is missing"),
        ("/v1/employees", Some(now.as_str()), Some(format!("Bearer 99:{zeros}")), "not json", 403, "SharedKey"),
        ("/v1/employees", Some(now.as_str()), Some(format!("SharedKey x:{zeros}")), "not json", 403, "SharedKey"),
        ("/v1/employees", Some(now.as_str()), Some("SharedKey 99:c2hvcnQ=".to_owned()), "not json", 403, "SharedKey"),
        (
            "/v1/employees",
            Some(now.as_str()),
            Some(format!("SharedKey 98:{zeros}")),
            "not json",
            403,
            "unknown account",
        ),
        (
            "/v1/employees",
            Some(now.as_str()),
            Some(format!("SharedKey 99:{zeros}")),
            "not json",
            403,
            "wrong signature",
        ),
        ("/v1/employees", Some(now.as_str()), Some(signed(&now, 9)), "not json", 403, "wrong signature"),
        ("/v1/employees", Some(now.as_str()), Some(signed(&now, 8)), "not json", 400, "not valid JSON"),
    ];
    for (path, date, authorization, body, status, message) in cases {
        let mut request = bench.client.post(format!("{base}{path}")).body(body);
        if let Some(date) = date {
            request = request.header("Date", date);
        }
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        let response = bench.send(request).await;
        assert_eq!(response.status, Some(status), "{message}");
        assert!(response.json()["message"].as_str().expect("text").contains(message), "{message}: {}", response.text());
    }
}

#[tokio::test]
async fn startexam_rejects_an_old_date_with_the_published_error() {
    let bench = Bench::start().await;
    bench.set_switch(bench.sandbox.startexam(), "clock_offset_seconds", 960).await;
    let response = bench.startexam("/v1/employees", &employees(&["1"])).await;
    assert_eq!(response.status, Some(403));
    assert_eq!(response.content_type, "application/json; charset=utf-8");
    assert_eq!(response.body.expect("a body").len(), 80);
}

#[tokio::test]
async fn startexam_rejects_a_body_without_a_length() {
    let bench = Bench::start().await;
    let date = httpdate::fmt_http_date(SystemTime::now());
    let signature = startexam_signature(&format!("POST /v1/employees {date} 0"));
    let mut socket = tokio::net::TcpStream::connect(bench.sandbox.startexam()).await.expect("a connection");
    let request = format!(
        "POST /v1/employees HTTP/1.1\r\nHost: x\r\nDate: {date}\r\nAuthorization: SharedKey 99:{signature}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    tokio::io::AsyncWriteExt::write_all(&mut socket, request.as_bytes()).await.expect("written");
    let mut response = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut response).await.expect("read");
    assert!(response.starts_with("HTTP/1.1 403"), "{response}");
    assert!(response.contains("'Content-Length' is missing"), "{response}");
}

#[tokio::test]
async fn the_startexam_path_is_signed_in_lower_case() {
    let bench = Bench::start().await;
    let date = httpdate::fmt_http_date(SystemTime::now());
    let signature = startexam_signature(&format!("GET /v1/tests {date} 0"));
    let request = bench
        .client
        .get(format!("http://{}/V1/Tests?type=test", bench.sandbox.startexam()))
        .header("Date", date)
        .header("Authorization", format!("SharedKey 99:{signature}"));
    let response = bench.send(request).await;
    assert_eq!(response.status, Some(200));
    assert_eq!(response.json()["tests"][0]["testId"], accounts::startexam::TESTS[0].0);
}

#[tokio::test]
async fn employees_are_created_updated_and_repeated() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    for body in [
        employees(&["1", "2"]),
        employees(&["2"]),
        json!({ "PROFILEID": accounts::startexam::PROFILE_ID, "Employees": [{ "ID": "2", "Status": "Hidden" }] }),
    ] {
        let response = bench.startexam("/v1/employees", &body).await;
        assert_eq!((response.status, response.text()), (Some(200), "{}".to_owned()));
    }
    assert_eq!(bench.changes(address).await, ["created 1", "created 2", "repeated 2", "updated 2"]);
    assert_eq!(bench.effects(address, "").await["state"]["employees"][1]["status"], "hidden");
}

#[tokio::test]
async fn invalid_employees_are_rejected_and_change_nothing() {
    let bench = Bench::start().await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = employees(&["1", "2"]);
        change(&mut body);
        body
    };
    for (body, status) in [
        (with(&|b| b["employees"][1]["id"] = json!("1")), 400),
        (with(&|b| b["employees"][1]["id"] = json!("x".repeat(251))), 400),
        (with(&|b| b["employees"][1]["status"] = json!("gone")), 400),
        (with(&|b| b["employees"][1]["data"][0]["name"] = json!("Shoe Size")), 400),
        (with(&|b| b["employees"] = json!([])), 400),
        (with(&|b| b["profileId"] = json!("mine")), 400),
        (with(&|b| b["profileId"] = json!("00000000-0000-4000-8000-000000000000")), 404),
    ] {
        let response = bench.startexam("/v1/employees", &body).await;
        assert_eq!(response.status, Some(status), "{}", response.text());
    }
    assert!(bench.changes(bench.sandbox.startexam()).await.is_empty());
}

#[tokio::test]
async fn registration_returns_ids_in_order_and_without_the_flag_registers_again() {
    let bench = Bench::start().await;
    bench.startexam("/v1/employees", &employees(&["1", "2"])).await;
    let first = bench.startexam("/v2/employees-participants", &registration(&["2", "1"], false)).await;
    let ids = first.json()["participantIds"].clone();
    assert_eq!(first.text(), format!("{{\n  \"participantIds\": [\n    {},\n    {}\n  ]\n}}", ids[0], ids[1]));
    let existing = bench.startexam("/v2/employees-participants", &registration(&["1"], true)).await;
    assert_eq!(existing.json()["participantIds"], json!([ids[1]]));
    let again = bench.startexam("/v2/employees-participants", &registration(&["1"], false)).await;
    assert_ne!(again.json()["participantIds"][0], ids[1]);
    let state = bench.effects(bench.sandbox.startexam(), "").await["state"].clone();
    assert_eq!(state["registrations"][0]["participantIds"].as_array().map(Vec::len), Some(2));
    let test = accounts::startexam::TESTS[0].0;
    let changes = bench.changes(bench.sandbox.startexam()).await;
    assert_eq!(
        changes[2..],
        ["2", "1"]
            .map(|id| format!("created mycenter/{test}/{id}"))
            .into_iter()
            .chain([format!("repeated mycenter/{test}/1"), format!("created mycenter/{test}/1"),])
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_skipped_row_responds_as_configured() {
    let bench = Bench::start().await;
    bench.startexam("/v1/employees", &employees(&["1", "2"])).await;
    bench.startexam("/v2/employees-participants", &registration(&["1"], false)).await;
    bench.set_switch(bench.sandbox.startexam(), "existing_registration", "null").await;
    let response = bench.startexam("/v2/employees-participants", &registration(&["1", "2"], true)).await.json();
    assert_eq!((response["participantIds"][0].is_null(), response["participantIds"][1].is_string()), (true, true));
    bench.set_switch(bench.sandbox.startexam(), "existing_registration", "left_out").await;
    let response = bench.startexam("/v2/employees-participants", &registration(&["1", "2"], true)).await.json();
    assert_eq!(response["participantIds"], json!([]));
}

#[tokio::test]
async fn several_tests_respond_as_configured() {
    let bench = Bench::start().await;
    bench.startexam("/v1/employees", &employees(&["1", "2"])).await;
    let mut body = registration(&["1", "2"], true);
    body["tests"] = json!([accounts::startexam::TESTS[0].0, accounts::startexam::TESTS[1].0]);
    let mut orders = Vec::new();
    for style in ["employees_outer", "tests_outer", "per_employee"] {
        bench.set_switch(bench.sandbox.startexam(), "several_tests", style).await;
        let response = bench.startexam("/v2/employees-participants", &body).await.json();
        orders.push(response["participantIds"].as_array().expect("ids").clone());
    }
    let [employees, tests, per_employee] = &orders[..] else { panic!("three responses") };
    assert_eq!(
        [&employees[0], &employees[2], &employees[1], &employees[3]],
        [&tests[0], &tests[1], &tests[2], &tests[3]]
    );
    assert_eq!(per_employee.len(), 2);
}

#[tokio::test]
async fn one_unknown_employee_fails_the_whole_registration() {
    let bench = Bench::start().await;
    bench.startexam("/v1/employees", &employees(&["1"])).await;
    let before = bench.changes(bench.sandbox.startexam()).await.len();
    let body = registration(&["1", "nobody"], false);
    assert_eq!(bench.startexam("/v2/employees-participants", &body).await.status, Some(404));
    bench.set_switch(bench.sandbox.startexam(), "unknown_reference", "400").await;
    assert_eq!(bench.startexam("/v2/employees-participants", &body).await.status, Some(400));
    assert_eq!(bench.changes(bench.sandbox.startexam()).await.len(), before);
}

#[tokio::test]
async fn registration_limits_are_the_published_ones() {
    let bench = Bench::start().await;
    let ids: Vec<_> = (0..501).map(|number| number.to_string()).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    bench.startexam("/v1/employees", &employees(&ids)).await;
    let register = async |ids: &[&str], change: &dyn Fn(&mut Value)| {
        let mut body = registration(ids, false);
        change(&mut body);
        bench.startexam("/v2/employees-participants", &body).await.status
    };
    assert_eq!(register(&ids[..500], &|_| {}).await, Some(200));
    assert_eq!(register(&ids, &|_| {}).await, Some(400));
    assert_eq!(register(&[], &|_| {}).await, Some(400));
    assert_eq!(register(&["1"], &|body| body["tests"] = json!([])).await, Some(400));
    assert_eq!(
        register(&["1"], &|body| body["tests"] = json!(vec![accounts::startexam::TESTS[0].0; 11])).await,
        Some(400)
    );
    assert_eq!(register(&["1"], &|body| body["validTill"] = body["validFrom"].clone()).await, Some(400));
    assert_eq!(register(&["1"], &|body| body["validFrom"] = json!("2026-01-01T00:00:00.000Z")).await, Some(400));
    assert_eq!(register(&["1"], &|body| body["proctoring"] = json!(true)).await, Some(400));
    assert_eq!(register(&["1"], &|body| body["center"] = json!("elsewhere")).await, Some(404));
}

#[tokio::test]
async fn program_counters_count_only_real_changes() {
    let bench = Bench::start().await;
    bench.startexam("/v1/employees", &employees(&["1", "2"])).await;
    let body = |scope: &str, tests: Value, coming: Value, going: Value| json!({ "programId": null, "programExternalId": "onboarding-2026", "moduleTestsScope": scope, "moduleTests": tests, "registerEmployees": coming, "unregisterEmployees": going });
    let selected = json!([accounts::startexam::TESTS[0].0]);
    let counters = async |body: Value| {
        let response = bench.startexam("/v1/program/employees", &body).await;
        assert_eq!(response.status, Some(200), "{}", response.text());
        let names = [
            "employeesRegistered",
            "attemptsRegistered",
            "employeesUnregistered",
            "attemptsUnregistered",
            "totalEmployeesInProgram",
        ];
        names.map(|name| response.json()[name].as_i64().expect("a number"))
    };
    assert_eq!(counters(body("selected", selected.clone(), json!(["1"]), json!([]))).await, [1, 1, 0, 0, 1]);
    assert_eq!(counters(body("all", Value::Null, json!(["1", "2"]), json!([]))).await, [1, 7, 0, 0, 2]);
    assert_eq!(counters(body("all", Value::Null, json!(["1", "2"]), json!([]))).await, [0, 0, 0, 0, 2]);
    assert_eq!(counters(body("all", Value::Null, json!([]), json!(["1"]))).await, [0, 0, 1, 4, 1]);
    assert_eq!(counters(body("all", Value::Null, json!([]), json!(["1"]))).await, [0, 0, 0, 0, 1]);
    let program = accounts::startexam::PROGRAM_ID;
    let changes = bench.changes(bench.sandbox.startexam()).await;
    let changes_made = ["created", "updated", "created", "repeated", "repeated", "unregistered", "repeated"];
    let people = ["1", "1", "2", "1", "2", "1", "1"];
    let expected: Vec<_> =
        changes_made.iter().zip(people).map(|(change, id)| format!("{change} {program}/{id}")).collect();
    assert_eq!(changes[2..], expected);
}

#[tokio::test]
async fn invalid_program_calls_are_rejected() {
    let bench = Bench::start().await;
    bench.startexam("/v1/employees", &employees(&["1"])).await;
    let good = json!({ "programId": accounts::startexam::PROGRAM_ID, "moduleTestsScope": "all", "registerEmployees": ["1"], "unregisterEmployees": [] });
    for (name, value, status) in [
        ("programId", Value::Null, 400),
        ("programId", json!("00000000-0000-4000-8000-000000000000"), 404),
        ("programExternalId", json!("other"), 404),
        ("moduleTestsScope", json!("some"), 400),
        ("moduleTestsScope", json!("selected"), 400),
        ("unregisterEmployees", json!(["1"]), 400),
        ("registerEmployees", json!(["nobody"]), 404),
        ("registerEmployees", json!(vec!["1"; 501]), 400),
    ] {
        let mut body = good.clone();
        body[name] = value;
        let response = bench.startexam("/v1/program/employees", &body).await;
        assert_eq!(response.status, Some(status), "{name}: {}", response.text());
    }
    let automatic = json!({ "programId": accounts::startexam::AUTOMATIC_PROGRAM_ID, "moduleTestsScope": "selected", "moduleTests": [accounts::startexam::TESTS[0].0], "registerEmployees": ["1"] });
    assert_eq!(bench.startexam("/v1/program/employees", &automatic).await.status, Some(400));
}

#[tokio::test]
async fn participants_and_new_tests_get_ids() {
    let bench = Bench::start().await;
    let body = json!({
        "center": "mycenter", "validFrom": "2026-01-01T00:00:00Z", "validTill": "2026-02-01T00:00:00Z",
        "tests": [accounts::startexam::TESTS[0].0],
        "participants": [{ "data": [{ "name": "Email", "value": "a@example.com" }] }, { "data": [] }],
    });
    let response = bench.startexam("/v2/participants", &body).await.json();
    assert_eq!(response["participantIds"].as_array().map(Vec::len), Some(2));
    let test = json!({ "projectId": accounts::startexam::PROJECT_ID, "title": "New", "type": "survey" });
    let id = bench.startexam("/v1/create-test", &test).await.json()["testId"].clone();
    let mut next = registration(&["1"], false);
    next["tests"] = json!([id]);
    bench.startexam("/v1/employees", &employees(&["1"])).await;
    assert_eq!(bench.startexam("/v2/employees-participants", &next).await.status, Some(200));
}

#[tokio::test]
async fn a_rotated_secret_invalidates_the_old_signature() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    bench.set_switch(address, "secret", "another").await;
    assert_eq!(bench.startexam("/v1/employees", &employees(&["1"])).await.status, Some(403));
    bench.set_switch(address, "secret", Value::Null).await;
    assert_eq!(bench.startexam("/v1/employees", &employees(&["1"])).await.status, Some(200));
}
