//! The fictional people of the workloads.

use serde_json::{Value, json};

/// Returns a person to register; a different one for each number.
pub fn somebody(number: usize) -> Value {
    json!({
        "externalId": format!("emp-{number:06}"),
        "name": { "givenName": "Ines", "familyName": "Costa" },
        "email": format!("ines.costa.{number:06}@example.com"),
        "phoneNumbers": [{ "type": "mobile", "value": "+351 910 000 000" }],
        "address": { "streetAddress": "Rua do Ouro 1", "locality": "Lisboa", "postalCode": "1100-060", "country": "PT" },
    })
}

/// Returns the same person with errors: no e-mail address, and an unknown field.
pub fn mistaken(number: usize) -> Value {
    let mut person = somebody(number);
    person["email"] = json!("no address");
    person["givenname"] = json!("Ines");
    person
}
