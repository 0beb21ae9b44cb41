//! Where a client is, as it is counted and trusted.
//!
//! In: addresses. Out: what counts as one client, and whether an address is within a prefix (CIDR).

use std::net::IpAddr;
use std::str::FromStr;

/// What counts as one client: an address of IPv4, or all 2^64 of IPv6 that one client may choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network(u64);

impl Network {
    /// That of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // Below 2^32 is nothing of IPv6 that anybody has: the first 16 bits of those are not 0.
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            IpAddr::V6(address) => Self(u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX)),
        }
    }
}

/// Addresses that begin alike: `10.0.0.0/8`, `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    first: u128,
    mask: u128,
}

impl Prefix {
    /// Whether an address is within it.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        bits(address) & self.mask == self.first
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Why a text is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address and no prefix such as `10.0.0.0/8`")]
pub struct PrefixError(String);

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let wrong = || PrefixError(text.to_owned());
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length: u32 = length.map_or(Ok(whole), str::parse).map_err(|_| wrong())?;
        let free = whole.checked_sub(length).ok_or_else(wrong)?;
        let mask = u128::MAX.checked_shl(free).unwrap_or(0);
        let first = bits(address);
        // What has more bits than its length says was meant otherwise.
        if first & mask == first { Ok(Self { first, mask }) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("it is an address")
    }

    #[test]
    fn one_client_is_an_address_of_ipv4_and_a_network_of_ipv6() {
        let of = |text| Network::of(address(text));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    }

    #[test]
    fn a_prefix_has_what_begins_like_it() {
        for (prefix, within, without) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"),
            ("::1", "::1", "::2"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::/0", "10.0.0.1", "10.0.0.1"),
        ] {
            let parsed: Prefix = prefix.parse().expect(prefix);
            assert!(parsed.has(address(within)), "{prefix} {within}");
            assert_eq!(parsed.has(address(without)), prefix == "::/0", "{prefix} {without}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0.1/8", "::/129", "proxy", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError(text.to_owned())));
        }
    }
}
