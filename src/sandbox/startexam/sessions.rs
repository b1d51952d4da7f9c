//! Sessions as the vendor keeps them: by participant, and in the order in which they were modified.
//!
//! An index in that order serves the feed, so a page costs what is on it and not what the account holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::SystemTime,
};

use serde_json::{Value, json};

/// The place of a session in the feed: the second of its last modification, then its index.
pub(super) type Position = (i64, usize);

/// One sitting of a participant.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub participant: String,
    pub test: String,
    /// As the vendor shows it.
    pub started: String,
    pub finished: bool,
    pub auto_closed: bool,
    pub elapsed_seconds: i64,
    pub score: Option<f64>,
    pub max_score: Option<f64>,
    /// Computed from the score if absent.
    pub percent: Option<f64>,
    pub level: Option<String>,
    pub sections: Arc<[Part]>,
    pub outcomes: Arc<[Part]>,
    /// Personal data besides what was registered.
    pub data: Vec<(String, String)>,
    pub questions: usize,
    /// Fields the report lacks.
    pub omitted: Vec<String>,
    /// Seconds since 1970.
    pub modified: i64,
    /// How many seconds after `modified` the feed has it; if absent, the switch decides.
    pub lag: Option<i64>,
}

/// A section of a test, or the scale of a psychological one.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub title: String,
    pub score: Option<f64>,
    pub max_score: Option<f64>,
    pub level: String,
}

/// What happens to a participant's session when the test is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// The test is not started again: the session changes.
    No,
    /// It remains beside the new one.
    Beside,
    /// The new one takes its place.
    Replacing,
}

/// Every session of the account.
#[derive(Default)]
pub(super) struct Sessions {
    all: Vec<Session>,
    /// Indices of each participant's sessions, oldest first.
    by_participant: BTreeMap<String, Vec<usize>>,
    by_modified: BTreeSet<Position>,
    /// Those with a lag of their own.
    lagging: BTreeSet<Position>,
}

impl Sessions {
    /// Stores a session: a new one, or another state of the one that the participant has of this test. That keeps its
    /// start unless it is started again; an empty start means the default.
    pub(super) fn put(&mut self, mut session: Session, restart: Restart) -> &Session {
        let mut newest_first = self.by_participant.get(&session.participant).into_iter().flatten().rev().copied();
        let known = newest_first.find(|index| self.all[*index].test == session.test);
        let known = known.filter(|_| restart != Restart::Beside);
        if session.started.is_empty() {
            let kept = known.filter(|_| restart == Restart::No).map(|index| self.all[index].started.clone());
            let elapsed = if session.finished { session.elapsed_seconds } else { 0 };
            session.started = kept.unwrap_or_else(|| date_time(session.modified - elapsed));
        }
        let index = known.unwrap_or(self.all.len());
        if let Some(before) = self.all.get(index) {
            self.by_modified.remove(&(before.modified, index));
            self.lagging.remove(&(before.modified, index));
        } else {
            self.by_participant.entry(session.participant.clone()).or_default().push(index);
        }
        let position = (session.modified, index);
        self.by_modified.insert(position);
        if session.lag.is_some() {
            self.lagging.insert(position);
        }
        if index == self.all.len() {
            self.all.push(session);
        } else {
            self.all[index] = session;
        }
        &self.all[index]
    }

    /// Returns the session a participant started last.
    pub(super) fn latest(&self, participant: &str) -> Option<&Session> {
        self.by_participant.get(participant).and_then(|indices| indices.last()).map(|index| &self.all[*index])
    }

    /// Returns up to `size` sessions modified in a range, in order, without those the feed does not have yet, and
    /// whether there are more.
    pub(super) fn page(
        &self,
        (after, until): (Bound<Position>, i64),
        size: usize,
        is_visible: impl Fn(&Session) -> bool,
    ) -> (Vec<(Position, &Session)>, bool) {
        // A range whose ends are in the wrong order would panic; it is empty.
        let first = match after {
            Bound::Included(position) | Bound::Excluded(position) => position.0,
            Bound::Unbounded => i64::MIN,
        };
        if first > until {
            return (Vec::new(), false);
        }
        let range = self.by_modified.range((after, Bound::Included((until, usize::MAX))));
        let mut found = range.map(|position| (*position, &self.all[position.1])).filter(|(_, one)| is_visible(one));
        let page = found.by_ref().take(size).collect();
        (page, found.next().is_some())
    }

    /// Returns when the earliest session that the feed does not have yet was modified; those without a lag of their
    /// own are hidden only if modified after `since`.
    pub(super) fn earliest_hidden(&self, since: i64, is_visible: impl Fn(&Session) -> bool) -> Option<i64> {
        let is_hidden = |position: &&Position| !is_visible(&self.all[position.1]);
        let own = self.lagging.iter().find(is_hidden);
        let recent = self.by_modified.range((since, 0)..).find(is_hidden);
        own.into_iter().chain(recent).map(|position| position.0).min()
    }

    /// Renders every session for `GET /_effects`.
    pub(super) fn to_json(&self) -> Value {
        let sessions = self.all.iter().map(|session| {
            json!({
                "participantId": session.participant,
                "testId": session.test,
                "started": session.started,
                "finished": session.finished,
                "score": session.score,
                "maxScore": session.max_score,
                "modified": date_time(session.modified),
            })
        });
        sessions.collect()
    }
}

/// Returns whole seconds since 1970.
pub(super) fn unix_seconds(at: SystemTime) -> i64 {
    jiff::Timestamp::try_from(at).map_or(0, jiff::Timestamp::as_second)
}

/// Formats seconds since 1970 as everywhere in this API; empty for a time out of the calendar's range.
pub(super) fn date_time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|at| at.to_string()).unwrap_or_default()
}

/// Parses a time in the form of this API, which has whole seconds and ends in `Z`.
pub(super) fn parse_date_time(text: &str) -> Option<i64> {
    let seconds = text.parse::<jiff::Timestamp>().ok()?.as_second();
    (date_time(seconds) == text).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(participant: &str, modified: i64) -> Session {
        Session {
            participant: participant.to_owned(),
            test: "t".to_owned(),
            started: String::new(),
            finished: true,
            auto_closed: false,
            elapsed_seconds: 60,
            score: Some(1.0),
            max_score: Some(2.0),
            percent: None,
            level: None,
            sections: Arc::from([]),
            outcomes: Arc::from([]),
            data: Vec::new(),
            questions: 0,
            omitted: Vec::new(),
            modified,
            lag: None,
        }
    }

    #[test]
    fn a_page_looks_at_no_more_sessions_than_it_has() {
        let mut sessions = Sessions::default();
        for number in 0..50_000 {
            sessions.put(session(&number.to_string(), number), Restart::No);
        }
        let looked_at = std::cell::Cell::new(0);
        let count = |_: &Session| {
            looked_at.set(looked_at.get() + 1);
            true
        };
        let (mut after, mut pages, mut read) = (Bound::Included((0, 0)), 0, 0);
        loop {
            let (page, has_more) = sessions.page((after, 50_000), 500, count);
            (pages, read) = (pages + 1, read + page.len());
            if !has_more {
                break;
            }
            after = Bound::Excluded(page[page.len() - 1].0);
        }
        // Each page but the last also looks at the first of the next one.
        assert_eq!((pages, read, looked_at.get()), (100, 50_000, 50_099));
    }

    #[test]
    fn a_page_after_its_end_is_empty() {
        let mut sessions = Sessions::default();
        sessions.put(session("a", 5), Restart::No);
        let page = |after, until| sessions.page((after, until), 9, |_| true).0.len();
        assert_eq!([page(Bound::Included((9, 0)), 5), page(Bound::Excluded((5, 0)), 5)], [0, 0]);
        assert_eq!(page(Bound::Included((5, 0)), 5), 1);
    }

    #[test]
    fn times_have_whole_seconds() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_250);
        assert_eq!(date_time(unix_seconds(at)), "2023-11-14T22:13:20Z");
        assert_eq!(date_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(parse_date_time("2023-11-14T22:13:20Z"), Some(1_700_000_000));
        for wrong in ["2023-11-14T22:13:20.5Z", "2023-11-14T22:13:20+00:00", "2023-11-14", ""] {
            assert_eq!(parse_date_time(wrong), None, "{wrong}");
        }
    }
}
