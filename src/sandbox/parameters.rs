//! Named, typed parameters with defaults: those of a fault and the lasting switches of a vendor.
//!
//! A misspelt name or invalid value is rejected with the list of valid ones, never ignored: a fault that silently does
//! not happen would make a test pass that should fail.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The definition of one parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub form: Form,
    pub meaning: &'static str,
}

/// The type of a parameter, with its default.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A whole number within bounds.
    Number {
        default: i64,
        min: i64,
        max: i64,
    },
    /// A whole number from zero, or none (`null`).
    Optional(Option<i64>),
    /// Any number, or none (`null`).
    Decimal(Option<f64>),
    Flag(bool),
    Text(&'static str),
    /// One of these words; the first is the default.
    Choice(&'static [&'static str]),
}

/// Defines a whole number from zero with a default.
pub(super) const fn count(name: &'static str, default: i64, meaning: &'static str) -> Parameter {
    Parameter { name, form: Form::Number { default, min: 0, max: 1 << 40 }, meaning }
}

/// Defines a whole number from zero that may be absent.
pub(super) const fn optional_count(name: &'static str, default: Option<i64>, meaning: &'static str) -> Parameter {
    Parameter { name, form: Form::Optional(default), meaning }
}

/// Defines a whole number within bounds.
pub(super) const fn within(
    name: &'static str,
    default: i64,
    (min, max): (i64, i64),
    meaning: &'static str,
) -> Parameter {
    Parameter { name, form: Form::Number { default, min, max }, meaning }
}

/// Defines a number of either sign that may be absent.
pub(super) const fn decimal(name: &'static str, default: Option<f64>, meaning: &'static str) -> Parameter {
    Parameter { name, form: Form::Decimal(default), meaning }
}

/// Defines a whole number of either sign.
pub(super) const fn signed(name: &'static str, default: i64, meaning: &'static str) -> Parameter {
    Parameter { name, form: Form::Number { default, min: -(1 << 40), max: 1 << 40 }, meaning }
}

/// Defines a boolean.
pub(super) const fn flag(name: &'static str, default: bool, meaning: &'static str) -> Parameter {
    Parameter { name, form: Form::Flag(default), meaning }
}

/// Defines free text.
pub(super) const fn text(name: &'static str, default: &'static str, meaning: &'static str) -> Parameter {
    Parameter { name, form: Form::Text(default), meaning }
}

/// Defines a choice of words; the first is the default.
pub(super) const fn choice(name: &'static str, words: &'static [&'static str], meaning: &'static str) -> Parameter {
    Parameter { name, form: Form::Choice(words), meaning }
}

/// Defines an HTTP status.
pub(super) const fn status(default: i64) -> Parameter {
    Parameter { name: "status", form: Form::Number { default, min: 200, max: 599 }, meaning: "the HTTP status" }
}

impl Parameter {
    /// Returns the default as JSON.
    pub(super) fn default_value(&self) -> Value {
        match self.form {
            Form::Number { default, .. } => json!(default),
            Form::Optional(default) => json!(default),
            Form::Decimal(default) => json!(default),
            Form::Flag(flag) => json!(flag),
            Form::Text(text) => json!(text),
            Form::Choice(words) => json!(words.first()),
        }
    }

    /// Describes the parameter for `GET /_faults`.
    pub(super) fn describe(&self) -> Value {
        let mut described = json!({ "name": self.name, "default": self.default_value(), "meaning": self.meaning });
        if let (Form::Choice(words), Some(members)) = (self.form, described.as_object_mut()) {
            members.insert("values".to_owned(), json!(words));
        }
        described
    }

    fn accepts(&self, value: &Value) -> Result<(), String> {
        let fits = match self.form {
            Form::Number { min, max, .. } => value.as_i64().is_some_and(|number| (min..=max).contains(&number)),
            Form::Optional(_) => value.is_null() || value.as_i64().is_some_and(|number| number >= 0),
            Form::Decimal(_) => value.is_null() || value.is_number(),
            Form::Flag(_) => value.is_boolean(),
            Form::Text(_) => value.is_string(),
            Form::Choice(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        };
        if fits {
            return Ok(());
        }
        Err(match self.form {
            Form::Number { min, max, .. } => {
                format!("{} takes a whole number from {min} to {max}, not {value}", self.name)
            }
            Form::Optional(_) => format!("{} takes a whole number from 0 or null, not {value}", self.name),
            Form::Decimal(_) => format!("{} takes a number or null, not {value}", self.name),
            Form::Flag(_) => format!("{} takes true or false, not {value}", self.name),
            Form::Text(_) => format!("{} takes a string, not {value}", self.name),
            Form::Choice(words) => format!("{} takes one of {}, not {value}", self.name, words.join(", ")),
        })
    }
}

/// The parameters of one table with their current values.
#[derive(Debug, Clone)]
pub(super) struct Parameters {
    table: Vec<Parameter>,
    given: BTreeMap<&'static str, Value>,
}

impl Parameters {
    /// Creates parameters with their default values.
    pub(super) fn new(table: Vec<Parameter>) -> Self {
        Parameters { table, given: BTreeMap::new() }
    }

    /// Sets several values at once, or none and returns the reason. `null` resets a parameter to its default, unless
    /// null is a value of its own.
    pub(super) fn set_all(&mut self, values: &Map<String, Value>) -> Result<(), String> {
        let mut given = self.given.clone();
        for (name, value) in values {
            let knob = self.table.iter().find(|knob| knob.name == name).ok_or_else(|| {
                let known: Vec<_> = self.table.iter().map(|knob| knob.name).collect();
                format!("unknown name \"{name}\"; known names: {}", known.join(", "))
            })?;
            if value.is_null() && !matches!(knob.form, Form::Optional(_) | Form::Decimal(_)) {
                given.remove(knob.name);
                continue;
            }
            knob.accepts(value)?;
            given.insert(knob.name, value.clone());
        }
        self.given = given;
        Ok(())
    }

    /// Resets all to their defaults.
    pub(super) fn reset(&mut self) {
        self.given.clear();
    }

    /// Returns a number; `None` if it is null or not in the table.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.value(name).and_then(|value| value.as_i64())
    }

    /// Returns a number that need not be whole; `None` if it is null or not in the table.
    pub(super) fn decimal(&self, name: &str) -> Option<f64> {
        self.value(name).and_then(|value| value.as_f64())
    }

    /// Returns a number from zero as a size; zero if absent.
    pub(super) fn size(&self, name: &str) -> usize {
        self.number(name).and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
    }

    /// Returns a flag; false if not in the table.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.value(name).and_then(|value| value.as_bool()).unwrap_or(false)
    }

    /// Returns a text or chosen word; empty if not in the table.
    pub(super) fn text(&self, name: &str) -> String {
        self.value(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Returns the words of a text that lists them between commas.
    pub(super) fn words(&self, name: &str) -> Vec<String> {
        let words = self.text(name);
        words.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// Returns whether the parameter has this word.
    pub(super) fn is(&self, name: &str, word: &str) -> bool {
        match self.given.get(name) {
            Some(value) => value.as_str() == Some(word),
            None => self.text(name) == word,
        }
    }

    /// Renders every current value as JSON.
    pub(super) fn to_json(&self) -> Value {
        self.table
            .iter()
            .map(|knob| (knob.name.to_owned(), self.value(knob.name).unwrap_or(Value::Null)))
            .collect::<Map<_, _>>()
            .into()
    }

    fn value(&self, name: &str) -> Option<Value> {
        if let Some(value) = self.given.get(name) {
            return Some(value.clone());
        }
        self.table.iter().find(|knob| knob.name == name).map(Parameter::default_value)
    }
}
