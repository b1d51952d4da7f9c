//! The filters of the templates: how words, ids, times and numbers of the API are shown. What they return as markup is
//! escaped here.

#![expect(
    clippy::inline_always,
    clippy::trivially_copy_pass_by_ref,
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "what askama makes of a filter, and the signature that it asks for"
)]

use std::fmt::{Display, Write as _};

use askama::filters::Safe;
use askama::{Result, Values};
use jiff::Timestamp;

/// The words of the API with a good, bad, unclear or busy meaning; every other word is neutral.
const TONES: [(&str, &[&str]); 4] = [
    (
        "good",
        &[
            "applied",
            "registered",
            "assigned",
            "delivered",
            "enabled",
            "ok",
            "completed",
            "fully_graded",
            "closed",
            "succeeded",
        ],
    ),
    ("bad", &["not_applied", "failed", "rejected", "disabled", "credentials_invalid", "circuit_open", "open", "fault"]),
    ("warn", &["unknown", "parked", "failing", "degraded", "clock_skew", "feed_stale", "half_open"]),
    ("busy", &["pending", "running", "queued", "in_progress", "active"]),
];

/// Number of digits of an id that its short form shows.
const SHORT_DIGITS: usize = 6;

/// Returns the tone of a word of the API: `good`, `bad`, `warn`, `busy` or `idle`.
pub(in crate::http::console) fn tone_of(word: &str) -> &'static str {
    TONES.iter().find(|(_, words)| words.contains(&word)).map_or("idle", |(tone, _)| tone)
}

/// Escapes text for markup (element content and quoted attributes).
pub(in crate::http::console) fn escaped(text: &str) -> String {
    let mut markup = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => markup.push_str("&amp;"),
            '<' => markup.push_str("&lt;"),
            '>' => markup.push_str("&gt;"),
            '"' => markup.push_str("&quot;"),
            '\'' => markup.push_str("&#39;"),
            other => markup.push(other),
        }
    }
    markup
}

/// Returns a word of the API for people: `not_applied` as "not applied".
pub(in crate::http::console) fn spaced(word: &str) -> String {
    word.replace('_', " ")
}

/// Returns the short form of an id: its prefix and its last digits.
pub(in crate::http::console) fn shortened(id: &str) -> String {
    match id.split_once('_') {
        Some((prefix, digits)) if digits.is_ascii() && digits.len() > 2 * SHORT_DIGITS => {
            format!("{prefix}_…{}", digits.get(digits.len() - SHORT_DIGITS..).unwrap_or_default())
        }
        _ => id.to_owned(),
    }
}

/// Returns a time for people, in UTC: to the minute, or to the second.
pub(in crate::http::console) fn utc(time: Timestamp, seconds: bool) -> String {
    time.strftime(if seconds { "%Y-%m-%d %H:%M:%S UTC" } else { "%Y-%m-%d %H:%M UTC" }).to_string()
}

/// Groups the digits of a number by threes.
pub(in crate::http::console) fn grouped(number: &str) -> String {
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return number.to_owned();
    }
    let mut grouped = String::with_capacity(number.len() * 4 / 3);
    for (index, digit) in number.chars().enumerate() {
        if index > 0 && (number.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn time_element(text: &str, seconds: bool) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => format!("<time datetime=\"{time:.0}\">{}</time>", utc(time, seconds)),
        Err(_) => escaped(text),
    }
}

/// Shows an RFC 3339 time to the minute.
#[askama::filter_fn]
pub(in crate::http::console) fn time(text: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(time_element(&text.to_string(), false)))
}

/// Shows an RFC 3339 time to the second.
#[askama::filter_fn]
pub(in crate::http::console) fn time_exact(text: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(time_element(&text.to_string(), true)))
}

/// Shows a word of the API as a badge in the colour of its meaning.
#[askama::filter_fn]
pub(in crate::http::console) fn badge(word: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    let word = word.to_string();
    Ok(Safe(format!("<span class=\"badge {}\">{}</span>", tone_of(&word), escaped(&spaced(&word)))))
}

/// Returns the tone of a word of the API, as the class of an element.
#[askama::filter_fn]
pub(in crate::http::console) fn tone(word: impl Display, _: &dyn Values) -> Result<&'static str> {
    Ok(tone_of(&word.to_string()))
}

/// Shows a whole id that can be copied.
#[askama::filter_fn]
pub(in crate::http::console) fn id(text: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(format!("<code data-copy>{}</code>", escaped(&text.to_string()))))
}

/// Shows the short form of an id; the whole one is its title.
#[askama::filter_fn]
pub(in crate::http::console) fn short(text: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    let text = text.to_string();
    Ok(Safe(format!("<code title=\"{}\">{}</code>", escaped(&text), escaped(&shortened(&text)))))
}

/// Returns a word of the API with spaces.
#[askama::filter_fn]
pub(in crate::http::console) fn words(word: impl Display, _: &dyn Values) -> Result<String> {
    Ok(spaced(&word.to_string()))
}

/// Returns a whole number with its digits in groups.
#[askama::filter_fn]
pub(in crate::http::console) fn figure(number: impl Display, _: &dyn Values) -> Result<String> {
    Ok(grouped(&number.to_string()))
}

/// Returns a number of milliseconds as a duration.
#[askama::filter_fn]
pub(in crate::http::console) fn millis(number: &u64, _: &dyn Values) -> Result<String> {
    Ok(match *number {
        short @ ..1_000 => format!("{short} ms"),
        seconds @ ..60_000 => format!("{}.{} s", seconds / 1_000, seconds % 1_000 / 100),
        longer => format!("{} min {} s", longer / 60_000, longer % 60_000 / 1_000),
    })
}

/// Returns the text, or a dash if there is none.
#[askama::filter_fn]
pub(in crate::http::console) fn dash<T: Display>(value: &Option<T>, _: &dyn Values) -> Result<String> {
    let mut text = String::new();
    match value {
        Some(value) => write!(text, "{value}")?,
        None => text.push('–'),
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn an_id_is_shown_by_its_kind_and_its_last_digits() {
        assert_eq!(shortened("cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f"), "cand_…4d5e6f");
        assert_eq!(shortened("emp_1"), "emp_1");
        assert_eq!(shortened("ä_öüäöüäöüäöüäöüä"), "ä_öüäöüäöüäöüäöüä");
    }

    #[rstest]
    #[case::short("7", "7")]
    #[case::three("999", "999")]
    #[case::four("1000", "1,000")]
    #[case::seven("1234567", "1,234,567")]
    #[case::negative("-1234", "-1234")]
    fn figures_are_grouped_by_threes(#[case] number: &str, #[case] shown: &str) {
        assert_eq!(grouped(number), shown);
    }

    #[test]
    fn text_cannot_end_an_attribute_or_begin_an_element() {
        assert_eq!(escaped("<b title=\"'&\">"), "&lt;b title=&quot;&#39;&amp;&quot;&gt;");
    }

    #[test]
    fn a_time_is_utc_and_what_is_no_time_is_text() {
        let shown = "<time datetime=\"2026-11-30T10:31:07Z\">2026-11-30 10:31 UTC</time>";
        assert_eq!(time_element("2026-11-30T10:31:07.251Z", false), shown);
        assert!(time_element("2026-11-30T12:31:07+02:00", true).ends_with(">2026-11-30 10:31:07 UTC</time>"));
        assert_eq!(time_element("<later>", false), "&lt;later&gt;");
    }

    #[test]
    fn a_word_has_one_tone() {
        let all: Vec<&str> = TONES.iter().flat_map(|(_, words)| words.iter().copied()).collect();
        let distinct: std::collections::BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), distinct.len());
        assert_eq!((tone_of("applied"), tone_of("unknown"), tone_of("anything")), ("good", "warn", "idle"));
    }
}
