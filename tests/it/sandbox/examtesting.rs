use super::*;

#[tokio::test]
async fn a_student_is_added_once_per_user_name() {
    let bench = Bench::start().await;
    let response = bench.examtesting("add", &student("jo")).await;
    assert_eq!((response.status, response.content_type.as_str()), (Some(200), "text/html; charset=utf-8"));
    assert_eq!(response.text(), "Status=SUCCESS&StudentId=12345");
    assert_eq!(
        bench.examtesting("ADD", &student("JO")).await.text(),
        "status=ERROR&Reason=1007&error=Username already exist"
    );
    assert_eq!(bench.changes(bench.sandbox.examtesting()).await, ["created jo"]);
}

#[tokio::test]
async fn examtesting_validates_in_the_documented_order() {
    let bench = Bench::start().await;
    bench.examtesting("add", &student("jo")).await;
    bench.set_switch(bench.sandbox.examtesting(), "student_limit", 1).await;
    // Every call also has all the later errors.
    let mut form = vec![
        ("Institutionid", "0"),
        ("Apikey", "x"),
        ("stusID", "#"),
        ("groupName", "none"),
        ("Status", "maybe"),
        ("username", "jo"),
    ];
    let mut action = "remove";
    let mut texts = Vec::new();
    for step in 0..9 {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish();
        let url = format!("http://{}/managecandidate.ASPX?action={action}", bench.sandbox.examtesting());
        let request = bench.client.post(url).header("Content-Type", "application/x-www-form-urlencoded").body(body);
        texts.push(bench.send(request).await.text());
        let account =
            (accounts::examtesting::INSTITUTION_ID, accounts::examtesting::API_KEY, accounts::examtesting::API_PASS);
        let fixed: &[(&str, &str)] = match step {
            0 => {
                action = "Add";
                &[]
            }
            1 => &[("Institutionid", account.0)],
            2 => &[("Apikey", account.1), ("APIPASS", account.2)],
            3 => &[("email", "a@example.com"), ("password", "x")],
            4 => &[("stusID", "7")],
            5 => &[("groupName", "Group B")],
            6 => &[("Status", "true")],
            _ => &[("username", "al")],
        };
        form.retain(|(name, _)| fixed.iter().all(|(other, _)| name != other));
        form.extend(fixed);
    }
    let error = |reason: &str, message: &str| format!("status=ERROR&Reason={reason}&error={message}");
    assert_eq!(
        texts,
        [
            error("1001", "Action is invalid"),
            error("1002", "Institution Id is invalid"),
            error("1003", "Invalid Api Credentials"),
            error("Validation error", "email is required, password is required"),
            error("1004", "Student ID is invalid"),
            error("1005", "Group Name is invalid"),
            error("1006", "Status is invalid"),
            error("1007", "Username already exist"),
            error("1008", "Maximum Student count is reached. You cannot add more students"),
        ]
    );
}

#[tokio::test]
async fn parameters_may_be_sent_in_the_query() {
    let bench = Bench::start().await;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("institutionid", accounts::examtesting::INSTITUTION_ID)
        .append_pair("APIKEY", accounts::examtesting::API_KEY)
        .append_pair("apipass", accounts::examtesting::API_PASS)
        .extend_pairs(student("jo"))
        .finish();
    let url = format!("http://{}/ManageCandidate.aspx?action=add&{query}", bench.sandbox.examtesting());
    assert_eq!(bench.send(bench.client.get(url)).await.text(), "Status=SUCCESS&StudentId=12345");
}

#[tokio::test]
async fn the_response_has_the_configured_format() {
    let bench = Bench::start().await;
    let address = bench.sandbox.examtesting();
    for (format, success, conflict) in [
        (
            "kv_empty_error",
            "Status=SUCCESS&StudentId=ID&error=",
            "status=ERROR&Reason=1007&error=Username already exist",
        ),
        ("pipe", "SUCCESS|ID", "ERROR|1007|Username already exist"),
        ("comma", "SUCCESS,ID", "ERROR,1007,Username already exist"),
        ("words", "SUCCESS ID", "ERROR 1007 Username already exist"),
        ("colon", "Status: SUCCESS, StudentId: ID", "status: ERROR, Reason: 1007, error: Username already exist"),
        ("break", "Status:SUCCESS<br/>StudentId:ID", "status:ERROR<br/>Reason:1007<br/>error:Username already exist"),
        (
            "json",
            r#"{"Status":"SUCCESS","StudentId":"ID"}"#,
            r#"{"status":"ERROR","Reason":"1007","error":"Username already exist"}"#,
        ),
        (
            "json_array",
            r#"[{"Status":"SUCCESS","StudentId":ID}]"#,
            r#"[{"status":"ERROR","Reason":"1007","error":"Username already exist"}]"#,
        ),
        (
            "xml",
            "<Response><Status>SUCCESS</Status><StudentId>ID</StudentId></Response>",
            "<Response><status>ERROR</status><Reason>1007</Reason><error>Username already exist</error></Response>",
        ),
    ] {
        bench.set_switch(address, "response_format", format).await;
        let response = bench.examtesting("add", &student(format)).await.text();
        let state = bench.effects(address, "?calls=false").await["state"]["students"].clone();
        let id = state
            .as_array()
            .and_then(|all| all.last())
            .map(|last| last["studentId"].as_str().expect("an id").to_owned());
        assert_eq!(response, success.replace("ID", &id.expect("a student")), "{format}");
        assert_eq!(bench.examtesting("add", &student(format)).await.text(), conflict, "{format}");
    }
}

#[tokio::test]
async fn update_finds_the_student_and_needs_no_password() {
    let bench = Bench::start().await;
    let mut first = student("jo");
    first.push(("stusID", "own-1"));
    bench.examtesting("add", &first).await;
    for id in ["12345", "own-1"] {
        let change = [
            ("stusID", id),
            ("groupName", "Evening Class"),
            ("email", "jo@example.com"),
            ("username", "jo"),
            ("Status", "False"),
        ];
        assert_eq!(bench.examtesting("update", &change).await.text(), "Status=SUCCESS&StudentId=12345");
    }
    let unknown = [("stusID", "99"), ("groupName", "Group A"), ("email", "x@example.com"), ("username", "x")];
    assert!(bench.examtesting("update", &unknown).await.text().contains("1004"));
    let renamed = [("stusID", "12345"), ("groupName", "Group A"), ("email", "jo@example.com"), ("username", "joanna")];
    assert!(bench.examtesting("update", &renamed).await.text().contains("SUCCESS"));
    assert!(bench.examtesting("add", &student("Joanna")).await.text().contains("1007"));
    assert!(bench.examtesting("add", &student("jo")).await.text().contains("SUCCESS"), "the old name is free");
    let changes = bench.changes(bench.sandbox.examtesting()).await;
    assert_eq!(changes, ["created jo", "updated jo", "repeated jo", "updated joanna", "created jo"]);
}

#[tokio::test]
async fn markup_in_a_value_is_rejected_by_the_framework() {
    let bench = Bench::start().await;
    let mut parameters = student("jo");
    parameters.push(("firstname", "<b>"));
    let response = bench.examtesting("add", &parameters).await;
    assert_eq!(response.status, Some(500));
    assert!(response.text().contains("potentially dangerous"));
    assert!(bench.changes(bench.sandbox.examtesting()).await.is_empty());
}

#[tokio::test]
async fn unknown_paths_get_the_web_servers_error_page() {
    let bench = Bench::start().await;
    let response = bench.send(bench.client.get(format!("http://{}/Other.aspx", bench.sandbox.examtesting()))).await;
    assert_eq!(response.status, Some(404));
    assert!(response.text().contains("404 - File or directory not found."));
}

#[tokio::test]
async fn an_id_may_look_like_an_error_code_but_is_assigned_only_once() {
    let bench = Bench::start().await;
    let address = bench.sandbox.examtesting();
    bench.set_switch(address, "next_student_id", 1005).await;
    bench.set_switch(address, "response_format", "pipe").await;
    assert_eq!(bench.examtesting("add", &student("a")).await.text(), "SUCCESS|1005");
    let second = bench.examtesting("add", &student("b")).await.text();
    bench.set_switch(address, "next_student_id", 12_346).await;
    let third = bench.examtesting("add", &student("c")).await.text();
    bench.set_switch(address, "next_student_id", Value::Null).await;
    let fourth = bench.examtesting("add", &student("d")).await.text();
    assert_eq!([second, third, fourth], ["SUCCESS|12345", "SUCCESS|12346", "SUCCESS|12347"]);
}
