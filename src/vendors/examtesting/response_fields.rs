//! Responses with named values: JSON, XML, `name=value`. Names are compared without case and punctuation, because the
//! vendor's page itself writes both `Status` and `status`.
//!
//! An incomplete document is rejected: a truncated id would look like an id.

use std::borrow::Cow;
use std::sync::LazyLock;

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use regex::Regex;
use serde_json::Value;

use crate::vendors::examtesting::error_text::{
    code_alone, code_first, code_in, fixed, message, states_published_error, without_tags,
};
use crate::vendors::examtesting::parsed_response::{CONTRADICTION, ParsedResponse, Refusal, opaque_id, unclear};

static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    fixed(r#"(?i)(?:^|[&,;|\n])\s*["']?(status|student\s?id|reason|error[\s_-]?code|error)["']?\s*[:=]\s*"#)
});

/// Values of a response, by name.
#[derive(Debug, Default)]
pub(super) struct Fields {
    status: Vec<String>,
    student_id: Vec<String>,
    code: Vec<String>,
    said: Vec<String>,
}

impl Fields {
    pub(super) fn has_status(&self) -> bool {
        !self.status.is_empty()
    }

    pub(super) fn has_message(&self) -> bool {
        !self.said.is_empty() || !self.code.is_empty()
    }

    /// Interprets the values together.
    pub(super) fn reading(self) -> ParsedResponse {
        let said = self.said.join(": ");
        let Some(status) = self.status.first() else {
            let text = [&self.code[..], &self.said[..]].concat().join(": ");
            return if states_published_error(&text) {
                ParsedResponse::Refused(self.refusal())
            } else {
                unclear("it has no status", &said)
            };
        };
        if !same(&self.status) || !same(&self.student_id) {
            return unclear(CONTRADICTION, &said);
        }
        if status.eq_ignore_ascii_case("SUCCESS") {
            return ParsedResponse::Success { id: self.student_id.first().and_then(|id| opaque_id(id)) };
        }
        if status.eq_ignore_ascii_case("ERROR") {
            return ParsedResponse::Refused(self.refusal());
        }
        unclear("its status is neither SUCCESS nor ERROR", &said)
    }

    /// Builds the refusal of a response known to be one.
    pub(super) fn refusal(&self) -> Refusal {
        let said = self.said.join(": ");
        let first = self.code.iter().chain(&self.said).find_map(|text| code_first(text));
        let code = first.or_else(|| code_in(&said)).or_else(|| self.code.first().cloned());
        let words: Vec<&str> = self.said.iter().filter(|text| code_alone(text).is_none()).map(String::as_str).collect();
        Refusal { message: message(&words.join(": "), code.as_deref()), code }
    }

    fn note(&mut self, name: &str, value: &str) {
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let list = match name.to_ascii_lowercase().as_str() {
            "status" => &mut self.status,
            "studentid" => &mut self.student_id,
            "errorcode" => &mut self.code,
            "reason" | "error" => &mut self.said,
            _ => return,
        };
        list.push(value.to_owned());
    }

    fn walk(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| self.walk(name, value)),
            Value::Array(items) => items.iter().for_each(|item| self.walk(name, item)),
            Value::String(text) => self.note(name, text),
            // A number too long for 64 bits has lost digits: as an id it would identify another student.
            Value::Number(number) if number.is_i64() || number.is_u64() => self.note(name, &number.to_string()),
            Value::Number(_) | Value::Bool(_) | Value::Null => {}
        }
    }

    fn attributes(&mut self, element: &BytesStart<'_>) -> Option<()> {
        for attribute in element.attributes() {
            let attribute = attribute.ok()?;
            self.note(attribute.key.local_name().as_ref(), &attribute.normalized_value(XmlVersion::Implicit1_0).ok()?);
        }
        Some(())
    }
}

/// Reads the values of a JSON document, at any depth. Ignores text after it, but rejects a second document.
pub(super) fn json(text: &str) -> Option<Fields> {
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let document = documents.next()?.ok().filter(|document| document.is_object() || document.is_array())?;
    let rest = text.get(documents.byte_offset()..).unwrap_or_default().trim_start();
    if rest.starts_with(['{', '[']) {
        return None;
    }
    let mut fields = Fields::default();
    fields.walk("", &document);
    Some(fields)
}

/// Reads the values of an XML document, elements and attributes at any depth, and its whole text.
pub(super) fn xml(text: &str) -> Option<(Fields, String)> {
    let mut reader = Reader::from_str(text);
    let mut fields = Fields::default();
    let mut open: Vec<(String, String)> = Vec::new();
    let mut inner = String::new();
    let mut elements = 0_usize;
    loop {
        let piece: Cow<'_, str> = match reader.read_event().ok()? {
            Event::Start(element) => {
                fields.attributes(&element)?;
                open.push((element.local_name().as_ref().to_owned(), String::new()));
                elements += 1;
                "\n".into()
            }
            Event::Empty(element) => {
                fields.attributes(&element)?;
                elements += 1;
                "\n".into()
            }
            Event::End(_) => {
                let (name, text) = open.pop()?;
                fields.note(&name, &text);
                "\n".into()
            }
            Event::Text(text) => text.into_inner(),
            Event::CData(text) => text.into_inner(),
            Event::GeneralRef(name) => match name.resolve_char_ref().ok()? {
                Some(character) => character.to_string().into(),
                None => resolve_predefined_entity(&name.into_inner())?.into(),
            },
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => continue,
            Event::Eof => break,
        };
        inner.push_str(&piece);
        if let Some((_, text)) = open.last_mut() {
            text.push_str(&piece);
        }
    }
    (open.is_empty() && elements > 0).then_some((fields, inner))
}

/// Reads `name=value` or `name: value` with any separator; a value ends where the next known name begins.
pub(super) fn labelled(text: &str) -> Fields {
    let text = without_tags(text);
    let labels: Vec<(&str, usize, usize)> = LABEL
        .captures_iter(&text)
        .filter_map(|found| Some((found.get(1)?.as_str(), found.get(0)?.start(), found.get(0)?.end())))
        .collect();
    let mut fields = Fields::default();
    for (index, (name, _, from)) in labels.iter().enumerate() {
        let to = labels.get(index + 1).map_or(text.len(), |(_, start, _)| *start);
        let value = text[*from..to].trim_matches(|c: char| c.is_whitespace() || "&,;|\"'".contains(c));
        // Status and id are single words, because an unknown field may follow them.
        let single = name.to_ascii_lowercase().starts_with("st");
        let end = if single { value.find(|c: char| c.is_whitespace() || "&,;|\"'".contains(c)) } else { None };
        fields.note(name, &value[..end.unwrap_or(value.len())]);
    }
    fields
}

fn same(values: &[String]) -> bool {
    values.windows(2).all(|pair| pair[0].eq_ignore_ascii_case(&pair[1]))
}
