//! `POST /_webhooks`: delivery of results to the customer, since tests cannot be taken at a simulator.
//!
//! The vendor publishes the two forms of the body, the header of the key and that the key is compared literally. It does
//! not publish retries, order, time-outs and all but one value of `status`, so the request for a delivery decides them.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::webhook_body::{ExamResult, Marks};
use super::{ThinkExam, account, email_key};
use crate::sandbox::ordered_json::{Json, Layout};
use crate::sandbox::parameters::{Parameter, Parameters, choice, count, decimal, flag, text, within};
use crate::sandbox::webhooks::{Batch, Delivery, Loopback};

/// The parameters of `POST /_webhooks` besides the results.
const ORDER: [Parameter; 5] = [
    text("url", "", "the receiver's address, on this machine"),
    flag("reversed", false, "deliver the results in reverse order"),
    text("key", account::WEBHOOK_KEY, "the key; another value is a wrong key"),
    within("count", 0, (0, 100_000), "how many results like each to deliver, one for each assignment"),
    within("concurrency", 1, (1, 256), "deliveries at the same time; above 1 the order is that of chance"),
];

/// The parameters of a result besides its lists.
const RESULT: [Parameter; 20] = [
    text("email", "", "the candidate's e-mail"),
    text("testId", "", "the test's id"),
    text("url", "", "the receiver's address for this result, such as one for each test"),
    choice("form", &["current", "older"], "the body of the current article or of the older page"),
    choice("keyHeader", &["by_form", "X-webhook_key", "X-Webhook-Key", "webhook_key", "none"], "the header of the key"),
    text("key", "", "the key of this result"),
    text("status", "COMPLETED", "the field status, which the older form lacks"),
    decimal("marks", Some(42.0), "marks scored"),
    text("marksText", "", "what is sent as the marks instead, whatever it is"),
    decimal("totalMarks", Some(50.0), "maximum marks"),
    decimal("percentage", None, "the percentage, by default that of the marks"),
    flag("marksAsStrings", false, "write marks and percentage as strings in the current form"),
    flag("totalAsNumber", false, "write the maximum as a number in the current form"),
    text("enrollmentNo", "", "the enrolment number, by default the candidate's"),
    text("examDate", "", "the older form's EXAM_DATE, by default today's"),
    text("omit", "", "fields the body lacks, between commas"),
    flag("unassigned", false, "deliver although the candidate or the assignment does not exist yet"),
    within("copies", 1, (1, 100), "how often the same delivery is made, whatever the response"),
    within("attempts", 3, (1, 20), "maximum number of attempts until the response is 200"),
    count("timeoutMs", 10_000, "milliseconds a response may take"),
];

/// The pauses of a result.
const PAUSES: [Parameter; 2] = [
    count("delayMs", 0, "milliseconds to wait before the first attempt"),
    count("retryDelayMs", 1000, "milliseconds between attempts"),
];

const MAX_RESULTS: usize = 1000;

/// Where and how results are delivered.
struct Channel {
    url: Loopback,
    key: String,
    now: SystemTime,
}

impl ThinkExam {
    /// Parses a request for deliveries (see docs/SANDBOX.md) completely, before anything is sent.
    pub(super) fn read_deliveries(&self, order: &Value, now: SystemTime) -> Result<Batch, String> {
        let mut order = order.as_object().cloned().ok_or("the body must be an object with url and results")?;
        let (results, each) = (order.remove("results"), order.remove("each"));
        let mut knobs = Parameters::new(ORDER.to_vec());
        knobs.set_all(&order).map_err(|why| format!("{why}, results, each"))?;
        let channel = Channel { url: Loopback::parse(&knobs.text("url"))?, key: check_key(knobs.text("key"))?, now };
        let results = match (results, each) {
            (Some(Value::Array(results)), None) => results,
            (None, Some(Value::Object(each))) => self.many(&each, knobs.size("count"))?,
            _ => return Err("either results, a list, or each, an object, with count is needed".to_owned()),
        };
        let limit = knobs.size("count").max(MAX_RESULTS);
        if results.is_empty() || results.len() > limit {
            return Err(format!("results must be a list of 1 to {MAX_RESULTS} results, and count at least 1"));
        }
        let mut deliveries = Vec::new();
        for result in &results {
            let (delivery, copies) = self.read_result(result, &channel)?;
            deliveries.extend(std::iter::repeat_n(delivery, copies));
        }
        if knobs.flag("reversed") {
            deliveries.reverse();
        }
        Ok(Batch { deliveries, concurrency: knobs.size("concurrency") })
    }

    /// Lists results that are alike, for the assignments there are or, with `unassigned`, for made-up addresses.
    fn many(&self, each: &Map<String, Value>, number: usize) -> Result<Vec<Value>, String> {
        let with = |pairs: &[(&str, &str)]| {
            let mut result = each.clone();
            result.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
            Value::Object(result)
        };
        if each.get("unassigned") == Some(&Value::Bool(true)) {
            return Ok((1..=number).map(|at| with(&[("email", &format!("load{at}@example.com"))])).collect());
        }
        let wanted = each.get("testId").and_then(Value::as_str);
        let assigned = self.assignments.keys().filter(|(_, test)| wanted.is_none_or(|wanted| wanted == test));
        let found: Vec<_> =
            assigned.take(number).map(|(email, test)| with(&[("email", email), ("testId", test)])).collect();
        if found.len() < number {
            return Err(format!("only {} assignments exist; unassigned: true makes up candidates", found.len()));
        }
        Ok(found)
    }

    fn read_result(&self, result: &Value, channel: &Channel) -> Result<(Delivery, usize), String> {
        let mut result = result.as_object().cloned().ok_or("a result must be an object")?;
        let names = read_leaves(&mut result, "subjectNames")?;
        let marks = read_leaves(&mut result, "subjectMarks")?;
        let mut knobs = Parameters::new([&RESULT[..], &PAUSES[..]].concat());
        knobs.set_all(&result).map_err(|why| format!("results: {why}, subjectNames, subjectMarks"))?;
        let (email, test) = (email_key(&knobs.text("email")), knobs.text("testId"));
        if !knobs.flag("unassigned") && !self.assignments.contains_key(&(email.clone(), test.clone())) {
            return Err(format!("test \"{test}\" is not assigned to \"{email}\"; unassigned: true delivers it anyway"));
        }
        let is_older = knobs.is("form", "older");
        let candidate = self.candidates.get(&email);
        let sent = ExamResult {
            candidate,
            email: candidate.map_or(&*email, |candidate| &candidate.email),
            test: &test,
            marks: Marks::read(&knobs),
            subjects: (names, marks),
            now: channel.now,
            knobs: &knobs,
        };
        let body = if is_older { sent.older() } else { sent.current() };
        let own =
            |name, otherwise: &str| Some(knobs.text(name)).filter(|own| !own.is_empty()).unwrap_or(otherwise.into());
        let header = match knobs.text("keyHeader").as_str() {
            "none" => None,
            "webhook_key" => Some("webhook_key"),
            "X-Webhook-Key" => Some("X-Webhook-Key"),
            "by_form" if is_older => Some("webhook_key"),
            _ => Some("X-webhook_key"),
        };
        let key = check_key(own("key", &channel.key))?;
        let url = match knobs.text("url").as_str() {
            "" => channel.url.clone(),
            own => Loopback::parse(own)?,
        };
        let millis = |name| Duration::from_millis(knobs.number(name).and_then(|n| u64::try_from(n).ok()).unwrap_or(0));
        let delivery = Delivery {
            url,
            key: header.map(|name| (name, key)),
            body: body.write(Layout::Php { escape_slashes: true }),
            delay: millis("delayMs"),
            attempts: knobs.number("attempts").and_then(|attempts| u64::try_from(attempts).ok()).unwrap_or(1),
            retry_delay: millis("retryDelayMs"),
            timeout: millis("timeoutMs"),
            subject: format!("{email}/{test}"),
            keys: vec![("email", email.clone()), ("testId", test.clone())],
        };
        Ok((delivery, knobs.size("copies")))
    }
}

/// Checks that a key fits in a header.
fn check_key(key: String) -> Result<String, String> {
    if key.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        return Err("key must be printable ASCII to fit in a header".to_owned());
    }
    Ok(key)
}

/// Takes a list of strings and numbers out of a result, to be sent as they are.
fn read_leaves(result: &mut Map<String, Value>, name: &str) -> Result<Option<Json>, String> {
    let list = match result.remove(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(format!("{name} must be a list, not {other}")),
    };
    let leaf = |value: &Value| match value {
        Value::String(text) => Ok(text.as_str().into()),
        Value::Number(number) => Ok(super::webhook_body::number(number.as_f64().unwrap_or(0.0))),
        other => Err(format!("{name} must be a list of strings and numbers, not {other}")),
    };
    list.iter().map(leaf).collect::<Result<Vec<_>, _>>().map(|leaves| Some(Json::List(leaves)))
}
