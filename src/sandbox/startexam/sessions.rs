//! Sessions: the incremental feed, one report, and the sandbox's own way to let a participant take a test.
//!
//! The vendor publishes the feed's parameters, page size and end marks, that a continuation token is valid once and for
//! the same filters, and the report's fields; it does not publish how a session looks inside the feed, so it has the
//! report's fields here. Tests cannot be taken at a simulator, hence `POST /_sessions`.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::super::effects::rfc3339;
use super::{Refusal, StartExam, account};
use crate::sandbox::http_types::Call;
use crate::sandbox::ordered_json::{Json, object};
use crate::sandbox::parameters::{Parameter, Parameters, count, flag, text};
use crate::sandbox::vendor::Context;

/// The parameters of `POST /_sessions`.
const SITTING: [Parameter; 6] = [
    text("participantId", "", "the participant who takes the test"),
    flag("finished", false, "whether the test is finished"),
    flag("autoClosed", false, "whether the time limit closed it"),
    count("elapsedSeconds", 754, "duration in seconds"),
    count("score", 4, "points scored"),
    count("maxScore", 7, "maximum points"),
];

/// The published maximum page size.
const PAGE: usize = 500;

/// Sessions by participant, and the feed's tokens.
#[derive(Default)]
pub(super) struct Sessions {
    by_participant: BTreeMap<String, Session>,
    /// The page each issued token stands for.
    tokens: HashMap<String, Token>,
}

struct Session {
    test: String,
    started: String,
    finished: bool,
    auto_closed: bool,
    elapsed_seconds: i64,
    score: f64,
    max_score: f64,
    /// Whole seconds, so that the text sorts by time.
    modified: String,
}

#[derive(Clone)]
struct Page {
    since: String,
    until: String,
    offset: usize,
}

struct Token {
    page: Page,
    given: SystemTime,
    /// The response to its first use.
    used: Option<Json>,
}

impl StartExam {
    /// Handles `GET /v2/sessions`: sessions modified since a time, in pages.
    pub(super) fn session_feed(&mut self, call: &Call, context: &Context<'_>) -> Result<Json, Refusal> {
        let query = parameters(call);
        let center = query.get("center").ok_or_else(|| Refusal::bad("'center' is required"))?;
        if center != account::CENTER {
            return Err(Refusal::unknown(context, "Center", center));
        }
        let since = query.get("modifiedsince").ok_or_else(|| Refusal::bad("'modifiedSince' is required"))?;
        let now = seconds(context.now);
        if since.parse::<jiff::Timestamp>().is_err() || since.len() != now.len() {
            return Err(Refusal::bad("'modifiedSince' must be a UTC date-time such as 2024-05-03T00:00:00Z"));
        }
        if *since > now {
            return Err(Refusal::bad("'modifiedSince' is in the future"));
        }
        match query.get("continuationtoken") {
            None => Ok(self.feed_page(&Page { since: since.clone(), until: now, offset: 0 }, context)),
            Some(token) => self.continued(token, since, context),
        }
    }

    /// Returns the page of a token; the response to a used one is a switch, since the vendor only warns of loops.
    fn continued(&mut self, token: &str, since: &str, context: &Context<'_>) -> Result<Json, Refusal> {
        let refused = |why: &str| Err(Refusal::bad(format!("'continuationToken' {why}")));
        let Some(known) = self.sessions.tokens.get(token) else {
            return refused("is unknown");
        };
        if known.page.since != since {
            return refused("was given for other filters");
        }
        let limit = context.switches.number("token_ttl_seconds").and_then(|seconds| u64::try_from(seconds).ok());
        let age = context.now.duration_since(known.given).unwrap_or_default();
        if limit.is_some_and(|limit| age > Duration::from_secs(limit)) {
            return refused("has expired");
        }
        if let Some(before) = &known.used {
            return match context.switches.text("used_token").as_str() {
                "refused" => refused("was used before"),
                "loop" => Ok(with_token(before.clone(), token)),
                _ => Ok(before.clone()),
            };
        }
        let page = known.page.clone();
        let answer = self.feed_page(&page, context);
        if let Some(known) = self.sessions.tokens.get_mut(token) {
            known.used = Some(answer.clone());
        }
        Ok(answer)
    }

    /// Handles `GET /v2/session`: one report.
    pub(super) fn session_report(&self, call: &Call, context: &Context<'_>) -> Result<Json, Refusal> {
        let query = parameters(call);
        let id = query.get("participantid").ok_or_else(|| Refusal::bad("'participantId' is required"))?;
        let session = self.sessions.by_participant.get(id);
        session
            .map(|session| self.report(id, session, context))
            .ok_or_else(|| Refusal::unknown(context, "Participant", id))
    }

    /// Handles `POST /_sessions`: lets a participant begin or finish; see docs/SANDBOX.md.
    pub(super) fn sit_test(&mut self, order: &Value, now: SystemTime) -> Result<Value, String> {
        let mut knobs = Parameters::new(SITTING.to_vec());
        knobs.set_all(order.as_object().ok_or("a session must be an object")?)?;
        let id = knobs.text("participantId");
        let test = self.test_of(&id).ok_or_else(|| format!("unknown participant \"{id}\""))?;
        let now = seconds(now);
        let points = |name| f64::from(knobs.number(name).and_then(|points| u32::try_from(points).ok()).unwrap_or(0));
        let known = self.sessions.by_participant.get(&id);
        let session = Session {
            test,
            started: known.map_or_else(|| now.clone(), |session| session.started.clone()),
            finished: knobs.flag("finished"),
            auto_closed: knobs.flag("autoClosed"),
            elapsed_seconds: knobs.number("elapsedSeconds").unwrap_or(0),
            score: points("score"),
            max_score: points("maxScore"),
            modified: now,
        };
        let answer = json!({ "participantId": id, "testId": session.test, "finished": session.finished });
        self.sessions.by_participant.insert(id, session);
        Ok(answer)
    }

    fn feed_page(&mut self, page: &Page, context: &Context<'_>) -> Json {
        let size = context.switches.size("session_page_size").clamp(1, PAGE);
        let sessions = self.sessions.by_participant.iter();
        let within = |session: &Session| session.modified >= page.since && session.modified <= page.until;
        let mut found: Vec<_> = sessions.filter(|(_, session)| within(session)).collect();
        found.sort_by(|one, other| one.1.modified.cmp(&other.1.modified).then(one.0.cmp(other.0)));
        let next = page.offset + size;
        let is_endless = context.struck_by("endless_feed");
        let found_all = found.len() <= next;
        let has_more = !found_all || is_endless;
        let reports = found
            .into_iter()
            .skip(page.offset)
            .take(size)
            .map(|(id, session)| self.report(id, session, context))
            .collect();
        let last = if has_more {
            let token = self.ids.continuation();
            // An endless feed repeats its last page.
            let offset = if is_endless && found_all { page.offset } else { next };
            let page = Page { offset, ..page.clone() };
            self.sessions.tokens.insert(token.clone(), Token { page, given: context.now, used: None });
            ("continuationToken", token.into())
        } else {
            ("modifiedUntil", page.until.as_str().into())
        };
        object([(context.switches.text("session_list_name").as_str(), Json::List(reports)), last])
    }

    fn report(&self, id: &str, session: &Session, context: &Context<'_>) -> Json {
        let percent =
            if session.max_score > 0.0 { (session.score / session.max_score * 10_000.0).round() / 100.0 } else { 0.0 };
        // The figures of an unfinished session are null.
        let figure = |value: f64| if session.finished { Json::Decimal(value) } else { Json::Null };
        let mut report = object([
            ("participantId", id.into()),
            ("testId", session.test.as_str().into()),
            ("started", session.started.as_str().into()),
            ("isFinished", session.finished.into()),
            ("autoClosed", session.auto_closed.into()),
            ("elapsedTime", session.finished.then(|| elapsed(session.elapsed_seconds)).into()),
            ("score", figure(session.score)),
            ("maxScore", figure(session.max_score)),
            ("percent", figure(percent)),
            ("scaleLevel", session.finished.then_some("Medium").into()),
            ("outcomes", Json::List(Vec::new())),
            ("participantData", self.data_of(id)),
            ("sections", Json::List(Vec::new())),
            ("questions", Json::List(Vec::new())),
        ]);
        if let Json::Object(members) = &mut report {
            if !session.finished && context.switches.is("unfinished_figures", "absent") {
                members.retain(|(_, value)| *value != Json::Null);
            }
            if context.switches.flag("proctoring_allowed") {
                // Its content is not published.
                members.push(("proctoring".to_owned(), Json::Object(Vec::new())));
            }
        }
        report
    }

    fn test_of(&self, participant: &str) -> Option<String> {
        let booked = self.registrations.iter().find(|(_, ids)| ids.iter().any(|id| id == participant));
        booked.map(|(key, _)| key.1.clone()).or_else(|| self.participants.get(participant)?.tests.first().cloned())
    }

    fn data_of(&self, participant: &str) -> Json {
        let pair = |(name, value): (&String, &String)| {
            object([("name", name.as_str().into()), ("value", value.as_str().into())])
        };
        if let Some(person) = self.participants.get(participant) {
            return Json::List(person.data.iter().map(|(name, value)| pair((name, value))).collect());
        }
        let booked = self.registrations.iter().find(|(_, ids)| ids.iter().any(|id| id == participant));
        let employee = booked.and_then(|(key, _)| self.employees.get(&key.2));
        Json::List(employee.map(|employee| employee.data.iter().map(pair).collect()).unwrap_or_default())
    }
}

/// Formats a time in whole seconds, as everywhere in this API.
pub(super) fn seconds(at: SystemTime) -> String {
    rfc3339(at).get(..19).map(|seconds| format!("{seconds}Z")).unwrap_or_default()
}

/// Formats a duration as `[d.]HH:MM:SS`, as published.
fn elapsed(seconds: i64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}.{clock}") } else { clock }
}

/// Adds a continuation token to a page.
fn with_token(mut page: Json, token: &str) -> Json {
    if let Json::Object(members) = &mut page {
        members.retain(|(name, _)| name != "modifiedUntil" && name != "continuationToken");
        members.push(("continuationToken".to_owned(), token.into()));
    }
    page
}

fn parameters(call: &Call) -> BTreeMap<String, String> {
    call.query_pairs().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_over_a_day_begin_with_the_days() {
        assert_eq!([elapsed(754), elapsed(93_784)], ["00:12:34", "1.02:03:04"]);
    }

    #[test]
    fn times_have_whole_seconds() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_250);
        assert_eq!(seconds(at), "2023-11-14T22:13:20Z");
        assert_eq!(seconds(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
