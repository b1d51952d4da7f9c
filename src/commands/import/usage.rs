//! The document of a command line that cannot be parsed: a program that asked for JSON reads the error from standard
//! output, whatever is wrong.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::{Process, say};
use crate::commands::import::read_options::table_name;
use crate::sheet::kind::Kind;

/// Builds the document of an import that ended without results.
pub(super) fn error_document(
    file: Option<&str>,
    operation: Option<&str>,
    connection: Option<&str>,
    kind: Option<Kind>,
    error: &str,
) -> Value {
    json!({
        "file": file,
        "operation": operation,
        "connection": connection,
        "kind": kind.map(Kind::word),
        "error": error,
    })
}

/// Prints the document if the command line is that of an import with `--output json`. What it could not parse is `null`.
pub(in crate::commands) fn print_usage_error(command: clap::Command, process: &Process, error: &clap::Error) {
    if !asks_for_json(&process.arguments) {
        return;
    }
    let matches = command.ignore_errors(true).try_get_matches_from(&process.arguments).ok();
    let given = matches.as_ref().and_then(|matches| matches.subcommand_matches("import"));
    let file = given.and_then(|given| given.try_get_one::<PathBuf>("file").ok().flatten());
    let connection = given.and_then(|given| given.try_get_one::<String>("connection").ok().flatten());
    let kind = given.and_then(|given| given.try_get_one::<Kind>("kind").ok().flatten());
    let file = file.map(|file| table_name(Some(file)));
    let text = error.render().to_string();
    let document =
        error_document(file.as_deref(), None, connection.map(String::as_str), kind.copied(), text.trim_end());
    // Without a reader of stdout, stderr and the exit code have to do.
    let (Ok(()) | Err(_)) = say(format_args!("{document:#}"));
}

/// Returns whether these are the arguments of an import that asks for JSON. The parser stops at the first error, which may
/// come before `--output`.
fn asks_for_json(arguments: &[OsString]) -> bool {
    let Some(("import", words)) = arguments.get(1).and_then(|word| word.to_str()).zip(arguments.get(2..)) else {
        return false;
    };
    let words: Vec<&OsString> = words.iter().take_while(|word| *word != "--").collect();
    words.iter().any(|word| *word == "--output=json")
        || words.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json")
}
