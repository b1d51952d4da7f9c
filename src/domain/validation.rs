//! Validation and sanitising of external text: lengths, control characters, e-mail addresses, dates, pointers.

use jiff::civil::Date;

use super::error::FieldError;
use super::identity::{canonical_name, email_fault};

/// Collects the errors of one document, so that a caller sees all of them at once.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Creates an empty collection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an error.
    pub fn push(&mut self, fault: FieldError) {
        self.0.push(fault);
    }

    /// Adds several errors.
    pub fn extend(&mut self, faults: impl IntoIterator<Item = FieldError>) {
        self.0.extend(faults);
    }

    /// Returns all collected errors.
    #[must_use]
    pub fn into_errors(self) -> Vec<FieldError> {
        self.0
    }

    /// Returns the value if no error was collected.
    ///
    /// # Errors
    /// All collected errors.
    pub fn into_result<T>(self, value: T) -> Result<T, Vec<FieldError>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }

    /// Checks an optional line of text: not blank, at most `most` characters, no control characters.
    pub fn check_line(&mut self, pointer: &str, value: Option<&str>, most: usize) {
        let Some(value) = value else { return };
        if value.trim().is_empty() {
            self.push(FieldError::invalid(pointer, "must not be blank"));
        } else if value.chars().count() > most {
            self.push(FieldError::invalid(pointer, format!("must not have more than {most} characters")));
        }
        if value.chars().any(char::is_control) {
            self.push(FieldError::invalid(pointer, "must not contain control characters"));
        }
    }

    /// Checks an optional e-mail address.
    pub fn check_email(&mut self, pointer: &str, value: Option<&str>) {
        if let Some(detail) = value.and_then(email_fault) {
            self.push(FieldError::invalid(pointer, detail));
        }
    }

    /// Takes a parsed text, or adds the error of one that cannot be parsed and keeps nothing.
    pub fn take<T>(&mut self, pointer: &str, parsed: Option<Result<T, String>>) -> Option<T> {
        parsed.and_then(|parsed| parsed.map_err(|detail| self.push(FieldError::invalid(pointer, detail))).ok())
    }

    /// Checks a part of a name, and returns it in NFC without surrounding white space. Format characters stay: a joiner
    /// can be a part of a name.
    pub fn take_name(&mut self, pointer: &str, value: Option<String>, most: usize) -> Option<String> {
        let value = value.map(|value| canonical_name(&value));
        self.check_line(pointer, value.as_deref(), most);
        value
    }

    /// Checks a text that may have several lines: as [`Self::check_line`], but line breaks are allowed.
    pub fn check_lines(&mut self, pointer: &str, value: Option<&str>, most: usize) {
        let Some(value) = value else { return };
        let line: String = value.chars().map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c }).collect();
        self.check_line(pointer, Some(&line), most);
    }

    /// Checks an optional date without time (RFC 3339 full-date).
    pub fn check_date(&mut self, pointer: &str, value: Option<&str>) {
        if value.is_some_and(|value| value.len() != 10 || value.parse::<Date>().is_err()) {
            self.push(FieldError::invalid(pointer, "is not a date of the form YYYY-MM-DD"));
        }
    }
}

/// Normalises a vendor's key of a person for the subject of a lock: Unicode lower case, no surrounding white space. Every
/// version makes the same subject of a key; [`super::identity`] compares identities.
#[must_use]
pub fn normalize_identity(text: &str) -> String {
    text.trim().to_lowercase()
}

/// Escapes a field name for an RFC 6901 pointer.
#[must_use]
pub fn pointer_token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Sanitises external text for display: replaces control characters and bidirectional overrides (Unicode Technical
/// Report 36 §2.5) with spaces, folds white space, and keeps at most `most` characters.
#[must_use]
pub fn sanitize_for_display(text: &str, most: usize) -> String {
    let unfit = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let clean: String = text.chars().map(|c| if unfit(c) { ' ' } else { c }).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_email_addresses() {
        for good in ["a@b", "jane.doe+exam@example.com", "o'neil@mail.example.org", "ü@exämple.de"] {
            assert_eq!(email_fault(good), None, "{good}");
        }
        for bad in ["", "a", "@b", "a@", "a b@c", "a@b@c", "a@b..c", "a@-b", "a@b\r\nBcc: x", "Jane <a@b>"] {
            assert!(email_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn collects_every_error() {
        let mut faults = FieldErrors::new();
        faults.check_line("/a", Some("x\ny"), 2);
        faults.check_line("/b", Some("  "), 9);
        faults.check_date("/c", Some("2024-02-30"));
        faults.check_email("/d", Some("nobody"));
        let pointers: Vec<_> = faults.into_result(()).unwrap_err().into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(pointers, ["/a", "/a", "/b", "/c", "/d"]);
    }

    #[test]
    fn external_text_is_sanitised() {
        assert_eq!(sanitize_for_display("a\r\nSet-Cookie: x\u{0}  b", 300), "a Set-Cookie: x b");
        assert_eq!(sanitize_for_display("safe \u{202e}gpj.exe\u{2069}", 300), "safe gpj.exe");
        assert_eq!(sanitize_for_display("äöü", 2), "äö");
    }
}
