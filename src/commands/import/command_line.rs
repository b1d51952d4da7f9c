//! The command line as its user can repeat it.

use std::ffi::OsString;

use crate::commands::import::api_types::readable;

/// Returns the command line of this process, with one more option if it does not have it.
pub(super) fn repeat(arguments: &[OsString], more: Option<&str>) -> String {
    let given = arguments.iter().skip(1).map(|argument| argument.to_string_lossy());
    let more = more.filter(|more| !arguments.iter().any(|argument| argument == *more));
    let words = given.map(|argument| quote(&argument)).chain(more.map(str::to_owned));
    ["examgate".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// Quotes a word for a POSIX shell if it needs quotes.
fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", readable(word).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_repeated() {
        let arguments = ["/bin/examgate", "import", "it's mine.csv", "--connection", "main"].map(OsString::from);
        assert_eq!(
            repeat(&arguments, Some("--retry")),
            r"examgate import 'it'\''s mine.csv' --connection main --retry"
        );
        let arguments = ["examgate", "import", "--retry", ""].map(OsString::from);
        assert_eq!(repeat(&arguments, Some("--retry")), "examgate import --retry ''");
    }
}
