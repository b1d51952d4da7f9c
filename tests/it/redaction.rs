//! Secrets and personal data are planted, everything is done with them that can be done, and then everything the process
//! wrote, answered and stored is searched.

use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use examgate::sandbox::accounts;
use http::HeaderMap;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::gateway::{
    Answer, Gateway, client, examtesting, faults, key, sandbox, sandbox_connections, startexam, thinkexam,
};
use crate::support::vendor::{Seen, Stub, answer_of, json as json_answer};

/// In every piece of personal data planted here.
const PERSONAL: &str = "pdmark";
/// In every password given by a caller.
const PASSWORD: &str = "PwMark";
/// How such a password begins in Base64.
const PASSWORD_IN_BASE64: &str = "UHdNYXJr";

const STARTEXAM_SECRET: &str = "SeMark+start/exam==";
const THINKEXAM_KEY: &str = "SeMark-think-key";
const THINKEXAM_SECRET: &str = "SeMark \"think\" secret&é";
const EXAMTESTING_KEY: &str = "SeMark-exam-key";
const EXAMTESTING_PASS: &str = "SeMark exam+pass/%=";
/// In every vendor secret of the scripted vendor.
const SECRET: &str = "SeMark";
/// In what the vendors hand out: signatures and sign-in tokens.
const HANDED_OUT: &str = "HoMark";

fn person(connection: &str, number: usize) -> Value {
    json!({
        "connection": connection, "externalId": format!("id-{PERSONAL}-{number}"), "userName": format!("user{PERSONAL}{number}"),
        "password": format!("{PASSWORD} \"{number}\" &é+/"), "email": format!("{PERSONAL}.{number}@example.com"),
        "name": { "givenName": format!("Given{PERSONAL}"), "familyName": format!("Family{PERSONAL}") },
        "phoneNumbers": [{ "type": "mobile", "value": format!("+1 {PERSONAL}") }],
        "address": { "streetAddress": format!("Street {PERSONAL}"), "locality": format!("City {PERSONAL}") },
        "custom": { "extra1": format!("extra {PERSONAL}") }, "birthDate": "1990-01-02", "gender": "F",
    })
}

/// The person as the vendor of this connection takes it.
fn fitting(connection: &str, number: usize) -> Value {
    let mut person = person(connection, number);
    let members = person.as_object_mut().expect("an object");
    if connection == "startexam-main" {
        members.remove("custom");
        members.remove("password");
    }
    if connection == "examtesting-main" {
        members.remove("custom");
    }
    person
}

const CONNECTIONS: [&str; 3] = ["startexam-main", "thinkexam-main", "examtesting-main"];

fn assessment(connection: &str) -> &'static str {
    if connection == "thinkexam-main" { accounts::thinkexam::TESTS[0].0 } else { accounts::startexam::TESTS[0].0 }
}

/// Everything a caller can do with people numbered from `first` on, and what was answered.
async fn everything(gateway: &Gateway, first: usize) -> Vec<Answer> {
    let mut answers = Vec::new();
    for connection in CONNECTIONS {
        let created = gateway
            .request(Method::POST, "/candidates")
            .header("idempotency-key", &format!("{connection}-{first}"))
            .json(&fitting(connection, first))
            .send()
            .await;
        let id = created.text("/id").to_owned();
        let id = if id.is_empty() { created.text("/resource").replace("/candidates/", "") } else { id };
        answers.push(created);
        let mut generated = fitting(connection, first + 1);
        generated.as_object_mut().expect("an object").remove("password");
        answers.push(gateway.post("/candidates", &generated).await);
        if !id.is_empty() {
            answers.push(gateway.get(&format!("/candidates/{id}")).await);
            let patch = json!({ "name": { "familyName": format!("New{PERSONAL}") } });
            answers.push(gateway.patch(&format!("/candidates/{id}"), &patch).await);
            let order = json!({ "connection": connection, "candidate": { "id": id }, "assessment": assessment(connection),
                                "reference": format!("order-{PERSONAL}") });
            let booked = gateway.post("/assignments", &order).await;
            let booking = booked.text("/id").to_owned();
            answers.push(booked);
            answers.push(gateway.get(&format!("/assignments/{booking}")).await);
            answers.push(gateway.delete(&format!("/assignments/{booking}")).await);
        }
        let search = json!({ "connection": connection, "email": format!("{PERSONAL}.{first}@example.com") });
        answers.push(gateway.post("/candidates/search", &search).await);
        let query = format!("/candidates?connection={connection}&externalId=id-{PERSONAL}-{first}");
        answers.push(gateway.get(&query).await);
        let rows = [fitting(connection, first + 2), fitting(connection, first + 3), json!({ "emial": PERSONAL })];
        let bulk = json!({ "connection": connection, "items": rows });
        answers.push(gateway.post("/candidates/bulk", &bulk).await);
        answers.push(gateway.post(&format!("/connections/{connection}/check"), &json!({})).await);
        if !id.is_empty() {
            answers.push(gateway.delete(&format!("/candidates/{id}")).await);
        }
    }
    let employees =
        json!({ "connection": "startexam-main", "scope": "all", "register": [format!("id-{PERSONAL}-{}", first + 1)] });
    answers.push(gateway.post(&format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID), &employees).await);
    for wrong in [json!({ "email": PERSONAL, "password": [PASSWORD] }), json!({ "password": { (PASSWORD): 1 } })] {
        answers.push(gateway.post("/candidates", &wrong).await);
    }
    let malformed = format!("{{\"email\":\"{PERSONAL}@example.com\",\"password\":\"{PASSWORD}\" {PASSWORD}");
    answers.push(gateway.request(Method::POST, "/candidates").body("application/json", malformed).send().await);
    answers.push(gateway.request_as("egk_KeyMark-wrong", Method::GET, "/vendors").send().await);
    answers.push(gateway.anonymous(Method::GET, "/vendors").header("x-api-key", "egk_KeyMark-wrong").send().await);
    answers.push(gateway.get(&format!("/nothing/{PERSONAL}?email={PERSONAL}")).await);
    for path in ["/connections", "/vendors", "/assignments"] {
        answers.push(gateway.get(path).await);
    }
    over_http_2(gateway).await;
    answers
}

/// The same words in the headers and path of HTTP/2, whose library writes logs of its own.
async fn over_http_2(gateway: &Gateway) {
    let stream = TcpStream::connect(gateway.address).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    let driving = tokio::spawn(connection);
    let address = format!("http://{}/candidates?externalId=id-{PERSONAL}-0", gateway.address);
    for (name, value) in [("x-api-key", key("lms")), ("authorization", "Bearer egk_KeyMark-wrong".to_owned())] {
        let request = http::Request::get(&address).header(name, value).body(Empty::<Bytes>::new()).expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        assert!([200, 401, 422].contains(&response.status().as_u16()), "{response:?}");
    }
    driving.abort();
}

/// Fails when the text has one of these words, whatever the case, and says where.
fn assert_absent(what: &str, text: &str, words: &[&str]) {
    let folded = text.to_lowercase();
    for word in words {
        if let Some(at) = folded.find(&word.to_lowercase()) {
            let line = folded[..at].rfind('\n').map_or(0, |start| start + 1);
            let shown: String = folded[line..].lines().next().unwrap_or_default().chars().take(600).collect();
            panic!("{what} shows {word:?}: {shown}");
        }
    }
}

/// Every file below the folder but the key and the configuration.
fn stored(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let data =
        entries.filter(|path| path.is_file() && !path.ends_with("store.key") && !path.ends_with("examgate.toml"));
    data.map(|path| {
        let bytes = std::fs::read(&path).expect("a readable file");
        (path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned())
    })
    .collect()
}

/// Searches everything the process left behind.
async fn search(gateway: Gateway, answers: &[Answer], secrets: &[&str]) {
    for answer in answers.iter().filter(|answer| answer.status >= 400) {
        assert_absent("a problem", &answer.body.to_string(), secrets);
        assert_absent("a problem", &answer.body.to_string(), &[PASSWORD]);
        assert_absent("a header", &format!("{:?}", answer.headers), &[secrets, &[PASSWORD, PERSONAL]].concat());
        let message = answer.text("/vendor/message");
        assert!(message.chars().count() <= 300 && !message.chars().any(char::is_control), "{message:?}");
    }
    for answer in answers {
        assert_absent("an answer", &answer.body.to_string(), &[secrets, &[PASSWORD]].concat());
    }
    let (folder, log) = gateway.end().await;
    let files = stored(folder.path());
    assert!(files.iter().any(|(name, _)| name.ends_with("store.db")), "there is a store to search");
    let generated: Vec<&str> =
        answers.iter().map(|answer| answer.text("/initialPassword")).filter(|text| !text.is_empty()).collect();
    let client_key = key("lms");
    let private = [secrets, &[PASSWORD, PERSONAL, "KeyMark", &client_key, "go.startexam.com"], &generated].concat();
    assert_absent("the log", &log, &private);
    assert!(!log.contains("panicked"), "{log}");
    for (name, text) in &files {
        assert_absent(name, text, &private);
    }
    let check = tokio::process::Command::new(env!("CARGO_BIN_EXE_examgate"))
        .args(["check", "--config"])
        .arg(folder.path().join("examgate.toml"))
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the program runs");
    for (what, bytes) in [("check's answer", check.stdout), ("check's log", check.stderr)] {
        assert_absent(what, &String::from_utf8_lossy(&bytes), &private);
    }
}

const LOUD: [(&str, &str); 1] = [("RUST_LOG", "trace")];

const FIELDS: &str = "profile_fields = { given_name = \"First Name\", family_name = \"Last Name\", email = \"Email\", phone_mobile = \"Mobile\" }\n\
     link_template = \"https://go.startexam.com/{center}#participant/{id}\"";

#[tokio::test]
async fn nothing_leaks_while_everything_works_and_while_answers_get_lost() {
    let sandbox = sandbox().await;
    let connections =
        sandbox_connections(&sandbox, "timeout = \"1s\"\nbreaker = { failures = 1000, cooldown = \"1s\" }");
    let connections = connections.replacen("timeout", &format!("{FIELDS}\ntimeout"), 1);
    let mut gateway = Gateway::start_under(&connections, &client("lms", "", "[\"*\"]"), &LOUD).await;
    let mut answers = everything(&gateway, 0).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    assert!(created >= 7, "{created} of {answers:?}");
    assert!(answers.iter().any(|answer| !answer.text("/initialPassword").is_empty()), "a password was made up");
    let links: Vec<String> =
        answers.iter().map(|answer| answer.text("/launch/url").to_owned()).filter(|url| !url.is_empty()).collect();
    assert!(!links.is_empty(), "a launch link was answered");
    let ports = [sandbox.startexam(), sandbox.thinkexam(), sandbox.examtesting()];
    for (number, fault) in
        ["reset_after_effect", "control_characters", "garbage", "truncated_body"].into_iter().enumerate()
    {
        for port in ports {
            faults(port, json!({ "faults": [{ "name": fault }] })).await;
        }
        answers.extend(everything(&gateway, 10 * (number + 1)).await);
    }
    for port in ports {
        faults(port, json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 3000, "times": 2 }] })).await;
    }
    for connection in CONNECTIONS {
        answers.push(gateway.post("/candidates", &fitting(connection, 90)).await);
    }
    let participants: Vec<&str> = links.iter().filter_map(|link| link.rsplit('/').next()).collect();
    let secrets = [
        accounts::startexam::SECRET,
        accounts::thinkexam::SECRET,
        accounts::thinkexam::API_KEY,
        accounts::examtesting::API_KEY,
        accounts::examtesting::API_PASS,
    ];
    // The links are answered to whoever booked, and stand nowhere else.
    let written = gateway.written();
    assert!(written.contains("TRACE"), "the process said all it can say");
    assert_absent("the log", &written, &[&secrets[..], &participants, &[PASSWORD, PERSONAL, "KeyMark"]].concat());
    for (name, text) in stored(gateway.folder.path()) {
        assert_absent(&name, &text, &participants);
    }
    search(gateway, &answers, &secrets).await;
}

/// The request, headers included, as an unkind vendor would quote it in its error message.
fn echo(seen: &Seen) -> String {
    let headers = |headers: &HeaderMap| {
        headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let body = String::from_utf8_lossy(&seen.body);
    format!("{} {} {}", headers(&seen.headers), seen.uri, body)
}

/// A vendor of all three kinds that refuses everything and quotes a part of the request.
async fn quoting(skip: impl Fn(&str) -> usize + Send + Sync + 'static) -> Stub {
    Stub::start(move |seen| {
        let quoted: String = echo(seen);
        let from = skip(&quoted);
        let quoted: String = quoted.chars().skip(from).collect();
        match seen.uri.path() {
            "/sim/signature" => json_answer(
                200,
                &json!({ "ak": format!("{HANDED_OUT}-ak"), "sgn": format!("{HANDED_OUT}+sgn/=="), "ts": "17" }),
            ),
            "/ManageCandidate.aspx" => answer_of(200, "text/html", format!("status=ERROR&Reason=1004&error={quoted}")),
            path if path.starts_with("/api/v1/") => {
                json_answer(200, &json!({ "result": "error", "error": { "code": "3023", "msg": quoted } }))
            }
            _ => json_answer(400, &json!({ "message": quoted })),
        }
    })
    .await
}

fn planted(url: &str, password_encoding: &str, params_in: &str) -> String {
    let toml = |secret: &str| secret.replace('"', "\\\"");
    startexam(url, "").replace(accounts::startexam::SECRET, STARTEXAM_SECRET)
        + &thinkexam(url, &format!("password_encoding = \"{password_encoding}\""))
            .replace(accounts::thinkexam::API_KEY, THINKEXAM_KEY)
            .replace(accounts::thinkexam::SECRET, &toml(THINKEXAM_SECRET))
        + &examtesting(url, &format!("params_in = \"{params_in}\""))
            .replace(accounts::examtesting::API_KEY, EXAMTESTING_KEY)
            .replace(accounts::examtesting::API_PASS, EXAMTESTING_PASS)
}

#[tokio::test]
async fn vendors_that_quote_the_request_give_nothing_away() {
    for (encoding, params_in, start) in [("plain", "form", 0), ("base64", "query", 1)] {
        // The quotation starts at the head, or just before the first secret or password, so that the cut of a long message
        // cannot be what hides it.
        let stub = quoting(move |text| match (start, text.find(PASSWORD).or_else(|| text.find("password"))) {
            (0, _) | (_, None) => 0,
            (_, Some(at)) => text[..at].chars().count().saturating_sub(5),
        })
        .await;
        let gateway =
            Gateway::start_under(&planted(&stub.url(), encoding, params_in), &client("lms", "", "[\"*\"]"), &LOUD)
                .await;
        let answers = everything(&gateway, 0).await;
        let quoted = answers.iter().filter(|answer| !answer.text("/vendor/message").is_empty()).count();
        assert!(quoted >= 3, "the vendors' words are kept: {answers:?}");
        let masked = answers.iter().filter(|answer| answer.text("/vendor/message").contains("***")).count();
        assert!(masked >= 3, "what was quoted had secrets in it: {answers:?}");
        search(gateway, &answers, &[SECRET, HANDED_OUT, PASSWORD_IN_BASE64]).await;
    }
}
