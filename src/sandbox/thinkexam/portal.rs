//! The two calls of the candidate portal, which use `Custom-Header` instead of a signature, and Base64 passwords.
//!
//! The vendor does not publish the responses of `newUser`; here they are those of `unifiedAuth`.

use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::candidates::check_fields;
use super::{Refusal, ThinkExam, account, email_key, text};
use crate::sandbox::http_types::Call;
use crate::sandbox::ordered_json::{Json, object};
use crate::sandbox::vendor::Context;

/// Checks `Custom-Header`, a JSON object that names the client.
pub(super) fn check_header(call: &Call) -> Result<(), Refusal> {
    let header: Value = serde_json::from_str(call.header("custom-header").unwrap_or_default()).unwrap_or_default();
    // The vendor does not publish the rejection.
    if header.get("name").and_then(Value::as_str) == Some(account::CLIENT_URL) {
        Ok(())
    } else {
        Err(Refusal::generic())
    }
}

impl ThinkExam {
    /// Handles `newUser`.
    pub(super) fn new_user(&mut self, body: &Map<String, Value>, context: &mut Context<'_>) -> Result<Json, Refusal> {
        let mut row = body.clone();
        if text(body, "courseName").is_empty() {
            let number = text(body, "courseId");
            if number.is_empty() {
                return Err(Refusal::blank("courseName"));
            }
            let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let course =
                index.and_then(|index| account::COURSES.get(index)).ok_or_else(|| Refusal::not_exist("courseId"))?;
            row.insert("courseName".to_owned(), json!(course));
        }
        check_fields(&row)?;
        let password = text(body, "password");
        if !password.is_empty() {
            row.insert(
                "password".to_owned(),
                json!(decode(&password).filter(|clear| is_strong(clear)).ok_or_else(Refusal::generic)?),
            );
        }
        self.register(&row, context)
    }

    /// Handles `checkLogin`.
    pub(super) fn check_login(&mut self, body: &Map<String, Value>) -> Json {
        let (email, password) = (email_key(&text(body, "email")), decode(&text(body, "password")));
        let (access, laravel) = (self.ids.token(), self.ids.token());
        let candidate = self.candidates.get(&email).filter(|candidate| Some(&candidate.password) == password.as_ref());
        let Some(candidate) = candidate else {
            return object([("result", "no_record".into())]);
        };
        let host = account::CLIENT_URL;
        let data = object([
            ("name", candidate.name.as_str().into()),
            ("email", candidate.email.as_str().into()),
            ("course", candidate.courses.first().cloned().unwrap_or_default().into()),
            ("studentId", candidate.student_id.into()),
            ("cbtName", "".into()),
            ("sectorId", 0_i64.into()),
            ("enrollmentNo", candidate.enrollment_no.as_str().into()),
            ("profilePic", format!("https://{host}/images/profile.png").into()),
            ("redirectionUrl", format!("https://{host}/autoLogin/{access}").into()),
            ("isIHRPEnable", 0_i64.into()),
            ("loginStatus", Json::Null),
            ("isPhc", 0_i64.into()),
        ]);
        object([
            ("result", "success".into()),
            ("success", object([("message", "Login successfully".into()), ("code", 200_i64.into())])),
            ("data", data),
            ("ACCESS_TOKEN", access.into()),
            ("LARAVEL_TOKEN", laravel.into()),
        ])
    }
}

fn decode(password: &str) -> Option<String> {
    String::from_utf8(BASE64.decode(password.as_bytes()).ok()?).ok()
}

/// Checks the published rule: eight characters with upper case, lower case and a special one.
fn is_strong(password: &str) -> bool {
    password.chars().count() >= 8
        && password.chars().any(char::is_uppercase)
        && password.chars().any(char::is_lowercase)
        && password.chars().any(|character| !character.is_alphanumeric())
}
