//! What the commands share that print a list of a running gateway, `events` and `results`: an ordinary client of the public
//! API, with the parameters that were given.

use url::Url;

use super::gateway_options::GatewayOptions;
use super::import::client::Client;
use super::import::progress::Screen;
use super::{Failure, Process, runtime};

/// A list of the API, and the command of the same name.
pub(super) struct List<'a> {
    pub(super) name: &'static str,
    /// What others on the network can read if the address is plain http.
    pub(super) exposed: &'static str,
    pub(super) gateway: &'a GatewayOptions,
}

impl List<'_> {
    /// Reads the list by `read`, which gets a client and the address of the list with these parameters.
    ///
    /// # Errors
    /// [`Failure::Usage`] for options and environment; any error of `read`.
    pub(super) fn read(
        &self,
        parameters: impl Iterator<Item = (&'static str, String)>,
        process: &Process,
        read: impl AsyncFnOnce(&Client<'_>, Url) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Self { name, exposed, gateway } = *self;
        let gateway = gateway.access(process).map_err(Failure::Usage)?;
        let screen = Screen::of_lines();
        if gateway.is_readable_by_others() {
            screen.warn(&format!("warning: this address is plain http: others on the network can read {exposed}"));
        }
        runtime()?.block_on(async {
            let client = Client::new(&gateway, name, process.now, &screen)?;
            let mut url = client.url(&[name]);
            url.query_pairs_mut().extend_pairs(parameters);
            read(&client, url).await
        })
    }
}

/// Returns the parameters that have a value.
pub(super) fn given<const N: usize>(
    parameters: [(&'static str, Option<String>); N],
) -> impl Iterator<Item = (&'static str, String)> {
    parameters.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)))
}
