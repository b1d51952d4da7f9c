//! `key new`: creates an API key.

use clap::{Args, Subcommand};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Failure, Process};
use crate::commands::output::OutputFormat;
use crate::secret::Secret;

/// Create API keys
#[derive(Subcommand)]
pub(super) enum Command {
    /// Create an API key: prints the key, which is shown only once, and its SHA-256 for the configuration
    New(Options),
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  examgate key new\n  examgate key new --output json\n\nGive the key to the client and put the \
                        key_sha256 line in the section [auth.clients.<name>]."
)]
pub(super) struct Options {
    /// Form of the output
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    output: OutputFormat,
}

pub(super) fn run(command: &Command, process: &Process) -> Result<(), Failure> {
    match command {
        Command::New(Options { output }) => {
            let key = generate(process);
            let (shown, hash) = (key.expose(), hash(&key));
            output.say(format_args!("{shown}\nkey_sha256 = [\"{hash}\"]"))?;
            output.say_document(&json!({ "key": shown, "keySha256": hash }))
        }
    }
}

/// Generates an API key.
pub(super) fn generate(process: &Process) -> Secret {
    Secret::new(format!("egk_{}", BASE64URL_NOPAD.encode(&process.environment.random::<32>())))
}

/// Returns the SHA-256 of the key, as the configuration expects it.
pub(super) fn hash(key: &Secret) -> String {
    HEXLOWER.encode(&Sha256::digest(key.expose().as_bytes()))
}
