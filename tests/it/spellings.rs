//! Identities have one form everywhere; people whom an earlier version registered in another spelling are found again, and
//! the vendor keeps the spelling it knows.

use examgate::sandbox::{Sandbox, Settings, accounts};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{
    client, examtesting, sandbox_connections, start_examtesting, start_startexam, startexam, thinkexam,
};
use crate::support::gateway::{Gateway, sandbox};
use crate::support::people::{person, with};
use crate::support::watch::{bodies, changes, wait_until};

const REPLIES: &str = include_str!("../fixtures/spellings/replies.json");
const STORE: &[u8] = include_bytes!("../fixtures/spellings/store.db");

/// The address to which the store's open writes were sent; they are resent nowhere else.
const HOST: &str = "127.14.7.61";
const PORT: u16 = 9761;

/// Starts the vendors where the store's open writes lead. Another run of this test on the same machine may have the address
/// for some seconds.
async fn start_at_the_recorded_address(settings: Settings) -> Sandbox {
    for _ in 0..3_000 {
        match Sandbox::start(settings).await {
            Ok(sandbox) => return sandbox,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{HOST}: {error}"),
        }
    }
    panic!("{HOST} is taken");
}

/// Starts a gateway on the store of the earlier version, and the vendors where its connections lead.
async fn former() -> (Sandbox, Gateway, Value) {
    let settings =
        Settings { host: HOST.parse().expect("an address"), port_base: PORT, now: std::time::SystemTime::now };
    let sandbox = start_at_the_recorded_address(settings).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("store.db"), STORE).expect("the store can be written");
    let address = |offset: u16| format!("http://{HOST}:{}", PORT + offset);
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\nshutdown_delay = \"0s\"\n[store]\nurl = \
         \"sqlite:{}/store.db\"\nencryption_key = \"plain:{}\"\nretention = \"3650d\"\nidempotency_retention = \"3650d\"\n{}\n{}{}{}",
        folder.path().display(),
        data_encoding::BASE64.encode(&[7; 32]),
        client("lms", "", "[\"*\"]"),
        startexam(
            &address(0),
            "profile_fields = { given_name = \"First Name\", family_name = \"Last Name\", email = \"Email\" }"
        ),
        thinkexam(&address(1), ""),
        examtesting(&address(2), ""),
    );
    std::fs::write(folder.path().join("examgate.toml"), text).expect("the configuration can be written");
    let gateway = Gateway::start_in(folder).await;
    (sandbox, gateway, serde_json::from_str(REPLIES).expect("JSON"))
}

async fn ids_found(gateway: &Gateway, external_id: &str) -> Vec<String> {
    let query: String = url::form_urlencoded::byte_serialize(external_id.as_bytes()).collect();
    let found = gateway.get(&format!("/candidates?externalId={query}")).await;
    assert_eq!(found.status, 200, "{found:?}");
    let items = found.body["items"].as_array().expect("a list").iter();
    items.map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn people_of_an_earlier_version_are_found_by_either_spelling_and_keep_theirs_at_the_vendor() {
    let (sandbox, gateway, replies) = former().await;
    let port = sandbox.startexam();
    let id_of = |key: &str| replies[key]["body"]["id"].as_str().expect("an id").to_owned();

    // The open write is resent with the spelling it was begun with, and the rows being sent too.
    let open = replies["unknown"]["body"]["resource"].as_str().expect("a resource").to_owned();
    let settled = wait_until(&gateway, &open, |response| response.text("/state") == "registered").await;
    assert_eq!(settled.text("/externalId"), "emp-11\u{a0}");
    let operation = replies["waiting"]["body"]["id"].as_str().expect("an id");
    wait_until(&gateway, &format!("/operations/{operation}"), |response| response.text("/state") == "completed").await;
    let mut created = changes(port, "employees", "created").await;
    created.sort();
    // The waiting rows were checked again: one is refused, one has its form, one is a row that was being sent.
    assert_eq!(created, ["emp-11\u{a0}", "emp-12 ", "emp-14", "emp-15"]);
    let results = gateway.get(&format!("/operations/{operation}/items")).await;
    let row = |index: usize, pointer: &str| {
        results.body["items"][index].pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    assert_eq!(row(2, "/problem/errors/0/detail"), "contains U+200B ZERO WIDTH SPACE at character 7; remove it");
    assert_eq!(row(2, "/problem/errors/0/pointer"), "/externalId");

    for (asked, key) in [
        ("emp-1", "plain"),
        ("emp-1 ", "plain"),
        ("emp-2", "blank"),
        ("emp-2 ", "blank"),
        ("emp-3", "nbsp"),
        ("Ren\u{e9}-6", "composed"),
        ("Rene\u{301}-6", "composed"),
        ("Ren\u{e9}e-8", "decomposed"),
        ("Rene\u{301}e-8", "decomposed"),
    ] {
        assert_eq!(ids_found(&gateway, asked).await, [id_of(key)], "{asked:?}");
    }
    for (search, key) in
        [(json!({ "userName": "ana.b" }), "user"), (json!({ "email": " REN\u{c9}@example.com" }), "mail")]
    {
        let found = gateway.post("/candidates/search", &search).await;
        assert_eq!(found.text("/items/0/id"), id_of(key), "{search}");
    }

    // A registration in either spelling reuses the candidate, without a call.
    let calls = bodies(port, "employees").await.len();
    for (external_id, key) in
        [("emp-1 ", "plain"), ("emp-1", "plain"), ("emp-2", "blank"), ("Ren\u{e9}e-8", "decomposed")]
    {
        let body = json!({ "connection": "startexam-main", "externalId": external_id });
        let reused = gateway.post("/candidates", &body).await;
        assert_eq!((reused.status, reused.text("/id")), (200, &*id_of(key)), "{reused:?}");
        assert_eq!(reused.body["warnings"], json!([]), "{external_id:?}");
    }
    assert_eq!(bodies(port, "employees").await.len(), calls);

    // So does a booking of a person without a record, and an enrolment names the employee as the vendor does.
    let booking = json!({ "connection": "startexam-main", "candidate": { "externalId": "emp-7 " },
        "assessment": accounts::startexam::TESTS[0].0 });
    let booked = gateway.post("/assignments", &booking).await;
    assert_eq!((booked.status, booked.text("/id")), (200, &*id_of("unlinked")), "{booked:?}");
    // An employee without a record is withdrawn in the present form, which the vendor does not know.
    let employees = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
    let change = |list: &str| json!({ "connection": "startexam-main", "scope": "all", list: ["emp-7 "] });
    let withdrawn = gateway.post(&employees, &change("unregister")).await;
    assert_eq!(withdrawn.problem(), (422, "invalid_reference", "not_applied"), "{withdrawn:?}");
    let sent = bodies(port, "program_employees").await.pop().expect("a call");
    assert_eq!(sent["unregisterEmployees"], json!(["emp-7"]));
    // Registered now, the person is the employee they were booked as.
    let registered = gateway
        .post(
            "/candidates",
            &json!({ "connection": "startexam-main", "externalId": "emp-7 ",
        "name": { "givenName": "Gus" } }),
        )
        .await;
    assert_eq!((registered.status, registered.text("/externalId")), (201, "emp-7 "), "{registered:?}");
    let sent = bodies(port, "employees").await.pop().expect("a call");
    assert_eq!(sent["employees"][0]["id"], "emp-7 ");
    let booked = gateway.post("/assignments", &booking).await;
    assert_eq!((booked.status, booked.text("/id")), (200, &*id_of("unlinked")), "{booked:?}");
    for (list, sent_as) in [("register", "registerEmployees"), ("unregister", "unregisterEmployees")] {
        let changed = gateway.post(&employees, &change(list)).await;
        let counts = ["employeesRegistered", "employeesUnregistered"].map(|name| changed.body[name].clone());
        assert!(changed.status == 200 && counts.contains(&json!(1)), "{changed:?}");
        let sent = bodies(port, "program_employees").await.pop().expect("a call");
        assert_eq!(sent[sent_as], json!(["emp-7 "]));
    }

    let enrolment = json!({ "connection": "startexam-main", "scope": "all", "register": ["emp-2"] });
    gateway.post(&employees, &enrolment).await;
    let sent = bodies(port, "program_employees").await.pop().expect("a call");
    assert_eq!(sent["registerEmployees"], json!(["emp-2 "]));

    // A change of another field keeps the spelling, of the id and of the name's other parts.
    let path = format!("/candidates/{}", id_of("nbsp"));
    let changed = gateway.request(Method::PATCH, &path).json(&json!({ "name": { "familyName": "Lee" } })).send().await;
    assert_eq!((changed.status, changed.text("/externalId")), (200, "emp-3\u{a0}"), "{changed:?}");
    assert_eq!(changed.text("/name/givenName"), " Cy ");
    let sent = bodies(port, "employees").await.pop().expect("a call");
    assert_eq!(sent["employees"][0]["id"], "emp-3\u{a0}");
    // Also where no request could name the person any more, and for the second of a pair.
    for key in ["zero", "mark", "pair"] {
        let path = format!("/candidates/{}", id_of(key));
        let changed =
            gateway.request(Method::PATCH, &path).json(&json!({ "name": { "familyName": "Lee" } })).send().await;
        assert_eq!(
            (changed.status, &changed.body["externalId"]),
            (200, &replies[key]["body"]["externalId"]),
            "{changed:?}"
        );
    }
}

/// The other one of a pair holds no identity when the holder has been given another id.
#[tokio::test]
async fn a_person_who_holds_no_identity_any_more_is_not_registered_once_more() {
    let (sandbox, gateway, replies) = former().await;
    let port = sandbox.startexam();
    let operation = format!("/operations/{}", replies["waiting"]["body"]["id"].as_str().expect("an id"));
    wait_until(&gateway, &operation, |response| response.text("/state") == "completed").await;
    let ids = ["blank", "decomposed", "nbsp"].map(|key| replies[key]["body"]["id"].as_str().expect("an id").to_owned());
    let (folder, _) = gateway.finish().await;
    let store = rusqlite::Connection::open(folder.path().join("store.db")).expect("the store");
    for id in &ids {
        store.execute("DELETE FROM identities WHERE candidate_id = ?1", [id]).expect("a deletion");
    }
    drop(store);
    let gateway = Gateway::start_in(folder).await;
    let before = changes(port, "employees", "created").await;
    let [single, keyed] =
        ["emp-2", "Ren\u{e9}e-8"].map(|id| json!({ "connection": "startexam-main", "externalId": id }));
    let reused = gateway.post("/candidates", &single).await;
    assert_eq!((reused.status, reused.text("/id")), (200, &*ids[0]), "{reused:?}");
    let reused = gateway.request(Method::POST, "/candidates").header("Idempotency-Key", "k").json(&keyed).send().await;
    assert_eq!((reused.status, reused.text("/id")), (200, &*ids[1]), "{reused:?}");
    let bulk = gateway
        .post("/candidates/bulk", &json!({ "connection": "startexam-main", "items": [{ "externalId": "emp-3" }] }))
        .await;
    assert_eq!(bulk.text("/results/0/resource/id"), ids[2], "{bulk:?}");
    assert_eq!(changes(port, "employees", "created").await, before);
}

#[tokio::test]
async fn identities_get_one_form_in_requests_and_look_ups() {
    let (sandbox, gateway) = start_startexam("").await;
    let rows: Vec<Value> = ["emp-1", "emp-1 ", "emp-1\u{a0}", "\u{feff}emp-1", "emp-1\u{200b}"]
        .into_iter()
        .map(|id| with(person("ana"), "externalId", json!(id)))
        .collect();
    let results = gateway.post("/candidates/bulk", &json!({ "items": rows })).await;
    let result =
        |index: usize, pointer: &str| results.body["results"][index].pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(result(0, "/outcome"), "applied", "{results:?}");
    for index in [1, 2] {
        assert_eq!(result(index, "/problem/code"), "duplicate_item", "{results:?}");
    }
    for (index, detail) in [
        (3, "contains U+FEFF BYTE ORDER MARK at character 1; remove it"),
        (4, "contains U+200B ZERO WIDTH SPACE at character 6; remove it"),
    ] {
        assert_eq!(result(index, "/problem/errors/0/pointer"), "/externalId");
        assert_eq!(result(index, "/problem/errors/0/detail"), detail);
    }
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await, ["emp-1"]);

    assert_eq!(ids_found(&gateway, " emp-1\u{3000}").await.len(), 1);
    let refused = gateway.get("/candidates?externalId=emp-1%E2%80%8B").await;
    assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"));
    assert_eq!(refused.text("/errors/0/pointer"), "?externalId");
    assert_eq!(refused.text("/errors/0/detail"), "contains U+200B ZERO WIDTH SPACE at character 6; remove it");
    let test = accounts::startexam::TESTS[0].0;
    let booked =
        gateway.post("/assignments", &json!({ "candidate": { "externalId": "emp-1 " }, "assessment": test })).await;
    assert_eq!((booked.status, booked.text("/candidate/externalId")), (201, "emp-1"), "{booked:?}");
    let again = gateway
        .post("/assignments", &json!({ "candidate": { "externalId": "\u{a0}emp-1" }, "assessment": test }))
        .await;
    assert_eq!((again.status, again.text("/id")), (200, booked.text("/id")), "{again:?}");
    let refused =
        gateway.post("/assignments", &json!({ "candidate": { "externalId": "e\u{ad}1" }, "assessment": test })).await;
    assert_eq!(refused.text("/errors/0/pointer"), "/candidate/externalId", "{refused:?}");

    let path = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
    let refused = gateway.post(&path, &json!({ "scope": "all", "register": ["emp-1", "emp-1 "] })).await;
    assert_eq!((refused.text("/errors/0/pointer"), refused.text("/errors/0/code")), ("/register/1", "duplicate_item"));
    let refused = gateway.post(&path, &json!({ "scope": "all", "register": ["emp\u{200b}-1"] })).await;
    assert_eq!(refused.text("/errors/0/pointer"), "/register/0", "{refused:?}");
    let enrolled = gateway.post(&path, &json!({ "scope": "all", "register": [" emp-1"] })).await;
    assert_eq!(enrolled.status, 200, "{enrolled:?}");
}

#[tokio::test]
async fn a_user_name_and_an_email_address_are_sent_without_spaces_around_them() {
    let (sandbox, gateway) = start_examtesting("").await;
    let body = json!({ "email": " a@example.com\u{a0}", "userName": " ana ", "name": { "givenName": " A " } });
    let registered = gateway.post("/candidates", &body).await;
    assert_eq!((registered.status, registered.text("/userName")), (201, "ana"), "{registered:?}");
    let sent = bodies(sandbox.examtesting(), "add").await.pop().expect("a call");
    assert_eq!(
        (&sent["username"], &sent["email"], &sent["firstname"]),
        (&json!("ana"), &json!("a@example.com"), &json!("A"))
    );
    let refused = gateway.post("/candidates", &json!({ "email": "a\u{a0}b@example.com" })).await;
    assert_eq!(
        refused.text("/errors/0/detail"),
        "is not an e-mail address: it contains U+00A0 NO-BREAK SPACE at character 2"
    );
}

#[tokio::test]
async fn a_street_address_of_several_lines_is_kept_and_sent_on_one_line() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let address = json!({ "streetAddress": "Main Street 1\r\nFlat 2" });
    let body = with(with(person("emp-6"), "address", address.clone()), "connection", json!("examtesting-main"));
    let registered = gateway.post("/candidates", &body).await;
    assert_eq!((registered.status, &registered.body["address"]), (201, &address), "{registered:?}");
    let sent = bodies(sandbox.examtesting(), "add").await.pop().expect("a call");
    assert_eq!(sent["street"], "Main Street 1, Flat 2");
}
