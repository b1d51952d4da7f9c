use super::*;

const PROGRAM: &str = "11111111-0000-4000-8000-000000000000";

fn guid(number: u8) -> String {
    format!("22222222-0000-4000-8000-0000000000{number:02}")
}

fn module(number: u8, tests: &[usize]) -> Value {
    let tests = tests.iter().map(|index| {
        json!({ "moduleTestId": guid(number * 10 + u8::try_from(*index).expect("small")), "testId": accounts::startexam::TESTS[*index].0, "moduleTestMaxAttempts": 3 })
    });
    json!({ "moduleId": guid(number), "moduleTitle": format!("Module {number}"), "moduleOrder": null, "moduleTests": tests.collect::<Vec<_>>() })
}

fn program(manual: bool) -> Value {
    json!({
        "programId": PROGRAM, "programExternalId": "mine", "projectId": accounts::startexam::PROJECT_ID,
        "centerId": accounts::startexam::CENTER_ID, "programTitle": "Mine", "programStatus": "active",
        "programIsManual": manual, "modules": [module(1, &[0, 1])],
    })
}

async fn set_program(bench: &Bench, body: &Value) -> SimulatorResponse {
    bench.startexam("/v1/program", body).await
}

async fn change_employees(
    bench: &Bench,
    tests: Value,
    register: &[&str],
    unregister: &[&str],
) -> Result<[i64; 3], Option<u16>> {
    let scope = if tests.is_null() { "all" } else { "selected" };
    let body = json!({ "programExternalId": "mine", "moduleTestsScope": scope, "moduleTests": tests, "registerEmployees": register, "unregisterEmployees": unregister });
    let response = bench.startexam("/v1/program/employees", &body).await;
    if response.status != Some(200) {
        return Err(response.status);
    }
    let number = |name: &str| response.json()[name].as_i64().expect("a number");
    Ok([number("attemptsRegistered"), number("attemptsUnregistered"), number("totalEmployeesInProgram")])
}

async fn bench_with_program(manual: bool) -> Bench {
    let bench = Bench::start().await;
    bench.startexam("/v1/employees", &employees(&["1", "2"])).await;
    let response = set_program(&bench, &program(manual)).await;
    assert_eq!((response.status, response.text()), (Some(200), "{}".to_owned()));
    bench
}

#[tokio::test]
async fn a_program_is_created_repeated_and_updated_and_keeps_omitted_fields() {
    let bench = bench_with_program(true).await;
    assert_eq!(set_program(&bench, &program(true)).await.status, Some(200));
    let mut second = module(2, &[2]);
    second["moduleOrder"] = json!(0);
    let update = json!({ "PROGRAMID": PROGRAM, "modules": [second, { "moduleId": guid(1), "moduleTitle": "One" }] });
    assert_eq!(set_program(&bench, &update).await.status, Some(200));
    let address = bench.sandbox.startexam();
    let expected = ["created", "repeated", "updated"].map(|change| format!("{change} {PROGRAM}"));
    assert_eq!(bench.changes(address).await[2..], expected);
    let state = bench.effects(address, "").await["state"]["programs"][2].clone();
    assert_eq!((&state["title"], &state["externalId"]), (&json!("Mine"), &json!("mine")));
    assert_eq!(
        (&state["modules"][0]["moduleId"], &state["modules"][1]["title"], &state["tests"][1]),
        (&json!(guid(2)), &json!("One"), &json!(accounts::startexam::TESTS[0].0))
    );
    for (style, text) in [("empty", String::new()), ("id", format!("{{\n  \"programId\": \"{PROGRAM}\"\n}}"))] {
        bench.set_switch(address, "program_answer", style).await;
        assert_eq!(set_program(&bench, &program(true)).await.text(), text, "{style}");
    }
}

#[tokio::test]
async fn tests_added_to_a_program_are_counted_for_its_employees() {
    let bench = bench_with_program(true).await;
    assert_eq!(change_employees(&bench, json!([guid(10)]), &["1"], &[]).await, Ok([1, 0, 1]));
    assert_eq!(change_employees(&bench, json!([accounts::startexam::TESTS[1].0]), &["1"], &[]).await, Ok([1, 0, 1]));
    assert_eq!(change_employees(&bench, json!([guid(30)]), &["1"], &[]).await, Err(Some(404)));
    let more = json!({ "programId": PROGRAM, "modules": [module(2, &[2, 3])] });
    assert_eq!(set_program(&bench, &more).await.status, Some(200));
    assert_eq!(change_employees(&bench, Value::Null, &["1", "2"], &[]).await, Ok([6, 0, 2]));
    bench.set_switch(bench.sandbox.startexam(), "program_attempts", "max_attempts").await;
    assert_eq!(change_employees(&bench, Value::Null, &[], &["1"]).await, Ok([0, 12, 1]));
}

#[tokio::test]
async fn an_automatic_program_assigns_every_new_test_to_its_employees() {
    let bench = bench_with_program(false).await;
    assert_eq!(change_employees(&bench, Value::Null, &["1"], &[]).await, Ok([2, 0, 1]));
    assert_eq!(change_employees(&bench, json!([guid(10)]), &["1"], &[]).await, Err(Some(400)));
    set_program(&bench, &json!({ "programId": PROGRAM, "modules": [module(2, &[2])] })).await;
    assert_eq!(change_employees(&bench, Value::Null, &["1"], &[]).await, Ok([0, 0, 1]));
    assert_eq!(change_employees(&bench, Value::Null, &[], &["1"]).await, Ok([0, 3, 0]));
}

#[tokio::test]
async fn an_archived_or_deleted_program_accepts_employees_only_if_configured() {
    let bench = bench_with_program(true).await;
    for status in ["archived", "deleted"] {
        set_program(&bench, &json!({ "programId": PROGRAM, "programStatus": status })).await;
        assert_eq!(change_employees(&bench, Value::Null, &["1"], &[]).await, Err(Some(400)), "{status}");
    }
    bench.set_switch(bench.sandbox.startexam(), "inactive_program", "accepted").await;
    assert_eq!(change_employees(&bench, Value::Null, &["1"], &[]).await, Ok([2, 0, 1]));
}

#[tokio::test]
async fn invalid_programs_are_rejected_and_change_nothing() {
    let bench = bench_with_program(true).await;
    let before = bench.changes(bench.sandbox.startexam()).await;
    let new = "33333333-0000-4000-8000-000000000000";
    let other = "44444444-0000-4000-8000-000000000000";
    let with = |name: &str, value: Value| {
        let mut body = program(true);
        body[name] = value;
        body
    };
    let mut twice_in_module = module(1, &[]);
    twice_in_module["moduleTests"] = json!([{ "moduleTestId": guid(15), "testId": accounts::startexam::TESTS[0].0 }]);
    let mut moved_test = module(1, &[0]);
    moved_test["moduleTests"][0]["testId"] = json!(accounts::startexam::TESTS[3].0);
    let mut unknown_test = module(2, &[0]);
    unknown_test["moduleTests"][0]["testId"] = json!(other);
    for (body, status) in [
        (with("programId", Value::Null), 400),
        (with("programId", json!("mine")), 400),
        (with("projectId", json!(other)), 400),
        (with("centerId", json!(other)), 400),
        (with("programIsManual", json!(false)), 400),
        (with("programStatus", json!("archive")), 400),
        (with("programTitle", json!("x".repeat(101))), 400),
        (with("programExternalId", json!("onboarding-2026")), 400),
        (with("modules", json!([{ "moduleId": guid(5) }])), 400),
        (with("modules", json!([{ "moduleId": guid(5), "moduleTitle": "x".repeat(101) }])), 400),
        (with("modules", json!([module(1, &[]), module(1, &[])])), 400),
        (with("modules", json!([twice_in_module])), 400),
        (with("modules", json!([moved_test])), 400),
        (with("modules", json!([unknown_test])), 404),
        (json!({ "programId": new, "programTitle": "New" }), 400),
        (json!({ "programId": new, "programTitle": "New", "projectId": other, "centerId": other }), 404),
    ] {
        let response = set_program(&bench, &body).await;
        assert_eq!(response.status, Some(status), "{body}: {}", response.text());
    }
    assert_eq!(bench.changes(bench.sandbox.startexam()).await, before);
}
