//! Builders of request bodies: people, bookings and small changes to them.

use serde_json::{Value, json};

/// Returns a person with a name, and an e-mail address made from the external id.
pub fn person(id: &str) -> Value {
    json!({ "externalId": id, "name": { "givenName": "Ada", "familyName": "King" }, "email": format!("{id}@example.com") })
}

/// Returns the person to be registered at this connection.
pub fn person_at(connection: &str, id: &str) -> Value {
    with(person(id), "connection", json!(connection))
}

/// Returns people with the external ids `e0`, `e1` and so on.
pub fn people(count: usize) -> Vec<Value> {
    (0..count).map(|number| person(&format!("e{number}"))).collect()
}

/// Returns the body with this field set.
pub fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

/// Returns a booking of this candidate, who may be named in any way.
pub fn order_for(candidate: &Value, assessment: &str) -> Value {
    json!({ "candidate": candidate, "assessment": assessment })
}

/// Returns a booking of the candidate with this external id.
pub fn order(id: &str, assessment: &str) -> Value {
    order_for(&json!({ "externalId": id }), assessment)
}

/// Returns a booking that says what to do if there is one already.
pub fn order_if_exists(id: &str, assessment: &str, if_exists: &str) -> Value {
    with(order(id, assessment), "ifExists", json!(if_exists))
}
