//! Resolution of webhooks' hosts. Every address is judged, and only judged addresses reach the connector, so that a name
//! that resolves to something else a moment later (DNS rebinding) changes nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{AddressRefusal, Network, judge_address};

/// A resolver of host names.
#[async_trait]
pub trait HostResolver: Send + Sync {
    /// Returns all addresses of a name.
    ///
    /// # Errors
    /// The resolver's.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl HostResolver for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Why a host may not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ResolutionError {
    /// It has no address, or the resolver failed.
    #[error("the host name could not be resolved")]
    Unresolved(#[source] io::Error),
    /// One of its addresses is refused; none is connected to.
    #[error("the host name resolves to an address that {0}")]
    Refused(AddressRefusal),
}

/// A resolver that hands out judged addresses only.
pub(super) struct JudgingResolver {
    resolver: Arc<dyn HostResolver>,
    allow_private: Arc<[Network]>,
}

impl JudgingResolver {
    pub(super) fn new(resolver: Arc<dyn HostResolver>, allow_private: &[Network]) -> Self {
        Self { resolver, allow_private: allow_private.into() }
    }

    /// Resolves a name and judges all its addresses; a single one that is refused refuses the name.
    ///
    /// # Errors
    /// [`ResolutionError`].
    pub(super) async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolutionError> {
        let found = self.resolver.resolve(host).await.map_err(ResolutionError::Unresolved)?;
        if found.is_empty() {
            let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return Err(ResolutionError::Unresolved(none));
        }
        for address in &found {
            judge_address(*address, &self.allow_private).map_err(ResolutionError::Refused)?;
        }
        Ok(found)
    }
}

/// The resolver as the HTTP client's connector asks it.
#[derive(Clone)]
pub(super) struct ConnectorResolver(pub(super) Arc<JudgingResolver>);

impl Resolve for ConnectorResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let found = resolver.resolve(name.as_str()).await?;
            // Port 0: the connector sets the URL's.
            let addresses: Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
