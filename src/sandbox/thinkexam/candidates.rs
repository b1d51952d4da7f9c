//! Registering or logging in candidates, one or many at a time.
//!
//! The e-mail address, in any case, is the key. How the vendor treats a batch with one bad row is undocumented and
//! therefore a switch.

use serde_json::{Map, Value};

use super::{Candidate, Refusal, ThinkExam, account, email_key, text};
use crate::sandbox::ordered_json::{Json, object};
use crate::sandbox::vendor::Context;

/// Fields stored with the candidate as received.
const KEPT: [&str; 19] = [
    "mobile",
    "gender",
    "dob",
    "extra1",
    "extra2",
    "extra3",
    "extra4",
    "extra5",
    "extra6",
    "extra7",
    "enrollment_number",
    "clientStudentUniqueId",
    "phone",
    "reg_date",
    "country",
    "state",
    "city",
    "address",
    "pincode",
];

impl ThinkExam {
    /// Handles `bulkCandidateRegister`: an array in, one item per row out.
    pub(super) fn register_many(&mut self, body: &Value, context: &mut Context<'_>) -> Result<Json, Refusal> {
        let rows = body.as_array().filter(|rows| !rows.is_empty()).ok_or_else(Refusal::generic)?;
        if context.struck_by("vendor_error") {
            return Err(Refusal::new(&context.fault_text("code"), context.fault_text("message")));
        }
        let mut checked: Vec<_> = rows.iter().map(check_row).collect();
        if context.struck_by("bulk_item_error")
            && let Some(row) = usize::try_from(context.fault_number("row")).ok().and_then(|row| checked.get_mut(row))
        {
            *row = Err(Refusal::new(&context.fault_text("code"), context.fault_text("message")));
        } else if context.switches.is("bulk_errors", "top_level") {
            checked.iter().try_for_each(|row| row.as_ref().map(|_| ()).map_err(Refusal::clone))?;
        }
        let stops_at_error =
            context.switches.is("bulk_errors", "top_level_after_earlier_rows") && !context.struck_by("bulk_item_error");
        let mut items = Vec::new();
        for row in checked {
            match row.and_then(|row| self.register(row, context)) {
                Ok(item) => items.push(item),
                Err(refusal) if stops_at_error => return Err(refusal),
                Err(refusal) => items.push(refusal.to_json()),
            }
        }
        if context.struck_by("bulk_fewer_items") {
            let left_out = usize::try_from(context.fault_number("items")).unwrap_or(1);
            items.truncate(items.len().saturating_sub(left_out));
        }
        if context.struck_by("bulk_shuffled") {
            items.reverse();
        }
        // Only this response has a capital S and the result last.
        Ok(object([("responseArray", Json::List(items)), ("result", "Success".into())]))
    }

    /// Handles `unifiedAuth`: the same for one candidate.
    pub(super) fn register_one(
        &mut self,
        body: &Map<String, Value>,
        context: &mut Context<'_>,
    ) -> Result<Json, Refusal> {
        check_fields(body)?;
        self.register(body, context)
    }

    /// Creates the candidate or finds the existing one, and adds the course; the quota is a switch.
    pub(super) fn register(&mut self, row: &Map<String, Value>, context: &mut Context<'_>) -> Result<Json, Refusal> {
        let key = email_key(&text(row, "email"));
        let is_new = !self.candidates.contains_key(&key);
        if is_new {
            let quota = context.switches.number("candidate_quota").and_then(|quota| usize::try_from(quota).ok());
            if quota.is_some_and(|quota| self.candidates.len() >= quota) {
                return Err(Refusal::generic());
            }
            let candidate = self.new_candidate(row);
            self.candidates.insert(key.clone(), candidate);
        }
        let Some(candidate) = self.candidates.get_mut(&key) else {
            return Err(Refusal::generic());
        };
        let course = text(row, "courseName");
        let joins = !course.is_empty() && !candidate.courses.contains(&course);
        if joins {
            candidate.courses.push(course);
        }
        let change = match (is_new, joins) {
            (true, _) => "created",
            (false, true) => "updated",
            (false, false) => "repeated",
        };
        context.effect(change, key.clone(), vec![("email", key), ("studentId", candidate.student_id.to_string())]);
        let message = if is_new { "Registration Successfull." } else { "Login Successfull." };
        let data = object([
            ("studentId", candidate.student_id.into()),
            ("enrollmentNo", candidate.enrollment_no.as_str().into()),
            ("profilePic", format!("https://{}/images/profile.png", account::CLIENT_URL).into()),
        ]);
        Ok(object([
            ("result", "success".into()),
            ("success", object([("msg", message.into())])),
            ("data", data),
            ("laravelToken", self.ids.token().into()),
        ]))
    }

    fn new_candidate(&mut self, row: &Map<String, Value>) -> Candidate {
        let student_id = self.next_student;
        self.next_student += 1;
        let given = text(row, "enrollment_number");
        let enrollment_no = if given.is_empty() { format!("GW{}", student_id - 85_638_919 + 2901) } else { given };
        let kept = KEPT.iter().filter_map(|name| row.get(*name).map(|value| ((*name).to_owned(), value.clone())));
        Candidate {
            student_id,
            enrollment_no,
            name: text(row, "name"),
            email: text(row, "email"),
            password: text(row, "password"),
            courses: Vec::new(),
            fields: kept.collect(),
        }
    }
}

/// Reads the two required fields and the course.
pub(super) fn check_fields(row: &Map<String, Value>) -> Result<(), Refusal> {
    if let Some(field) = ["name", "email"].iter().find(|field| text(row, field).is_empty()) {
        return Err(Refusal::blank(field));
    }
    let course = text(row, "courseName");
    if !course.is_empty() && !account::COURSES.contains(&course.as_str()) {
        return Err(Refusal::not_exist("courseName"));
    }
    Ok(())
}

fn check_row(row: &Value) -> Result<&Map<String, Value>, Refusal> {
    let row = row.as_object().ok_or_else(Refusal::generic)?;
    check_fields(row)?;
    Ok(row)
}
