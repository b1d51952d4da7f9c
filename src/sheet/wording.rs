//! What messages call the places where a user decides how a table is read.

/// Where a user decides how a table is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wording {
    /// On a command line, with options.
    #[default]
    Options,
    /// In a form, with fields and a list of the columns.
    Form,
}

impl Wording {
    /// Returns the text for a command line, or the one for a form.
    pub(crate) const fn choose<'a>(self, options: &'a str, form: &'a str) -> &'a str {
        match self {
            Self::Options => options,
            Self::Form => form,
        }
    }
}
