//! Employees, their registrations, and participants with their own personal data.
//!
//! All checks run before the first change: a rejected call changes nothing. This is an assumption; the vendor does not
//! document how an unknown employee affects the others in the call.

use std::collections::BTreeMap;

use crate::sandbox::ordered_json::{Json, object};
use crate::sandbox::startexam::validate::{Fields, no_repeats};
use crate::sandbox::startexam::{Booking, Employee, Participant, Refusal, StartExam, account};
use crate::sandbox::vendor::Context;

/// Published limits: employees and participants per registration, tests per registration, characters of an employee id.
const EMPLOYEES_MAX: usize = 500;
const PARTICIPANTS_MAX: usize = 1000;
const TESTS_MAX: usize = 10;
const EMPLOYEE_ID_MAX: usize = 250;

/// The common part of both kinds of registration.
struct Envelope {
    center: String,
    tests: Vec<String>,
    proctoring: bool,
}

impl StartExam {
    /// Handles `POST /v1/employees`: adds or updates by the customer's id.
    pub(super) fn sync_employees(&mut self, fields: &Fields<'_>, context: &mut Context<'_>) -> Result<Json, Refusal> {
        let profile = fields.guid("profileId")?.ok_or_else(|| Refusal::bad("'profileId' is required"))?;
        // The vendor publishes no maximum for this call.
        let rows = fields.list("employees", (1, usize::MAX))?;
        let rows = rows.iter().map(read_employee).collect::<Result<Vec<_>, _>>()?;
        no_repeats(rows.iter().map(|(id, _)| id.as_str()), "Employee")?;
        if profile != account::PROFILE_ID {
            return Err(Refusal::unknown(context, "Profile", &profile));
        }
        for (id, employee) in rows {
            self.upsert(id, employee, context);
        }
        Ok(if context.switches.is("employees_answer", "empty") { Json::Null } else { Json::Object(Vec::new()) })
    }

    /// Handles `POST /v2/employees-participants`: registers known employees for tests.
    pub(super) fn register_employees(
        &mut self,
        fields: &Fields<'_>,
        context: &mut Context<'_>,
    ) -> Result<Json, Refusal> {
        let envelope = read_envelope(fields)?;
        let keep_existing = fields.flag("doNotCreateIfExist")?;
        let rows = fields.list("employees", (1, EMPLOYEES_MAX))?;
        let employees = rows.iter().map(read_employee_id).collect::<Result<Vec<_>, _>>()?;
        no_repeats(employees.iter().map(String::as_str), "Employee")?;
        self.check_envelope(&envelope, context)?;
        for id in &employees {
            let employee = self.employees.get(id).ok_or_else(|| Refusal::unknown(context, "Employee", id))?;
            if employee.hidden && context.switches.is("hidden_employee", "refused") {
                return Err(Refusal::bad(format!("Employee '{id}' is hidden")));
            }
        }
        let ids = self.register_all(&envelope, &employees, keep_existing, context);
        Ok(object([("participantIds", Json::List(ids))]))
    }

    /// Handles `POST /v2/participants`: registers people by their data alone.
    pub(super) fn register_participants(
        &mut self,
        fields: &Fields<'_>,
        context: &mut Context<'_>,
    ) -> Result<Json, Refusal> {
        let envelope = read_envelope(fields)?;
        let rows = fields.list("participants", (1, PARTICIPANTS_MAX))?;
        let rows =
            rows.iter().map(|row| Fields::of(row, "A participant")?.pairs("data")).collect::<Result<Vec<_>, _>>()?;
        self.check_envelope(&envelope, context)?;
        let mut ids = Vec::new();
        for data in rows {
            let id = self.ids.guid();
            let keys = vec![
                ("participantId", id.clone()),
                ("center", envelope.center.clone()),
                ("tests", envelope.tests.join(",")),
            ];
            context.effect("created", id.clone(), keys);
            let person = Participant { center: envelope.center.clone(), tests: envelope.tests.clone(), data };
            self.participants.insert(id.clone(), person);
            ids.push(Json::Text(id));
        }
        Ok(object([("participantIds", Json::List(ids))]))
    }

    fn upsert(&mut self, id: String, employee: Employee, context: &mut Context<'_>) {
        let change = match self.employees.get_mut(&id) {
            None => {
                self.employees.insert(id.clone(), employee);
                "created"
            }
            Some(known) => {
                let before = known.clone();
                known.hidden = employee.hidden;
                // Absent fields stay unchanged; the vendor does not document this.
                known.data.extend(employee.data);
                if *known == before { "repeated" } else { "updated" }
            }
        };
        context.effect(change, id.clone(), vec![("employee", id)]);
    }

    fn check_envelope(&self, envelope: &Envelope, context: &Context<'_>) -> Result<(), Refusal> {
        if envelope.center != account::CENTER {
            return Err(Refusal::unknown(context, "Center", &envelope.center));
        }
        if let Some(unknown) = envelope.tests.iter().find(|id| self.tests.iter().all(|test| test.id != **id)) {
            return Err(Refusal::unknown(context, "Test", unknown));
        }
        if envelope.proctoring && !context.switches.flag("proctoring_allowed") {
            return Err(Refusal::bad("Proctoring is not available for the account"));
        }
        Ok(())
    }

    fn register_all(
        &mut self,
        envelope: &Envelope,
        employees: &[String],
        keep: bool,
        context: &mut Context<'_>,
    ) -> Vec<Json> {
        let mut pairs: Vec<(&[String], &String)> = Vec::new();
        match context.switches.text("several_tests").as_str() {
            "employees_outer" => {
                for id in employees {
                    pairs.extend(envelope.tests.chunks(1).map(|test| (test, id)));
                }
            }
            "tests_outer" => {
                for test in envelope.tests.chunks(1) {
                    pairs.extend(employees.iter().map(|id| (test, id)));
                }
            }
            _ => pairs.extend(employees.iter().map(|id| (envelope.tests.as_slice(), id))),
        }
        pairs
            .into_iter()
            .filter_map(|(tests, employee)| self.register_one(&envelope.center, tests, employee, keep, context))
            .collect()
    }

    /// Registers an employee for the tests one id covers and returns the id; `None` if the response omits the row.
    fn register_one(
        &mut self,
        center: &str,
        tests: &[String],
        employee: &str,
        keep: bool,
        context: &mut Context<'_>,
    ) -> Option<Json> {
        let key = |test: &String| (center.to_owned(), test.clone(), employee.to_owned());
        let known: Vec<_> =
            tests.iter().map(|test| self.registrations.get(&key(test)).and_then(|ids| ids.last().cloned())).collect();
        let skipped = keep && known.iter().all(Option::is_some);
        let id = match known.first() {
            Some(Some(id)) if skipped => id.clone(),
            _ => self.ids.guid(),
        };
        for (test, known) in tests.iter().zip(known) {
            let repeated = keep && known.is_some();
            let participant = known.filter(|_| repeated).unwrap_or_else(|| id.clone());
            let keys = vec![
                ("center", center.to_owned()),
                ("test", test.clone()),
                ("employee", employee.to_owned()),
                ("participantId", participant),
            ];
            context.effect(if repeated { "repeated" } else { "created" }, format!("{center}/{test}/{employee}"), keys);
            if !repeated {
                self.registrations.entry(key(test)).or_default().push(id.clone());
                let booking = Booking { employee: employee.to_owned(), tests: Vec::new() };
                self.bookings.entry(id.clone()).or_insert(booking).tests.push(test.clone());
            }
        }
        match context.switches.text("existing_registration").as_str() {
            "left_out" if skipped => None,
            "null" if skipped => Some(Json::Null),
            _ => Some(Json::Text(id)),
        }
    }
}

fn read_envelope(fields: &Fields<'_>) -> Result<Envelope, Refusal> {
    let center = fields.required_text("center")?.to_owned();
    let tests = fields.guids("tests", (1, TESTS_MAX))?;
    no_repeats(tests.iter().map(String::as_str), "Test")?;
    if let (Some(from), Some(till)) = (fields.time("validFrom")?, fields.time("validTill")?)
        && till <= from
    {
        return Err(Refusal::bad("'validTill' must be later than 'validFrom'"));
    }
    let proctoring = fields.flag("proctoring")?;
    if !fields.pairs("proctoringActivationParameters")?.is_empty() && !proctoring {
        return Err(Refusal::bad("'proctoringActivationParameters' need 'proctoring'"));
    }
    Ok(Envelope { center, tests, proctoring })
}

fn read_employee_id(row: &serde_json::Value) -> Result<String, Refusal> {
    let fields = Fields::of(row, "An employee")?;
    let id = fields.required_text("id")?;
    if id.chars().count() > EMPLOYEE_ID_MAX {
        return Err(Refusal::bad("'id' of an employee must have at most 250 characters"));
    }
    Ok(id.to_owned())
}

fn read_employee(row: &serde_json::Value) -> Result<(String, Employee), Refusal> {
    let fields = Fields::of(row, "An employee")?;
    let id = read_employee_id(row)?;
    let hidden = match fields.required_text("status")?.to_ascii_lowercase().as_str() {
        "active" => false,
        "hidden" => true,
        other => {
            return Err(Refusal::bad(format!("'status' must be active or hidden, not '{other}'")));
        }
    };
    let data: BTreeMap<_, _> = fields.pairs("data")?.into_iter().collect();
    for (name, value) in &data {
        if !account::PROFILE_FIELDS.contains(&name.as_str()) {
            return Err(Refusal::bad(format!("The profile has no field '{name}'")));
        }
        if name == "Email" && !value.is_empty() && !value.contains('@') {
            return Err(Refusal::bad(format!("'{value}' is not valid for the field 'Email'")));
        }
    }
    Ok((id, Employee { hidden, data }))
}
