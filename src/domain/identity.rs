//! Identities: the texts by which a person is recognised, and the one form in which they are compared.
//!
//! A text from outside becomes an identity through `parse`: NFC, without surrounding white space, and free of invisible
//! characters. A stored one becomes an identity as it is, because the vendor knows the person by that spelling; it
//! is never rewritten. Two spellings are the same identity if their *keys* are equal.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use unicode_normalization::{UnicodeNormalization as _, is_nfc};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Maximum length of an external id, the smallest that a vendor documents (`StartExam`: 250).
pub const MAX_EXTERNAL_ID: usize = 250;
/// Maximum length of a user name.
pub const MAX_USER_NAME: usize = 200;

/// Declares a kind of identity: a text in the spelling that the vendor knows or will know.
macro_rules! identity_text {
    ($(#[$doc:meta])* $name:ident, $key:ident, $former:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name {
            spelling: String,
            /// The text as a caller gave it, if it was rewritten. Never stored: instances of the version that did not
            /// rewrite it know the person by this text.
            given: Option<Box<str>>,
        }

        impl $name {
            /// Parses a text from outside.
            ///
            /// # Errors
            /// What is wrong with it, and at which character. Never contains the text.
            pub fn parse(text: &str) -> Result<Self, String> {
                let spelling = canonical(text)?.into_owned();
                let check: fn(&str) -> Result<(), String> = $check;
                check(&spelling)?;
                let given = (spelling != text).then(|| text.into());
                Ok(Self { spelling, given })
            }

            /// Parses the text again as it was given: it may have been stored before it was checked.
            ///
            /// # Errors
            /// As [`Self::parse`].
            pub fn reparse(&self) -> Result<Self, String> {
                Self::parse(self.as_given())
            }

            /// Returns the spelling to send to the vendor.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.spelling
            }

            /// Returns the text as a caller gave it.
            #[must_use]
            pub fn as_given(&self) -> &str {
                self.given.as_deref().unwrap_or(&self.spelling)
            }

            /// Returns the key by which it is compared.
            #[must_use]
            pub fn identity(&self) -> Cow<'_, str> {
                $key(&self.spelling)
            }

            /// Returns the texts other than the key by which earlier versions compare it.
            pub(super) fn former_texts(&self) -> Vec<Cow<'_, str>> {
                let key = self.identity();
                let mut texts: Vec<Cow<'_, str>> = vec![$former(&self.spelling)];
                texts.extend(self.given.as_deref().map(|given| $former(given)));
                texts.retain(|text| *text != key);
                texts.dedup();
                texts
            }

            /// Returns whether both are the same identity.
            #[must_use]
            pub fn is_same(&self, other: &Self) -> bool {
                self.spelling == other.spelling || self.identity() == other.identity()
            }
        }

        /// A text in the spelling that the vendor knows.
        impl From<String> for $name {
            fn from(spelling: String) -> Self {
                Self { spelling, given: None }
            }
        }

        impl From<&str> for $name {
            fn from(spelling: &str) -> Self {
                spelling.to_owned().into()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.spelling
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.spelling
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.spelling)
            }
        }

        /// Compares spellings; see `is_same` for identities.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.spelling == other.spelling
            }
        }

        impl Eq for $name {}
    };
}

identity_text! {
    /// The caller's own id of a person. Its case is significant.
    ExternalId, exact_key, exact_former, |text| check_length(text, MAX_EXTERNAL_ID)
}
identity_text! {
    /// The name a person signs in with. Its case is not significant.
    UserName, caseless_key, caseless_former, |text| check_length(text, MAX_USER_NAME)
}
identity_text! {
    /// An e-mail address. Its case is not significant.
    EmailAddress, caseless_key, caseless_former, |text| email_fault(text).map_or(Ok(()), Err)
}

/// Returns the text in NFC without surrounding white space.
///
/// # Errors
/// If an invisible character is left, and where.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, String> {
    let trimmed = text.trim();
    let before = text.len() - text.trim_start().len();
    let skipped = text[..before].chars().count();
    if trimmed.is_empty() {
        return Err("must not be blank".to_owned());
    }
    if let Some((index, odd)) = trimmed.chars().enumerate().find(|(_, c)| is_invisible(*c)) {
        return Err(format!("contains {} at character {}; remove it", character_name(odd), skipped + index + 1));
    }
    Ok(composed(trimmed))
}

/// Returns a name in NFC without surrounding white space.
pub(super) fn canonical_name(text: &str) -> String {
    composed(text.trim()).into_owned()
}

/// Returns the text in NFC.
fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc(text) { Cow::Borrowed(text) } else { Cow::Owned(text.nfc().collect()) }
}

fn exact_key(text: &str) -> Cow<'_, str> {
    composed(text.trim())
}

/// Returns the text that earlier versions compared: all of it.
fn exact_former(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

/// Composes after lowering as well: lower case may take apart what has no composed form.
fn caseless_key(text: &str) -> Cow<'_, str> {
    let composed = composed(text.trim());
    if !composed.chars().any(|c| c.is_uppercase() || !c.is_ascii() && c.to_lowercase().ne([c])) {
        return composed;
    }
    Cow::Owned(self::composed(&composed.to_lowercase()).into_owned())
}

/// Returns the text that earlier versions compared: lower case, without surrounding white space.
fn caseless_former(text: &str) -> Cow<'_, str> {
    Cow::Owned(text.trim().to_lowercase())
}

fn check_length(text: &str, most: usize) -> Result<(), String> {
    if text.chars().count() > most { Err(format!("must not have more than {most} characters")) } else { Ok(()) }
}

/// Returns whether the character is invisible, so that two texts that differ in it look alike: a control, format or
/// private-use character, or one of other categories that is shown as a blank or not at all (the property
/// `Default_Ignorable_Code_Point`, <https://www.unicode.org/reports/tr44/>, and the empty Braille pattern).
#[must_use]
fn is_invisible(c: char) -> bool {
    match c {
        '\u{34f}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2065}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        _ => matches!(
            c.general_category(),
            GeneralCategory::Control | GeneralCategory::Format | GeneralCategory::PrivateUse
        ),
    }
}

/// Returns how an error names a character: its code point, and its name if it has been met in tables.
fn character_name(c: char) -> String {
    let name = match c {
        '\u{0}' => "NULL",
        '\t' => "TAB",
        '\n' => "LINE FEED",
        '\r' => "CARRIAGE RETURN",
        '\u{1b}' => "ESCAPE",
        ' ' => "SPACE",
        '\u{a0}' => "NO-BREAK SPACE",
        '\u{ad}' => "SOFT HYPHEN",
        '\u{34f}' => "COMBINING GRAPHEME JOINER",
        '\u{61c}' => "ARABIC LETTER MARK",
        '\u{115f}' => "HANGUL CHOSEONG FILLER",
        '\u{1160}' => "HANGUL JUNGSEONG FILLER",
        '\u{200b}' => "ZERO WIDTH SPACE",
        '\u{200c}' => "ZERO WIDTH NON-JOINER",
        '\u{200d}' => "ZERO WIDTH JOINER",
        '\u{200e}' => "LEFT-TO-RIGHT MARK",
        '\u{200f}' => "RIGHT-TO-LEFT MARK",
        '\u{202a}' => "LEFT-TO-RIGHT EMBEDDING",
        '\u{202b}' => "RIGHT-TO-LEFT EMBEDDING",
        '\u{202c}' => "POP DIRECTIONAL FORMATTING",
        '\u{202d}' => "LEFT-TO-RIGHT OVERRIDE",
        '\u{202e}' => "RIGHT-TO-LEFT OVERRIDE",
        '\u{202f}' => "NARROW NO-BREAK SPACE",
        '\u{2060}' => "WORD JOINER",
        '\u{2066}' => "LEFT-TO-RIGHT ISOLATE",
        '\u{2067}' => "RIGHT-TO-LEFT ISOLATE",
        '\u{2068}' => "FIRST STRONG ISOLATE",
        '\u{2069}' => "POP DIRECTIONAL ISOLATE",
        '\u{2800}' => "BRAILLE PATTERN BLANK",
        '\u{3164}' => "HANGUL FILLER",
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => "(a variation selector)",
        '\u{feff}' => "BYTE ORDER MARK",
        '\u{ffa0}' => "HALFWIDTH HANGUL FILLER",
        _ => match c.general_category() {
            GeneralCategory::Control => "(a control character)",
            GeneralCategory::Format => "(a format character)",
            GeneralCategory::PrivateUse => "(a private-use character)",
            _ if c.is_whitespace() => "(white space)",
            _ if is_invisible(c) => "(an invisible character)",
            _ => return format!("`{c}`"),
        },
    };
    format!("U+{:04X} {name}", u32::from(c))
}

/// Returns why a text is not an e-mail address: it must have one `@` with text around it, no white space and no invisible
/// characters, a host of non-empty labels, and at most 254 characters (RFC 5321 §4.5.3.1.3). Deliverability is not
/// checked. Never contains the text.
#[must_use]
pub fn email_fault(text: &str) -> Option<String> {
    let odd = |c: char| c.is_whitespace() || is_invisible(c) || "<>()[]\\,;:\"".contains(c);
    if let Some((index, c)) = text.chars().enumerate().find(|(_, c)| odd(*c)) {
        let place = format!("contains {} at character {}", character_name(c), index + 1);
        return Some(format!("is not an e-mail address: it {place}"));
    }
    let Some((local, host)) = text.rsplit_once('@') else {
        return Some("is not an e-mail address: it has no `@`".to_owned());
    };
    let reason = if let Some(index) = local.chars().position(|c| c == '@') {
        let second =
            local.chars().skip(index + 1).position(|c| c == '@').map_or(local.chars().count(), |at| index + 1 + at);
        format!("it contains a second `@` at character {}", second + 1)
    } else if local.is_empty() {
        "there is nothing before its `@`".to_owned()
    } else if local.len() > 64 || text.len() > 254 {
        "it is too long".to_owned()
    } else if host.split('.').any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-')) {
        "the name of the host after its `@` has an empty part, or one with a hyphen at its end".to_owned()
    } else {
        return None;
    };
    Some(format!("is not an e-mail address: {reason}"))
}

#[cfg(test)]
mod tests;
