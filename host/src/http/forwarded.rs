//! Where a request comes from when proxies stand between.
//!
//! In: the peer of a connection, a request's head. Out: the address that counts for its client.
//!
//! Invariant: what a header says counts only as far as trusted proxies wrote it: it is read from its end, and the first
//! address that is none of theirs is the client's, whatever stands before it. Nobody else is believed.
//!
//! Absent on purpose: the PROXY protocol.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::FORWARDED;

use super::network::Prefix;

/// The proxies before a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Where they are; none if there are none.
    pub trusted: Vec<Prefix>,
    /// Where they write whom they speak for.
    pub header: ProxyHeader,
}

/// Which header proxies write. One alone counts: a proxy that writes one hands on what a client says in the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    Forwarded,
}

impl Proxies {
    /// Whether this is the address of one.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|prefix| prefix.has(address))
    }

    /// The address that counts for a request.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let name = match self.header {
            ProxyHeader::XForwardedFor => "x-forwarded-for",
            ProxyHeader::Forwarded => FORWARDED.as_str(),
        };
        let mut client = peer;
        // A header that stands there twice is one list.
        let lists = headers.get_all(name).iter().collect::<Vec<_>>();
        let mut hops = lists.iter().rev().flat_map(|list| list.to_str().unwrap_or("?").rsplit(','));
        while self.trust(client) {
            let Some(hop) = hops.next().and_then(|hop| self.address(hop)) else { break };
            client = hop;
        }
        client
    }

    /// The address of one hop; none if it is hidden or nonsense.
    fn address(&self, hop: &str) -> Option<IpAddr> {
        let node = match self.header {
            ProxyHeader::XForwardedFor => hop,
            ProxyHeader::Forwarded => hop.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then_some(value)
            })?,
        };
        let node = node.trim().trim_matches('"');
        let alone = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
        alone.parse().ok().or_else(|| node.parse().ok().map(|node: SocketAddr| node.ip()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ProxyHeader, peer: &str, lists: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "::1"].map(|prefix| prefix.parse().expect("it is a prefix")).to_vec();
        let name = match header {
            ProxyHeader::XForwardedFor => "x-forwarded-for",
            ProxyHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(name, list.parse().expect("it is a header's value"));
        }
        let peer = peer.parse().expect("it is an address");
        Proxies { trusted, header }.client(peer, &headers).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxys_counts() {
        let of = |peer, lists: &[&str]| client(ProxyHeader::XForwardedFor, peer, lists);
        assert_eq!(of("192.0.2.1", &["198.51.100.1"]), "192.0.2.1", "nobody else is believed");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(of("10.0.0.1", &["203.0.113.9, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(of("10.0.0.1", &["203.0.113.9", "198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(of("::1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(of("::1", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(
            of("10.0.0.1", &["198.51.100.1, nonsense"]),
            "10.0.0.1",
            "what is behind it is not believed"
        );
        assert_eq!(of("10.0.0.1", &["198.51.100.1, nonsense, 10.0.0.7"]), "10.0.0.7");
        assert_eq!(of("10.0.0.1", &["10.0.0.3,10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn rfc_7239_is_read_if_it_is_what_the_proxies_write() {
        let of = |lists: &[&str]| client(ProxyHeader::Forwarded, "10.0.0.1", lists);
        assert_eq!(of(&["for=203.0.113.9;proto=https, For=\"198.51.100.1:80\";by=10.0.0.1"]), "198.51.100.1");
        assert_eq!(of(&["for=\"[2001:db8:cafe::17]:4711\""]), "2001:db8:cafe::17");
        assert_eq!(of(&["for=198.51.100.1, for=unknown"]), "10.0.0.1");
        assert_eq!(of(&["proto=https"]), "10.0.0.1");
        let other = client(ProxyHeader::XForwardedFor, "10.0.0.1", &[]);
        assert_eq!(other, "10.0.0.1");
    }
}
