//! `receivers`: prints the addresses at which vendors deliver webhooks, for their panels. They hold secrets.

use clap::Args;
use serde_json::json;

use super::import::progress::Screen;
use super::{Failure, Process};
use crate::commands::load_config;
use crate::commands::load_config::ConfigOption;
use crate::commands::output::OutputFormat;
use crate::service::{ReceiverAddress, receiver_addresses};

/// Print the addresses that vendors send their webhooks to; they hold secrets
#[derive(Args)]
#[command(
    after_help = "Examples:\n  examgate receivers --config examgate.toml\n  examgate receivers --output json\n\nPrints one \
                  address for each connection that receives webhooks, and one for each of its assessments: use the latter \
                  where the vendor's webhooks do not say which assessment they are about. Enter them in the vendor's \
                  panel. Without server.public_url only their paths are known.\n\nExit code: 0, also if no connection \
                  receives webhooks; 2 invalid configuration."
)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigOption,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    output: OutputFormat,
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let output = options.output;
    let inspected = load_config::inspected(options.config.file(), process)?;
    let server = &inspected.config.server;
    let base = match &server.public_url {
        Some(url) => url.as_str().trim_end_matches('/'),
        None => &server.base_path,
    };
    let addresses = receiver_addresses(&inspected.parts.connections, &inspected.parts.catalogue);
    let shown = addresses.iter().map(|address| {
        let ReceiverAddress { connection, path, assessment } = address;
        (connection, assessment, format!("{base}{path}"))
    });
    for (connection, assessment, address) in shown.clone() {
        match assessment {
            Some(assessment) => output.say(format_args!("{connection} {assessment}: {address}"))?,
            None => output.say(format_args!("{connection}: {address}"))?,
        }
    }
    let documents: Vec<_> = shown
        .map(|(connection, assessment, address)| {
            json!({ "connection": connection, "assessment": assessment, "address": address })
        })
        .collect();
    output.say_document(&json!({ "receivers": documents }))?;
    if addresses.is_empty() {
        let cure = "set results.mode = \"webhook\" and results.path_token of a connection whose vendor sends webhooks";
        Screen::of_lines().warn(&format!("no connection receives webhooks: {cure}"));
    } else if server.public_url.is_none() {
        Screen::of_lines().warn("set server.public_url to the address that the vendor reaches: these are paths only");
    }
    Ok(())
}
