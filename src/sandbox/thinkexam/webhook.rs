//! Delivery of results to the customer, in the two published forms of the webhook's body.
//!
//! The vendor publishes the fields, the header of the key and that the key is compared literally. It does not publish
//! retries, order, time-outs and all but one value of `status`, so the request for a delivery decides them. Tests
//! cannot be taken at a simulator, hence `POST /_webhooks`.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::super::effects::rfc3339;
use super::{ThinkExam, account, email_key};
use crate::sandbox::ordered_json::{Json, Layout, object};
use crate::sandbox::parameters::{Form, Parameter, Parameters, choice, count, flag, signed, text};
use crate::sandbox::webhooks::{Delivery, Loopback};

/// The parameters of `POST /_webhooks` besides `results`.
const ORDER: [Parameter; 3] = [
    text("url", "", "the receiver's address, on this machine"),
    flag("reversed", false, "deliver the results in reverse order"),
    text("key", account::WEBHOOK_KEY, "the key; another value is a wrong key"),
];

/// The parameters of one of `results`.
const RESULT: [Parameter; 13] = [
    text("email", "", "the candidate's e-mail"),
    text("testId", "", "the test's id"),
    choice("form", &["current", "older"], "the body of the current article or of the older page"),
    choice("keyHeader", &["by_form", "X-webhook_key", "webhook_key", "none"], "the header of the key"),
    text("status", "COMPLETED", "the field status, which the older form lacks"),
    signed("marks", 42, "marks scored"),
    count("totalMarks", 50, "maximum marks"),
    flag("marksAsStrings", false, "write marks and percentage as strings in the current form"),
    flag("unassigned", false, "deliver although the candidate or the assignment does not exist yet"),
    within("copies", 1, (1, 100), "how often the same delivery is made, whatever the response"),
    within("attempts", 3, (1, 20), "maximum number of attempts until the response is 200"),
    count("delayMs", 0, "milliseconds to wait before the first attempt"),
    count("retryDelayMs", 1000, "milliseconds between attempts"),
];

/// Timeout of a receiver; the vendor publishes none.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_RESULTS: usize = 1000;

const fn within(name: &'static str, default: i64, (min, max): (i64, i64), meaning: &'static str) -> Parameter {
    Parameter { name, form: Form::Number { default, min, max }, meaning }
}

impl ThinkExam {
    /// Parses a request for deliveries (see docs/SANDBOX.md) completely, before anything is sent.
    pub(super) fn read_deliveries(&self, order: &Value, now: SystemTime) -> Result<Vec<Delivery>, String> {
        let mut order = order.as_object().cloned().ok_or("the body must be an object with url and results")?;
        let results = order.remove("results").unwrap_or_default();
        let results = results.as_array().filter(|results| (1..=MAX_RESULTS).contains(&results.len()));
        let results = results.ok_or_else(|| format!("results must be a list of 1 to {MAX_RESULTS} results"))?;
        let mut knobs = Parameters::new(ORDER.to_vec());
        knobs.set_all(&order).map_err(|why| format!("{why}, results"))?;
        let url = Loopback::parse(&knobs.text("url"))?;
        let key = knobs.text("key");
        if key.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
            return Err("key must be printable ASCII to fit in a header".to_owned());
        }
        let mut deliveries = Vec::new();
        for result in results {
            let mut knobs = Parameters::new(RESULT.to_vec());
            knobs
                .set_all(result.as_object().ok_or("a result must be an object")?)
                .map_err(|why| format!("results: {why}"))?;
            let delivery = self.delivery(&knobs, &url, &key, now)?;
            deliveries.extend(std::iter::repeat_n(delivery, knobs.size("copies")));
        }
        if knobs.flag("reversed") {
            deliveries.reverse();
        }
        Ok(deliveries)
    }

    fn delivery(&self, knobs: &Parameters, url: &Loopback, key: &str, now: SystemTime) -> Result<Delivery, String> {
        let (email, test) = (email_key(&knobs.text("email")), knobs.text("testId"));
        if !knobs.flag("unassigned") && !self.assignments.contains_key(&(email.clone(), test.clone())) {
            return Err(format!("test \"{test}\" is not assigned to \"{email}\"; unassigned: true delivers it anyway"));
        }
        let is_older = knobs.is("form", "older");
        let header = match knobs.text("keyHeader").as_str() {
            "none" => None,
            "webhook_key" => Some("webhook_key"),
            "by_form" if is_older => Some("webhook_key"),
            _ => Some("X-webhook_key"),
        };
        let body = if is_older { self.older(&email, &test, knobs, now) } else { self.current(&email, knobs) };
        let millis = |name| Duration::from_millis(knobs.number(name).and_then(|n| u64::try_from(n).ok()).unwrap_or(0));
        Ok(Delivery {
            url: url.clone(),
            key: header.map(|name| (name, key.to_owned())),
            body: body.write(Layout::Php { escape_slashes: true }),
            delay: millis("delayMs"),
            attempts: knobs.number("attempts").and_then(|attempts| u64::try_from(attempts).ok()).unwrap_or(1),
            retry_delay: millis("retryDelayMs"),
            timeout: TIMEOUT,
            subject: format!("{email}/{test}"),
            keys: vec![("email", email), ("testId", test)],
        })
    }

    /// Builds the body of the current article; it names no test.
    fn current(&self, email: &str, knobs: &Parameters) -> Json {
        let candidate = self.candidates.get(email);
        let field = |name: &str| {
            let value = candidate.and_then(|candidate| candidate.fields.get(name)).and_then(Value::as_str);
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let (marks, total) = (knobs.number("marks").unwrap_or(0), knobs.number("totalMarks").unwrap_or(0));
        let number = |json: Json| match json {
            Json::Integer(number) if knobs.flag("marksAsStrings") => number.to_string().into(),
            Json::Decimal(number) if knobs.flag("marksAsStrings") => number.to_string().into(),
            json => json,
        };
        let list = |texts: &[&str]| Json::List(texts.iter().map(|text| Json::from(*text)).collect());
        let details = object([("RESPONSE", list(&["A", "x"])), ("IS_ATTEMPT", list(&["Y", "N"]))]);
        let result = object([
            ("marks_scored", number(marks.into())),
            ("enrollment_no", candidate.map(|candidate| candidate.enrollment_no.clone()).into()),
            ("name", candidate.map(|candidate| candidate.name.clone()).unwrap_or_default().into()),
            ("email", candidate.map_or(email, |candidate| candidate.email.as_str()).into()),
            ("mobile", field("mobile").unwrap_or_default().into()),
            ("city", field("city").unwrap_or_else(|| "NA".to_owned()).into()),
            ("gender", field("gender").into()),
            ("age", "0".into()),
            ("status", knobs.text("status").into()),
            ("percentage", number(percentage(marks, total))),
            ("total_marks", total.to_string().into()),
            ("test_duration", "60".into()),
            ("subject_name", list(&["General"])),
            ("subject_marks", Json::List(vec![marks.to_string().into()])),
            ("details", Json::List(vec![details])),
        ]);
        object([("result", result)])
    }

    /// Builds the body of the older page: flat, upper case, every value a string.
    fn older(&self, email: &str, test: &str, knobs: &Parameters, now: SystemTime) -> Json {
        let candidate = self.candidates.get(email);
        let (marks, total) = (knobs.number("marks").unwrap_or(0), knobs.number("totalMarks").unwrap_or(0));
        object([
            ("ENROLLMENT_NO", candidate.map(|candidate| candidate.enrollment_no.clone()).unwrap_or_default().into()),
            ("EMAIL", candidate.map_or(email, |candidate| candidate.email.as_str()).into()),
            ("TEST_ID", test.into()),
            ("RIGHT_QUE", marks.max(0).to_string().into()),
            ("WRONG", "0".into()),
            ("LEFT_QUE", (total - marks).max(0).to_string().into()),
            ("TOTAL_MARKS", total.to_string().into()),
            ("RANK", "1".into()),
            ("PERCENTILE", "100".into()),
            // The vendor does not document which part of its sample, 16-08-12, is the year.
            ("EXAM_DATE", rfc3339(now).get(2..10).unwrap_or_default().into()),
            ("CORRECT_MARKS", marks.to_string().into()),
            ("LEFT_MARKS", (total - marks).to_string().into()),
            ("NEGATIVE_MARKS", "0".into()),
            ("PRO_TIME", "60".into()),
        ])
    }
}

/// Computes the percentage, rounded down to hundredths; zero if there are no marks.
fn percentage(marks: i64, total: i64) -> Json {
    let hundredths = marks.saturating_mul(10_000).checked_div(total).unwrap_or(0);
    if hundredths % 100 == 0 {
        return (hundredths / 100).into();
    }
    Json::Decimal(f64::from(i32::try_from(hundredths).unwrap_or(i32::MAX)) / 100.0)
}
