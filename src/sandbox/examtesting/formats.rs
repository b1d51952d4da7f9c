//! The possible response formats. All are guesses: the vendor's page shows its responses as pictures.
//!
//! The vendor documents the words (`SUCCESS`, `ERROR`), the names (`Status` and `StudentId` on success; `status`,
//! `Reason` and `error` on errors, with that difference in capitals), the codes and their messages.

use crate::sandbox::parameters::Parameters;

/// The outcome of a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// The student's id.
    Success(u64),
    /// A code with its message.
    Coded { code: String, message: String },
    /// Required parameters are missing; the vendor has no code for it.
    Missing(Vec<&'static str>),
}

impl Outcome {
    /// Creates an error from a published code and its published message.
    pub(super) fn coded(code: u16) -> Self {
        let message = match code {
            1001 => "Action is invalid",
            1002 => "Institution Id is invalid",
            1003 => "Invalid Api Credentials",
            1004 => "Student ID is invalid",
            1005 => "Group Name is invalid",
            1006 => "Status is invalid",
            1007 => "Username already exist",
            _ => "Maximum Student count is reached. You cannot add more students",
        };
        Outcome::Coded { code: code.to_string(), message: message.to_owned() }
    }
}

/// The names of the formats, the default first.
pub(super) const NAMES: &[&str] =
    &["kv", "kv_empty_error", "pipe", "comma", "words", "colon", "break", "json", "json_array", "xml"];

/// Writes the response in the format and code style of the switches.
pub(super) fn write(outcome: &Outcome, switches: &Parameters) -> String {
    let format = switches.text("response_format");
    match outcome {
        Outcome::Success(id) => success(&format, &id.to_string()),
        Outcome::Coded { code, message } => {
            let code = if switches.is("code_style", "error_number") { format!("ERROR {code}") } else { code.clone() };
            error(&format, &code, message)
        }
        Outcome::Missing(names) => {
            let sentences: Vec<_> = names.iter().map(|name| format!("{name} is required")).collect();
            missing(&format, &sentences.join(", "))
        }
    }
}

/// Writes a success in a format.
pub(super) fn success(format: &str, id: &str) -> String {
    match format {
        "kv_empty_error" => format!("Status=SUCCESS&StudentId={id}&error="),
        "pipe" => format!("SUCCESS|{id}"),
        "comma" => format!("SUCCESS,{id}"),
        "words" => format!("SUCCESS {id}"),
        "colon" => format!("Status: SUCCESS, StudentId: {id}"),
        "break" => format!("Status:SUCCESS<br/>StudentId:{id}"),
        "json" => format!("{{\"Status\":\"SUCCESS\",\"StudentId\":\"{id}\"}}"),
        "json_array" => format!("[{{\"Status\":\"SUCCESS\",\"StudentId\":{id}}}]"),
        "xml" => {
            format!("<Response><Status>SUCCESS</Status><StudentId>{id}</StudentId></Response>")
        }
        _ => format!("Status=SUCCESS&StudentId={id}"),
    }
}

/// Writes an error with a code in a format.
pub(super) fn error(format: &str, code: &str, message: &str) -> String {
    match format {
        "pipe" => format!("ERROR|{code}|{message}"),
        "comma" => format!("ERROR,{code},{message}"),
        // With the code style "ERROR 1007" the word would appear twice.
        "words" => format!("ERROR {} {message}", code.trim_start_matches("ERROR ")),
        "colon" => format!("status: ERROR, Reason: {code}, error: {message}"),
        "break" => format!("status:ERROR<br/>Reason:{code}<br/>error:{message}"),
        "json" => json_error(code, message),
        "json_array" => format!("[{}]", json_error(code, message)),
        "xml" => format!("<Response><status>ERROR</status><Reason>{code}</Reason><error>{message}</error></Response>"),
        _ => format!("status=ERROR&Reason={code}&error={message}"),
    }
}

fn missing(format: &str, sentences: &str) -> String {
    match format {
        "words" => format!("ERROR {sentences}"),
        "colon" => format!("status: ERROR, Reason: {sentences}"),
        _ => error(format, "Validation error", sentences),
    }
}

fn json_error(code: &str, message: &str) -> String {
    let (code, message) = (serde_json::Value::from(code), serde_json::Value::from(message));
    format!("{{\"status\":\"ERROR\",\"Reason\":{code},\"error\":{message}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_differs_for_successes_and_errors() {
        let mut seen = std::collections::BTreeSet::new();
        for format in NAMES {
            assert!(success(format, "12345").contains("12345"), "{format}");
            assert!(seen.insert(success(format, "12345")), "{format}");
            for text in [error(format, "1007", "Username already exist"), missing(format, "email is required")] {
                assert!(text.to_uppercase().contains("ERROR"), "{format}");
            }
        }
    }

    #[test]
    fn messages_are_as_published() {
        let message = |code| match Outcome::coded(code) {
            Outcome::Coded { message, .. } => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(message(1007), "Username already exist");
        assert_eq!(message(1008), "Maximum Student count is reached. You cannot add more students");
    }
}
