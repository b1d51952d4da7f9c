//! Redaction: secrets and personal data are sent through every function, and then everything the process logged,
//! returned and stored is searched: the log at its most verbose, spans at a collector, metrics, exchanges, files.
//!
//! Each of these, introduced on purpose, fails a test here: a body or the headers of a vendor call in the log; a path
//! as a span attribute or as the route of the access log and the metrics; libraries logging below `info`; exchanges
//! that are not redacted of quoted data, of data behind escapes, or of the headers a request was signed with.

use std::path::Path;
use std::process::Stdio;

use axum::response::Response;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use examgate::sandbox::accounts;
use http::HeaderMap;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::net::TcpStream;

use crate::support::collector::Collector;
use crate::support::connections::{client, examtesting, sandbox_connections, startexam, thinkexam};
use crate::support::gateway::{ApiResponse, Gateway, http, key, sandbox, set_faults};
use crate::support::postgres::Server;
use crate::support::vendor::{SeenRequest, Stub, build_response, json_response};

/// Contained in every piece of personal data sent here.
const PERSONAL: &str = "pdmark";
/// The digits of every telephone number sent here, and how they are spaced.
const DIGITS: &str = "5550174711";
const PHONE: &str = "555-017-4711";
/// Contained in every password given by a caller.
const PASSWORD: &str = "PwMark";
/// How such a password begins in Base64.
const PASSWORD_IN_BASE64: &str = "UHdNYXJr";

const STARTEXAM_SECRET: &str = "SeMark+start/exam==";
const THINKEXAM_KEY: &str = "SeMark-think-key";
const THINKEXAM_SECRET: &str = "SeMark \"think\" secret&é";
const EXAMTESTING_KEY: &str = "SeMark-exam-key";
const EXAMTESTING_PASS: &str = "SeMark exam+pass/%=";
/// Contained in every secret of the scripted vendor.
const SECRET: &str = "SeMark";
/// Contained in what the vendors issue: signatures and sign-in tokens.
const ISSUED: &str = "HoMark";

fn person(connection: &str, number: usize) -> Value {
    json!({
        "connection": connection, "externalId": format!("id-{PERSONAL}-{number}"), "userName": format!("user{PERSONAL}{number}"),
        "password": format!("{PASSWORD} \"{number}\" &é+/"), "email": format!("{PERSONAL}.{number}@example.com"),
        "name": { "givenName": format!("Given{PERSONAL}"), "familyName": format!("Family{PERSONAL}") },
        "phoneNumbers": [{ "type": "mobile", "value": format!("+1 {PHONE}") }, { "type": "work", "value": format!("+1 {PERSONAL}") }],
        "address": { "streetAddress": format!("Street {PERSONAL}"), "locality": format!("City {PERSONAL}") },
        "custom": { "extra1": format!("extra {PERSONAL}") }, "birthDate": "1990-01-02", "gender": "F",
    })
}

/// Returns the person with the fields the vendor of this connection accepts.
fn person_for_vendor(connection: &str, number: usize) -> Value {
    let mut person = person(connection, number);
    let fields = person.as_object_mut().expect("an object");
    if connection == "startexam-main" {
        fields.remove("custom");
        fields.remove("password");
    }
    if connection == "examtesting-main" {
        fields.remove("custom");
    }
    person
}

const CONNECTIONS: [&str; 3] = ["startexam-main", "thinkexam-main", "examtesting-main"];

fn assessment(connection: &str) -> &'static str {
    if connection == "thinkexam-main" { accounts::thinkexam::TESTS[0].0 } else { accounts::startexam::TESTS[0].0 }
}

/// Does everything a caller can do with people numbered from `first` on; returns the responses.
async fn send_everything(gateway: &Gateway, first: usize) -> Vec<ApiResponse> {
    let mut responses = Vec::new();
    for connection in CONNECTIONS {
        let created = gateway
            .request(Method::POST, "/candidates")
            .header("idempotency-key", &format!("{connection}-{first}"))
            .json(&person_for_vendor(connection, first))
            .send()
            .await;
        let id = created.text("/id").to_owned();
        let id = if id.is_empty() { created.text("/resource").replace("/candidates/", "") } else { id };
        responses.push(created);
        let mut generated = person_for_vendor(connection, first + 1);
        generated.as_object_mut().expect("an object").remove("password");
        responses.push(gateway.post("/candidates", &generated).await);
        if !id.is_empty() {
            responses.push(gateway.get(&format!("/candidates/{id}")).await);
            let patch = json!({ "name": { "familyName": format!("New{PERSONAL}") } });
            responses.push(gateway.patch(&format!("/candidates/{id}"), &patch).await);
            let order = json!({ "connection": connection, "candidate": { "id": id }, "assessment": assessment(connection),
                                "reference": format!("order-{PERSONAL}") });
            let booked = gateway.post("/assignments", &order).await;
            let booking = booked.text("/id").to_owned();
            responses.push(booked);
            responses.push(gateway.get(&format!("/assignments/{booking}")).await);
            responses.push(gateway.delete(&format!("/assignments/{booking}")).await);
        }
        let search = json!({ "connection": connection, "email": format!("{PERSONAL}.{first}@example.com") });
        responses.push(gateway.post("/candidates/search", &search).await);
        let query = format!("/candidates?connection={connection}&externalId=id-{PERSONAL}-{first}");
        responses.push(gateway.get(&query).await);
        let rows = [
            person_for_vendor(connection, first + 2),
            person_for_vendor(connection, first + 3),
            json!({ "emial": PERSONAL }),
        ];
        let bulk = json!({ "connection": connection, "items": rows });
        responses.push(gateway.post("/candidates/bulk", &bulk).await);
        responses.push(gateway.post(&format!("/connections/{connection}/check"), &json!({})).await);
        if !id.is_empty() {
            responses.push(gateway.delete(&format!("/candidates/{id}")).await);
        }
    }
    let employees =
        json!({ "connection": "startexam-main", "scope": "all", "register": [format!("id-{PERSONAL}-{}", first + 1)] });
    responses.push(gateway.post(&format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID), &employees).await);
    for wrong in [json!({ "email": PERSONAL, "password": [PASSWORD] }), json!({ "password": { (PASSWORD): 1 } })] {
        responses.push(gateway.post("/candidates", &wrong).await);
    }
    let malformed = format!("{{\"email\":\"{PERSONAL}@example.com\",\"password\":\"{PASSWORD}\" {PASSWORD}");
    responses.push(gateway.request(Method::POST, "/candidates").body("application/json", malformed).send().await);
    responses.push(gateway.request_as("egk_KeyMark-wrong", Method::GET, "/vendors").send().await);
    responses.push(gateway.anonymous(Method::GET, "/vendors").header("x-api-key", "egk_KeyMark-wrong").send().await);
    responses.push(gateway.get(&format!("/nothing/{PERSONAL}?email={PERSONAL}")).await);
    for path in ["/connections", "/vendors", "/assignments"] {
        responses.push(gateway.get(path).await);
    }
    send_over_http_2(gateway).await;
    responses
}

/// Sends the same words in the headers and path of HTTP/2, whose library has its own log messages.
async fn send_over_http_2(gateway: &Gateway) {
    let stream = TcpStream::connect(gateway.address).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    let driving = tokio::spawn(connection);
    let address = format!("http://{}/candidates?externalId=id-{PERSONAL}-0", gateway.address);
    for (name, value) in [("x-api-key", key("lms")), ("authorization", "Bearer egk_KeyMark-wrong".to_owned())] {
        let request = http::Request::get(&address).header(name, value).body(Empty::<Bytes>::new()).expect("a request");
        let response = sender.send_request(request).await.expect("a response");
        assert!([200, 401, 422].contains(&response.status().as_u16()), "{response:?}");
    }
    driving.abort();
}

/// Fails if the text contains one of these words in any case, and says where.
pub fn assert_absent(what: &str, text: &str, words: &[&str]) {
    let folded = text.to_lowercase();
    for word in words {
        if let Some(at) = folded.find(&word.to_lowercase()) {
            let line = folded[..at].rfind('\n').map_or(0, |start| start + 1);
            let shown: String = folded[line..].lines().next().unwrap_or_default().chars().take(600).collect();
            panic!("{what} shows {word:?}: {shown}");
        }
    }
}

/// Returns every file in the folder except the key and the configuration.
pub fn store_files(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let data =
        entries.filter(|path| path.is_file() && !path.ends_with("store.key") && !path.ends_with("examgate.toml"));
    data.map(|path| {
        let bytes = std::fs::read(&path).expect("a readable file");
        (path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned())
    })
    .collect()
}

/// Starts a gateway with the most verbose log and traces.
pub async fn start_verbose(connections: &str) -> (Gateway, Collector) {
    let collector = Collector::start().await;
    let endpoint = collector.0.url();
    let environment = [
        ("RUST_LOG", "trace"),
        ("EXAMGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
    ];
    (Gateway::start_with_env(connections, &client("lms", "", "[\"*\"]"), &environment).await, collector)
}

/// Returns everything operators can see at run time: metrics, exchanges and the audit record.
pub async fn operator_views(gateway: &mut Gateway) -> Vec<(&'static str, String)> {
    let admin = gateway.admin_address().await;
    let metrics = http().get(format!("http://{admin}/metrics")).send().await.expect("a response");
    let mut shown = vec![("/metrics", metrics.text().await.expect("text"))];
    let (mut path, mut calls) = ("/exchanges?limit=200".to_owned(), 0);
    loop {
        let list = gateway.get(&path).await;
        assert_eq!(list.status, 200, "{list:?}");
        for item in list.body["items"].as_array().expect("a list") {
            let one = gateway.get(&format!("/exchanges/{}", item["id"].as_str().expect("an id"))).await;
            calls += one.body["calls"].as_array().map_or(0, Vec::len);
            shown.push(("an exchange", one.body.to_string()));
        }
        shown.push(("the list of exchanges", list.body.to_string()));
        let Some(cursor) = list.body["nextCursor"].as_str() else { break };
        path = format!("/exchanges?limit=200&cursor={cursor}");
    }
    assert!(calls >= 10, "there is something to look at: {calls}");
    let audit = gateway.request(Method::GET, "/audit").header("accept", "application/x-ndjson").send().await;
    let lines = audit.body.as_str().expect("lines");
    assert!(lines.lines().count() >= 10, "there is something to look at: {lines}");
    shown.push(("the audit record", lines.to_owned()));
    shown
}

/// Returns the text with its escapes decoded.
pub fn decode_all(text: &str) -> String {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    let decoded = String::from_utf8_lossy(&bytes).into_owned();
    let escapes = regex::Regex::new(r"&#(\d+);|\\+u([0-9a-f]{4})").expect("an expression");
    let decoded = escapes.replace_all(&decoded, |found: &regex::Captures<'_>| {
        let of = |group: usize, base| found.get(group).and_then(|code| u32::from_str_radix(code.as_str(), base).ok());
        of(1, 10).or_else(|| of(2, 16)).and_then(char::from_u32).map(String::from).unwrap_or_default()
    });
    let tokens = regex::Regex::new("[A-Za-z0-9+/]{8,}").expect("an expression");
    let hidden = tokens.find_iter(text).filter_map(|token| {
        let whole = &token.as_str()[..token.len() / 4 * 4];
        data_encoding::BASE64_NOPAD.decode(whole.as_bytes()).ok()
    });
    let hidden: Vec<String> = hidden.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
    format!("{text}\n{decoded}\n{}", hidden.join("\n"))
}

/// Searches the responses.
fn search_responses(responses: &[ApiResponse], secrets: &[&str]) {
    for response in responses.iter().filter(|response| response.status >= 400) {
        assert_absent("a problem", &response.body.to_string(), secrets);
        assert_absent("a problem", &response.body.to_string(), &[PASSWORD]);
        assert_absent("a header", &format!("{:?}", response.headers), &[secrets, &[PASSWORD, PERSONAL]].concat());
        let message = response.text("/vendor/message");
        assert!(message.chars().count() <= 300 && !message.chars().any(char::is_control), "{message:?}");
    }
    for response in responses {
        assert_absent("a response", &response.body.to_string(), &[secrets, &[PASSWORD]].concat());
    }
}

/// Searches everything the process shows operators and leaves behind.
async fn search((mut gateway, collector): (Gateway, Collector), responses: &[ApiResponse], secrets: &[&str]) {
    let shown = operator_views(&mut gateway).await;
    let (folder, log) = gateway.finish().await;
    let files = store_files(folder.path());
    assert!(files.iter().any(|(name, _)| name.ends_with("store.db")), "there is a store to search");
    let generated: Vec<&str> =
        responses.iter().map(|response| response.text("/initialPassword")).filter(|text| !text.is_empty()).collect();
    let client_key = key("lms");
    let known = [PASSWORD, PERSONAL, PHONE, DIGITS, "KeyMark", &client_key, "go.startexam.com"];
    let private = [secrets, &known, &generated].concat();
    for (what, text) in &shown {
        assert_absent(what, &decode_all(text), &private);
    }
    assert!(collector.spans().len() > 20, "there are spans to search");
    for sent in collector.0.seen() {
        assert_absent("a trace", &String::from_utf8_lossy(&sent.body), &private);
        assert_absent("a trace's headers", &format!("{:?}", sent.headers), &private);
    }
    for line in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let own = line["target"].as_str().is_some_and(|target| target.split("::").next() == Some("examgate"));
        assert!(own || !["TRACE", "DEBUG"].contains(&line["level"].as_str().unwrap_or("TRACE")), "a library: {line}");
    }
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
    for (what, bytes) in [("check's output", check.stdout), ("check's log", check.stderr)] {
        assert_absent(what, &String::from_utf8_lossy(&bytes), &private);
    }
}

const FIELDS: &str = "profile_fields = { given_name = \"First Name\", family_name = \"Last Name\", email = \"Email\", phone_mobile = \"Mobile\" }\n\
     link_template = \"https://go.startexam.com/{center}#participant/{id}\"";

#[tokio::test]
async fn nothing_leaks_while_everything_works_or_responses_get_lost() {
    let sandbox = sandbox().await;
    let connections =
        sandbox_connections(&sandbox, "timeout = \"3s\"\nbreaker = { failures = 1000, cooldown = \"1s\" }");
    let connections = connections.replacen("timeout", &format!("{FIELDS}\ntimeout"), 1);
    let (mut gateway, collector) = start_verbose(&connections).await;
    let mut responses = send_everything(&gateway, 0).await;
    let created = responses.iter().filter(|response| response.status == 201).count();
    assert!(created >= 7, "{created} of {responses:?}");
    assert!(responses.iter().any(|response| !response.text("/initialPassword").is_empty()), "a password was generated");
    let links: Vec<String> = responses
        .iter()
        .map(|response| response.text("/launch/url").to_owned())
        .filter(|url| !url.is_empty())
        .collect();
    assert!(!links.is_empty(), "a launch link was returned");
    let ports = [sandbox.startexam(), sandbox.thinkexam(), sandbox.examtesting()];
    for (number, fault) in
        ["reset_after_effect", "control_characters", "garbage", "truncated_body"].into_iter().enumerate()
    {
        for port in ports {
            set_faults(port, json!({ "faults": [{ "name": fault }] })).await;
        }
        responses.extend(send_everything(&gateway, 10 * (number + 1)).await);
    }
    for port in ports {
        set_faults(port, json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 8_000, "times": 2 }] })).await;
    }
    for connection in CONNECTIONS {
        responses.push(gateway.post("/candidates", &person_for_vendor(connection, 90)).await);
    }
    let participants: Vec<&str> = links.iter().filter_map(|link| link.rsplit('/').next()).collect();
    let secrets = [
        accounts::startexam::SECRET,
        accounts::thinkexam::SECRET,
        accounts::thinkexam::API_KEY,
        accounts::examtesting::API_KEY,
        accounts::examtesting::API_PASS,
    ];
    // The links are returned to the caller that booked, and are nowhere else.
    let log = gateway.take_log();
    assert!(log.contains("DEBUG"), "the log is verbose");
    assert_absent("the log", &log, &[&secrets[..], &participants, &[PASSWORD, PERSONAL, "KeyMark"]].concat());
    for (name, text) in store_files(gateway.folder.path()) {
        assert_absent(&name, &text, &participants);
    }
    search_responses(&responses, &secrets);
    let secrets = [&secrets[..], &participants].concat();
    search((gateway, collector), &responses, &secrets).await;
}

/// Returns the request, headers included, as a careless vendor would quote it in its error message.
fn echo(seen: &SeenRequest) -> String {
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

/// Starts a vendor of all three kinds that rejects everything and quotes a part of the request.
async fn start_quoting_stub(skip: impl Fn(&str) -> usize + Send + Sync + 'static) -> Stub {
    Stub::start(move |seen| {
        let quoted: String = echo(seen);
        let from = skip(&quoted);
        let quoted: String = quoted.chars().skip(from).collect();
        match seen.uri.path() {
            "/sim/signature" => json_response(
                200,
                &json!({ "ak": format!("{ISSUED}-ak"), "sgn": format!("{ISSUED}+sgn/=="), "ts": "17" }),
            ),
            "/ManageCandidate.aspx" => {
                build_response(200, "text/html", format!("status=ERROR&Reason=1004&error={quoted}"))
            }
            path if path.starts_with("/api/v1/") => {
                json_response(200, &json!({ "result": "error", "error": { "code": "3023", "msg": quoted } }))
            }
            _ => json_response(400, &json!({ "message": quoted })),
        }
    })
    .await
}

fn connections_with_secrets(url: &str, password_encoding: &str, params_in: &str) -> String {
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
async fn vendors_that_quote_the_request_reveal_nothing() {
    for (encoding, params_in, start) in [("plain", "form", 0), ("base64", "query", 1)] {
        // The quote starts at the head, or just before the first secret or password, so that truncation cannot be what
        // hides it.
        let stub =
            start_quoting_stub(move |text| match (start, text.find(PASSWORD).or_else(|| text.find("password"))) {
                (0, _) | (_, None) => 0,
                (_, Some(at)) => text[..at].chars().count().saturating_sub(5),
            })
            .await;
        let (gateway, collector) = start_verbose(&connections_with_secrets(&stub.url(), encoding, params_in)).await;
        let responses = send_everything(&gateway, 0).await;
        let quoted = responses.iter().filter(|response| !response.text("/vendor/message").is_empty()).count();
        assert!(quoted >= 3, "the vendors' messages are kept: {responses:?}");
        let masked = responses.iter().filter(|response| response.text("/vendor/message").contains("***")).count();
        assert!(masked >= 3, "what was quoted had secrets in it: {responses:?}");
        let secrets = [SECRET, ISSUED, PASSWORD_IN_BASE64];
        search_responses(&responses, &secrets);
        search((gateway, collector), &responses, &secrets).await;
    }
}

#[tokio::test]
async fn a_short_password_is_not_revealed_by_the_masking_around_it() {
    let stub = start_quoting_stub(|text| text.find("password").map_or(0, |at| text[..at].chars().count())).await;
    let url = stub.url();
    let gateway = Gateway::start(&(thinkexam(&url, "") + &examtesting(&url, ""))).await;
    for (connection, password) in
        [("thinkexam-main", "Q7"), ("examtesting-main", "Q7"), ("thinkexam-main", "Q"), ("thinkexam-main", "€Q7")]
    {
        let id = format!("p{}", password.len());
        let mut person = json!({
            "connection": connection, "externalId": id, "email": format!("{id}@example.com"), "password": password,
        });
        person["name"] = json!({ "givenName": "Ada", "familyName": "King" });
        let response = gateway.post("/candidates", &person).await;
        assert_eq!(response.text("/vendor/message"), "***", "{connection} {password}: {response:?}");
        assert!(!response.body.to_string().contains(password), "{connection} {password}: {response:?}");
    }
}

/// How a vendor may encode what it quotes.
const ENCODINGS: [fn(&str) -> String; 6] = [
    |text| text.to_uppercase(),
    |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string(),
    |text| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat(),
    |text| text.chars().map(|c| format!("&#{};", u32::from(c))).collect::<Vec<_>>().concat(),
    |text| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat(),
    |text| data_encoding::BASE64.encode(text.as_bytes()),
];

/// Returns the part of a request that is about a person, whichever way it is sent.
fn quote_personal_part(seen: &SeenRequest) -> String {
    let text = format!("{} {}", seen.uri.query().unwrap_or_default(), String::from_utf8_lossy(&seen.body));
    let plain: Vec<u8> = percent_encoding::percent_decode_str(&text).collect();
    let plain = String::from_utf8_lossy(&plain).into_owned();
    let from = plain.find(PERSONAL).map_or(0, |at| plain[..at].rfind(['"', '=', ' ']).unwrap_or(0));
    plain[from..].chars().take(60).collect()
}

/// The formats in which a vendor may quote.
const FORMATS: [fn(&str) -> Response; 4] = [
    |quoted| build_response(500, "text/html", format!("<html><title>{quoted}</title><body>{quoted}</body></html>")),
    |quoted| build_response(400, "text/plain", format!("ERROR|1004|{quoted}")),
    |quoted| json_response(400, &json!({ "message": [quoted], "errors": { (quoted): [quoted] } })),
    |quoted| {
        json_response(
            200,
            &json!({ "status": "ERROR", "result": "error", "message": quoted,
                                       "error": { "code": quoted, "msg": quoted } }),
        )
    },
];

#[tokio::test]
async fn operators_see_no_personal_data_however_a_vendor_encodes_it() {
    let stub = Stub::start(|_| build_response(500, "text/plain", "")).await;
    let patient = "requests_per_second = 0\nbreaker = { failures = 100000, cooldown = \"1s\" }";
    let connections =
        connections_with_secrets(&stub.url(), "plain", "form").replace("requests_per_second = 0", patient);
    let (gateway, collector) = start_verbose(&connections).await;
    let (mut responses, mut number) = (Vec::new(), 0);
    for encoding in ENCODINGS {
        for format in FORMATS {
            stub.respond_with(move |seen| match seen.uri.path() {
                "/sim/signature" => json_response(200, &json!({ "ak": ISSUED, "sgn": ISSUED, "ts": "17" })),
                _ => format(&encoding(&quote_personal_part(seen))),
            });
            for connection in CONNECTIONS {
                number += 1;
                let before = stub.seen().len();
                let response = gateway.post("/candidates", &person_for_vendor(connection, number)).await;
                assert!(stub.seen().len() > before, "the vendor was called: {response:?}");
                responses.push(response);
            }
        }
    }
    search((gateway, collector), &responses, &[SECRET, ISSUED, PASSWORD_IN_BASE64]).await;
}

/// Returns every row of every table, as a thief of the database reads it.
async fn dump_database(url: &str) -> String {
    let mut connection = PgConnection::connect(url).await.expect("the database");
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = current_schema()",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the tables");
    let mut all = String::new();
    for table in tables {
        let query = AssertSqlSafe(format!("select row_to_json(t)::text from \"{table}\" t"));
        let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut connection).await.expect("the rows");
        all.extend(rows.iter().map(|row| format!("{table} {row}\n")));
    }
    all
}

#[tokio::test]
async fn a_stolen_postgresql_database_reveals_no_personal_data() {
    let sandbox = sandbox().await;
    let schema = Server::shared().schema().await;
    let gateway = Gateway::replica(&schema, &sandbox_connections(&sandbox, "")).await;
    let responses = send_everything(&gateway, 0).await;
    let created: Vec<&str> =
        responses.iter().filter(|response| response.status == 201).map(|response| response.text("/id")).collect();
    assert!(created.len() >= 5, "{responses:?}");
    let generated: Vec<&str> =
        responses.iter().map(|response| response.text("/initialPassword")).filter(|text| !text.is_empty()).collect();
    assert!(!generated.is_empty(), "a password was generated");
    let rows = dump_database(&schema).await;
    assert!(created.iter().any(|id| rows.contains(id)), "there is something to search: {rows}");
    let client_key = key("lms");
    let secrets = [accounts::startexam::SECRET, accounts::thinkexam::SECRET, accounts::examtesting::API_PASS];
    let known = [PASSWORD, PERSONAL, PHONE, DIGITS, &client_key, "Family", "@example.com"];
    for private in [known.as_slice(), &secrets, &generated].concat() {
        // A binary column is returned in hexadecimal digits.
        for form in [private.to_owned(), HEXLOWER.encode(private.as_bytes())] {
            assert!(!rows.contains(&form), "the database reveals {private}");
        }
    }
}

#[tokio::test]
async fn core_dumps_are_disabled_and_no_argument_contains_a_secret() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let about = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", gateway.id())).expect("a proc file");
    let limits = about("limits");
    let core: Vec<&str> = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .expect("a line")
        .split_whitespace()
        .collect();
    assert!(core[4..6].iter().all(|most| matches!(*most, "0" | "1")), "{core:?}");
    let arguments = about("cmdline");
    for secret in [accounts::startexam::SECRET, accounts::thinkexam::SECRET, accounts::examtesting::API_PASS] {
        assert!(!arguments.contains(secret), "{arguments:?}");
    }
}
