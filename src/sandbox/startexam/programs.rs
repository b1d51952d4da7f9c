//! Employees in programs: membership, attempts, and counters that count real changes only.
//!
//! The vendor documents the five counters but not repeated calls; that these count zero is an assumption.

use std::collections::BTreeSet;

use super::program_setup::Program;
use super::{Refusal, StartExam};
use crate::sandbox::ordered_json::{Json, object};
use crate::sandbox::startexam::validate::Fields;
use crate::sandbox::vendor::Context;

/// Published limit of each list.
const EMPLOYEES_MAX: usize = 500;

/// Numbers of changed employees and attempts.
#[derive(Default)]
struct Counts {
    employees: usize,
    attempts: usize,
}

impl StartExam {
    /// Handles `POST /v1/program/employees`: adds employees to a program and removes others.
    pub(super) fn register_program_employees(
        &mut self,
        fields: &Fields<'_>,
        context: &mut Context<'_>,
    ) -> Result<Json, Refusal> {
        let id = fields.guid("programId")?;
        let external_id = fields.text("programExternalId")?;
        if id.is_none() && external_id.is_none() {
            return Err(Refusal::bad("'programId' or 'programExternalId' is required"));
        }
        let selected = read_scope(fields)?;
        let coming = fields.texts("registerEmployees", (0, EMPLOYEES_MAX))?;
        let going = fields.texts("unregisterEmployees", (0, EMPLOYEES_MAX))?;
        if let Some(both) = coming.iter().find(|id| going.contains(id)) {
            return Err(Refusal::bad(format!("Employee '{both}' is in both lists")));
        }
        let index = self.find_program(id.as_deref(), external_id, context)?;
        let status = self.programs[index].status;
        if status != "active" && context.switches.is("inactive_program", "refused") {
            return Err(Refusal::bad(format!("The program is {status}")));
        }
        let tests = covered_tests(&self.programs[index], selected, context)?;
        if let Some(unknown) = coming.iter().chain(&going).find(|id| !self.employees.contains_key(*id)) {
            return Err(Refusal::unknown(context, "Employee", unknown));
        }
        if let Some(hidden) = coming.iter().find(|id| self.employees.get(*id).is_some_and(|employee| employee.hidden))
            && context.switches.is("hidden_employee", "refused")
        {
            return Err(Refusal::bad(format!("Employee '{hidden}' is hidden")));
        }
        let program = &mut self.programs[index];
        let registered = register(program, &coming, &tests, context);
        let unregistered = unregister(program, &going, &tests, context);
        Ok(object([
            ("employeesRegistered", registered.employees.into()),
            ("attemptsRegistered", registered.attempts.into()),
            ("employeesUnregistered", unregistered.employees.into()),
            ("attemptsUnregistered", unregistered.attempts.into()),
            ("totalEmployeesInProgram", program.members.len().into()),
        ]))
    }

    fn find_program(
        &self,
        id: Option<&str>,
        external_id: Option<&str>,
        context: &Context<'_>,
    ) -> Result<usize, Refusal> {
        let found = self.programs.iter().position(|program| {
            id.is_none_or(|id| id == program.id)
                && external_id.is_none_or(|id| program.external_id.as_deref() == Some(id))
        });
        found.ok_or_else(|| Refusal::unknown(context, "Program", id.or(external_id).unwrap_or_default()))
    }
}

/// Returns the selected module tests; `None` for all.
fn read_scope(fields: &Fields<'_>) -> Result<Option<Vec<String>>, Refusal> {
    let tests = fields.guids("moduleTests", (0, usize::MAX))?;
    match fields.required_text("moduleTestsScope")?.to_ascii_lowercase().as_str() {
        "all" if tests.is_empty() => Ok(None),
        "all" => Err(Refusal::bad("'moduleTests' must be null when 'moduleTestsScope' is all")),
        "selected" if tests.is_empty() => {
            Err(Refusal::bad("'moduleTests' is required when 'moduleTestsScope' is selected"))
        }
        "selected" => Ok(Some(tests)),
        other => Err(Refusal::bad(format!("'moduleTestsScope' must be all or selected, not '{other}'"))),
    }
}

fn covered_tests(
    program: &Program,
    selected: Option<Vec<String>>,
    context: &Context<'_>,
) -> Result<BTreeSet<String>, Refusal> {
    let Some(selected) = selected else {
        return Ok(program.module_tests());
    };
    if !program.manual {
        return Err(Refusal::bad("'moduleTestsScope' selected needs a program in manual mode"));
    }
    let mut tests = BTreeSet::new();
    for id in selected {
        let named = program.named(&id);
        if named.is_empty() {
            return Err(Refusal::unknown(context, "Module test", &id));
        }
        tests.extend(named);
    }
    Ok(tests)
}

fn register(
    program: &mut Program,
    employees: &[String],
    tests: &BTreeSet<String>,
    context: &mut Context<'_>,
) -> Counts {
    let mut counts = Counts::default();
    for employee in employees {
        let is_new = !program.members.contains_key(employee);
        let held = program.members.remove(employee).unwrap_or_default();
        let added = tests.difference(&held).map(|test| program.attempts(test, context)).sum();
        program.members.insert(employee.clone(), held.union(tests).cloned().collect());
        counts.employees += usize::from(is_new);
        counts.attempts += added;
        let change = match (is_new, added) {
            (true, _) => "created",
            (false, 0) => "repeated",
            (false, _) => "updated",
        };
        note(&program.id, employee, change, added, context);
    }
    counts
}

fn unregister(
    program: &mut Program,
    employees: &[String],
    tests: &BTreeSet<String>,
    context: &mut Context<'_>,
) -> Counts {
    let mut counts = Counts::default();
    for employee in employees {
        let Some(held) = program.members.remove(employee) else {
            note(&program.id, employee, "repeated", 0, context);
            continue;
        };
        let removed = held.intersection(tests).map(|test| program.attempts(test, context)).sum();
        let left: BTreeSet<_> = held.difference(tests).cloned().collect();
        let is_out = left.is_empty();
        if !is_out {
            program.members.insert(employee.clone(), left);
        }
        counts.employees += usize::from(is_out);
        counts.attempts += removed;
        note(
            &program.id,
            employee,
            if removed == 0 && !is_out { "repeated" } else { "unregistered" },
            removed,
            context,
        );
    }
    counts
}

fn note(program: &str, employee: &str, change: &'static str, attempts: usize, context: &mut Context<'_>) {
    let keys =
        vec![("program", program.to_owned()), ("employee", employee.to_owned()), ("attempts", attempts.to_string())];
    context.effect(change, format!("{program}/{employee}"), keys);
}
