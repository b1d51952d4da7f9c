//! `openapi`: prints the description of the API.

use clap::Args;

use super::{Failure, say};
use crate::http;

/// Print the OpenAPI 3.1 document; needs no configuration and no store
#[derive(Args)]
#[command(after_help = "Example:\n  examgate openapi > openapi.json")]
pub(super) struct Options {}

pub(super) fn run(Options {}: &Options) -> Result<(), Failure> {
    let text = http::printed(&http::document(None))
        .map_err(|error| Failure::other("the OpenAPI document cannot be written", error))?;
    say(text.trim_end())
}
