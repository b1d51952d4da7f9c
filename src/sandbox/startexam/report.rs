//! One session as the vendor reports it, in `GET /v2/session` and in the feed.
//!
//! The vendor publishes the report's fields; the inner fields of sections, outcomes and personal data are those of its
//! legacy report, and switches have the other readings. How a session looks inside the feed is not published, so it has
//! the report's fields there.

use super::sessions::{Part, Session};
use super::{Refusal, StartExam};
use crate::sandbox::http_types::Call;
use crate::sandbox::ordered_json::{Json, object};
use crate::sandbox::vendor::Context;

/// The id of the first scale in the published sample; further ones count on.
const FIRST_SCALE: usize = 914;

impl StartExam {
    /// Handles `GET /v2/session`: the report of the session that a participant started last.
    pub(super) fn session_report(&self, call: &Call, context: &Context<'_>) -> Result<Json, Refusal> {
        let id = call.query_pairs().into_iter().find(|(name, _)| name.eq_ignore_ascii_case("participantId"));
        let (_, id) = id.ok_or_else(|| Refusal::bad("'participantId' is required"))?;
        let session = self.sessions.latest(&id);
        session
            .map(|session| self.report(session, context))
            .ok_or_else(|| Refusal::unknown(context, "Participant", &id))
    }

    /// Renders a session; its figures are null until it is finished.
    pub(super) fn report(&self, session: &Session, context: &Context<'_>) -> Json {
        let switches = context.switches;
        let done = session.finished;
        let figure = |value: Option<f64>| value.filter(|_| done).map_or(Json::Null, Json::Decimal);
        let list = |render: &dyn Fn() -> Vec<Json>| Json::List(if done { render() } else { Vec::new() });
        let maximum = switches.text("section_maximum");
        let mut report = object([
            ("participantId", session.participant.as_str().into()),
            (&*switches.text("test_id_name"), session.test.as_str().into()),
            ("started", session.started.as_str().into()),
            ("isFinished", done.into()),
            ("autoClosed", session.auto_closed.into()),
            ("elapsedTime", done.then(|| elapsed(session.elapsed_seconds)).into()),
            ("score", figure(session.score)),
            ("maxScore", figure(session.max_score)),
            ("percent", figure(session.percent.or_else(|| percent(session)))),
            ("scaleLevel", session.level.as_deref().filter(|_| done).into()),
            ("outcomes", list(&|| session.outcomes.iter().enumerate().map(|(at, part)| scale(at, part)).collect())),
            ("participantData", self.data_of(session, context)),
            ("sections", list(&|| session.sections.iter().map(|part| section(part, &maximum)).collect())),
            ("questions", list(&|| (1..=session.questions).map(question).collect())),
        ]);
        if let Json::Object(members) = &mut report {
            if !done && switches.is("unfinished_figures", "absent") {
                members.retain(|(_, value)| *value != Json::Null);
            }
            if switches.flag("proctoring_allowed") {
                // Its content is not published.
                members.push(("proctoring".to_owned(), Json::Object(Vec::new())));
            }
            members.retain(|(name, _)| !session.omitted.contains(name));
        }
        report
    }

    /// Renders what the vendor knows of a participant: what was registered, then what the session adds or replaces.
    fn data_of(&self, session: &Session, context: &Context<'_>) -> Json {
        let mut data: Vec<(String, String)> = Vec::new();
        if let Some(person) = self.participants.get(&session.participant) {
            data.clone_from(&person.data);
        } else if let Some(booking) = self.bookings.get(&session.participant) {
            let employee = self.employees.get(&booking.employee);
            data.extend(employee.into_iter().flat_map(|employee| employee.data.clone()));
            let field = context.switches.text("employee_id_field");
            if !field.is_empty() {
                data.push((field, booking.employee.clone()));
            }
        }
        data.retain(|(name, _)| session.data.iter().all(|(other, _)| other != name));
        data.extend(session.data.iter().cloned());
        let name = context.switches.text("data_name");
        let pair = |(field, value): (String, String)| object([(&*name, field.into()), ("value", value.into())]);
        Json::List(data.into_iter().map(pair).collect())
    }
}

/// Computes the percentage, rounded to hundredths as published; zero without points to score.
fn percent(session: &Session) -> Option<f64> {
    let (score, maximum) = (session.score?, session.max_score?);
    Some(if maximum > 0.0 { (score / maximum * 10_000.0).round() / 100.0 } else { 0.0 })
}

fn section(part: &Part, maximum: &str) -> Json {
    object([
        ("title", part.title.as_str().into()),
        ("score", number(part.score)),
        (maximum, number(part.max_score)),
        ("level", part.level.as_str().into()),
    ])
}

fn scale(at: usize, part: &Part) -> Json {
    object([
        ("id", (FIRST_SCALE + at).into()),
        ("score", number(part.score)),
        ("max", number(part.max_score)),
        ("name", part.title.as_str().into()),
        ("level", part.level.as_str().into()),
    ])
}

/// Renders a question; its fields are published, their content is not.
fn question(at: usize) -> Json {
    let members: [(&str, Json); 5] = [
        ("number", at.into()),
        ("type", "SingleChoice".into()),
        ("score", Json::Decimal(1.0)),
        ("maxScore", Json::Decimal(1.0)),
        ("elapsedTime", elapsed(30).into()),
    ];
    object(members)
}

fn number(value: Option<f64>) -> Json {
    value.map_or(Json::Null, Json::Decimal)
}

/// Formats a duration as `[d.]HH:MM:SS`, as published.
fn elapsed(seconds: i64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}.{clock}") } else { clock }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_over_a_day_begin_with_the_days() {
        assert_eq!([elapsed(754), elapsed(93_784)], ["00:12:34", "1.02:03:04"]);
    }
}
