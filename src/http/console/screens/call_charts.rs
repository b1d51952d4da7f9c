//! What became of a connection's calls in the last hour, as charts and as a table: how many there were, how many failed,
//! and how long the vendor took.

use jiff::Timestamp;
use serde::Deserialize;

use crate::http::console::chart::{Chart, Mark, ceiling, columns, counted, lines};

/// Number of minutes of a history.
const MINUTES: usize = 60;

/// The API's history of a connection's calls.
#[derive(Deserialize)]
pub(in crate::http::console) struct CallHistory {
    from: Timestamp,
    to: Timestamp,
    hour: CallCounts,
    /// Those with a call, oldest first.
    minutes: Vec<CallMinute>,
}

/// A minute with calls.
#[derive(Deserialize)]
pub(in crate::http::console) struct CallMinute {
    /// Its beginning.
    pub(in crate::http::console) at: Timestamp,
    /// Its calls.
    #[serde(flatten)]
    pub(in crate::http::console) counts: CallCounts,
}

/// Numbers of calls.
#[derive(Deserialize)]
pub(in crate::http::console) struct CallCounts {
    /// All calls.
    pub(in crate::http::console) calls: u64,
    /// Those that failed.
    pub(in crate::http::console) failures: CallFailures,
    /// Time at the vendor that half of the calls did not exceed, in milliseconds.
    #[serde(rename = "p50Ms")]
    pub(in crate::http::console) p50: Option<u64>,
    /// The same of 95 of 100 calls.
    #[serde(rename = "p95Ms")]
    pub(in crate::http::console) p95: Option<u64>,
}

/// Numbers of failed calls, by what failed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http::console) struct CallFailures {
    http_error: u64,
    timeout: u64,
    unreachable: u64,
    circuit_open: u64,
    other: u64,
}

/// The charts of a history, and what they are made from.
pub(in crate::http::console) struct CallCharts {
    /// Calls of each minute.
    pub(in crate::http::console) calls: Chart,
    /// Times at the vendor of each minute.
    pub(in crate::http::console) times: Chart,
    /// The whole hour.
    pub(in crate::http::console) hour: CallCounts,
    /// The minutes with a call, newest first.
    pub(in crate::http::console) minutes: Vec<CallMinute>,
}

impl CallFailures {
    fn sum(&self) -> u64 {
        let Self { http_error, timeout, unreachable, circuit_open, other } = self;
        http_error + timeout + unreachable + circuit_open + other
    }

    /// Returns the numbers that are not zero, in words.
    pub(in crate::http::console) fn words(&self) -> String {
        let Self { http_error, timeout, unreachable, circuit_open, other } = *self;
        let counts = [
            (http_error, "HTTP error", "HTTP errors"),
            (timeout, "time-out", "time-outs"),
            (unreachable, "unreachable", "unreachable"),
            (circuit_open, "refused by the circuit breaker", "refused by the circuit breaker"),
            (other, "other", "other"),
        ];
        let given = counts.iter().filter(|(number, ..)| *number > 0);
        let words: Vec<String> = given.map(|(number, one, many)| counted(*number, one, many)).collect();
        words.join(", ")
    }
}

impl CallCounts {
    /// Returns the number of failed calls.
    pub(in crate::http::console) fn failed(&self) -> u64 {
        self.failures.sum()
    }
}

impl CallCharts {
    /// Draws a history.
    pub(in crate::http::console) fn of(history: CallHistory) -> Self {
        let CallHistory { from, to, hour, mut minutes } = history;
        let marks = || vec![Mark::Time(from.to_string()), Mark::Time(to.to_string())];
        let mut by_minute: Vec<Option<&CallCounts>> = vec![None; MINUTES];
        for minute in &minutes {
            let index = usize::try_from(minute.at.duration_since(from).as_mins()).ok();
            if let Some(place) = index.and_then(|index| by_minute.get_mut(index)) {
                *place = Some(&minute.counts);
            }
        }
        let (calls, times) = (calls_chart(&by_minute, &hour, marks()), times_chart(&by_minute, &hour, marks()));
        minutes.reverse();
        Self { calls, times, hour, minutes }
    }
}

fn calls_chart(minutes: &[Option<&CallCounts>], hour: &CallCounts, marks: Vec<Mark>) -> Chart {
    let most = minutes.iter().flatten().map(|counts| counts.calls).max().unwrap_or_default();
    let top = ceiling(most);
    let parts = |counts: &CallCounts| {
        let failed = counts.failed().min(counts.calls);
        vec![("good", counts.calls - failed), ("bad", failed)]
    };
    let steps: Vec<_> = minutes.iter().map(|minute| minute.map(parts).unwrap_or_default()).collect();
    let failed = hour.failed();
    Chart {
        id: "calls",
        title: "Calls in each minute of the last hour".to_owned(),
        description: format!(
            "At most {} in a minute; of {} in the hour {failed} failed.",
            counted(most, "call", "calls"),
            counted(hour.calls, "call", "calls")
        ),
        top: counted(top, "call", "calls"),
        shapes: columns(&steps, top),
        marks,
        keys: vec![("good", "answered".to_owned()), ("bad", format!("failed: {failed}"))],
    }
}

fn times_chart(minutes: &[Option<&CallCounts>], hour: &CallCounts, marks: Vec<Mark>) -> Chart {
    let values = |of: fn(&CallCounts) -> Option<u64>| -> Vec<Option<u64>> {
        minutes.iter().map(|minute| minute.and_then(of)).collect()
    };
    let (halves, most) = (values(|counts| counts.p50), values(|counts| counts.p95));
    let top = ceiling(most.iter().chain(&halves).flatten().copied().max().unwrap_or_default());
    let mut shapes = lines(&most, top, "warn");
    shapes.extend(lines(&halves, top, "busy"));
    let of_hour = |time: Option<u64>| time.map_or_else(|| "–".to_owned(), |time| format!("{time} ms"));
    let (p50, p95) = (of_hour(hour.p50), of_hour(hour.p95));
    let description = if hour.p50.is_some() {
        format!("In the hour, half of the calls took at most {p50}, and 95 of 100 at most {p95}.")
    } else {
        "No call reached the vendor.".to_owned()
    };
    Chart {
        id: "times",
        title: "Time at the vendor in each minute of the last hour".to_owned(),
        description,
        top: format!("{top} ms"),
        shapes,
        marks,
        keys: vec![("busy", format!("p50: {p50}")), ("warn", format!("p95: {p95}"))],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::console::chart::Shape;

    fn counts(calls: u64, timeout: u64) -> Value {
        json!({
            "calls": calls, "p50Ms": 100, "p95Ms": 400,
            "failures": { "httpError": 0, "timeout": timeout, "unreachable": 0, "circuitOpen": 0, "other": 0 },
        })
    }

    fn minute(at: &str, calls: u64, timeout: u64) -> Value {
        let mut minute = counts(calls, timeout);
        minute["at"] = json!(at);
        minute
    }

    fn history(minutes: &[Value]) -> CallHistory {
        let document = json!({
            "connection": "main", "from": "2026-11-22T08:31:00.000Z", "to": "2026-11-22T09:30:21.024Z",
            "hour": counts(12, 2), "minutes": minutes,
        });
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn each_minute_has_its_place() {
        let first = minute("2026-11-22T08:31:00.000Z", 10, 0);
        let last = minute("2026-11-22T09:30:00.000Z", 2, 2);
        let charts = CallCharts::of(history(&[first, last]));
        let bar = |tone, x, y, height| Shape::Column { tone, x, y, width: 8, height };
        assert_eq!(charts.calls.shapes, [bar("good", 2, 0, 80), bar("bad", 710, 64, 16)]);
        assert_eq!(charts.calls.top, "10 calls");
        assert_eq!(charts.times.top, "500 ms");
        assert_eq!(charts.times.shapes.len(), 4, "two minutes without neighbours, at two times");
        let newest: Vec<u64> = charts.minutes.iter().map(|minute| minute.counts.calls).collect();
        assert_eq!(newest, [2, 10]);
        assert_eq!(charts.hour.failures.words(), "2 time-outs");
    }

    #[test]
    fn an_hour_without_calls_is_an_empty_chart() {
        let mut none = history(&[]);
        (none.hour.calls, none.hour.p50, none.hour.p95) = (0, None, None);
        none.hour.failures.timeout = 0;
        let charts = CallCharts::of(none);
        assert!(charts.calls.shapes.is_empty() && charts.times.shapes.is_empty());
        assert_eq!(charts.times.description, "No call reached the vendor.");
        assert_eq!(charts.hour.failures.words(), "");
    }
}
