//! The `ExamTesting` simulator: one page, two actions, and an undocumented response format.
//!
//! Like ASP.NET, it reads parameters from query and form alike, with names in any case. The response format is a
//! switch; none of its values is better founded than another.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use super::accounts::examtesting as account;
use crate::sandbox::http_types::{Answer, Body, Call};
use crate::sandbox::vendor::{Context, Order, Profile, Reaction, UNKNOWN, Vendor};
use formats::Outcome;

mod formats;
mod misbehaviour;

/// The static description of this vendor.
pub(super) const PROFILE: Profile = Profile {
    name: "examtesting",
    operations: &["add", "update", UNKNOWN],
    apart: &[],
    faults: misbehaviour::FAULTS,
    // Its responses are text; the format that happens to be JSON is written as such.
    without: &["extra_fields", "pascal_case", "numbers_as_strings", "strings_as_numbers", "json_in_string"],
    switches: misbehaviour::SWITCHES,
};

const PATH: &str = "/managecandidate.aspx";
const NOT_FOUND_PAGE: &str = "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\r\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\r\n<head>\r\n<title>404 - File or directory not found.</title>\r\n</head>\r\n<body>\r\n<div id=\"header\"><h1>Server Error</h1></div>\r\n<h2>404 - File or directory not found.</h2>\r\n</body>\r\n</html>\r\n";
const FIRST_STUDENT: u64 = 12_345;

/// The state of the institute.
pub(super) struct ExamTesting {
    next_student: u64,
    students: BTreeMap<u64, Student>,
    /// Students by user name in lower case; more than one after a double creation.
    usernames: HashMap<String, BTreeSet<u64>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Student {
    enabled: bool,
    /// Every parameter except the credentials, by lower-case name, as last sent.
    fields: BTreeMap<String, String>,
}

/// The parameters of a call: query before form, as ASP.NET's `Request[name]` looks them up.
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn of(call: &Call) -> Self {
        let mut all = BTreeMap::new();
        for (name, value) in call.query_pairs().into_iter().chain(call.form_pairs()) {
            all.entry(name.to_ascii_lowercase()).or_insert(value);
        }
        Parameters(all)
    }

    /// Returns a parameter by its lower-case name; a blank one counts as absent.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn action(&self) -> &'static str {
        match self.get("action").map(str::to_ascii_lowercase).as_deref() {
            Some("add") => "add",
            Some("update") => "update",
            _ => UNKNOWN,
        }
    }

    fn without_credentials(self) -> BTreeMap<String, String> {
        let mut fields = self.0;
        fields.retain(|name, _| !["action", "institutionid", "apikey", "apipass"].contains(&name.as_str()));
        fields
    }
}

impl ExamTesting {
    /// Creates the institute in its seed state.
    pub(super) fn new() -> Self {
        ExamTesting { next_student: FIRST_STUDENT, students: BTreeMap::new(), usernames: HashMap::new() }
    }

    fn perform(&mut self, parameters: Parameters, context: &mut Context<'_>) -> Outcome {
        let action = parameters.action();
        if let Err(refusal) = check_caller(&parameters, action) {
            return refusal;
        }
        if context.struck_by("vendor_error") {
            return Outcome::Coded { code: context.fault_text("code"), message: context.fault_text("message") };
        }
        match self.check_student(&parameters, action, context) {
            Err(refusal) => refusal,
            Ok(Some(student)) => self.update(student, parameters, context),
            Ok(None) => self.add(parameters, context),
        }
    }

    /// Checks the person, in the order of the published codes. Returns the student to update, or none to add.
    fn check_student(
        &self,
        parameters: &Parameters,
        action: &str,
        context: &Context<'_>,
    ) -> Result<Option<u64>, Outcome> {
        let is_update = action == "update";
        let mut required = vec![("groupname", "groupName"), ("email", "email"), ("username", "username")];
        // The vendor does not document what an update requires; a caller that does not store passwords must be able to
        // update.
        if !is_update || context.switches.flag("update_requires_password") {
            required.push(("password", "password"));
        }
        let missing: Vec<_> =
            required.iter().filter(|(name, _)| parameters.get(name).is_none()).map(|(_, name)| *name).collect();
        if !missing.is_empty() {
            return Err(Outcome::Missing(missing));
        }
        let student = self.find_student(parameters.get("stusid"), is_update)?;
        if !parameters.get("groupname").is_some_and(|group| account::GROUPS.contains(&group)) {
            return Err(Outcome::coded(1005));
        }
        if parameters
            .get("status")
            .is_some_and(|status| !["true", "false"].contains(&status.to_ascii_lowercase().as_str()))
        {
            return Err(Outcome::coded(1006));
        }
        let holders = self.usernames.get(&name_key(parameters.get("username").unwrap_or_default()));
        let is_taken = holders.is_some_and(|ids| ids.iter().any(|id| Some(*id) != student));
        if is_taken && !context.struck_by("double_creation") {
            return Err(Outcome::coded(1007));
        }
        if !is_update && self.is_full(context) {
            return Err(Outcome::coded(1008));
        }
        Ok(student)
    }

    /// Resolves `stusID`, whose meaning is undocumented. On `add` it is stored as the customer's own id; on `update` it
    /// may be that id or the `StudentId` returned before.
    fn find_student(&self, id: Option<&str>, is_update: bool) -> Result<Option<u64>, Outcome> {
        let plausible = |id: &str| id.len() <= 100 && id.chars().all(|c| c.is_alphanumeric() || "-_.@:/+ ".contains(c));
        match id {
            Some(id) if !plausible(id) => Err(Outcome::coded(1004)),
            _ if !is_update => Ok(None),
            None => Err(Outcome::coded(1004)),
            Some(id) => {
                let by_number = id.parse().ok().filter(|number| self.students.contains_key(number));
                let by_own_id = || {
                    let own = |student: &Student| student.fields.get("stusid").is_some_and(|own| own.trim() == id);
                    self.students.iter().find(|(_, student)| own(student)).map(|(number, _)| *number)
                };
                by_number.or_else(by_own_id).map(Some).ok_or_else(|| Outcome::coded(1004))
            }
        }
    }

    fn is_full(&self, context: &Context<'_>) -> bool {
        let limit = context.switches.number("student_limit").and_then(|limit| usize::try_from(limit).ok());
        let counts_all = context.switches.flag("disabled_count");
        let counted = || self.students.values().filter(|student| student.enabled || counts_all).count();
        limit.is_some_and(|limit| counted() >= limit)
    }

    fn add(&mut self, parameters: Parameters, context: &mut Context<'_>) -> Outcome {
        let id = self.new_id(context);
        let enabled = is_enabled(&parameters).unwrap_or(true);
        let keys = keys_of(id, &parameters);
        self.usernames.entry(name_key(&keys[0].1)).or_default().insert(id);
        context.effect("created", keys[0].1.clone(), keys);
        self.students.insert(id, Student { enabled, fields: parameters.without_credentials() });
        Outcome::Success(id)
    }

    /// Returns the id set by the switch if it is free, else the next in sequence.
    fn new_id(&mut self, context: &Context<'_>) -> u64 {
        let ordered = context.switches.number("next_student_id").and_then(|id| u64::try_from(id).ok());
        if let Some(id) = ordered.filter(|id| !self.students.contains_key(id)) {
            return id;
        }
        while self.students.contains_key(&self.next_student) {
            self.next_student += 1;
        }
        self.next_student += 1;
        self.next_student - 1
    }

    fn update(&mut self, id: u64, parameters: Parameters, context: &mut Context<'_>) -> Outcome {
        let Some(student) = self.students.get_mut(&id) else {
            return Outcome::coded(1004);
        };
        let mut changed = student.clone();
        changed.enabled = is_enabled(&parameters).unwrap_or(student.enabled);
        let keys = keys_of(id, &parameters);
        let mut fields = parameters.without_credentials();
        // It identified the student; the customer's own id given on `add` stays.
        fields.remove("stusid");
        changed.fields.extend(fields);
        if let Some(ids) = student.fields.get("username").and_then(|old| self.usernames.get_mut(&name_key(old.trim())))
        {
            ids.remove(&id);
        }
        self.usernames.entry(name_key(&keys[0].1)).or_default().insert(id);
        let change = if changed == *student { "repeated" } else { "updated" };
        *student = changed;
        context.effect(change, keys[0].1.clone(), keys);
        Outcome::Success(id)
    }
}

impl Vendor for ExamTesting {
    fn operation(&self, call: &Call) -> &'static str {
        if call.path.eq_ignore_ascii_case(PATH) { Parameters::of(call).action() } else { UNKNOWN }
    }

    fn answer(&mut self, call: &Call, context: &mut Context<'_>) -> Answer {
        if !call.path.eq_ignore_ascii_case(PATH) || !["GET", "POST"].contains(&call.method.as_str()) {
            return Answer::html(404, NOT_FOUND_PAGE);
        }
        let parameters = Parameters::of(call);
        let is_dangerous = |value: &String| value.contains('<') || value.contains("&#");
        if context.switches.flag("request_validation") && parameters.0.values().any(is_dangerous) {
            return Answer::html(500, misbehaviour::VALIDATION_PAGE);
        }
        let outcome = self.perform(parameters, context);
        let body =
            misbehaviour::distorted(&outcome, context).unwrap_or_else(|| formats::write(&outcome, context.switches));
        Answer::new(200, &context.switches.text("content_type"), Body::Text(body))
    }

    fn error(&self, status: u16, message: &str) -> Answer {
        let body = format!("status=ERROR&Reason=Validation error&error={message}");
        Answer::new(status, "text/html; charset=utf-8", Body::Text(body))
    }

    fn arrive(&mut self, _: &Call, _: &Context<'_>) {
        // The log of calls is enough here.
    }

    fn control(&mut self, _: &Order<'_>) -> Option<Result<Reaction, String>> {
        None
    }

    fn state(&self) -> Value {
        let students = self.students.iter().map(|(id, student)| {
            json!({ "studentId": id.to_string(), "enabled": student.enabled, "fields": student.fields })
        });
        json!({ "students": students.collect::<Vec<_>>() })
    }

    fn reset(&mut self) {
        // Keep counting ids, so that an id issued before a reset never refers to someone else after it.
        self.students.clear();
        self.usernames.clear();
    }
}

fn check_caller(parameters: &Parameters, action: &str) -> Result<(), Outcome> {
    if action == UNKNOWN {
        return Err(Outcome::coded(1001));
    }
    if parameters.get("institutionid") != Some(account::INSTITUTION_ID) {
        return Err(Outcome::coded(1002));
    }
    if parameters.get("apikey") != Some(account::API_KEY) || parameters.get("apipass") != Some(account::API_PASS) {
        return Err(Outcome::coded(1003));
    }
    Ok(())
}

/// Normalises a user name. Whether names are case-insensitive is undocumented; here they are.
fn name_key(username: &str) -> String {
    username.to_lowercase()
}

fn is_enabled(parameters: &Parameters) -> Option<bool> {
    parameters.get("status").map(|status| status.eq_ignore_ascii_case("true"))
}

/// Returns the keys of an effect, the user name first.
fn keys_of(id: u64, parameters: &Parameters) -> Vec<(&'static str, String)> {
    let text = |name| parameters.get(name).unwrap_or_default().to_owned();
    vec![("username", text("username")), ("studentId", id.to_string()), ("email", text("email"))]
}
