//! The fields of a candidate: what each vendor is sent of them, at first and in a change.

use http::Method;
use serde_json::{Value, json};

use crate::support::connections::{start_examtesting, start_startexam, start_thinkexam};
use crate::support::people::{person, with};
use crate::support::watch::{bodies, call_count, warnings};

const ALL_FIELDS: &str = "profile_fields = { given_name = \"First Name\", family_name = \"Last Name\", email = \"Email\", \
    formatted = \"Full Name\", phone_mobile = \"Mobile\", phone_work = \"Phone\", street = \"Street\", locality = \"City\", \
    region = \"Region\", postal_code = \"Postal Code\", country = \"Country\" }";

fn full_person() -> Value {
    json!({
        "externalId": "e-1", "userName": "ada", "password": "s3cretWord1",
        "name": { "givenName": "Ada", "familyName": "King", "formatted": "Ada King" },
        "email": "Ada@example.com", "active": true,
        "phoneNumbers": [{ "type": "mobile", "value": "+1 2" }, { "type": "work", "value": "+3 4" }],
        "address": { "streetAddress": "High St 1", "locality": "Ockham", "region": "Surrey", "postalCode": "GU23", "country": "GB" },
    })
}

#[tokio::test]
async fn startexam_receives_every_field_it_supports() {
    let (sandbox, gateway) = start_startexam(ALL_FIELDS).await;
    let body = with(full_person(), "custom", json!({ "Department": "R&D" }));
    let created = gateway.post("/candidates", &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let sent = bodies(sandbox.startexam(), "employees").await;
    let fields = json!([
        ["City", "Ockham"],
        ["Country", "GB"],
        ["Department", "R&D"],
        ["Email", "Ada@example.com"],
        ["First Name", "Ada"],
        ["Full Name", "Ada King"],
        ["Last Name", "King"],
        ["Mobile", "+1 2"],
        ["Phone", "+3 4"],
        ["Postal Code", "GU23"],
        ["Region", "Surrey"],
        ["Street", "High St 1"],
    ]);
    let employee = &sent[0]["employees"][0];
    let mut pairs: Vec<Value> =
        employee["data"].as_array().unwrap().iter().map(|pair| json!([pair["name"], pair["value"]])).collect();
    pairs.sort_by_key(ToString::to_string);
    assert_eq!(Value::Array(pairs), fields);
    assert_eq!((&employee["id"], &employee["status"]), (&json!("e-1"), &json!("active")));
    assert_eq!(created.body["vendorRef"], json!({ "id": "e-1" }));
    assert_eq!(
        warnings(&created).iter().map(|(code, pointer)| (code.as_str(), pointer.as_str())).collect::<Vec<_>>(),
        [("field_ignored", "/userName"), ("field_ignored", "/password")]
    );
    assert!(!sent[0].to_string().contains("s3cretWord1"));
}

#[tokio::test]
async fn thinkexam_receives_every_field_it_supports() {
    let (sandbox, gateway) = start_thinkexam("").await;
    let mut body = full_person();
    body["group"] = json!("CE104");
    body["birthDate"] = json!("1815-12-10");
    body["gender"] = json!("Female");
    body["photo"] = json!("https://example.com/ada.jpg");
    body["custom"] = json!({ "extra1": "one", "extra2": "two", "extra3": "three", "other": "x" });
    let created = gateway.post("/candidates", &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let sent = bodies(sandbox.thinkexam(), "bulkCandidateRegister").await;
    assert_eq!(
        sent,
        [json!([{
            "name": "Ada King", "email": "Ada@example.com", "enrollment_number": "e-1", "password": "s3cretWord1",
            "mobile": "+1 2", "gender": "Female", "dob": "1815-12-10", "courseName": "CE104", "extra1": "one",
            "extra2": "two", "extra3": "three", "profilePic": "https://example.com/ada.jpg",
        }])]
    );
    assert!(!created.text("/vendorRef/id").is_empty(), "{created:?}");
    assert_eq!(created.text("/vendorRef/enrollmentNumber"), "e-1");
    let mut ignored: Vec<String> = warnings(&created).into_iter().map(|(_, pointer)| pointer).collect();
    ignored.sort();
    assert_eq!(
        ignored,
        [
            "/address/country",
            "/address/locality",
            "/address/postalCode",
            "/address/region",
            "/address/streetAddress",
            "/custom/other",
            "/phoneNumbers/1",
            "/userName"
        ]
    );
    assert!(!created.body.to_string().contains("s3cretWord1"));
}

#[tokio::test]
async fn examtesting_receives_every_field_it_supports() {
    let (sandbox, gateway) = start_examtesting("").await;
    let mut body = full_person();
    body["group"] = json!("Group B");
    body["active"] = json!(false);
    body["birthDate"] = json!("1815-12-10");
    let created = gateway.post("/candidates", &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let mut sent = bodies(sandbox.examtesting(), "add").await.remove(0);
    for credential in ["Institutionid", "Apikey", "ApiPass"] {
        assert!(sent.as_object_mut().unwrap().remove(credential).is_some(), "{credential}");
    }
    assert_eq!(
        sent,
        json!({
            "stusID": "e-1", "groupName": "Group B", "Status": "False", "firstname": "Ada", "lastname": "King",
            "street": "High St 1", "city": "Ockham", "state": "Surrey", "zip": "GU23", "country": "GB", "mobile": "+1 2",
            "phone": "+3 4", "email": "Ada@example.com", "username": "ada", "password": "s3cretWord1",
        })
    );
    assert_eq!(created.body.get("initialPassword"), None);
    assert_eq!(warnings(&created), [("field_ignored".to_owned(), "/birthDate".to_owned())]);
}

#[tokio::test]
async fn an_update_never_sends_a_password() {
    let (sandbox, gateway) = start_thinkexam("").await;
    let first = with(with(person("t1"), "password", json!("firstWord1")), "group", json!("CE104"));
    assert_eq!(gateway.post("/candidates", &first).await.status, 201);
    let mut again = with(with(first, "password", json!("otherWord2")), "group", json!("Safety Basics"));
    again["ifExists"] = json!("update");
    let updated = gateway.post("/candidates", &again).await;
    assert_eq!((updated.status, updated.text("/group")), (200, "Safety Basics"), "{updated:?}");
    let sent = bodies(sandbox.thinkexam(), "bulkCandidateRegister").await;
    assert_eq!((sent.len(), &sent[0][0]["password"]), (2, &json!("firstWord1")));
    assert_eq!(sent[1][0].get("password"), None);

    let (sandbox, gateway) = start_examtesting("update_enabled = true").await;
    assert_eq!(gateway.post("/candidates", &with(person("x1"), "password", json!("firstWord1"))).await.status, 201);
    let mut again = with(with(person("x1"), "password", json!("otherWord2")), "email", json!("new@example.com"));
    again["ifExists"] = json!("update");
    assert_eq!(gateway.post("/candidates", &again).await.status, 200);
    let sent = bodies(sandbox.examtesting(), "update").await;
    assert_eq!((sent.len(), sent[0].get("password"), &sent[0]["email"]), (1, None, &json!("new@example.com")));
}

#[tokio::test]
async fn startexam_candidates_are_patched_including_removed_fields() {
    let (sandbox, gateway) = start_startexam(ALL_FIELDS).await;
    let body = with(full_person(), "custom", json!({ "Department": "R&D", "Position": "Analyst" }));
    let created = gateway.post("/candidates", &body).await;
    let path = format!("/candidates/{}", created.text("/id"));
    let change =
        json!({ "email": "new@example.com", "address": { "locality": null }, "custom": { "Department": null } });
    let patched = gateway.patch(&path, &change).await;
    assert_eq!((patched.status, patched.text("/email")), (200, "new@example.com"), "{patched:?}");
    assert_eq!(patched.body.pointer("/address/locality"), None);
    assert_eq!(patched.body["custom"], json!({ "Position": "Analyst" }));
    assert_eq!(gateway.get(&path).await.body, patched.body);
    let sent = bodies(sandbox.startexam(), "employees").await;
    let data = sent[1]["employees"][0]["data"].as_array().unwrap().clone();
    let value = |name: &str| data.iter().find(|pair| pair["name"] == name).map(|pair| pair["value"].clone());
    assert_eq!(value("Email"), Some(json!("new@example.com")));
    assert_eq!((value("City"), value("Department")), (Some(json!("")), Some(json!(""))));
    assert_eq!((value("Position"), value("Street")), (Some(json!("Analyst")), Some(json!("High St 1"))));

    let hidden = gateway.patch(&path, &json!({ "active": false })).await;
    assert_eq!((hidden.status, &hidden.body["active"]), (200, &json!(false)), "{hidden:?}");
    let sent = bodies(sandbox.startexam(), "employees").await;
    assert_eq!(sent[2]["employees"][0]["status"], "hidden");

    let ignored = gateway.patch(&path, &json!({ "group": "A" })).await;
    assert_eq!(ignored.status, 200, "{ignored:?}");
    assert!(warnings(&ignored).contains(&("field_ignored".to_owned(), "/group".to_owned())), "{ignored:?}");
    let before = call_count(sandbox.startexam()).await;
    for (change, pointer) in [
        (json!({ "externalId": "other" }), "/externalId"),
        (json!({ "odd": 1 }), "/odd"),
        (json!({ "email": "no address" }), "/email"),
    ] {
        let refused = gateway.patch(&path, &change).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{change}");
        assert_eq!(refused.text("/errors/0/pointer"), pointer, "{change}");
    }
    assert_eq!(call_count(sandbox.startexam()).await, before);
}

#[tokio::test]
async fn thinkexam_candidates_can_change_only_their_group() {
    let (sandbox, gateway) = start_thinkexam("").await;
    let created = gateway.post("/candidates", &with(person("t1"), "group", json!("CE104"))).await;
    let path = format!("/candidates/{}", created.text("/id"));
    let patched = gateway.patch(&path, &json!({ "group": "Safety Basics" })).await;
    assert_eq!((patched.status, patched.text("/group")), (200, "Safety Basics"), "{patched:?}");
    for (change, pointer) in [
        (json!({ "email": "new@example.com" }), "/email"),
        (json!({ "group": "CE104", "name": { "givenName": "Eve" } }), "/name/givenName"),
        (json!({ "group": null }), "/group"),
        (json!({ "active": false }), "/active"),
    ] {
        let refused = gateway.patch(&path, &change).await;
        assert_eq!(refused.problem(), (422, "capability_unsupported", "not_applied"), "{change}");
        assert_eq!(refused.text("/errors/0/pointer"), pointer, "{change}");
    }
    assert_eq!(gateway.get(&path).await.body, patched.body);
    assert_eq!(call_count(sandbox.thinkexam()).await, 2);
}

#[tokio::test]
async fn examtesting_candidates_are_patched_only_if_updates_are_enabled() {
    let (sandbox, gateway) = start_examtesting("").await;
    let created = gateway.post("/candidates", &person("x1")).await;
    let path = format!("/candidates/{}", created.text("/id"));
    let refused = gateway.patch(&path, &json!({ "email": "new@example.com" })).await;
    assert_eq!(refused.problem(), (422, "capability_unsupported", "not_applied"));
    assert_eq!(call_count(sandbox.examtesting()).await, 1);

    let (sandbox, gateway) = start_examtesting("update_enabled = true").await;
    let created = gateway.post("/candidates", &full_person()).await;
    let path = format!("/candidates/{}", created.text("/id"));
    let change = json!({ "userName": "countess", "address": { "streetAddress": null }, "phoneNumbers": null });
    let patched = gateway.patch(&path, &change).await;
    assert_eq!((patched.status, patched.text("/userName")), (200, "countess"), "{patched:?}");
    let sent = bodies(sandbox.examtesting(), "update").await.remove(0);
    assert_eq!(sent["stusID"], created.text("/vendorRef/id"));
    assert_eq!((&sent["street"], &sent["mobile"], &sent["phone"]), (&json!(""), &json!(""), &json!("")));
    assert_eq!((&sent["username"], &sent["city"]), (&json!("countess"), &json!("Ockham")));
    // The new name is hers, the old one is available again.
    let by_name = json!({ "userName": "COUNTESS" });
    assert_eq!(gateway.post("/candidates/search", &by_name).await.text("/items/0/id"), created.text("/id"));
    assert_eq!(gateway.post("/candidates/search", &json!({ "userName": "ada" })).await.body["items"], json!([]));
    // No candidate takes another one's name.
    let other = gateway.post("/candidates", &with(person("x2"), "userName", json!("bob"))).await;
    assert_eq!(other.status, 201, "{other:?}");
    let before = call_count(sandbox.examtesting()).await;
    let taken = gateway.patch(&format!("/candidates/{}", other.text("/id")), &json!({ "userName": "Countess" })).await;
    assert_eq!(taken.problem(), (409, "candidate_conflict", "not_applied"));
    assert_eq!(call_count(sandbox.examtesting()).await, before);
}

#[tokio::test]
async fn strict_handling_rejects_unsupported_fields() {
    let (sandbox, gateway) = start_startexam("").await;
    let body = with(person("e1"), "group", json!("A"));
    let request = gateway.request(Method::POST, "/candidates").header("prefer", "handling=strict");
    let strict = request.json(&body).send().await;
    assert_eq!((strict.problem().0, strict.problem().2), (422, "not_applied"));
    assert_eq!(strict.text("/errors/0/pointer"), "/group");
    assert_eq!(call_count(sandbox.startexam()).await, 0);
    let lenient = gateway.post("/candidates", &body).await;
    assert_eq!((lenient.status, lenient.text("/group")), (201, "A"));
    assert_eq!(warnings(&lenient), [("field_ignored".to_owned(), "/group".to_owned())]);
}

#[tokio::test]
async fn an_unsupported_field_that_cannot_be_ignored_is_rejected() {
    let (sandbox, gateway) = start_thinkexam("").await;
    let refused = gateway.post("/candidates", &with(person("t1"), "active", json!(false))).await;
    assert_eq!(refused.problem(), (422, "capability_unsupported", "not_applied"));
    assert_eq!(refused.text("/errors/0/pointer"), "/active");
    assert_eq!(call_count(sandbox.thinkexam()).await, 0);
}
