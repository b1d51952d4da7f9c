//! `probe`: a health check of the gateway, for containers without a shell or curl.

use std::time::Duration;

use clap::Args;
use url::Url;

use crate::commands::{Failure, runtime};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Check that a running gateway is alive; exit code 0 if it is, 1 if not
#[derive(Args)]
#[command(after_help = "Example:\n  HEALTHCHECK CMD [\"examgate\", \"probe\"]\n  examgate probe --url \
                        http://127.0.0.1:8080/readyz")]
pub(super) struct Options {
    /// The URL to request
    #[arg(long, default_value = "http://127.0.0.1:9090/livez", value_parser = address)]
    url: Url,
}

fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| "expected an address such as http://127.0.0.1:9090/livez".to_owned())
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let status = runtime()?.block_on(async {
        // Ignore proxies meant for outbound calls.
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        client.get(options.url.clone()).send().await.map(|answer| answer.status())
    });
    match status {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => Err(Failure::Other(format!("{}: {status}", options.url))),
        Err(error) => Err(Failure::other(options.url.as_str(), error.without_url())),
    }
}
