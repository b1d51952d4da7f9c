//! The account's tests: listing them and creating an empty one.

use super::sessions::{date_time, unix_seconds};
use super::{Refusal, StartExam, Test, account};
use crate::sandbox::http_types::Call;
use crate::sandbox::ordered_json::{Json, object};
use crate::sandbox::startexam::validate::Fields;
use crate::sandbox::vendor::Context;

/// Published maximum length of a test's title.
const TITLE_MAX: usize = 200;

impl StartExam {
    /// Handles `GET /v1/tests` with the filters `projectId`, `type` and `status`.
    pub(super) fn list_tests(&self, call: &Call, context: &Context<'_>) -> Result<Json, Refusal> {
        let mut tests: Vec<&Test> = self.tests.iter().collect();
        for (name, value) in call.query_pairs() {
            match (name.to_ascii_lowercase().as_str(), value.as_str()) {
                ("projectid", id) if id.eq_ignore_ascii_case(account::PROJECT_ID) => {}
                ("projectid", id) => return Err(Refusal::unknown(context, "Project", id)),
                ("type", kind @ ("test" | "survey")) => tests.retain(|test| test.kind == kind),
                ("status", "active") => {}
                // The sandbox never archives or deletes a test.
                ("status", "archive" | "deleted") => tests.clear(),
                ("type" | "status", other) => {
                    return Err(Refusal::bad(format!("'{name}' cannot be '{other}'")));
                }
                _ => {}
            }
        }
        let tests = tests.into_iter().map(|test| {
            object([
                ("testId", test.id.as_str().into()),
                ("projectId", test.project_id.as_str().into()),
                ("type", test.kind.into()),
                ("status", "active".into()),
                ("title", test.title.as_str().into()),
                ("description", Json::Null),
                ("time", "00:45:00".into()),
                ("modified", test.modified.as_str().into()),
            ])
        });
        Ok(object([("tests", Json::List(tests.collect()))]))
    }

    /// Handles `POST /v1/create-test`: a new test on every call.
    pub(super) fn create_test(&mut self, fields: &Fields<'_>, context: &mut Context<'_>) -> Result<Json, Refusal> {
        let project_id = fields.guid("projectId")?.ok_or_else(|| Refusal::bad("'projectId' is required"))?;
        let title = fields.required_text("title")?.to_owned();
        if title.chars().count() > TITLE_MAX {
            return Err(Refusal::bad("'title' must have at most 200 characters"));
        }
        let kind = match fields.required_text("type")?.to_ascii_lowercase().as_str() {
            "test" => "test",
            "survey" => "survey",
            other => {
                return Err(Refusal::bad(format!("'type' must be test or survey, not '{other}'")));
            }
        };
        if project_id != account::PROJECT_ID {
            return Err(Refusal::unknown(context, "Project", &project_id));
        }
        let id = self.ids.guid();
        context.effect("created", id.clone(), vec![("test", id.clone()), ("title", title.clone())]);
        let modified = date_time(unix_seconds(context.now));
        self.tests.push(Test { id: id.clone(), project_id, kind, title, modified });
        Ok(object([("testId", id.into())]))
    }
}
