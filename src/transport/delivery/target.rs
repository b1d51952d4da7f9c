//! The judge of webhooks' URLs, before anything is resolved: scheme, credentials, and the hosts that the operator allows.

use std::net::IpAddr;

use url::{Host, Url};

use super::address::{AddressRefusal, Network, judge_address};
use crate::domain::webhook::WebhookSource;

/// The hosts to which deliveries may go, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    /// The hosts that clients may name. Configured webhooks are not bound by it.
    pub allow_hosts: Vec<HostPattern>,
    /// The networks in which addresses that are not public are allowed.
    pub allow_private: Vec<Network>,
    /// Whether plain HTTP is allowed.
    pub allow_http: bool,
}

/// A host that clients may name, with any port: what is trusted is the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// This name.
    Name(String),
    /// Every name below this one: `*.example.com`, of which this is `example.com`.
    Below(String),
    /// This address.
    Address(IpAddr),
}

/// An error for a text that is no host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// It is neither a name nor an address.
    #[error("must be a host name, \"*.\" and a host name, or an address")]
    Form,
    /// It is an address to which nothing is ever delivered.
    #[error("is an address that {}", AddressRefusal::Never)]
    NeverAllowed,
}

impl HostPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`InvalidHost`].
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        if let Some(name) = text.strip_prefix("*.") {
            return match Host::parse(name) {
                Ok(Host::Domain(name)) if is_name(&name) => Ok(Self::Below(name)),
                _ => Err(InvalidHost::Form),
            };
        }
        let bare: Option<IpAddr> = text.parse().ok();
        let address = match (bare, Host::parse(text)) {
            (Some(address), _) => address,
            (None, Ok(Host::Domain(name))) if is_name(&name) => return Ok(Self::Name(trimmed(&name).to_owned())),
            (None, Ok(Host::Ipv4(address))) => IpAddr::V4(address),
            (None, Ok(Host::Ipv6(address))) => IpAddr::V6(address),
            (None, _) => return Err(InvalidHost::Form),
        };
        match judge_address(address, &[]) {
            Err(AddressRefusal::Never) => Err(InvalidHost::NeverAllowed),
            // Whether a private address is in an allowed network is judged with every attempt.
            Ok(()) | Err(AddressRefusal::Private) => Ok(Self::Address(address)),
        }
    }

    fn admits(&self, host: &Host<&str>) -> bool {
        match (self, host) {
            (Self::Name(known), Host::Domain(name)) => known == trimmed(name),
            (Self::Below(parent), Host::Domain(name)) => {
                trimmed(name).strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::Address(known), Host::Ipv4(address)) => *known == IpAddr::V4(*address),
            (Self::Address(known), Host::Ipv6(address)) => *known == IpAddr::V6(*address),
            _ => false,
        }
    }
}

/// Returns whether this looks like a name and not like a pattern in another place.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(allowed)
}

/// Removes the dot of the root, with which a name may be written.
fn trimmed(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Why a webhook's URL is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetRefusal {
    /// It is no absolute URL with a host.
    #[error("must be an absolute URL, https://…")]
    Form,
    /// Its scheme is not allowed.
    #[error("must be https")]
    Scheme,
    /// It has a user name or a password.
    #[error("must not contain a user name or a password: deliveries are signed instead")]
    Credentials,
    /// It has a fragment, which is never sent.
    #[error("must not have a fragment")]
    Fragment,
    /// Its host is none that clients may name.
    #[error("has a host that the operator does not allow (`delivery.allow_hosts`)")]
    Host,
    /// Its address is refused.
    #[error("has an address that {0}")]
    Address(AddressRefusal),
}

impl TargetPolicy {
    /// Judges the URL of a webhook, by who has named it.
    ///
    /// # Errors
    /// [`TargetRefusal`].
    pub fn judge(&self, source: WebhookSource, text: &str) -> Result<Url, TargetRefusal> {
        match source {
            WebhookSource::Api => self.judge_named(text),
            WebhookSource::Configuration => self.judge_configured(text),
        }
    }

    /// Judges the URL that a client names.
    ///
    /// # Errors
    /// [`TargetRefusal`].
    pub fn judge_named(&self, text: &str) -> Result<Url, TargetRefusal> {
        let url = self.judge_configured(text)?;
        let host = url.host().ok_or(TargetRefusal::Form)?;
        if self.allow_hosts.iter().any(|pattern| pattern.admits(&host)) { Ok(url) } else { Err(TargetRefusal::Host) }
    }

    /// Judges the URL that the operator has configured, whatever its host.
    ///
    /// # Errors
    /// [`TargetRefusal`], but for [`TargetRefusal::Host`].
    pub fn judge_configured(&self, text: &str) -> Result<Url, TargetRefusal> {
        // The parser reads every spelling of an IPv4 address (octal, hexadecimal, short) as the address it is.
        let url = Url::parse(text).map_err(|_| TargetRefusal::Form)?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            _ => return Err(TargetRefusal::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetRefusal::Credentials);
        }
        if url.fragment().is_some() {
            return Err(TargetRefusal::Fragment);
        }
        let address = match url.host().ok_or(TargetRefusal::Form)? {
            Host::Domain(name) if trimmed(name).is_empty() => return Err(TargetRefusal::Form),
            Host::Domain(_) => return Ok(url),
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
        };
        judge_address(address, &self.allow_private).map_err(TargetRefusal::Address)?;
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(hosts: &[&str], private: &[&str], allow_http: bool) -> TargetPolicy {
        TargetPolicy {
            allow_hosts: hosts.iter().map(|text| HostPattern::parse(text).expect("a host")).collect(),
            allow_private: private.iter().map(|text| Network::parse(text).expect("a network")).collect(),
            allow_http,
        }
    }

    #[test]
    fn a_host_is_allowed_by_its_name_the_names_above_it_or_its_address() {
        let policy = policy(&["hooks.example.com", "*.lms.example", "8.8.8.8", "2606:4700::1"], &[], false);
        for url in [
            "https://hooks.example.com/a?b=c",
            "https://HOOKS.example.com:8443/",
            "https://hooks.example.com./",
            "https://a.lms.example/",
            "https://a.b.lms.example/",
            "https://8.8.8.8/",
            "https://0x08080808/",
            "https://[2606:4700::1]/",
        ] {
            assert!(policy.judge_named(url).is_ok(), "{url}");
        }
        for url in [
            "https://example.com/",
            "https://x.hooks.example.com/",
            "https://hooks.example.com.evil.example/",
            "https://lms.example/",
            "https://evillms.example/",
            "https://.lms.example/",
            "https://8.8.4.4/",
            "https://[2606:4700::2]/",
        ] {
            assert_eq!(policy.judge_named(url).err(), Some(TargetRefusal::Host), "{url}");
            assert!(policy.judge_configured(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_pattern_is_a_name_or_an_address() {
        for text in
            ["", "*", "*.", "a b", "*.8.8.8.8", "https://a.example", "a.*.example", "a/b", ".example.com", "a:443"]
        {
            assert_eq!(HostPattern::parse(text), Err(InvalidHost::Form), "{text}");
        }
        for text in ["169.254.169.254", "0.0.0.0", "::", "fe80::1", "::ffff:169.254.169.254", "[ff02::1]", "0xa9fea9fe"]
        {
            assert_eq!(HostPattern::parse(text), Err(InvalidHost::NeverAllowed), "{text}");
        }
        assert_eq!(HostPattern::parse("Bücher.example"), Ok(HostPattern::Name("xn--bcher-kva.example".to_owned())));
        assert!(matches!(HostPattern::parse("10.0.0.1"), Ok(HostPattern::Address(_))));
    }

    #[test]
    fn plain_http_is_allowed_only_if_the_operator_says_so() {
        assert_eq!(policy(&["a.example"], &[], false).judge_named("http://a.example/"), Err(TargetRefusal::Scheme));
        assert!(policy(&["a.example"], &[], true).judge_named("http://a.example/").is_ok());
    }
}
