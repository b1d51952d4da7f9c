//! `key new`: creates an API key.

use clap::Subcommand;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};

use super::{Failure, Process, say};
use crate::secret::Secret;

/// Create API keys
#[derive(Subcommand)]
pub(super) enum Command {
    /// Create an API key: prints the key, which is shown only once, and its SHA-256 for the configuration
    #[command(
        after_help = "Example:\n  examgate key new\n\nGive the key to the client and put the key_sha256 line in the \
                            section [auth.clients.<name>]."
    )]
    New,
}

pub(super) fn run(command: &Command, process: &Process) -> Result<(), Failure> {
    match command {
        Command::New => {
            let key = generate(process);
            say(key.expose())?;
            say(format_args!("key_sha256 = [\"{}\"]", hash(&key)))
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
