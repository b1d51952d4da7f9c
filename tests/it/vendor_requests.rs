//! What each vendor receives, compared with its published requests; signatures are computed independently here.

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use sha2::Sha256;

use examgate::sandbox::accounts;

use crate::support::connections::{examtesting, startexam, thinkexam};
use crate::support::gateway::Gateway;
use crate::support::vendor::{SeenRequest, Stub, build_response, json_response};

const EMPLOYEES: &str = include_str!("../fixtures/startexam/employees.json");
const PARTICIPANTS: &str = include_str!("../fixtures/startexam/employees_participants.json");
const PROGRAM: &str = include_str!("../fixtures/startexam/program_employees.json");
const REGISTER: &str = include_str!("../fixtures/thinkexam/register_request.json");
const REGISTERED: &str = include_str!("../fixtures/thinkexam/register_success.json");
const ASSIGN: &str = include_str!("../fixtures/thinkexam/assign_request.json");
const ASSIGNED: &str = include_str!("../fixtures/thinkexam/assign_success.json");
const DEASSIGN: &str = include_str!("../fixtures/thinkexam/deassign_request.json");
const DEASSIGNED: &str = include_str!("../fixtures/thinkexam/deassign_success.json");

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).expect("a fixture")
}

fn hmac(key: &str, message: &str) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.as_bytes()).expect("any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    assert_eq!(headers.get_all(name).iter().count(), 1, "{name} in {headers:?}");
    headers[name].to_str().expect("visible text")
}

/// Checks what every call must have, whatever the vendor.
fn assert_sound(seen: &SeenRequest, path: &str) {
    assert_eq!((&seen.method, seen.uri.path()), (&Method::POST, path));
    assert_eq!(text(&seen.headers, "content-length"), seen.body.len().to_string());
    for absent in ["cookie", "x-api-key", "x-request-id", "idempotency-key", "proxy-authorization"] {
        assert!(!seen.headers.contains_key(absent), "{absent} reached the vendor");
    }
}

/// Checks the signature. The string to sign is the verb, the path, the `Date` and the length of the body as received
/// (<https://api.startexam.com/Help/Authorization>).
fn assert_signed(seen: &SeenRequest, path: &str) {
    assert_sound(seen, path);
    assert_eq!(seen.uri.query(), None);
    assert!(text(&seen.headers, "content-type").starts_with("application/json"));
    let date = text(&seen.headers, "date");
    assert!(date.ends_with(" GMT") && httpdate::parse_http_date(date).is_ok(), "{date}");
    let signature = hmac(accounts::startexam::SECRET, &format!("POST {path} {date} {}", seen.body.len()));
    let expected = format!("SharedKey {}:{}", accounts::startexam::ACCOUNT_ID, BASE64.encode(&signature));
    assert_eq!(text(&seen.headers, "authorization"), expected);
}

#[tokio::test]
async fn startexam_receives_its_published_requests() {
    let [employees, participants, program] = [EMPLOYEES, PARTICIPANTS, PROGRAM].map(fixture);
    let responses = [participants["response"].clone(), program["response"].clone()];
    let stub = Stub::start(move |seen| match seen.uri.path() {
        "/v2/employees-participants" => json_response(200, &responses[0]),
        "/v1/program/employees" => json_response(200, &responses[1]),
        _ => json_response(200, &json!({})),
    })
    .await;
    let more = "profile_fields = { given_name = \"First Name\", family_name = \"Last Name\", email = \"Email\" }";
    let gateway = Gateway::start(&startexam(&stub.url(), more)).await;
    let john = json!({ "externalId": "830507", "name": { "givenName": "John", "familyName": "Snow" },
                       "email": "john.snow@example.com" });
    let response = gateway.post("/candidates", &john).await;
    assert_eq!(response.status, 201, "{response:?}");
    assert_eq!(response.body["vendorRef"]["id"], "830507");

    // The published window is over; a later one replaces it.
    let (from, until) = ("2044-05-03T00:00:00Z", "2044-06-03T00:00:00Z");
    let mut booked = participants["request"].clone();
    (booked["validFrom"], booked["validTill"]) = (json!(from), json!(until));
    let order = |id: &str| {
        json!({ "candidate": { "externalId": id }, "assessment": booked["tests"][0],
                "validFrom": from, "validUntil": until, "ifExists": "create_new",
                "proctoring": { "enabled": true, "parameters": { "AuxiliaryCamera": "true", "Type": "Offline" } } })
    };
    let response = gateway.post("/assignments/bulk", &json!({ "items": [order("830507"), order("830508")] })).await;
    assert_eq!((response.status, &response.body["summary"]["applied"]), (207, &json!(2)), "{response:?}");
    for (result, id) in response.body["results"].as_array().unwrap().iter().zip(0..) {
        assert_eq!(result["resource"]["vendorRef"]["id"], participants["response"]["participantIds"][id], "{result}");
    }

    let wanted = &program["request"];
    let path = format!("/programs/{}/employees", wanted["programId"].as_str().unwrap());
    let body = json!({ "scope": "selected", "assessments": wanted["moduleTests"],
                       "register": wanted["registerEmployees"], "unregister": [] });
    let response = gateway.post(&path, &body).await;
    assert_eq!((response.status, &response.body["attemptsRegistered"]), (200, &json!(16)), "{response:?}");
    let response = gateway.post("/programs/ext:our-own-id/employees", &body).await;
    assert_eq!(response.status, 200, "{response:?}");

    let mut external = wanted.clone();
    external["programId"] = Value::Null;
    external["programExternalId"] = json!("our-own-id");
    let expected = [
        ("/v1/employees", &employees["request"]),
        ("/v2/employees-participants", &booked),
        ("/v1/program/employees", wanted),
        ("/v1/program/employees", &external),
    ];
    let seen = stub.seen();
    assert_eq!(seen.len(), expected.len(), "{seen:?}");
    for (seen, (path, body)) in seen.iter().zip(expected) {
        assert_signed(seen, path);
        assert_eq!(&seen.json(), body);
    }
}

/// Returns a ThinkExam connection with computed signatures.
fn hmac_thinkexam(url: &str) -> String {
    let remote = thinkexam(url, "default_group = \"Default course\"");
    let (connection, _) = remote.split_once("[connections.thinkexam-main.signature]").expect("a signature");
    format!(
        "{connection}\n[connections.thinkexam-main.signature]\nmode = \"hmac\"\napi_key = \"plain:the-key\"\nsecret = \
         \"plain:the-secret\"\nalgorithm = \"sha256\"\nmessage = \"{{api_key}}{{ts}}\"\nencoding = \"hex\"\nts = \
         \"seconds\"\n"
    )
}

#[tokio::test]
async fn thinkexam_receives_its_published_requests() {
    let stub = Stub::start(|seen| match seen.uri.path() {
        "/api/v1/bulkCandidateRegister" => json_response(200, &fixture(REGISTERED)["body"]),
        "/api/v1/assignTest" => json_response(200, &fixture(ASSIGNED)["body"]),
        "/api/v1/deassignTest" => json_response(200, &fixture(DEASSIGNED)["body"]),
        _ => json_response(404, &json!({})),
    })
    .await;
    let gateway = Gateway::start(&hmac_thinkexam(&stub.url())).await;
    let rows = fixture(REGISTER)["body"].clone();
    let items = json!([
        { "name": { "givenName": "Ada", "familyName": "Lovelace" }, "email": rows[0]["email"], "externalId": "E-1",
          "password": rows[0]["password"], "gender": "F", "birthDate": "1990-12-10", "group": "CE104",
          "phoneNumbers": [{ "type": "mobile", "value": rows[0]["mobile"] }], "photo": rows[0]["profilePic"],
          "custom": { "extra1": "one", "extra2": "two", "extra3": "three" } },
        { "name": { "formatted": "Grace B. Hopper" }, "email": rows[1]["email"], "externalId": "E-2" },
    ]);
    let response = gateway.post("/candidates/bulk", &json!({ "items": items })).await;
    assert_eq!((response.status, &response.body["summary"]["applied"]), (207, &json!(2)), "{response:?}");
    assert_eq!(response.body["results"][0]["resource"]["vendorRef"]["id"], "85638919");
    assert_eq!(response.body["results"][1]["resource"]["vendorRef"]["enrollmentNumber"], "E-2");
    assert!(!response.body.to_string().contains("tok+"), "the sign-in token stays private: {response:?}");

    let order = json!({ "candidate": { "email": "ada@example.com" }, "assessment": "12345", "notify": "vendor_email" });
    let booked = gateway.post("/assignments", &order).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    let cancelled = gateway.delete(&format!("/assignments/{}", booked.text("/id"))).await;
    assert_eq!(cancelled.status, 204, "{cancelled:?}");

    let expected = [
        ("/api/v1/bulkCandidateRegister", rows),
        ("/api/v1/assignTest", fixture(ASSIGN)["body"].clone()),
        ("/api/v1/deassignTest", fixture(DEASSIGN)["body"].clone()),
    ];
    let seen = stub.seen();
    assert_eq!(seen.len(), expected.len(), "{seen:?}");
    for (seen, (path, body)) in seen.iter().zip(expected) {
        assert_sound(seen, path);
        assert_eq!(seen.json(), body);
        let ts = text(&seen.headers, "ts");
        assert!(ts.len() == 10 && ts.bytes().all(|byte| byte.is_ascii_digit()), "{ts}");
        assert_eq!(text(&seen.headers, "ak"), "the-key");
        assert_eq!(text(&seen.headers, "sgn"), HEXLOWER.encode(&hmac("the-secret", &format!("the-key{ts}"))));
        assert!(!seen.headers.contains_key("authorization"));
    }
}

#[tokio::test]
async fn the_thinkexam_signature_service_is_called_with_the_template() {
    let stub = Stub::start(|seen| match seen.uri.path() {
        "/sim/signature" => json_response(200, &json!({ "ak": "ak-1", "sgn": "sgn-1", "ts": 17 })),
        _ => json_response(200, &fixture(REGISTERED)["body"]),
    })
    .await;
    let gateway = Gateway::start(&thinkexam(&stub.url(), "")).await;
    let items: Vec<Value> = ["E-1", "E-2"]
        .map(|id| json!({ "externalId": id, "name": { "formatted": "Ada" }, "email": format!("{id}@example.com") }))
        .into();
    let response = gateway.post("/candidates/bulk", &json!({ "items": items })).await;
    assert_eq!(response.body["summary"]["applied"], 2, "{response:?}");
    let [signature, call] = &stub.seen()[..] else { panic!("{:?}", stub.seen()) };
    assert_sound(signature, "/sim/signature");
    let expected = json!({ "apiKey": accounts::thinkexam::API_KEY, "secret": accounts::thinkexam::SECRET });
    assert_eq!(signature.json(), expected);
    let triple = ["ak", "sgn", "ts"].map(|name| text(&call.headers, name));
    assert_eq!(triple, ["ak-1", "sgn-1", "17"]);
}

/// Parses names and values of a form, in order.
fn pairs(text: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text).into_owned().collect()
}

fn examtesting_candidate() -> Value {
    json!({ "externalId": "S 1/ü&=+", "userName": "ada", "password": "Tr1cky &pw=é+%", "group": "Group B", "active": false,
            "email": "ada@example.com", "name": { "givenName": "Ada", "familyName": "Løvelace" },
            "phoneNumbers": [{ "type": "work", "value": "+44 20" }, { "type": "mobile", "value": "+44 79" }],
            "address": { "streetAddress": "1 Main St", "locality": "London", "region": "LDN", "postalCode": "W1",
                         "country": "UK" } })
}

#[tokio::test]
async fn examtesting_receives_its_parameters_in_the_published_order() {
    // Order and spelling: https://www.examtesting.com/api-doc.aspx.
    let expected = [
        ("Institutionid", accounts::examtesting::INSTITUTION_ID),
        ("Apikey", accounts::examtesting::API_KEY),
        ("ApiPass", accounts::examtesting::API_PASS),
        ("stusID", "S 1/ü&=+"),
        ("groupName", "Group B"),
        ("Status", "False"),
        ("firstname", "Ada"),
        ("lastname", "Løvelace"),
        ("street", "1 Main St"),
        ("city", "London"),
        ("state", "LDN"),
        ("zip", "W1"),
        ("country", "UK"),
        ("mobile", "+44 79"),
        ("phone", "+44 20"),
        ("email", "ada@example.com"),
        ("username", "ada"),
        ("password", "Tr1cky &pw=é+%"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    for params_in in ["form", "query", "both"] {
        let stub = Stub::start(|_| build_response(200, "text/html", "SUCCESS|12345")).await;
        let gateway = Gateway::start(&examtesting(&stub.url(), &format!("params_in = \"{params_in}\""))).await;
        let response = gateway.post("/candidates", &examtesting_candidate()).await;
        assert_eq!((response.status, response.text("/vendorRef/id")), (201, "12345"), "{response:?}");
        let [seen] = &stub.seen()[..] else { panic!("{:?}", stub.seen()) };
        assert_sound(seen, "/ManageCandidate.aspx");
        let mut query = pairs(seen.uri.query().unwrap_or_default().as_bytes());
        assert_eq!(query.remove(0), ("action".to_owned(), "add".to_owned()), "{params_in}");
        let (in_query, in_body): (&[_], &[_]) = match params_in {
            "form" => (&[], &expected),
            "query" => (&expected, &[]),
            _ => (&expected, &expected),
        };
        assert_eq!((&query[..], &pairs(&seen.body)[..]), (in_query, in_body), "{params_in}");
        if params_in != "query" {
            assert!(
                text(&seen.headers, "content-type").starts_with("application/x-www-form-urlencoded"),
                "{params_in}"
            );
        }
        for header in seen.headers.values() {
            let header = header.to_str().expect("visible text");
            assert!(!header.contains(accounts::examtesting::API_KEY) && !header.contains("Tr1cky"), "{header}");
        }
    }
}

#[tokio::test]
async fn examtesting_updates_use_its_own_id_and_never_get() {
    let stub = Stub::start(|_| build_response(200, "text/html", "Status=SUCCESS&StudentId=12345&error=")).await;
    let gateway = Gateway::start(&examtesting(&stub.url(), "update_enabled = true")).await;
    let created = gateway.post("/candidates", &examtesting_candidate()).await;
    assert_eq!(created.status, 201, "{created:?}");
    let path = format!("/candidates/{}", created.text("/id"));
    let changed = gateway.patch(&path, &json!({ "name": { "familyName": "King" } })).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let [_, update] = &stub.seen()[..] else { panic!("{:?}", stub.seen()) };
    assert_sound(update, "/ManageCandidate.aspx");
    assert_eq!(update.uri.query(), Some("action=update"));
    let sent = pairs(&update.body);
    assert!(sent.contains(&("lastname".to_owned(), "King".to_owned())), "{sent:?}");
    assert!(!sent.iter().any(|(name, _)| name == "password"), "a known person gets no password: {sent:?}");
}
