//! Parsing of `StartExam` request bodies: field names in any case, and every rule the vendor publishes.
//!
//! The rules are the vendor's; the rejection messages are invented, since only the one about `Date` is published.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::sandbox::startexam::Refusal;

/// An object whose fields are looked up in any case.
pub(super) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// Returns the fields of a value that must be an object.
    pub(super) fn of(value: &'a Value, what: &str) -> Result<Self, Refusal> {
        value.as_object().map(Fields).ok_or_else(|| Refusal::bad(format!("{what} must be an object")))
    }

    /// Returns a field that is present and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        let found = self
            .0
            .get(name)
            .or_else(|| self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
        found.filter(|value| !value.is_null())
    }

    /// Returns a string.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        self.get(name)
            .map(|value| value.as_str().ok_or_else(|| Refusal::bad(format!("'{name}' must be a string"))))
            .transpose()
    }

    /// Returns a required string.
    pub(super) fn required_text(&self, name: &str) -> Result<&'a str, Refusal> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| Refusal::bad(format!("'{name}' is required")))
    }

    /// Returns a boolean; false if absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| Refusal::bad(format!("'{name}' must be a boolean"))),
        }
    }

    /// Returns a whole number from zero.
    pub(super) fn count(&self, name: &str) -> Result<Option<u32>, Refusal> {
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        self.get(name)
            .map(|value| number(value).ok_or_else(|| Refusal::bad(format!("'{name}' must be a whole number from 0"))))
            .transpose()
    }

    /// Returns a list of at least `bounds.0` and at most `bounds.1` entries.
    pub(super) fn list(&self, name: &str, bounds: (usize, usize)) -> Result<&'a [Value], Refusal> {
        let items = match self.get(name) {
            None => &[],
            Some(value) => {
                value.as_array().map(Vec::as_slice).ok_or_else(|| Refusal::bad(format!("'{name}' must be an array")))?
            }
        };
        if items.len() < bounds.0 || items.len() > bounds.1 {
            return Err(Refusal::bad(format!("'{name}' must have {}..{} items", bounds.0, bounds.1)));
        }
        Ok(items)
    }

    /// Returns a list of GUIDs, in lower case.
    pub(super) fn guids(&self, name: &str, bounds: (usize, usize)) -> Result<Vec<String>, Refusal> {
        self.list(name, bounds)?.iter().map(|value| guid(value, name)).collect()
    }

    /// Returns a GUID, in lower case.
    pub(super) fn guid(&self, name: &str) -> Result<Option<String>, Refusal> {
        self.get(name).map(|value| guid(value, name)).transpose()
    }

    /// Returns a list of strings.
    pub(super) fn texts(&self, name: &str, bounds: (usize, usize)) -> Result<Vec<String>, Refusal> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let items = self.list(name, bounds)?.iter().map(text).collect::<Option<_>>();
        items.ok_or_else(|| Refusal::bad(format!("'{name}' must hold strings")))
    }

    /// Returns a list of `{name, value}` pairs; a value may be null.
    pub(super) fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, Refusal> {
        let pair = |value: &Value| {
            let fields = Fields::of(value, name)?;
            Ok((fields.required_text("name")?.to_owned(), fields.text("value")?.unwrap_or_default().to_owned()))
        };
        self.list(name, (0, usize::MAX))?.iter().map(pair).collect()
    }

    /// Returns a point in time: UTC, ISO 8601, whole seconds, trailing `Z`.
    pub(super) fn time(&self, name: &str) -> Result<Option<jiff::Timestamp>, Refusal> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let shape_is_right = text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
        match text.parse() {
            Ok(time) if shape_is_right => Ok(Some(time)),
            _ => Err(Refusal::bad(format!("'{name}' must be a UTC date-time such as 2024-05-03T00:00:00Z"))),
        }
    }
}

/// Rejects a list with a duplicate entry.
pub(super) fn no_repeats<'a>(ids: impl Iterator<Item = &'a str>, what: &str) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(Refusal::bad(format!("{what} '{id}' is repeated")));
        }
    }
    Ok(())
}

fn guid(value: &Value, name: &str) -> Result<String, Refusal> {
    let text = value.as_str().filter(|text| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok());
    text.map(str::to_ascii_lowercase).ok_or_else(|| Refusal::bad(format!("'{name}' must hold GUIDs")))
}
