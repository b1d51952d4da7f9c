//! Text with placeholders `{name}`. Never fills a placeholder inside a value it has just inserted. Its `Debug` shows
//! nothing, because operators may have written a secret into it.

use serde::Deserialize;

use crate::secret::Secret;

/// Text with placeholders `{name}` (lower-case letters and `_`); any other brace is text.
#[derive(Debug, Clone)]
pub struct Template(Secret);

enum Part<'a> {
    Text(&'a str),
    Place(&'a str),
}

impl Template {
    /// Creates a template from this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Secret::new(text))
    }

    /// Returns whether the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.expose().is_empty()
    }

    /// Returns whether the text contains the placeholder.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.parts().iter().any(|part| matches!(part, Part::Place(place) if *place == name))
    }

    /// Checks that every placeholder is one of these.
    ///
    /// # Errors
    /// A sentence that lists the valid placeholders.
    pub fn only_names(&self, names: &[&str]) -> Result<(), String> {
        let known = |part: &Part<'_>| matches!(part, Part::Place(place) if !names.contains(place));
        if !self.parts().iter().any(known) {
            return Ok(());
        }
        let names: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
        Err(format!("contains an unknown placeholder; valid ones are {}", names.join(", ")))
    }

    /// Returns the text with every placeholder replaced by its value; one without a value stays unchanged.
    #[must_use]
    pub fn render(&self, value: impl Fn(&str) -> Option<String>) -> String {
        let mut filled = String::with_capacity(self.0.expose().len());
        for part in self.parts() {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Place(name) => filled.push_str(&value(name).unwrap_or_else(|| format!("{{{name}}}"))),
            }
        }
        filled
    }

    fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        let mut rest = self.0.expose();
        while let Some(open) = rest.find('{') {
            let (text, after) = rest.split_at(open);
            let inside = &after[1..];
            let length = inside.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_').count();
            if length > 0 && inside[length..].starts_with('}') {
                parts.push(Part::Text(text));
                parts.push(Part::Place(&inside[..length]));
                rest = &inside[length + 1..];
            } else {
                parts.push(Part::Text(&rest[..=open]));
                rest = inside;
            }
        }
        parts.push(Part::Text(rest));
        parts
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserted_values_are_not_expanded_again() {
        let template = Template::new(r#"{"a":"{one}","b":{"c":"{two}{one}"},"d":{}}"#);
        let filled = template.render(|name| match name {
            "one" => Some("{two}".to_owned()),
            "two" => Some("2".to_owned()),
            _ => None,
        });
        assert_eq!(filled, r#"{"a":"{two}","b":{"c":"2{two}"},"d":{}}"#);
    }

    #[test]
    fn an_unknown_placeholder_is_rejected() {
        assert!(Template::new("{api_key}-{ts}").only_names(&["api_key", "ts"]).is_ok());
        assert!(Template::new("{apikey}").only_names(&["api_key", "ts"]).is_err());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Template::new("Bearer hunter2")), "Template(***)");
    }
}
