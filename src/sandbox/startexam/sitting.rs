//! `POST /_sessions`: the sandbox's own way to let participants begin and finish tests, since tests cannot be taken at a
//! simulator.
//!
//! An order is one session, a list of sessions, or a number of sessions that are alike. It is read completely before
//! anything changes.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::sessions::{Part, Restart, Session, date_time, parse_date_time, unix_seconds};
use super::{Booking, StartExam, account};
use crate::sandbox::parameters::{Parameter, Parameters, choice, count, decimal, flag, optional_count, text, within};
use crate::sandbox::vendor::{Order, vendor_clock};

/// The parameters of one session besides its lists.
const SITTING: [Parameter; 18] = [
    text("participantId", "", "the participant who takes the test"),
    text("employee", "", "instead of participantId: an employee who is registered, or in a program with the test"),
    text("program", "", "the program in which the employee takes the test, by either id"),
    text("testId", "", "the test; by default the first that the participant is registered for"),
    flag("unregistered", false, "accept a participant that is registered nowhere; without an id, one is made up"),
    flag("restart", false, "start the test again, beside or instead of the session there is"),
    flag("finished", false, "whether the test is finished"),
    flag("autoClosed", false, "whether the time limit closed it"),
    count("elapsedSeconds", 754, "duration in seconds"),
    decimal("score", Some(4.0), "points scored; null for none"),
    decimal("maxScore", Some(7.0), "maximum points; null for none"),
    decimal("percent", None, "percentage, by default that of the score"),
    text("scaleLevel", "Medium", "level; empty for none, the default without a score"),
    within("questions", 0, (0, 1000), "number of questions"),
    text("started", "", "as the vendor shows it; by default kept, or computed from modified and duration"),
    text("modified", "", "time of modification, such as 2026-01-12T09:00:00Z; by default the vendor's present time"),
    optional_count("lagSeconds", None, "seconds after modified until the feed has it; null: feed_lag_seconds"),
    text("omit", "", "fields the report lacks, between commas"),
];

/// The parameters of many sessions that are alike.
const MANY: [Parameter; 3] = [
    within("count", 1, (1, 100_000), "how many sessions"),
    choice(
        "participants",
        &["unregistered", "registered"],
        "made-up participants, or registered ones without a session",
    ),
    count("spreadSeconds", 0, "over how many seconds before modified the times of modification are spread"),
];

/// How many sessions a list may have.
const MAX_LIST: usize = 1000;
/// What the number of a session replaces in the data of many.
const NUMBER: &str = "{n}";

/// A session that was read and can be stored.
struct Sitting {
    who: Who,
    restart: bool,
    session: Session,
}

/// Who takes a test.
enum Who {
    Participant(String),
    /// A participant that does not exist yet.
    MadeUp,
    /// An employee who takes the test in a program, which gives them an id that no response showed.
    Member(String),
}

impl StartExam {
    /// Handles `POST /_sessions`; see docs/SANDBOX.md.
    pub(super) fn sit_tests(&mut self, order: &Order<'_>) -> Result<Value, String> {
        let now = unix_seconds(vendor_clock(order.now, order.switches));
        let replaces = order.switches.is("restarted_session", "replaced");
        match &order.body {
            Value::Array(list) => {
                if !(1..=MAX_LIST).contains(&list.len()) {
                    return Err(format!("a list must have 1 to {MAX_LIST} sessions"));
                }
                let read = |(at, one): (usize, &Value)| {
                    let one = one.as_object().ok_or("a session must be an object")?;
                    self.read_sitting(one, now).map_err(|why| format!("session {at} of the list: {why}"))
                };
                let sittings = list.iter().enumerate().map(read).collect::<Result<Vec<_>, String>>()?;
                let told: Vec<_> = sittings.into_iter().map(|sitting| self.sit(sitting, replaces)).collect();
                Ok(json!({ "sessions": told }))
            }
            Value::Object(many) if many.contains_key("count") => self.sit_many(many.clone(), now),
            Value::Object(one) => {
                let sitting = self.read_sitting(one, now)?;
                Ok(self.sit(sitting, replaces))
            }
            _ => Err("the body must be a session, a list of sessions, or an object with count".to_owned()),
        }
    }

    fn read_sitting(&self, order: &Map<String, Value>, now: i64) -> Result<Sitting, String> {
        let (knobs, mut session) = read_session(order, now)?;
        let (who, test) = self.find_participant(&knobs)?;
        session.test = test;
        Ok(Sitting { who, restart: knobs.flag("restart"), session })
    }

    /// Finds who takes which test.
    fn find_participant(&self, knobs: &Parameters) -> Result<(Who, String), String> {
        let (id, employee, test) = (knobs.text("participantId"), knobs.text("employee"), knobs.text("testId"));
        if !employee.is_empty() {
            if !id.is_empty() || test.is_empty() {
                return Err("employee comes with testId and without participantId".to_owned());
            }
            return self.find_employee(employee, &knobs.text("program"), test);
        }
        let tests = self.tests_of(&id);
        match tests.first() {
            Some(first) if test.is_empty() => Ok((Who::Participant(id), first.clone())),
            Some(_) if tests.contains(&test) => Ok((Who::Participant(id), test)),
            Some(_) => Err(format!("participant \"{id}\" is not registered for test \"{test}\"")),
            None if knobs.flag("unregistered") => {
                let first = account::TESTS.first().map_or("", |(id, _)| *id);
                let who = if id.is_empty() { Who::MadeUp } else { Who::Participant(id) };
                Ok((who, if test.is_empty() { first.to_owned() } else { test }))
            }
            None => Err(format!("unknown participant \"{id}\"; unregistered: true accepts one")),
        }
    }

    fn find_employee(&self, employee: String, program: &str, test: String) -> Result<(Who, String), String> {
        if program.is_empty() {
            let key = (account::CENTER.to_owned(), test.clone(), employee.clone());
            if let Some(id) = self.registrations.get(&key).and_then(|ids| ids.last()) {
                return Ok((Who::Participant(id.clone()), test));
            }
        }
        let is_named = |one: &super::program_setup::Program| {
            program.is_empty() || one.id == program || one.external_id.as_deref() == Some(program)
        };
        let found = self.programs.iter().any(|one| is_named(one) && one.has_attempt(&employee, &test));
        if !found {
            return Err(format!(
                "employee \"{employee}\" is not registered for test \"{test}\", nor in such a program with it"
            ));
        }
        let known = self.program_participants.get(&(employee.clone(), test.clone()));
        Ok((known.map_or(Who::Member(employee), |id| Who::Participant(id.clone())), test))
    }

    /// Returns the tests a participant is registered for.
    fn tests_of(&self, participant: &str) -> &[String] {
        let booked = self.bookings.get(participant).map(|booking| &booking.tests);
        booked.or_else(|| self.participants.get(participant).map(|person| &person.tests)).map_or(&[], Vec::as_slice)
    }

    fn sit(&mut self, sitting: Sitting, replaces: bool) -> Value {
        let Sitting { who, restart, mut session } = sitting;
        session.participant = match who {
            Who::Participant(id) => id,
            Who::MadeUp => self.ids.guid(),
            Who::Member(employee) => self.participant_of(employee, &session.test),
        };
        let restart = match (restart, replaces) {
            (false, _) => Restart::No,
            (true, false) => Restart::Beside,
            (true, true) => Restart::Replacing,
        };
        let session = self.sessions.put(session, restart);
        json!({
            "participantId": session.participant,
            "testId": session.test,
            "started": session.started,
            "finished": session.finished,
            "modified": date_time(session.modified),
        })
    }

    /// Returns the id under which an employee takes a test in programs.
    fn participant_of(&mut self, employee: String, test: &str) -> String {
        let key = (employee.clone(), test.to_owned());
        if let Some(known) = self.program_participants.get(&key) {
            return known.clone();
        }
        let id = self.ids.guid();
        self.bookings.insert(id.clone(), Booking { employee, tests: vec![test.to_owned()] });
        self.program_participants.insert(key, id.clone());
        id
    }

    fn sit_many(&mut self, mut order: Map<String, Value>, now: i64) -> Result<Value, String> {
        let own = MANY.iter().filter_map(|knob| order.remove_entry(knob.name)).collect();
        let mut many = Parameters::new(MANY.to_vec());
        many.set_all(&own)?;
        if let Some(name) = ["participantId", "employee", "program", "unregistered", "restart"]
            .into_iter()
            .find(|name| order.contains_key(*name))
        {
            return Err(format!("{name} does not go with count"));
        }
        let (knobs, session) = read_session(&order, now)?;
        let number = many.size("count");
        let participants = if many.is("participants", "registered") {
            self.find_idle(number)?
        } else {
            (0..number).map(|_| self.ids.guid()).collect()
        };
        let first = account::TESTS.first().map_or("", |(id, _)| *id);
        let given = Some(knobs.text("testId")).filter(|test| !test.is_empty());
        let spread = many.number("spreadSeconds").unwrap_or(0);
        let steps = i64::try_from(number - 1).unwrap_or(0).max(1);
        for (participant, at) in participants.iter().zip(0_i64..) {
            let test = given.clone().or_else(|| self.tests_of(participant).first().cloned());
            let data =
                session.data.iter().map(|(name, value)| (name.clone(), value.replace(NUMBER, &(at + 1).to_string())));
            let one = Session {
                participant: participant.clone(),
                test: test.unwrap_or_else(|| first.to_owned()),
                data: data.collect(),
                modified: session.modified - spread * (steps - at).max(0) / steps,
                ..session.clone()
            };
            self.sessions.put(one, Restart::No);
        }
        Ok(json!({ "count": number, "participantIds": participants }))
    }

    /// Returns registered participants without a session.
    fn find_idle(&self, number: usize) -> Result<Vec<String>, String> {
        let registered = self.bookings.keys().chain(self.participants.keys());
        let idle = registered.filter(|id| self.sessions.latest(id).is_none());
        let found: Vec<_> = idle.take(number).cloned().collect();
        if found.len() < number {
            return Err(format!("only {} registered participants have no session", found.len()));
        }
        Ok(found)
    }
}

/// Reads a session without who takes which test.
fn read_session(order: &Map<String, Value>, now: i64) -> Result<(Parameters, Session), String> {
    let mut order = order.clone();
    let sections = read_parts(&mut order, "sections", "title")?;
    let outcomes = read_parts(&mut order, "outcomes", "name")?;
    let data = read_list(&mut order, "data", &[text("name", "", "the field"), text("value", "", "its value")])?;
    let mut knobs = Parameters::new(SITTING.to_vec());
    knobs.set_all(&order).map_err(|why| format!("{why}, sections, outcomes, data"))?;
    let modified = match knobs.text("modified").as_str() {
        "" => now,
        given => parse_date_time(given)
            .ok_or_else(|| format!("modified must be a UTC date-time such as 2026-01-12T09:00:00Z, not {given}"))?,
    };
    let score = knobs.decimal("score");
    let level =
        if score.is_none() && !order.contains_key("scaleLevel") { String::new() } else { knobs.text("scaleLevel") };
    let session = Session {
        participant: String::new(),
        test: String::new(),
        started: knobs.text("started"),
        finished: knobs.flag("finished"),
        auto_closed: knobs.flag("autoClosed"),
        elapsed_seconds: knobs.number("elapsedSeconds").unwrap_or(0),
        score,
        max_score: knobs.decimal("maxScore"),
        percent: knobs.decimal("percent"),
        level: Some(level).filter(|level| !level.is_empty()),
        sections,
        outcomes,
        data: data.iter().map(|pair| (pair.text("name"), pair.text("value"))).collect(),
        questions: knobs.size("questions"),
        omitted: knobs.words("omit"),
        modified,
        lag: knobs.number("lagSeconds"),
    };
    Ok((knobs, session))
}

fn read_parts(order: &mut Map<String, Value>, list: &str, title: &'static str) -> Result<Arc<[Part]>, String> {
    let table = [
        text(title, "", "its title"),
        decimal("score", None, "points scored"),
        decimal("maxScore", None, "maximum points"),
        text("level", "", "its level"),
    ];
    let parts = read_list(order, list, &table)?;
    let part = |knobs: &Parameters| Part {
        title: knobs.text(title),
        score: knobs.decimal("score"),
        max_score: knobs.decimal("maxScore"),
        level: knobs.text("level"),
    };
    Ok(parts.iter().map(part).collect())
}

/// Takes a list of objects out of an order and reads each.
fn read_list(order: &mut Map<String, Value>, name: &str, table: &[Parameter]) -> Result<Vec<Parameters>, String> {
    let list = match order.remove(name) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(format!("{name} must be a list, not {other}")),
    };
    let read = |one: &Value| {
        let mut knobs = Parameters::new(table.to_vec());
        let one = one.as_object().ok_or_else(|| format!("{name} must be a list of objects"))?;
        knobs.set_all(one).map_err(|why| format!("{name}: {why}"))?;
        Ok(knobs)
    };
    list.iter().map(read).collect()
}
