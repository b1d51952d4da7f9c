//! Requests about what the gateway has already: who is recognised, what is answered instead of being done again, and what
//! the caller is told about the difference.

use examgate::sandbox::{Sandbox, accounts};
use examgate::vendors::DESCRIPTORS;
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, sandbox, sandbox_connections};

async fn gateway() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    (sandbox, gateway)
}

fn person(connection: &str, id: &str, more: &Value) -> Value {
    let mut body = json!({
        "connection": connection, "externalId": id, "name": { "givenName": "Ada", "familyName": "King" },
        "email": format!("{id}@example.com"), "group": match connection {
            "thinkexam-main" => accounts::thinkexam::COURSES[0],
            "examtesting-main" => "Group A",
            _ => "any",
        },
    });
    if connection == "startexam-main" {
        body.as_object_mut().unwrap().remove("group");
    }
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn only_what_the_vendor_knows_people_by_identifies_anybody() {
    let (_sandbox, gateway) = gateway().await;
    for (connection, vendor) in
        [("startexam-main", "startexam"), ("thinkexam-main", "thinkexam"), ("examtesting-main", "examtesting")]
    {
        let shown = gateway.get(&format!("/vendors/{vendor}")).await;
        let by_name = shown.body["identities"].as_array().unwrap().contains(&json!("userName"));
        assert_eq!(by_name, vendor == "examtesting", "{shown:?}");
        let named = json!({ "userName": "ada" });
        let first = gateway.post("/candidates", &person(connection, "e1", &named)).await;
        assert_eq!(first.status, 201, "{first:?}");
        let second = gateway.post("/candidates", &person(connection, "e2", &named)).await;
        let same = second.text("/id") == first.text("/id");
        assert_eq!((second.status, same), if by_name { (200, true) } else { (201, false) }, "{connection} {second:?}");
    }
}

#[test]
fn a_vendor_knows_nobody_by_a_member_it_has_no_place_for() {
    use examgate::domain::capability::Operation;
    for vendor in DESCRIPTORS {
        let ignored = vendor.capability(Operation::CandidatesCreate).ignored;
        for kind in vendor.identities {
            assert!(!ignored.contains(&format!("/{}", kind.member()).as_str()), "{} {kind:?}", vendor.kind);
        }
    }
}
