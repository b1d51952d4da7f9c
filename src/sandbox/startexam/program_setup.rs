//! Programs: their structure, and creating or changing one with `POST /v1/program`.
//!
//! The vendor publishes the request's fields up to `moduleTestMaxAttempts`, and which of them are fixed after creation.
//! Assumed: that an update leaves absent fields unchanged, that an automatic program gives its employees every test it
//! gains, and the response, which is not published.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Refusal, StartExam, Test, account};
use crate::sandbox::ordered_json::{Json, object};
use crate::sandbox::startexam::validate::{Fields, no_repeats};
use crate::sandbox::vendor::Context;

/// Published limit of the titles of programs and modules.
const TITLE_MAX: usize = 100;

/// A program with its modules and the employees in it.
#[derive(Clone, PartialEq)]
pub(super) struct Program {
    pub id: String,
    pub external_id: Option<String>,
    pub title: String,
    pub status: &'static str,
    /// Manual mode: the caller chooses who takes which test; fixed after creation.
    pub manual: bool,
    modules: Vec<Module>,
    /// Module tests each employee has attempts for.
    pub members: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone, PartialEq)]
struct Module {
    id: String,
    external_id: Option<String>,
    title: String,
    tests: Vec<ModuleTest>,
}

#[derive(Clone, PartialEq)]
struct ModuleTest {
    id: String,
    test_id: String,
    max_attempts: u32,
}

/// Whether an object already existed.
#[derive(Clone, Copy, PartialEq)]
enum Found {
    New,
    Known,
}

impl Program {
    /// Creates a seed program: one module, whose module tests have the ids of their tests.
    pub(super) fn seed(id: &str, external_id: &str, manual: bool, tests: &[(&str, &str)]) -> Self {
        let test = |(id, _): &(&str, &str)| ModuleTest { id: (*id).into(), test_id: (*id).into(), max_attempts: 1 };
        let tests = tests.iter().map(test).collect();
        let module = Module { id: id.to_owned(), external_id: None, title: "Module 1".to_owned(), tests };
        Program { modules: vec![module], ..Program::empty(id, Some(external_id.to_owned()), external_id, manual) }
    }

    fn empty(id: &str, external_id: Option<String>, title: &str, manual: bool) -> Self {
        Program {
            id: id.to_owned(),
            external_id,
            title: title.to_owned(),
            status: "active",
            manual,
            modules: Vec::new(),
            members: BTreeMap::new(),
        }
    }

    /// Returns the ids of all module tests.
    pub(super) fn module_tests(&self) -> BTreeSet<String> {
        self.tests().map(|test| test.id.clone()).collect()
    }

    /// Returns the module tests an id names: one by its own id, or all that use the test with this id.
    pub(super) fn named(&self, id: &str) -> Vec<String> {
        let by_own_id = self.tests().filter(|test| test.id == id).map(|test| test.id.clone()).collect::<Vec<_>>();
        if by_own_id.is_empty() {
            return self.tests().filter(|test| test.test_id == id).map(|test| test.id.clone()).collect();
        }
        by_own_id
    }

    /// Returns whether an employee takes a test in this program.
    pub(super) fn has_attempt(&self, employee: &str, test: &str) -> bool {
        let held = self.members.get(employee);
        held.is_some_and(|held| self.named(test).iter().any(|module_test| held.contains(module_test)))
    }

    /// Returns how many attempts a module test counts for; see the switch `program_attempts`.
    pub(super) fn attempts(&self, module_test: &str, context: &Context<'_>) -> usize {
        if context.switches.is("program_attempts", "per_test") {
            return 1;
        }
        let found = self.tests().find(|test| test.id == module_test);
        found.and_then(|test| usize::try_from(test.max_attempts).ok()).unwrap_or(1)
    }

    /// Renders the program for `GET /_effects`.
    pub(super) fn to_json(&self) -> Value {
        let modules = self.modules.iter().map(|module| {
            let tests = module.tests.iter().map(|test| {
                json!({ "moduleTestId": test.id, "testId": test.test_id, "maxAttempts": test.max_attempts })
            });
            json!({ "moduleId": module.id, "externalId": module.external_id, "title": module.title, "tests": tests.collect::<Vec<_>>() })
        });
        json!({
            "id": self.id,
            "externalId": self.external_id,
            "title": self.title,
            "status": self.status,
            "manual": self.manual,
            "tests": self.tests().map(|test| test.test_id.as_str()).collect::<Vec<_>>(),
            "modules": modules.collect::<Vec<_>>(),
            "members": self.members,
        })
    }

    fn tests(&self) -> impl Iterator<Item = &ModuleTest> {
        self.modules.iter().flat_map(|module| &module.tests)
    }

    /// Applies the fields of the request; `found` is whether the program already existed.
    fn change(&mut self, fields: &Fields<'_>, found: Found) -> Result<(), Refusal> {
        if let Some(external_id) = fields.text("programExternalId")? {
            self.external_id = Some(external_id.to_owned());
        }
        if let Some(title) = title(fields, "programTitle", found)? {
            title.clone_into(&mut self.title);
        }
        self.status = match fields.text("programStatus")?.map(str::to_ascii_lowercase).as_deref() {
            None => self.status,
            Some("active") => "active",
            Some("archived") => "archived",
            Some("deleted") => "deleted",
            Some(other) => {
                return Err(Refusal::bad(format!(
                    "'programStatus' must be active, archived or deleted, not '{other}'"
                )));
            }
        };
        if fields.get("programIsManual").is_some() && fields.flag("programIsManual")? != self.manual {
            return Err(Refusal::bad("'programIsManual' cannot be changed"));
        }
        let rows = fields.list("modules", (0, usize::MAX))?;
        let mut named = Vec::new();
        for row in rows {
            named.push(self.change_module(&Fields::of(row, "A module")?)?);
        }
        no_repeats(named.iter().map(String::as_str), "Module")?;
        no_repeats(self.tests().map(|test| test.id.as_str()), "Module test")
    }

    fn change_module(&mut self, fields: &Fields<'_>) -> Result<String, Refusal> {
        let id = fields.guid("moduleId")?.ok_or_else(|| Refusal::bad("'moduleId' is required"))?;
        let place = self.modules.iter().position(|module| module.id == id);
        let found = if place.is_some() { Found::Known } else { Found::New };
        let mut module = match place {
            Some(place) => self.modules.remove(place),
            None => Module { id: id.clone(), external_id: None, title: String::new(), tests: Vec::new() },
        };
        if let Some(external_id) = fields.text("moduleExternalId")? {
            module.external_id = Some(external_id.to_owned());
        }
        if let Some(title) = title(fields, "moduleTitle", found)? {
            title.clone_into(&mut module.title);
        }
        for row in fields.list("moduleTests", (0, usize::MAX))? {
            module.change_test(&Fields::of(row, "A module test")?)?;
        }
        no_repeats(module.tests.iter().map(|test| test.test_id.as_str()), "Test")?;
        // An existing module without an order keeps its position; a new one is appended, as published.
        let place =
            fields.count("moduleOrder")?.and_then(|order| usize::try_from(order).ok()).or(place).unwrap_or(usize::MAX);
        self.modules.insert(place.min(self.modules.len()), module);
        Ok(id)
    }
}

impl Module {
    fn change_test(&mut self, fields: &Fields<'_>) -> Result<(), Refusal> {
        let id = fields.guid("moduleTestId")?.ok_or_else(|| Refusal::bad("'moduleTestId' is required"))?;
        let test_id = fields.guid("testId")?;
        let max_attempts = fields.count("moduleTestMaxAttempts")?;
        let Some(known) = self.tests.iter_mut().find(|test| test.id == id) else {
            let test_id = test_id.ok_or_else(|| Refusal::bad("'testId' is required"))?;
            self.tests.push(ModuleTest { id, test_id, max_attempts: max_attempts.unwrap_or(1) });
            return Ok(());
        };
        if test_id.is_some_and(|test_id| test_id != known.test_id) {
            return Err(Refusal::bad("'testId' of a module test cannot be changed"));
        }
        known.max_attempts = max_attempts.unwrap_or(known.max_attempts);
        Ok(())
    }
}

impl StartExam {
    /// Handles `POST /v1/program`: a new `programId` creates, a known one updates.
    pub(super) fn create_or_update_program(
        &mut self,
        fields: &Fields<'_>,
        context: &mut Context<'_>,
    ) -> Result<Json, Refusal> {
        let id = fields.guid("programId")?.ok_or_else(|| Refusal::bad("'programId' is required"))?;
        let place = self.programs.iter().position(|program| program.id == id);
        let found = if place.is_some() { Found::Known } else { Found::New };
        check_home(fields, found, context)?;
        let before = place.map(|place| self.programs[place].clone());
        let mut program = match &before {
            Some(program) => program.clone(),
            None => Program::empty(&id, None, "", fields.flag("programIsManual")?),
        };
        program.change(fields, found)?;
        self.check_program(&program, context)?;
        if !program.manual {
            let tests = program.module_tests();
            program.members.values_mut().for_each(|attempts| attempts.extend(tests.iter().cloned()));
        }
        let change = match &before {
            None => "created",
            Some(before) if *before == program => "repeated",
            Some(_) => "updated",
        };
        let keys = vec![
            ("program", id.clone()),
            ("status", program.status.to_owned()),
            ("moduleTests", program.tests().count().to_string()),
        ];
        context.effect(change, id.clone(), keys);
        match place {
            Some(place) => self.programs[place] = program,
            None => self.programs.push(program),
        }
        Ok(match context.switches.text("program_answer").as_str() {
            "empty" => Json::Null,
            "id" => object([("programId", id.into())]),
            _ => Json::Object(Vec::new()),
        })
    }

    fn check_program(&self, program: &Program, context: &Context<'_>) -> Result<(), Refusal> {
        let is_known = |id: &str| self.tests.iter().any(|test: &Test| test.id == id);
        if let Some(unknown) = program.tests().find(|test| !is_known(&test.test_id)) {
            return Err(Refusal::unknown(context, "Test", &unknown.test_id));
        }
        let mut others = self.programs.iter().filter(|other| other.id != program.id);
        match &program.external_id {
            Some(external_id) if others.any(|other| other.external_id.as_ref() == Some(external_id)) => {
                Err(Refusal::bad(format!("'programExternalId' '{external_id}' is taken")))
            }
            _ => Ok(()),
        }
    }
}

/// Checks project and center, which a new program must name and an existing one cannot change; the account has one of
/// each.
fn check_home(fields: &Fields<'_>, found: Found, context: &Context<'_>) -> Result<(), Refusal> {
    for (name, what, own) in [("projectId", "Project", account::PROJECT_ID), ("centerId", "Center", account::CENTER_ID)]
    {
        match fields.guid(name)? {
            Some(id) if id == own => {}
            Some(_) if found == Found::Known => return Err(Refusal::bad(format!("'{name}' cannot be changed"))),
            Some(id) => return Err(Refusal::unknown(context, what, &id)),
            None if found == Found::Known => {}
            None => return Err(Refusal::bad(format!("'{name}' is required"))),
        }
    }
    Ok(())
}

fn title<'a>(fields: &Fields<'a>, name: &str, found: Found) -> Result<Option<&'a str>, Refusal> {
    let title = if found == Found::New { Some(fields.required_text(name)?) } else { fields.text(name)? };
    if title.is_some_and(|title| title.chars().count() > TITLE_MAX) {
        return Err(Refusal::bad(format!("'{name}' must have at most {TITLE_MAX} characters")));
    }
    Ok(title)
}
