//! Assigning and withdrawing tests, changing a password, and the mails sent on the way.

use serde_json::{Map, Value};

use super::{Refusal, ThinkExam, account, email_key, success, text};
use crate::sandbox::ordered_json::Json;
use crate::sandbox::vendor::Context;

/// The published message with mail.
const ASSIGNED_AND_MAILED: &str = "Test is assigned and mail has been sent successfully";
/// The message without mail; invented, since it is not published.
const ASSIGNED: &str = "Test is assigned successfully";
/// The published message.
const WITHDRAWN: &str = "Test successfully deassigned from the candidate";

impl ThinkExam {
    /// Handles `assignTest`.
    pub(super) fn assign_one(&mut self, body: &Map<String, Value>, context: &mut Context<'_>) -> Result<Json, Refusal> {
        let email = required(body, "email")?;
        self.assign(&[email], body, context)
    }

    /// Handles `assignTestMultiCandidates`: one response for all, and all or none, which is an assumption.
    pub(super) fn assign_many(
        &mut self,
        body: &Map<String, Value>,
        context: &mut Context<'_>,
    ) -> Result<Json, Refusal> {
        let emails = body.get("email").and_then(Value::as_array).filter(|emails| !emails.is_empty());
        let emails = emails.ok_or_else(|| Refusal::required("email"))?;
        let emails = emails.iter().map(|email| email.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
        self.assign(&emails.ok_or_else(Refusal::generic)?, body, context)
    }

    /// Handles `deassignTest`.
    pub(super) fn withdraw(&mut self, body: &Map<String, Value>, context: &mut Context<'_>) -> Result<Json, Refusal> {
        let key = (email_key(&required(body, "email")?), required(body, "testId")?);
        self.check_references(&key.0, &key.1)?;
        let was_assigned = self.assignments.remove(&key).is_some();
        if !was_assigned && context.switches.is("withdraw_unassigned", "error") {
            return Err(Refusal::generic());
        }
        note(context, if was_assigned { "unregistered" } else { "repeated" }, &key);
        Ok(success("200", WITHDRAWN))
    }

    /// Handles `changeStudentPassword`.
    pub(super) fn change_password(
        &mut self,
        body: &Map<String, Value>,
        context: &mut Context<'_>,
    ) -> Result<Json, Refusal> {
        let email = email_key(&required(body, "email")?);
        let (old, new) = (required(body, "oldPassword")?, required(body, "newPassword")?);
        let candidate = self.candidates.get_mut(&email).filter(|candidate| candidate.password == old);
        candidate.ok_or_else(Refusal::generic)?.password = new;
        context.effect("updated", email.clone(), vec![("email", email)]);
        Ok(success("200", "Password change successfull."))
    }

    fn assign(
        &mut self,
        emails: &[String],
        body: &Map<String, Value>,
        context: &mut Context<'_>,
    ) -> Result<Json, Refusal> {
        let test = required(body, "testId")?;
        let mails = read_flag(body, "isMailEnable", context)?;
        read_flag(body, "isPasswordSkip", context)?;
        let keys: Vec<_> = emails.iter().map(|email| (email_key(email), test.clone())).collect();
        for key in &keys {
            self.check_references(&key.0, &key.1)?;
            if self.assignments.contains_key(key) && context.switches.is("assign_again", "error") {
                return Err(Refusal::generic());
            }
        }
        let mails_anyway = context.switches.flag("mail_although_off");
        for key in keys {
            let times = self.assignments.entry(key.clone()).or_default();
            *times += 1;
            note(context, if *times == 1 { "created" } else { "repeated" }, &key);
            if mails || mails_anyway {
                note(context, "mail_sent", &key);
                *self.mails.entry(key).or_default() += 1;
            }
        }
        Ok(success("200", if mails || mails_anyway { ASSIGNED_AND_MAILED } else { ASSIGNED }))
    }

    /// Builds the error for an unknown candidate or test. It is undocumented; the published "not exist" is the closest.
    fn check_references(&self, email: &str, test: &str) -> Result<(), Refusal> {
        if !self.candidates.contains_key(email) {
            return Err(Refusal::not_exist("email"));
        }
        if !account::TESTS.iter().any(|(id, _)| *id == test) {
            return Err(Refusal::not_exist("testId"));
        }
        Ok(())
    }
}

fn required(body: &Map<String, Value>, name: &str) -> Result<String, Refusal> {
    let text = text(body, name);
    if text.is_empty() { Err(Refusal::required(name)) } else { Ok(text) }
}

/// Reads a flag: `"0"` or `"1"`, off if absent; numbers and booleans too, by switch.
fn read_flag(body: &Map<String, Value>, name: &str, context: &Context<'_>) -> Result<bool, Refusal> {
    let loose = context.switches.is("flags", "loose");
    match body.get(name) {
        None => Ok(false),
        Some(Value::String(text)) if text == "0" || text == "1" => Ok(text == "1"),
        Some(Value::Bool(flag)) if loose => Ok(*flag),
        Some(Value::Number(number)) if loose => Ok(number.as_i64() == Some(1)),
        Some(_) => Err(Refusal::generic()),
    }
}

fn note(context: &mut Context<'_>, change: &'static str, key: &(String, String)) {
    let keys = vec![("email", key.0.clone()), ("testId", key.1.clone())];
    context.effect(change, format!("{}/{}", key.0, key.1), keys);
}
