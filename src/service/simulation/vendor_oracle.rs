//! The vendor's true state: what was sent to it, what it did and when, and which of that violates an invariant.
//!
//! It outlives every process of the gateway. A violation is recorded at the moment it happens.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::domain::assignment::{IfAssignmentExists, Notify};
use crate::domain::candidate::Person;
use crate::domain::ids::AssignmentId;
use crate::domain::intent::Write;
use crate::domain::vendor::Booking;
use crate::service::simulation::names::{content, is_bad, name, subject, subjects};
use crate::service::test_reports::Said;

/// The kind of vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// Identifies people by the caller's id and upserts; bookings with a flag that reuses earlier ones; hides people,
    /// cannot withdraw bookings; has programs.
    Employees,
    /// Identifies people by e-mail and upserts; one booking per test, with mail; withdraws bookings.
    Candidates,
    /// Identifies people by user name, and rejects one that is taken.
    Students,
}

/// How the vendor handles one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) effect: When,
    pub(super) reply: Reply,
    /// Milliseconds until the reply.
    pub(super) latency: u16,
}

/// When a call takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Now,
    AtTheEnd,
    /// Seconds after the reply, within the grace.
    Late(u8),
    Never,
}

/// The response that the gateway receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    True,
    Reset,
    TimeOut,
    Garbage,
    Down,
    Busy,
    /// With or without proof that nothing happened; for the whole call, or for the rows of this mask.
    Refused {
        proof: bool,
        rows: Option<u8>,
    },
}

impl Script {
    pub(super) const PLAIN: Self = Self { effect: When::AtTheEnd, reply: Reply::True, latency: 5 };

    /// Removes what no vendor does: act after it has responded, or respond truthfully before it has acted.
    fn possible(self) -> Self {
        let effect = match (self.reply, self.effect) {
            (Reply::Busy, _) => When::Never,
            (Reply::True | Reply::Refused { .. }, When::Never | When::Late(_))
            | (Reply::Reset | Reply::Garbage | Reply::Down, When::Late(_)) => When::AtTheEnd,
            (_, effect) => effect,
        };
        Self { effect, ..self }
    }
}

/// The true state of a row at the vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RowState {
    /// It will take effect at this time in microseconds.
    Coming(i64),
    /// It has had no effect and never will.
    Nothing,
    /// It took effect; whether it changed anything.
    Done(bool),
    /// Rejected: the user name is taken.
    Taken,
    /// Rejected: there is nothing to withdraw.
    Absent,
    /// Rejected: the vendor never accepts this row.
    Bad,
}

/// A row that reached the vendor.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) write: Write,
    /// The position of its write among those about each of its subjects; retries of one write share a position.
    places: Vec<(String, usize)>,
    flagged: bool,
    mails: bool,
    pub(super) truth: RowState,
}

/// A person at the vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) content: String,
    pub(super) hidden: bool,
}

/// A booking at the vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) record: String,
    pub(super) candidate: String,
    pub(super) assessment: String,
    pub(super) center: Option<String>,
    pub(super) live: bool,
}

/// A sitting of a participant: everything the vendor has said of it, each with the second it was modified in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) states: Vec<(i64, Said)>,
}

pub(super) struct VendorOracle {
    pub(super) profile: Profile,
    pub(super) scripts: VecDeque<Script>,
    pub(super) sent: Vec<Sent>,
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) places: Vec<Place>,
    pub(super) programs: BTreeMap<String, BTreeSet<String>>,
    pub(super) violations: Vec<String>,
    pub(super) sessions: Vec<Session>,
    mails: HashMap<String, u32>,
    /// Subjects of the calls in flight from the live process.
    waited_for: HashSet<String>,
    /// The writes about each subject, in the order in which they were first sent.
    order: HashMap<String, Vec<String>>,
}

impl VendorOracle {
    pub(super) fn new(profile: Profile, scripts: Vec<Script>) -> Self {
        Self {
            profile,
            scripts: scripts.into(),
            sent: Vec::new(),
            accounts: BTreeMap::new(),
            places: Vec::new(),
            programs: BTreeMap::new(),
            violations: Vec::new(),
            sessions: Vec::new(),
            mails: HashMap::new(),
            waited_for: HashSet::new(),
            order: HashMap::new(),
        }
    }

    /// Receives a call. Returns its rows and the script that determines response and latency.
    pub(super) fn take(&mut self, writes: &[Write], settling: bool, now: i64) -> (Vec<usize>, Script) {
        self.pass(now);
        let script = self.scripts.pop_front().unwrap_or(Script::PLAIN).possible();
        let mut rows = Vec::with_capacity(writes.len());
        for write in writes {
            let name = name(write);
            let mut places = Vec::new();
            for subject in subjects(write) {
                let known = self.order.entry(subject.clone()).or_default();
                let earlier = if settling { known.iter().rposition(|known| *known == name) } else { None };
                let place = earlier.unwrap_or_else(|| {
                    known.push(name.clone());
                    known.len() - 1
                });
                if place + 1 < known.len() {
                    let later = known[place + 1..].join(", ");
                    self.violations.push(format!("{name} was sent again after {later}"));
                }
                if !self.waited_for.insert(subject.clone()) {
                    self.violations.push(format!("two writes about {subject} at once"));
                }
                places.push((subject, place));
            }
            let flagged =
                matches!(write, Write::Assign(booking) if booking.if_exists == IfAssignmentExists::Reuse) || settling;
            let mails = matches!(write, Write::Assign(booking) if booking.notify == Notify::VendorEmail) && !settling;
            let truth = if is_bad(write) { RowState::Bad } else { RowState::Nothing };
            let write = write.clone();
            rows.push(self.sent.len());
            self.sent.push(Sent { write, places, flagged, mails, truth });
        }
        let script = self.sensible(script, &rows);
        let end = now + i64::from(script.latency) * 1000;
        let bad_for_all =
            self.profile == Profile::Employees && rows.iter().any(|row| self.sent[*row].truth == RowState::Bad);
        for (index, row) in rows.iter().enumerate() {
            let refused = match script.reply {
                Reply::Busy | Reply::Refused { rows: None, .. } => true,
                Reply::Refused { rows: Some(mask), .. } => bad_for_all || mask >> (index % 8) & 1 == 1,
                _ => bad_for_all,
            };
            if refused || self.sent[*row].truth == RowState::Bad {
                continue;
            }
            match script.effect {
                When::Never => {}
                When::Now => self.happen(*row),
                When::AtTheEnd => self.sent[*row].truth = RowState::Coming(end),
                When::Late(seconds) => self.sent[*row].truth = RowState::Coming(end + i64::from(seconds) * 1_000_000),
            }
        }
        (rows, script)
    }

    /// Marks the rows as answered.
    pub(super) fn answered(&mut self, rows: &[usize]) {
        for row in rows {
            for (subject, _) in &self.sent[*row].places {
                self.waited_for.remove(subject);
            }
        }
    }

    /// Forgets the calls in flight of a dead process.
    pub(super) fn hung_up(&mut self) {
        self.waited_for.clear();
    }

    /// Adjusts the script: no vendor proves that nothing happened where something did.
    fn sensible(&self, script: Script, rows: &[usize]) -> Script {
        let happened = |row: &usize| {
            let Sent { places, .. } = &self.sent[*row];
            self.sent
                .iter()
                .any(|sent| sent.places == *places && matches!(sent.truth, RowState::Done(_) | RowState::Coming(_)))
        };
        match script.reply {
            Reply::Refused { proof: true, .. } if rows.iter().any(happened) => {
                Script { reply: Reply::True, ..script }.possible()
            }
            _ => script,
        }
    }

    /// Applies the effects due by now, in order.
    pub(super) fn pass(&mut self, now: i64) {
        loop {
            let due = self.sent.iter().enumerate().filter_map(|(row, sent)| match sent.truth {
                RowState::Coming(at) if at <= now => Some((at, row)),
                _ => None,
            });
            let Some((_, row)) = due.min() else { return };
            self.happen(row);
        }
    }

    /// Returns whether a row of this record may still take effect.
    pub(super) fn coming(&self, record: &str) -> bool {
        self.sent.iter().any(|sent| sent.write.record_id() == record && matches!(sent.truth, RowState::Coming(_)))
    }

    fn happen(&mut self, row: usize) {
        let Sent { write, places, flagged, mails, .. } = self.sent[row].clone();
        let before = (self.accounts.clone(), self.places.clone(), self.programs.clone());
        let truth = match &write {
            Write::Register(registration) => self.register(&registration.person),
            Write::Update(update) => self.update(&update.candidate.person),
            Write::Hide(candidate) => self.hide(&candidate.person),
            Write::Assign(booking) => self.book(booking, flagged, mails),
            Write::Cancel(cancellation) => self.cancel(&cancellation.candidate.0, &cancellation.assessment),
            Write::Enrol(enrolment) => {
                let members = self.programs.entry(subject(&write)).or_default();
                members.extend(enrolment.call.enrolment.register.iter().cloned());
                members.retain(|member| !enrolment.call.enrolment.unregister.contains(member));
                RowState::Done(true)
            }
        };
        let changed = before != (self.accounts.clone(), self.places.clone(), self.programs.clone());
        for (subject, place) in places.into_iter().filter(|_| changed) {
            let known = &self.order[&subject];
            if place + 1 < known.len() {
                let late = format!("{} took effect after {}", known[place], known[place + 1..].join(", "));
                self.violations.push(late);
            }
        }
        self.sent[row].truth = truth;
    }

    fn register(&mut self, person: &Person) -> RowState {
        let (key, content) = (self.key(person), content(person));
        match (self.accounts.get_mut(&key), self.profile) {
            (Some(_), Profile::Students) => return RowState::Taken,
            (Some(account), _) => {
                account.content = content;
                account.hidden = false;
            }
            (None, _) => {
                self.accounts.insert(key, Account { content, hidden: false });
            }
        }
        RowState::Done(true)
    }

    fn update(&mut self, person: &Person) -> RowState {
        let (key, content) = (self.key(person), content(person));
        match self.accounts.get_mut(&key) {
            Some(account) => account.content = content,
            None => self.violations.push(format!("{key} was changed and is not there")),
        }
        RowState::Done(true)
    }

    fn hide(&mut self, person: &Person) -> RowState {
        let key = self.key(person);
        match self.accounts.get_mut(&key) {
            Some(account) => account.hidden = true,
            None => self.violations.push(format!("{key} was hidden and is not there")),
        }
        RowState::Done(true)
    }

    fn book(&mut self, booking: &Booking, flagged: bool, mails: bool) -> RowState {
        let Booking { id, candidate, assessment, center, if_exists, .. } = booking;
        let same = |place: &Place| {
            place.live && place.candidate == candidate.0 && place.assessment == *assessment && place.center == *center
        };
        if mails {
            let mails = self.mails.entry(id.to_string()).or_default();
            *mails += 1;
            if *mails > 1 {
                self.violations.push(format!("{mails} mails about {id}"));
            }
        }
        let there = self.places.iter().find(|place| same(place)).cloned();
        if there.is_some() && (flagged || self.profile == Profile::Candidates) {
            return RowState::Done(false);
        }
        if let Some(there) = there
            && *if_exists != IfAssignmentExists::CreateNew
        {
            self.violations.push(format!("{id} was booked beside {}", there.record));
        }
        if self.places.iter().any(|place| place.record == id.as_str()) {
            self.violations.push(format!("{id} was booked twice"));
        }
        self.places.push(Place {
            record: id.to_string(),
            candidate: candidate.0.clone(),
            assessment: assessment.clone(),
            center: center.clone(),
            live: true,
        });
        RowState::Done(true)
    }

    fn cancel(&mut self, candidate: &str, assessment: &str) -> RowState {
        let same = |place: &&mut Place| place.live && place.candidate == candidate && place.assessment == assessment;
        match self.places.iter_mut().find(same) {
            Some(place) => {
                place.live = false;
                RowState::Done(true)
            }
            None => RowState::Absent,
        }
    }

    /// Returns the participant's id of a booking that was done.
    pub(super) fn participant(&self, record: &AssignmentId) -> Option<String> {
        self.places.iter().position(|place| place.record == record.as_str()).map(|number| format!("p{number}"))
    }

    /// Returns the key by which the vendor identifies the person.
    pub(super) fn key(&self, person: &Person) -> String {
        let key = match self.profile {
            Profile::Employees => person.external_id.as_deref(),
            Profile::Candidates => person.email.as_deref(),
            Profile::Students => person.user_name.as_deref(),
        };
        key.unwrap_or_default().to_lowercase()
    }
}
