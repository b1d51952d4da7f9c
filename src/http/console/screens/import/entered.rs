//! What a user has entered into the form of an import.

use std::collections::HashMap;

use crate::http::console::visit::Visit;
use crate::sheet::choices;
use crate::sheet::kind::Kind;
use crate::sheet::layout::LayoutName;
use crate::sheet::source::EncodingName;
use crate::sheet::times::{DateFormat, Times, Zone};

/// Maximum number of columns of which choices are read.
const MAX_COLUMNS: usize = 1000;
/// What the names of the columns' fields begin with; their positions follow.
const COLUMN: &str = "column-";

/// The fields of the form, without the file.
#[derive(Clone)]
pub(super) struct Entered {
    pub(super) kind: Kind,
    /// Empty for the client's default.
    pub(super) connection: String,
    pub(super) layout: Option<LayoutName>,
    /// Empty for the first sheet.
    pub(super) sheet: String,
    pub(super) encoding: Option<EncodingName>,
    /// As it was entered.
    pub(super) zone: String,
    /// Why the zone is none.
    pub(super) zone_fault: Option<String>,
    pub(super) times: Times,
    pub(super) if_exists: Option<String>,
    /// As it was entered; checked by the API.
    pub(super) fail_on_errors: String,
    pub(super) allows_damaged_ids: bool,
    pub(super) only_failed: bool,
    /// What the choices are about.
    pub(super) basis: String,
    /// The field of each column, by position; empty if it is not sent.
    pub(super) targets: Option<Vec<String>>,
}

impl Entered {
    /// Reads the form.
    pub(super) fn of(visit: &Visit) -> Self {
        let kind = choices::parse(visit.field("kind")).unwrap_or(Kind::Candidates);
        let zone = visit.field("zone").trim().to_owned();
        let (parsed, zone_fault) = match Zone::parse(&zone) {
            _ if zone.is_empty() => (None, None),
            Ok(parsed) => (Some(parsed), None),
            Err(fault) => (None, Some(fault)),
        };
        let words = if_exists_words(kind).map(|(word, _)| word);
        let columns = visit.field("columns").parse().unwrap_or(0).min(MAX_COLUMNS);
        let chosen: HashMap<&str, &str> = visit.fields().rev().filter(|(name, _)| name.starts_with(COLUMN)).collect();
        let target = |position| chosen.get(&*format!("{COLUMN}{position}")).copied().unwrap_or_default().to_owned();
        Self {
            kind,
            connection: visit.field("connection").trim().to_owned(),
            layout: choices::parse(visit.field("layout")),
            sheet: visit.field("sheet").to_owned(),
            encoding: choices::parse(visit.field("encoding")),
            zone,
            zone_fault,
            times: Times { zone: parsed, format: choices::parse(visit.field("dates")) },
            if_exists: words.into_iter().find(|word| *word == visit.field("ifExists")).map(str::to_owned),
            fail_on_errors: visit.field("failOnErrors").trim().to_owned(),
            allows_damaged_ids: visit.field("allowDamagedIds") == "true",
            only_failed: visit.field("onlyFailed") == "true",
            basis: visit.field("basis").to_owned(),
            targets: (columns > 0).then(|| (0..columns).map(target).collect()),
        }
    }

    /// Returns the word of the kind of rows.
    pub(super) fn kind_word(&self) -> &'static str {
        self.kind.word()
    }

    /// Returns whether this is the layout that was chosen.
    pub(super) fn has_layout(&self, word: &str) -> bool {
        self.layout.is_some() && choices::parse(word) == self.layout
    }

    /// Returns whether this is the encoding that was chosen.
    pub(super) fn has_encoding(&self, word: &str) -> bool {
        self.encoding.is_some() && choices::parse(word) == self.encoding
    }

    /// Returns whether this is the order of day and month that was chosen.
    pub(super) fn has_dates(&self, word: &str) -> bool {
        self.times.format.is_some() && choices::parse::<DateFormat>(word) == self.times.format
    }

    /// Returns what to do with someone or something that exists already: words of the API, and what they mean.
    pub(super) fn if_exists_choices(&self) -> [(&'static str, &'static str); 3] {
        if_exists_words(self.kind)
    }

    /// Returns whether this is what to do.
    pub(super) fn has_if_exists(&self, word: &str) -> bool {
        self.if_exists.as_deref() == Some(word)
    }
}

const fn if_exists_words(kind: Kind) -> [(&'static str, &'static str); 3] {
    match kind {
        Kind::Candidates => [
            ("reuse", "keep the person as it is"),
            ("update", "change the person's record"),
            ("fail", "refuse the row"),
        ],
        Kind::Assignments => {
            [("reuse", "keep the booking as it is"), ("create_new", "book once more"), ("fail", "refuse the row")]
        }
    }
}
