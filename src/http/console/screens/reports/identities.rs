//! Reads from a report's body by which identities its person may be found. It knows no vendor's fields: what looks like an
//! e-mail address or like an id is searched for, and what is found is only offered to a person.

use serde_json::Value;

/// Maximum number of identities of each kind; each is one search.
const MOST: usize = 4;
const MAX_EMAIL: usize = 254;
const MAX_ID: usize = 250;
/// Ends of field names whose values are ids, in lower case and without separators.
const ID_FIELDS: [&str; 6] = ["id", "employee", "enrollmentno", "enrolmentno", "externalid", "username"];

/// An identity as `POST /candidates/search` takes it: the name of its field, and its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) field: &'static str,
    pub(super) value: String,
}

/// Returns the identities in a body, addresses first, each once.
pub(super) fn identities_of(body: &str) -> Vec<Identity> {
    let Ok(tree) = serde_json::from_str::<Value>(body) else { return Vec::new() };
    let (mut emails, mut ids) = (Vec::new(), Vec::new());
    collect("", &tree, &mut emails, &mut ids);
    let of = |field: &'static str, values: Vec<String>| {
        values.into_iter().take(MOST).map(move |value| Identity { field, value })
    };
    of("email", emails).chain(of("externalId", ids)).collect()
}

/// Collects the values below this one; how deep it goes is bound by the parser.
fn collect(field: &str, value: &Value, emails: &mut Vec<String>, ids: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| collect(name, value, emails, ids)),
        Value::Array(values) => values.iter().for_each(|value| collect(field, value, emails, ids)),
        Value::String(text) => {
            let text = text.trim();
            if is_email(text) {
                add(text, emails);
            } else if is_id_field(field) && !text.is_empty() && text.len() <= MAX_ID {
                add(text, ids);
            }
        }
        Value::Number(number) if is_id_field(field) => add(&number.to_string(), ids),
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

fn add(text: &str, known: &mut Vec<String>) {
    if !known.iter().any(|it| it == text) {
        known.push(text.to_owned());
    }
}

fn is_email(text: &str) -> bool {
    let parts = text.split_once('@');
    text.len() <= MAX_EMAIL
        && !text.contains(char::is_whitespace)
        && parts.is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.') && !domain.contains('@'))
}

fn is_id_field(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = name.to_ascii_lowercase();
    ID_FIELDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ids_are_found_wherever_they_are() {
        let body = r#"{ "result": { "email": "ada@example.com", "marks": 41, "enrollment_no": " e-7 ",
            "data": [{ "name": "Email", "value": "ada@example.com" }], "note": "at @ noon" }, "ParticipantId": 12 }"#;
        let identity = |field, value: &str| Identity { field, value: value.to_owned() };
        let found = identities_of(body);
        assert_eq!(found.first(), Some(&identity("email", "ada@example.com")));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.contains(&identity("externalId", "e-7")) && found.contains(&identity("externalId", "12")));
    }

    #[test]
    fn a_body_costs_a_bounded_number_of_searches() {
        let many: Vec<Value> =
            (0..100).map(|number| serde_json::json!({ "id": number, "mail": format!("{number}@a.example") })).collect();
        assert_eq!(identities_of(&Value::Array(many).to_string()).len(), 2 * MOST);
    }

    #[test]
    fn a_body_that_is_no_json_names_nobody() {
        assert_eq!(identities_of("email=ada@example.com"), []);
    }
}
