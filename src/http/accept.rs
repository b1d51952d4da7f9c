//! Whether a caller can read what is answered (RFC 9110 §12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

/// Whether `Accept` admits `application/json` or `application/problem+json`; a missing or empty one admits everything.
pub(super) fn admits_json(headers: &HeaderMap) -> bool {
    let values: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let ranges: Vec<(&str, bool)> = values.iter().flat_map(|value| value.split(',')).filter_map(range).collect();
    ranges.is_empty() || admits(&ranges, "application/json") || admits(&ranges, "application/problem+json")
}

/// The range and whether its weight is above zero.
fn range(text: &str) -> Option<(&str, bool)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some((name, weight.is_none_or(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0))))
}

/// The most specific range that matches decides.
fn admits(ranges: &[(&str, bool)], media_type: &str) -> bool {
    [media_type, "application/*", "*/*"]
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
    fn json_in_any_spelling_is_admitted() {
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
    fn everything_else_is_not() {
        for value in ["text/html", "text/*", "application/json;q=0", "application/xml, application/*;q=0", "json"] {
            assert!(!admitted(value), "{value}");
        }
    }
}
