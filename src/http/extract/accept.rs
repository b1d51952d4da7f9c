//! Content negotiation: whether a caller accepts the response's media type (RFC 9110 §12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

/// The media type of an event stream.
pub(in crate::http) const EVENTS: &str = "text/event-stream";

/// The media type of NDJSON, one document per line.
pub(in crate::http) const LINES: &str = "application/x-ndjson";

/// The media type of a table.
pub(in crate::http) const TABLE: &str = "text/csv";

/// Returns whether `Accept` admits `application/json` or `application/problem+json`; a missing or empty one admits
/// everything.
pub(in crate::http) fn admits_json(headers: &HeaderMap) -> bool {
    admits_any(headers, &["application/json", "application/problem+json"])
}

/// Returns whether `Accept` admits events, or at least the problem that may be sent instead.
pub(in crate::http) fn admits_events(headers: &HeaderMap) -> bool {
    admits_any(headers, &[EVENTS, "application/json", "application/problem+json"])
}

/// Returns whether `Accept` admits NDJSON or JSON.
pub(in crate::http) fn admits_ndjson(headers: &HeaderMap) -> bool {
    admits_any(headers, &[LINES, "application/json", "application/problem+json"])
}

/// Returns whether `Accept` admits CSV or JSON.
pub(in crate::http) fn admits_table(headers: &HeaderMap) -> bool {
    admits_any(headers, &[TABLE, "application/json", "application/problem+json"])
}

/// Returns whether `Accept` names this media type explicitly; a caller that accepts anything gets JSON.
pub(in crate::http) fn requests(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let named = |(name, admitted): (&str, bool)| admitted && name.eq_ignore_ascii_case(media_type);
    values.flat_map(|value| value.split(',')).filter_map(range).any(named)
}

fn admits_any(headers: &HeaderMap, media_types: &[&str]) -> bool {
    let values: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let ranges: Vec<(&str, bool)> = values.iter().flat_map(|value| value.split(',')).filter_map(range).collect();
    ranges.is_empty() || media_types.iter().any(|media_type| admits(&ranges, media_type))
}

/// Parses a media range; returns it and whether its weight is above zero.
fn range(text: &str) -> Option<(&str, bool)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some((name, weight.is_none_or(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0))))
}

/// Returns whether the ranges admit the media type; the most specific match decides.
fn admits(ranges: &[(&str, bool)], media_type: &str) -> bool {
    let family = media_type.split('/').next().unwrap_or_default();
    [media_type, &format!("{family}/*"), "*/*"]
        .into_iter()
        .find_map(|wanted| ranges.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)))
        .is_some_and(|(_, admitted)| *admitted)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn admitted(value: &'static str) -> bool {
        admits_json(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]))
    }

    #[test]
    fn json_is_admitted_in_any_spelling() {
        assert!(admits_json(&HeaderMap::new()));
        for value in [
            "",
            "*/*",
            "application/*;q=0.1",
            "application/json",
            "Application/JSON; charset=utf-8",
            "text/html, application/problem+json;q=0.5",
            "application/json;q=0, */*",
        ] {
            assert!(admitted(value), "{value}");
        }
    }

    #[test]
    fn event_stream_is_admitted_on_event_routes() {
        let admitted = |value: &'static str| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]);
            (admits_events(&headers), admits_json(&headers))
        };
        assert_eq!(admitted("text/event-stream"), (true, false));
        assert_eq!(admitted("text/*"), (true, false));
        assert_eq!(admitted("text/html, application/json"), (true, true));
        assert_eq!(admitted("text/html"), (false, false));
        assert_eq!(admitted("text/event-stream;q=0, text/*"), (false, false));
    }

    #[test]
    fn ndjson_is_returned_only_if_named() {
        let asked = |value: &'static str| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]);
            (admits_ndjson(&headers), requests(&headers, LINES))
        };
        assert_eq!(asked("application/x-ndjson"), (true, true));
        assert_eq!(asked("application/json;q=0.5, Application/X-NDJSON"), (true, true));
        assert_eq!(asked("*/*"), (true, false));
        assert_eq!(asked("application/x-ndjson;q=0, */*"), (true, false));
        assert_eq!(asked("text/csv"), (false, false));
    }

    #[test]
    fn csv_is_returned_only_if_named() {
        let asked = |value: &'static str| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]);
            (admits_table(&headers), requests(&headers, TABLE))
        };
        assert_eq!(asked("text/csv"), (true, true));
        assert_eq!(asked("application/json;q=0.5, Text/CSV; header=present"), (true, true));
        assert_eq!(asked("text/*"), (true, false));
        assert_eq!(asked("text/csv;q=0, */*"), (true, false));
        assert_eq!(asked("text/html"), (false, false));
    }

    #[test]
    fn other_media_types_are_not_admitted() {
        for value in ["text/html", "text/*", "application/json;q=0", "application/xml, application/*;q=0", "json"] {
            assert!(!admitted(value), "{value}");
        }
    }
}
