//! Dates of the older body form. The vendor shows `16-08-12` and does not say what is what, so the operator does.

use jiff::civil::Date;

/// The order and form of a date's parts, such as `DD-MM-YYYY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateFormat(String);

impl DateFormat {
    /// Parses a format of `YYYY` or `YY`, `MM` and `DD`, each once, with separators between them.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must be made of YYYY (or YY), MM and DD, each once, such as \"DD-MM-YYYY\"".to_owned();
        let mut rest = text.replace('%', "%%");
        for (name, directive) in [("YYYY", "%Y"), ("YY", "%y"), ("MM", "%m"), ("DD", "%d")] {
            rest = rest.replacen(name, directive, 1);
        }
        let year = rest.contains("%Y") != rest.contains("%y");
        let complete = year && rest.contains("%m") && rest.contains("%d");
        let separators = rest.replace("%Y", "").replace("%y", "").replace("%m", "").replace("%d", "");
        let plain = separators.chars().all(|c| c.is_ascii_punctuation() && c != '%' || c == ' ');
        if complete && plain { Ok(Self(rest)) } else { Err(wrong()) }
    }

    /// Reads a date of this form.
    #[must_use]
    pub fn read(&self, text: &str) -> Option<Date> {
        Date::strptime(&self.0, text.trim()).ok()
    }
}
