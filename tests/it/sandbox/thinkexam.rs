use super::*;

fn rows(emails: &[&str]) -> Value {
    emails.iter().map(|email| json!({ "name": "Jo", "email": email, "courseName": "CE104" })).collect()
}

async fn call_with(bench: &Bench, (ak, sgn, ts): (&str, &str, &str)) -> SimulatorResponse {
    let url = format!("http://{}/api/v1/unifiedAuth", bench.sandbox.thinkexam());
    let request = bench.client.post(url).header("ak", ak).header("sgn", sgn).header("ts", ts);
    bench.send(request.json(&json!({ "name": "Jo", "email": "jo@example.com" }))).await
}

async fn issue_signature(bench: &Bench, secret: &str) -> SimulatorResponse {
    let url = format!("http://{}/sim/signature", bench.sandbox.thinkexam());
    bench.send(bench.client.post(url).json(&json!({ "apiKey": accounts::thinkexam::API_KEY, "secret": secret }))).await
}

async fn is_accepted(bench: &Bench, signature: &Value) -> bool {
    let part = |name: &str| signature[name].as_str().expect("text").to_owned();
    call_with(bench, (&part("ak"), &part("sgn"), &part("ts"))).await.json()["result"] == "success"
}

#[tokio::test]
async fn issued_signatures_are_valid_until_they_expire_or_are_used() {
    let bench = Bench::start().await;
    let address = bench.sandbox.thinkexam();
    assert_eq!(issue_signature(&bench, "wrong").await.status, Some(401));
    let signature = issue_signature(&bench, accounts::thinkexam::SECRET).await.json();
    assert!(is_accepted(&bench, &signature).await && is_accepted(&bench, &signature).await);
    let mut other_time = signature.clone();
    other_time["ts"] = json!("1");
    assert!(!is_accepted(&bench, &other_time).await);
    bench.set_switch(address, "signature_one_use", true).await;
    assert!(is_accepted(&bench, &signature).await && !is_accepted(&bench, &signature).await);
    let (first, second) = (
        issue_signature(&bench, accounts::thinkexam::SECRET).await.json(),
        issue_signature(&bench, accounts::thinkexam::SECRET).await.json(),
    );
    assert!(is_accepted(&bench, &first).await && is_accepted(&bench, &second).await);
    let signature = issue_signature(&bench, accounts::thinkexam::SECRET).await.json();
    bench.set_switch(address, "signature_ttl_seconds", 0).await;
    assert!(!is_accepted(&bench, &signature).await);
}

#[tokio::test]
async fn computed_and_static_signatures_are_valid_if_accepted() {
    let bench = Bench::start().await;
    let address = bench.sandbox.thinkexam();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let computed = |ts: u64| {
        let mut mac = Hmac::<Sha256>::new_from_slice(accounts::thinkexam::SECRET.as_bytes()).expect("any key");
        mac.update(format!("{}{ts}", accounts::thinkexam::API_KEY).as_bytes());
        json!({ "ak": accounts::thinkexam::API_KEY, "sgn": data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()), "ts": ts.to_string() })
    };
    let fixed = json!({ "ak": accounts::thinkexam::API_KEY, "sgn": accounts::thinkexam::STATIC_SIGNATURE, "ts": accounts::thinkexam::STATIC_TIMESTAMP });
    assert!(is_accepted(&bench, &computed(now)).await && is_accepted(&bench, &fixed).await);
    assert!(!is_accepted(&bench, &computed(now - 1000)).await);
    bench.set_switch(address, "signature_kinds", "hmac").await;
    assert!(is_accepted(&bench, &computed(now)).await && !is_accepted(&bench, &fixed).await);
    bench.set_switch(address, "clock_offset_seconds", 900).await;
    assert!(!is_accepted(&bench, &computed(now)).await);
    bench.configure(address, json!({ "switches": { "refusal_status": "403", "refusal_code": "9" } })).await;
    let response = call_with(&bench, ("nobody", "x", "y")).await;
    assert_eq!(
        (response.status, response.text()),
        (Some(403), r#"{"result":"error","error":{"code":"9","msg":"Invalid signature"}}"#.to_owned())
    );
}

#[tokio::test]
async fn bulk_registration_responds_in_the_published_format() {
    let bench = Bench::start().await;
    let body = json!([{ "name": "Jo", "email": "Jo@example.com", "enrollment_number": "E-1" }, { "name": "Al", "email": "al@example.com" }]);
    let response = bench.thinkexam("bulkCandidateRegister", &body).await;
    let token = response.json()["responseArray"][0]["laravelToken"].as_str().expect("a token").to_owned();
    let text = response.text();
    let start = format!(
        r#"{{"responseArray":[{{"result":"success","success":{{"msg":"Registration Successfull."}},"data":{{"studentId":85638919,"enrollmentNo":"E-1","profilePic":"https:\/\/sandbox.thinkexam.example\/images\/profile.png"}},"laravelToken":"{token}"}},"#
    );
    assert!(text.starts_with(&start), "{text}");
    assert!(text.ends_with(r#"],"result":"Success"}"#), "{text}");
    assert_eq!(response.json()["responseArray"][1]["data"]["enrollmentNo"], "GW2902");
    assert!(token.ends_with('=') && !token.contains('/'));
    let again = bench
        .thinkexam("unifiedAuth", &json!({ "name": "Jo", "email": "jo@EXAMPLE.com", "courseName": "CE104" }))
        .await
        .json();
    assert_eq!(again["success"]["msg"], "Login Successfull.");
    assert_eq!(again["data"]["studentId"], 85_638_919);
    assert_eq!(
        bench.changes(bench.sandbox.thinkexam()).await,
        ["created jo@example.com", "created al@example.com", "updated jo@example.com"]
    );
}

#[tokio::test]
async fn a_bad_row_fails_as_configured() {
    let bench = Bench::start().await;
    let address = bench.sandbox.thinkexam();
    let mut body = rows(&["a@example.com", "b@example.com", "c@example.com"]);
    body[1]["courseName"] = json!("Alchemy");
    let refusal = r#"{"result":"error","error":{"code":"3084","msg":"courseName not exist."}}"#;
    assert_eq!(bench.thinkexam("bulkCandidateRegister", &body).await.text(), refusal);
    assert!(bench.changes(address).await.is_empty());
    bench.set_switch(address, "bulk_errors", "top_level_after_earlier_rows").await;
    assert_eq!(bench.thinkexam("bulkCandidateRegister", &body).await.text(), refusal);
    assert_eq!(bench.changes(address).await, ["created a@example.com"]);
    bench.set_switch(address, "bulk_errors", "item").await;
    let response = bench.thinkexam("bulkCandidateRegister", &body).await.json();
    assert_eq!(response["responseArray"][1], serde_json::from_str::<Value>(refusal).expect("JSON"));
    assert_eq!(
        bench.changes(address).await,
        ["created a@example.com", "repeated a@example.com", "created c@example.com"]
    );
}

#[tokio::test]
async fn missing_fields_have_the_published_error_codes() {
    let bench = Bench::start().await;
    for (operation, body, code, message) in [
        (
            "bulkCandidateRegister",
            json!([{ "name": "", "email": "a@example.com" }]),
            "3023",
            "name should not be blank",
        ),
        ("unifiedAuth", json!({ "name": "Jo" }), "3023", "email should not be blank"),
        ("assignTest", json!({ "testId": "2415" }), "3095", "email is required."),
        ("deassignTest", json!({ "email": "a@example.com" }), "3095", "testId is required."),
        (
            "assignTestMultiCandidates",
            json!({ "testId": "2415", "email": "a@example.com" }),
            "3095",
            "email is required.",
        ),
        ("assignTest", json!({ "testId": "2415", "email": "nobody@example.com" }), "3084", "email not exist."),
    ] {
        let response = bench.thinkexam(operation, &body).await.json();
        assert_eq!(
            (&response["result"], &response["error"]["code"], &response["error"]["msg"]),
            (&json!("error"), &json!(code), &json!(message)),
            "{operation} {body}"
        );
    }
}

#[tokio::test]
async fn every_email_is_counted() {
    let bench = Bench::start().await;
    let address = bench.sandbox.thinkexam();
    bench.thinkexam("bulkCandidateRegister", &rows(&["a@example.com", "b@example.com"])).await;
    let body = |mail: Value| json!({ "email": "A@example.com", "testId": "2415", "isMailEnable": mail, "isPasswordSkip": "0" });
    let response = bench.thinkexam("assignTest", &body(json!("1"))).await;
    assert_eq!(
        response.text(),
        r#"{"result":"success","success":{"code":"200","msg":"Test is assigned and mail has been sent successfully"}}"#
    );
    bench.thinkexam("assignTest", &body(json!("0"))).await;
    bench.thinkexam("assignTest", &body(json!("1"))).await;
    assert_eq!(bench.thinkexam("assignTest", &body(json!(1))).await.json()["result"], "error");
    let both = json!({ "email": ["a@example.com", "b@example.com"], "testId": "2416", "isMailEnable": "0", "isPasswordSkip": "0" });
    bench.thinkexam("assignTestMultiCandidates", &both).await;
    let withdraw = json!({ "email": "a@example.com", "testId": "2415" });
    let response = bench.thinkexam("deassignTest", &withdraw).await;
    assert_eq!(response.json()["success"]["msg"], "Test successfully deassigned from the candidate");
    assert_eq!(bench.thinkexam("deassignTest", &withdraw).await.json()["result"], "error");
    assert_eq!(
        bench.changes(address).await[2..],
        [
            "created a@example.com/2415",
            "mail_sent a@example.com/2415",
            "repeated a@example.com/2415",
            "repeated a@example.com/2415",
            "mail_sent a@example.com/2415",
            "created a@example.com/2416",
            "created b@example.com/2416",
            "unregistered a@example.com/2415",
        ]
    );
    assert_eq!(
        bench.effects(address, "").await["state"]["mails"],
        json!([{ "email": "a@example.com", "testId": "2415", "count": 2 }])
    );
}

#[tokio::test]
async fn portal_calls_use_their_own_header() {
    let bench = Bench::start().await;
    let portal = async |operation: &str, name: &str, body: Value| {
        let url = format!("http://{}/api/v1/{operation}", bench.sandbox.thinkexam());
        let request = bench.client.post(url).header("Custom-Header", json!({ "name": name }).to_string());
        bench.send(request.json(&body)).await.json()
    };
    let host = accounts::thinkexam::CLIENT_URL;
    let new =
        json!({ "name": "Jo", "email": "jo@example.com", "courseId": "1", "password": BASE64.encode(b"Passw0rd!") });
    assert_eq!(portal("newUser", "elsewhere", new.clone()).await["result"], "error");
    assert_eq!(portal("newUser", host, new).await["result"], "success");
    let login = |password: &[u8]| json!({ "email": "jo@example.com", "password": BASE64.encode(password) });
    assert_eq!(portal("checkLogin", host, login(b"wrong")).await["result"], "no_record");
    let response = portal("checkLogin", host, login(b"Passw0rd!")).await;
    assert_eq!((&response["success"]["code"], &response["data"]["course"]), (&json!(200), &json!("CE104")));
}

#[tokio::test]
async fn a_password_is_changed_by_a_get_with_a_body() {
    let bench = Bench::start().await;
    bench.thinkexam("unifiedAuth", &json!({ "name": "Jo", "email": "jo@example.com", "password": "old" })).await;
    let url = format!("http://{}/api/v1/changeStudentPassword", bench.sandbox.thinkexam());
    let change = json!({ "email": "jo@example.com", "oldPassword": "old", "newPassword": "new" });
    let signed = |request: reqwest::RequestBuilder| {
        let account = (
            accounts::thinkexam::API_KEY,
            accounts::thinkexam::STATIC_SIGNATURE,
            accounts::thinkexam::STATIC_TIMESTAMP,
        );
        request.header("ak", account.0).header("sgn", account.1).header("ts", account.2).json(&change)
    };
    assert_eq!(bench.send(signed(bench.client.post(&url))).await.status, Some(405));
    assert_eq!(
        bench.send(signed(bench.client.get(&url))).await.json()["success"]["msg"],
        "Password change successfull."
    );
    assert_eq!(bench.send(signed(bench.client.get(&url))).await.json()["error"]["code"], "3100");
}

#[tokio::test]
async fn unknown_paths_respond_as_configured() {
    let bench = Bench::start().await;
    let response = bench.thinkexam("nothing", &json!({})).await;
    assert_eq!((response.status, response.content_type.as_str()), (Some(404), "application/json"));
    bench.set_switch(bench.sandbox.thinkexam(), "not_found_page", "html").await;
    assert!(bench.thinkexam("nothing", &json!({})).await.text().starts_with("<!DOCTYPE html>"));
}
