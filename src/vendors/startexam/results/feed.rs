//! A page of the vendor's feed `GET /v2/sessions` (vendor page `/Methods/GetSessions`).
//!
//! The page says where the feed continues; a page that does not say it clearly is faulty as a whole, because a wrong watermark
//! loses sessions. What an entry looks like is not documented; it is read like a report, each by itself.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::session::{ReaderSettings, read_item, time};
use crate::domain::results::{ChangesPage, Continuation, Rejection, RejectionReason};
use crate::vendors::report_tree::without_mark;

/// Maximum number of entries of a page. The vendor documents 500.
const MAX_ITEMS: usize = 10_000;
/// Maximum length of a token.
const MAX_TOKEN: usize = 1_000;

/// Reads a page.
///
/// # Errors
/// What is wrong with the page as a whole; an entry that cannot be read is none.
pub fn read_page(body: &[u8], center: Option<&str>, settings: &ReaderSettings) -> Result<ChangesPage, Rejection> {
    let page = Members::of(body)?;
    let next = page.next()?;
    let items: Vec<&RawValue> = serde_json::from_str(page.list(&settings.list_member)?.get())
        .map_err(|_| Rejection::field(RejectionReason::InvalidField, LIST))?;
    if items.len() > MAX_ITEMS {
        return Err(Rejection::field(RejectionReason::TooLarge, LIST));
    }
    let items = items.into_iter().map(|item| read_item(item.get(), center, settings)).collect();
    Ok(ChangesPage { items, next })
}

/// Returns where the feed continues after a page, without looking at its entries; `None` if the body is no page.
#[must_use]
pub fn continuation(body: &[u8]) -> Option<Continuation> {
    Members::of(body).and_then(|page| page.next()).ok()
}

const LIST: &str = "sessions";
const TOKEN: &str = "continuationToken";
const UNTIL: &str = "modifiedUntil";

/// The members of a page, unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn of(body: &'a [u8]) -> Result<Self, Rejection> {
        let text = str::from_utf8(without_mark(body)).ok();
        let page = text.and_then(|text| serde_json::from_str(text).ok());
        page.ok_or_else(|| Rejection::whole(RejectionReason::NotJson))
    }

    /// Returns the member of this name in any case; `None` for `null`.
    fn get(&self, name: &str, field: &'static str) -> Result<Option<&'a RawValue>, Rejection> {
        let mut found = self.0.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        let only = found.next();
        if found.next().is_some() {
            return Err(Rejection::field(RejectionReason::RepeatedField, field));
        }
        Ok(only.filter(|value| value.get() != "null"))
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, Rejection> {
        let invalid = |_| Rejection::field(RejectionReason::InvalidField, name);
        let text = self.get(name, name)?.map(|value| serde_json::from_str::<String>(value.get()).map_err(invalid));
        Ok(text.transpose()?.filter(|text| !text.trim().is_empty()))
    }

    fn next(&self) -> Result<Continuation, Rejection> {
        match (self.text(TOKEN)?, self.text(UNTIL)?) {
            (Some(token), None) if token.len() <= MAX_TOKEN => Ok(Continuation::Token(token)),
            (None, Some(until)) => {
                time(&until).map(Continuation::Until).ok_or(Rejection::field(RejectionReason::InvalidField, UNTIL))
            }
            (None, None) => Err(Rejection::field(RejectionReason::MissingField, UNTIL)),
            // With both, the end of the feed and another page, neither can be relied on.
            (Some(_), _) => Err(Rejection::field(RejectionReason::InvalidField, TOKEN)),
        }
    }

    /// Returns the list of sessions: the member that the operator names, else `sessions`, else the only list there is.
    fn list(&self, configured: &str) -> Result<&'a RawValue, Rejection> {
        let missing = || Rejection::field(RejectionReason::MissingField, LIST);
        if !configured.is_empty() {
            return self.get(configured, LIST)?.ok_or_else(missing);
        }
        if let Some(list) = self.get(LIST, LIST)? {
            return Ok(list);
        }
        let mut lists = self.0.iter().map(|(_, value)| *value).filter(|value| value.get().starts_with('['));
        match (lists.next(), lists.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(missing()),
        }
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = access.next_key::<String>()? {
            members.push((name, access.next_value::<&'de RawValue>()?));
        }
        Ok(Members(members))
    }
}
