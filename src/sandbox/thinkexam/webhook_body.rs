//! The two published forms of the webhook's body.

use std::time::SystemTime;

use serde_json::Value;

use super::super::effects::rfc3339;
use super::Candidate;
use crate::sandbox::ordered_json::{Json, object};
use crate::sandbox::parameters::Parameters;

/// A result as it is sent.
pub(super) struct ExamResult<'a> {
    pub candidate: Option<&'a Candidate>,
    pub email: &'a str,
    pub test: &'a str,
    pub marks: Marks,
    /// Names and marks of the subjects, if given.
    pub subjects: (Option<Json>, Option<Json>),
    pub now: SystemTime,
    pub knobs: &'a Parameters,
}

/// The figures of a result.
pub(super) struct Marks {
    scored: f64,
    total: f64,
    percentage: f64,
    /// Sent as the marks, whatever it is.
    verbatim: Option<String>,
}

impl Marks {
    /// Reads the figures; the percentage follows from the marks unless it is given.
    pub(super) fn read(knobs: &Parameters) -> Self {
        let (scored, total) = (knobs.decimal("marks").unwrap_or(0.0), knobs.decimal("totalMarks").unwrap_or(0.0));
        let percentage = knobs.decimal("percentage").unwrap_or_else(|| percentage(scored, total));
        Marks { scored, total, percentage, verbatim: Some(knobs.text("marksText")).filter(|text| !text.is_empty()) }
    }

    fn text(&self) -> String {
        self.verbatim.clone().unwrap_or_else(|| self.scored.to_string())
    }
}

impl ExamResult<'_> {
    /// Builds the body of the current article; it names no test.
    pub(super) fn current(mut self) -> Json {
        let field = |name: &str| {
            let value = self.candidate.and_then(|candidate| candidate.fields.get(name)).and_then(Value::as_str);
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let as_text = |value: f64, is_text: bool| if is_text { value.to_string().into() } else { number(value) };
        let strings = self.knobs.flag("marksAsStrings");
        let scored = match &self.marks.verbatim {
            Some(text) => text.as_str().into(),
            None => as_text(self.marks.scored, strings),
        };
        let list = |texts: &[&str]| Json::List(texts.iter().map(|text| Json::from(*text)).collect());
        let details = object([("RESPONSE", list(&["A", "x"])), ("IS_ATTEMPT", list(&["Y", "N"]))]);
        let name = self.candidate.map(|candidate| candidate.name.clone()).unwrap_or_default();
        let (mobile, city, gender) = (field("mobile"), field("city"), field("gender"));
        let (names, marks) = std::mem::take(&mut self.subjects);
        let result = object([
            ("marks_scored", scored),
            ("enrollment_no", self.enrolment().into()),
            ("name", name.into()),
            ("email", self.email.into()),
            ("mobile", mobile.unwrap_or_default().into()),
            ("city", city.unwrap_or_else(|| "NA".to_owned()).into()),
            ("gender", gender.into()),
            ("age", "0".into()),
            ("status", self.knobs.text("status").into()),
            ("percentage", as_text(self.marks.percentage, strings)),
            ("total_marks", as_text(self.marks.total, !self.knobs.flag("totalAsNumber"))),
            ("test_duration", "60".into()),
            ("subject_name", names.unwrap_or_else(|| list(&["General"]))),
            ("subject_marks", marks.unwrap_or_else(|| Json::List(vec![self.marks.text().into()]))),
            ("details", Json::List(vec![details])),
        ]);
        object([("result", self.without_omitted(result))])
    }

    /// Builds the body of the older page: flat, upper case, every value a string.
    pub(super) fn older(self) -> Json {
        let (scored, total) = (self.marks.scored, self.marks.total);
        let date = match self.knobs.text("examDate").as_str() {
            // The vendor does not document which part of its sample, 16-08-12, is the year.
            "" => rfc3339(self.now).get(2..10).unwrap_or_default().to_owned(),
            given => given.to_owned(),
        };
        let body = object([
            ("ENROLLMENT_NO", self.enrolment().unwrap_or_default().into()),
            ("EMAIL", self.email.into()),
            ("TEST_ID", self.test.into()),
            ("RIGHT_QUE", scored.max(0.0).to_string().into()),
            ("WRONG", "0".into()),
            ("LEFT_QUE", (total - scored).max(0.0).to_string().into()),
            ("TOTAL_MARKS", total.to_string().into()),
            ("RANK", "1".into()),
            ("PERCENTILE", "100".into()),
            ("EXAM_DATE", date.into()),
            ("CORRECT_MARKS", self.marks.text().into()),
            ("LEFT_MARKS", (total - scored).to_string().into()),
            ("NEGATIVE_MARKS", "0".into()),
            ("PRO_TIME", "60".into()),
        ]);
        self.without_omitted(body)
    }

    fn enrolment(&self) -> Option<String> {
        let given = Some(self.knobs.text("enrollmentNo")).filter(|given| !given.is_empty());
        given.or_else(|| self.candidate.map(|candidate| candidate.enrollment_no.clone()))
    }

    fn without_omitted(&self, mut body: Json) -> Json {
        let omitted = self.knobs.words("omit");
        if let Json::Object(members) = &mut body {
            members.retain(|(name, _)| !omitted.contains(name));
        }
        body
    }
}

/// Renders a number as PHP does: without a fraction if it is whole.
pub(super) fn number(value: f64) -> Json {
    value.to_string().parse::<i64>().map_or(Json::Decimal(value), Json::Integer)
}

/// Computes the percentage, cut to hundredths; zero if there are no marks.
fn percentage(scored: f64, total: f64) -> f64 {
    if total == 0.0 { 0.0 } else { (scored * 10_000.0 / total).trunc() / 100.0 }
}
