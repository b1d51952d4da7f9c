//! Enums whose values are words of the API and the store: one table gives the words, their parser, serde and the schema.
//!
//! The words are persisted and public, so a variant states its word; renaming the variant changes nothing.

/// Declares an enum of words. Its doc comment and those of its variants are its description in the API. (A word is a
/// `tt`: utoipa does not see through a `literal`.)
macro_rules! words {
    ($(#[$($meta:tt)*])* pub enum $name:ident { $($(#[$($doc:tt)*])* $variant:ident $word:tt,)* }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        $(#[$($meta)*])*
        #[schema(description = $crate::domain::words::describe(
            &[$($crate::domain::words::doc_text!($($meta)*)),*],
            &[$(($word, &[$($crate::domain::words::doc_text!($($doc)*)),*])),*],
        ))]
        pub enum $name {
            $($(#[$($doc)*])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the word of the value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Parses a word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }
    };
}
pub(crate) use words;

/// Extracts the text of a doc comment from the tokens of an attribute; any other attribute has none.
macro_rules! doc_text {
    (doc = $text:expr) => {
        $text
    };
    ($($other:tt)*) => {
        ""
    };
}
pub(crate) use doc_text;

/// Describes an enum of words: what it is, and a list of what each word means. A text is given line by line.
pub(crate) fn describe(about: &[&str], words: &[(&str, &[&str])]) -> String {
    let joined = |lines: &[&str]| {
        let lines = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    };
    let mut text = joined(about);
    text.push('\n');
    for (word, meaning) in words {
        text.push_str("\n* `");
        text.push_str(word);
        text.push_str("`: ");
        text.push_str(&joined(meaning));
    }
    text
}

/// Returns the word serde makes of a variant's name with `rename_all = "snake_case"`.
pub(crate) fn snake_case(variant: &str) -> String {
    let mut word = String::new();
    for letter in variant.chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_lists_every_word() {
        assert_eq!(
            describe(
                &[" What to do", " then.", ""],
                &[("reuse", &[" Return it."]), ("fail", &["", " Reject", " the request."])]
            ),
            "What to do then.\n\n* `reuse`: Return it.\n* `fail`: Reject the request."
        );
    }

    #[test]
    fn a_variant_becomes_the_word_that_serde_makes_of_it() {
        for (variant, word) in [("Ok", "ok"), ("NotApplied", "not_applied"), ("HalfOpen", "half_open")] {
            assert_eq!(snake_case(variant), word);
        }
    }
}
