//! The judge of addresses: which a delivery may connect to. Pure, over numbers.
//!
//! A name that a client registers may resolve to anything, also to addresses that only this machine can reach. So every
//! resolved address is judged, and the ways in which IPv6 embeds an IPv4 address are judged as that address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network of addresses, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// An error for text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// It has another form.
    #[error("must be a network such as \"10.0.0.0/8\" or \"fd00::/8\", or an address")]
    Form,
    /// It has bits set beyond its prefix, so that it is not clear which network is meant.
    #[error("has bits set beyond its prefix; the network is {0}")]
    HostBits(Network),
}

impl Network {
    /// Parses a network, or an address as the network of this address alone.
    ///
    /// # Errors
    /// [`InvalidNetwork`].
    pub fn parse(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork::Form)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= longest).ok_or(InvalidNetwork::Form)?
            }
            Some(_) => return Err(InvalidNetwork::Form),
            None => longest,
        };
        let network = Self { address: masked(address, prefix), prefix };
        if network.address == address { Ok(network) } else { Err(InvalidNetwork::HostBits(network)) }
    }

    /// Returns whether the address is in the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Clears the bits of an address beyond a prefix.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// Why an address may not be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefusal {
    /// It is of a kind that is never allowed: link-local, unspecified, multicast, reserved, or the metadata service of a
    /// cloud.
    #[error("is link-local, unspecified, multicast, reserved or a cloud's metadata service, which is never allowed")]
    Never,
    /// It is private, shared, loopback or reserved for documentation and benchmarks, and in no allowed network.
    #[error("is not public, and not in a network that `delivery.allow_private` names")]
    Private,
}

/// Judges an address; private ones are allowed in these networks.
///
/// # Errors
/// [`AddressRefusal`].
pub fn judge_address(address: IpAddr, allow_private: &[Network]) -> Result<(), AddressRefusal> {
    let is_allowed = |address: IpAddr| allow_private.iter().any(|network| network.contains(address));
    // A private address is also allowed by a network that contains the address in which it is embedded.
    let judge = |judged: IpAddr, outer: IpAddr| match kind_of(judged) {
        AddressKind::Public => Ok(()),
        AddressKind::Never => Err(AddressRefusal::Never),
        AddressKind::Private if is_allowed(judged) || is_allowed(outer) => Ok(()),
        AddressKind::Private => Err(AddressRefusal::Private),
    };
    let IpAddr::V6(ipv6) = address else { return judge(address, address) };
    match embedded_ipv4(ipv6).map(IpAddr::V4) {
        Some(embedded) if is_local_nat64(ipv6) => {
            // What allows the translator allows nothing that it translates to.
            judge(embedded, embedded)?;
            let is_named = allow_private.iter().any(|network| network.prefix >= 96 && network.contains(address));
            if is_named { Ok(()) } else { Err(AddressRefusal::Private) }
        }
        Some(embedded) => judge(embedded, address),
        None => {
            // The prefix of ISATAP is that of an ordinary address, so both count.
            judge(address, address)?;
            isatap_ipv4(ipv6).map_or(Ok(()), |embedded| judge(IpAddr::V4(embedded), address))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressKind {
    Public,
    Private,
    Never,
}

fn kind_of(address: IpAddr) -> AddressKind {
    match address {
        IpAddr::V4(address) => kind_of_ipv4(address),
        IpAddr::V6(address) => kind_of_ipv6(address),
    }
}

/// Returns the kind of an IPv4 address (IANA IPv4 Special-Purpose Address Registry).
fn kind_of_ipv4(address: Ipv4Addr) -> AddressKind {
    match address.octets() {
        // "This network", link-local with the metadata service of most clouds, multicast, reserved and broadcast; the metadata
        // services of Alibaba Cloud and of Oracle Cloud, and the host of virtual machines in Azure.
        [0 | 224..=255, ..] | [169, 254, ..] | [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => {
            AddressKind::Never
        }
        // RFC 1918, loopback, shared (RFC 6598), protocol assignments, documentation, benchmarks, the former relays of 6to4.
        [10 | 127, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => AddressKind::Private,
        _ => AddressKind::Public,
    }
}

/// Returns the kind of an IPv6 address that embeds no IPv4 address (IANA IPv6 Special-Purpose Address Registry).
fn kind_of_ipv6(address: Ipv6Addr) -> AddressKind {
    let segments = address.segments();
    // The metadata services of AWS (instances, time, and credentials of pods), Google, Oracle and Scaleway, which are among the
    // unique local addresses.
    let is_metadata = matches!(
        segments,
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x123 | 0x23]
            | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]
            | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
            | [0xfd00, 0xc1, 0xa9fe, 0xa9fe, ..]
    );
    // Loopback, unique local, discard-only; protocol assignments, among them benchmarks and ORCHID; documentation; segment
    // routing.
    let is_private = matches!(
        segments,
        [0, 0, 0, 0, 0, 0, 0, 1]
            | [0xfc00..=0xfdff | 0x5f00, ..]
            | [0x100, 0, 0, 0 | 1, ..]
            | [0x2001, 0..=0x1ff | 0xdb8, ..]
            | [0x3fff, 0..=0xfff, ..]
    );
    if is_private && !is_metadata {
        return AddressKind::Private;
    }
    // Global unicast is 2000::/3; whatever else there is is unspecified, link-local, site-local, multicast or not assigned.
    if !is_private && matches!(segments, [0x2000..=0x3fff, ..]) { AddressKind::Public } else { AddressKind::Never }
}

/// Returns the IPv4 address that an IPv6 address embeds: one to which a packet is translated or tunnelled.
fn embedded_ipv4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    if matches!(segments, [0, 0, 0, 0, 0, 0, 0, 0 | 1]) {
        // `::` and `::1` are addresses of their own.
        return None;
    }
    match segments {
        // 6to4 (RFC 3056).
        [0x2002, ..] => ipv4_at(address, 80),
        // Teredo (RFC 4380): the client's address is inverted.
        [0x2001, 0, ..] => ipv4_at(address, 0).map(|address| Ipv4Addr::from_bits(!address.to_bits())),
        // IPv4-compatible, IPv4-mapped, IPv4-translated (RFC 2765). NAT64, the well-known prefix and the local ones (RFC 6052,
        // RFC 8215), which embed at their end when they are /96.
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x64, 0xff9b, 0, 0, 0, 0, _, _]
        | [0x64, 0xff9b, 1, ..] => ipv4_at(address, 0),
        _ => None,
    }
}

/// Returns whether an address is of a local translator of NAT64 (RFC 8215). Its operator chooses how long the translator's prefix
/// is, and with it where the IPv4 address is embedded (RFC 6052, section 2.2): under a prefix shorter than /96 the end of the
/// address is a suffix that translators ignore, so that a public address there could hide a private one. Only a network of /96 or
/// longer says that it is at the end.
fn is_local_nat64(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x64, 0xff9b, 1, ..])
}

/// Returns the IPv4 address at the end of an ISATAP address (RFC 5214).
fn isatap_ipv4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let is_isatap = matches!(address.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, _, _]);
    if is_isatap { ipv4_at(address, 0) } else { None }
}

/// Returns the 32 bits of an address above this many others.
fn ipv4_at(address: Ipv6Addr, shift: u32) -> Option<Ipv4Addr> {
    u32::try_from((address.to_bits() >> shift) & u128::from(u32::MAX)).ok().map(Ipv4Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(address: &str, allowed: &[&str]) -> Result<(), AddressRefusal> {
        let allowed: Vec<Network> = allowed.iter().map(|text| Network::parse(text).expect("a network")).collect();
        judge_address(address.parse().expect("an address"), &allowed)
    }

    const ALL: [&str; 2] = ["0.0.0.0/0", "::/0"];

    #[test]
    fn what_is_never_allowed_is_not_even_in_an_allowed_network() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::123",
            "fd20:ce::254",
            "4000::1",
            "::ffff:169.254.169.254",
            "::ffff:0:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:2:3:4:a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:0:1:2:3:4:5601:5601",
            "2001:db8::5efe:169.254.169.254",
            "fe80::5efe:8.8.8.8",
            "::ffff:0.0.0.0",
            "::ffff:100.100.100.200",
        ] {
            assert_eq!(judged(address, &ALL), Err(AddressRefusal::Never), "{address}");
        }
    }

    #[test]
    fn a_local_translator_is_allowed_only_by_its_own_network() {
        const NETWORK: &str = "64:ff9b:1:2:3:4::/96";
        // The last four embed 10.1.2.3 or 169.254.169.254 under prefixes of 48, 48, 56 and 64 bits.
        for address in [
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1:2:3:4:8.8.8.8",
            "64:ff9b:1:a01:2:300:808:808",
            "64:ff9b:1:a9fe:a9:fe00:808:808",
            "64:ff9b:1:a9:fe:a9fe:808:808",
            "64:ff9b:1:0:a:102:308:808",
        ] {
            assert_eq!(judged(address, &[]), Err(AddressRefusal::Private), "{address}");
            for network in ["::/0", "64:ff9b::/32", "64:ff9b:1::/48", "64:ff9b:1:a9fe::/64", "64:ff9b:1:9::/96"] {
                let allowed = [network, "0.0.0.0/0"];
                assert_eq!(judged(address, &allowed), Err(AddressRefusal::Private), "{address} in {network}");
            }
        }
        for (address, expected) in [
            ("64:ff9b:1:2:3:4:8.8.8.8", Ok(())),
            ("64:ff9b:1:2:3:5:8.8.8.8", Err(AddressRefusal::Private)),
            ("64:ff9b:1:2:3:4:10.1.2.3", Err(AddressRefusal::Private)),
            ("64:ff9b:1:2:3:4:169.254.169.254", Err(AddressRefusal::Never)),
        ] {
            assert_eq!(judged(address, &[NETWORK]), expected, "{address}");
        }
        assert_eq!(judged("64:ff9b:1:2:3:4:10.1.2.3", &[NETWORK, "10.0.0.0/8"]), Ok(()));
    }

    #[test]
    fn what_is_not_public_is_allowed_in_a_named_network_only() {
        for (address, network, other) in [
            ("10.1.2.3", "10.1.0.0/16", "10.2.0.0/16"),
            ("127.0.0.1", "127.0.0.0/8", "10.0.0.0/8"),
            ("172.16.0.1", "172.16.0.0/12", "172.32.0.0/12"),
            ("172.31.255.255", "172.16.0.0/12", "fd00::/8"),
            ("192.168.7.7", "192.168.7.7", "192.168.7.8"),
            ("100.64.0.1", "100.64.0.0/10", "100.128.0.0/10"),
            ("192.0.2.1", "192.0.2.0/24", "192.0.3.0/24"),
            ("198.18.0.1", "198.18.0.0/15", "198.20.0.0/15"),
            ("203.0.113.9", "203.0.113.0/24", "203.0.114.0/24"),
            ("::1", "::1", "::2"),
            ("fd12:3456::1", "fd12:3456::/32", "fd12:3457::/32"),
            ("2001:db8::1", "2001:db8::/32", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.0.0.0/8", "fd00::/8"),
            ("64:ff9b::10.1.2.3", "10.0.0.0/8", "fd00::/8"),
            ("2002:0a01:0203::1", "10.0.0.0/8", "fd00::/8"),
            ("fd00::5efe:8.8.8.8", "fd00::/8", "8.8.8.8"),
            ("2606:4700::200:5efe:10.1.2.3", "10.0.0.0/8", "fd00::/8"),
        ] {
            assert_eq!(judged(address, &[]), Err(AddressRefusal::Private), "{address}");
            assert_eq!(judged(address, &[other]), Err(AddressRefusal::Private), "{address} in {other}");
            assert_eq!(judged(address, &[other, network]), Ok(()), "{address} in {network}");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
            "2002:0808:0808::1",
        ] {
            assert_eq!(judged(address, &[]), Ok(()), "{address}");
        }
    }

    #[test]
    fn a_network_is_written_without_bits_beyond_its_prefix() {
        for text in
            ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/ 8", "::/129", "a/8", "0x0a.0.0.0/8"]
        {
            assert_eq!(Network::parse(text), Err(InvalidNetwork::Form), "{text}");
        }
        let refused = Network::parse("10.1.2.3/8").expect_err("bits beyond the prefix").to_string();
        assert!(refused.contains("10.0.0.0/8"), "{refused}");
        for (text, shown) in
            [("10.0.0.0/8", "10.0.0.0/8"), ("::/0", "::/0"), ("10.1.2.3", "10.1.2.3/32"), ("::1", "::1/128")]
        {
            assert_eq!(Network::parse(text).expect("a network").to_string(), shown);
        }
    }
}
