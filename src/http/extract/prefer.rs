//! `Prefer` (RFC 7240): how long to wait, and how strictly to treat the request. Unknown preferences are ignored, as
//! the RFC demands; `Preference-Applied` names those that were applied.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The response header.
pub(in crate::http) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The preferences the gateway supports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::http) struct Preferences {
    wait: Option<u32>,
    respond_async: bool,
    strict: Option<bool>,
}

impl Preferences {
    /// Parses every `Prefer` header; if a preference is repeated, the first counts (RFC 7240 §2).
    pub(in crate::http) fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for value in headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok()) {
            for preference in split_unquoted(value, ',') {
                found.note(preference);
            }
        }
        found
    }

    fn note(&mut self, preference: &str) {
        let word = split_unquoted(preference, ';').next().unwrap_or_default();
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "respond-async" => self.respond_async = true,
            "wait" => self.wait = self.wait.or_else(|| value.parse().ok()),
            "handling" => {
                let strict = match value.to_ascii_lowercase().as_str() {
                    "strict" => Some(true),
                    "lenient" => Some(false),
                    _ => None,
                };
                self.strict = self.strict.or(strict);
            }
            _ => {}
        }
    }

    /// Returns how long the caller waits: never longer than the gateway's limit `longest`, which is also the default.
    pub(in crate::http) fn wait(self, longest: Duration) -> Duration {
        self.wait_or(longest, longest)
    }

    /// Returns how long the caller waits: `usual` by default, never longer than `longest`.
    pub(in crate::http) fn wait_or(self, usual: Duration, longest: Duration) -> Duration {
        let wanted = match (self.respond_async, self.wait) {
            (_, Some(seconds)) => Duration::from_secs(u64::from(seconds)),
            (true, None) => Duration::ZERO,
            (false, None) => usual,
        };
        wanted.min(longest)
    }

    /// Returns whether fields the vendor cannot store are an error.
    pub(in crate::http) fn strict(self) -> bool {
        self.strict.unwrap_or(false)
    }

    /// Returns the preferences without those about waiting, which a write does not honour that never ends before its response.
    pub(in crate::http) fn without_wait(self) -> Self {
        Self { wait: None, respond_async: false, ..self }
    }

    /// Returns the value of `Preference-Applied` of a request that only waits.
    pub(in crate::http) fn wait_applied(self) -> Option<HeaderValue> {
        Self { wait: self.wait, ..Self::default() }.applied(false)
    }

    /// Returns the value of `Preference-Applied`; `accepted` if the response came before the work ended.
    pub(in crate::http) fn applied(self, accepted: bool) -> Option<HeaderValue> {
        let handling = self.strict.map(|strict| format!("handling={}", if strict { "strict" } else { "lenient" }));
        let wait = self.wait.map(|seconds| format!("wait={seconds}"));
        let at_once = (self.respond_async && accepted).then(|| "respond-async".to_owned());
        let applied: Vec<String> = [at_once, wait, handling].into_iter().flatten().collect();
        if applied.is_empty() { None } else { HeaderValue::from_str(&applied.join(", ")).ok() }
    }
}

fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
    .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Preferences {
        let pairs = values.iter().map(|value| (HeaderName::from_static("prefer"), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            headers.append(name, value);
        });
        Preferences::of(&headers)
    }

    #[test]
    fn known_preferences_are_read_in_any_spelling() {
        let both = Preferences { wait: Some(5), respond_async: true, strict: Some(true) };
        assert_eq!(of(&["respond-async, wait=5; foo=\"a,b\", handling=strict"]), both);
        assert_eq!(of(&["Respond-Async", "WAIT = \"5\"", "handling=STRICT"]), both);
    }

    #[test]
    fn unknown_preferences_are_ignored() {
        for unknown in ["wait=soon", "wait", "wait=-1", "handling=odd", "foo; wait=3", "x=\", wait=3\"", ""] {
            assert_eq!(of(&[unknown]), Preferences::default(), "{unknown}");
        }
        assert_eq!(of(&["wait=1, wait=9"]).wait, Some(1), "the first counts");
    }

    #[test]
    fn a_write_that_never_ends_later_applies_no_preference_about_waiting() {
        let preferences = of(&["respond-async, wait=2, handling=strict"]).without_wait();
        assert_eq!(preferences.applied(true), Some(HeaderValue::from_static("handling=strict")));
        assert_eq!(of(&["wait=2"]).without_wait().applied(false), None);
    }

    #[test]
    fn wait_is_limited() {
        let longest = Duration::from_mins(1);
        assert_eq!(of(&[]).wait(longest), longest);
        assert_eq!(of(&["wait=600"]).wait(longest), longest);
        assert_eq!(of(&["wait=0"]).wait(longest), Duration::ZERO);
        assert_eq!(of(&["respond-async"]).wait(longest), Duration::ZERO);
        assert_eq!(of(&["respond-async, wait=2"]).wait(longest), Duration::from_secs(2));
        let usual = Duration::from_secs(10);
        assert_eq!(of(&[]).wait_or(usual, longest), usual);
        assert_eq!(of(&[]).wait_or(usual, Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(of(&["wait=30"]).wait_or(usual, longest), Duration::from_secs(30));
        assert_eq!(of(&["respond-async"]).wait_or(usual, longest), Duration::ZERO);
    }

    #[test]
    fn applied_preferences_are_named() {
        assert_eq!(of(&[]).applied(true), None);
        assert_eq!(of(&["respond-async"]).applied(false), None);
        assert_eq!(
            of(&["respond-async, wait=2, handling=strict"]).applied(true).unwrap(),
            "respond-async, wait=2, handling=strict"
        );
    }
}
