//! Which addresses a call may reach. Names are looked up here and connected to as found, so that no second look-up can
//! say something else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;

/// Where calls may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Anywhere.
    Anywhere,
    /// To addresses of the public internet, and to this machine where that is said.
    Public {
        /// Whether loopback addresses are allowed too.
        loopback: bool,
    },
}

/// A name that leads nowhere, or to an address that calls may not reach.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookUpError {
    #[error("an address that is not public")]
    Forbidden,
    #[error("the name is not known: {0}")]
    Unknown(#[from] std::io::Error),
}

impl Reach {
    /// Whether a call may go to this address.
    pub fn allows(self, address: IpAddr) -> bool {
        let Self::Public { loopback } = self else {
            return true;
        };
        let address = address.to_canonical();
        if address.is_loopback() {
            return loopback;
        }
        match address {
            IpAddr::V4(v4) => is_public_v4(v4),
            IpAddr::V6(v6) => is_public_v6(v6),
        }
    }
}

/// Not in the special-purpose registry of RFC 6890 and its successors.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 175, 48)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

/// Global unicast (2000::/3) without its special parts; of NAT64 and 6to4, what they lead to.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        (0x64, 0xff9b) => [c, d, e, f] == [0; 4] && embedded(g, h),
        (0x2002, _) => embedded(b, c),
        // IETF assignments with Teredo, and documentation.
        (0x2001, 0..=0x01ff | 0x0db8) | (0x3fff, 0..=0x0fff) => false,
        _ => (0x2000..=0x3fff).contains(&a),
    }
}

/// Looks names up and hands out only addresses that may be reached.
#[derive(Clone, Debug)]
pub(super) struct Resolver(pub(super) Reach);

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = LookUpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, LookUpError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookUpError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<_> = found.collect();
            // One bad address among good ones is how a name is rebound: none of them counts then.
            if found.iter().any(|address| !reach.allows(address.ip())) {
                return Err(LookUpError::Forbidden);
            }
            Ok(found.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower_service::Service;

    const PUBLIC: Reach = Reach::Public { loopback: false };

    #[test]
    fn only_addresses_of_the_public_internet_are_reached() {
        for good in [
            "1.1.1.1",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860::8888",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert!(PUBLIC.allows(good.parse().unwrap()), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::10.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
        ] {
            assert!(!PUBLIC.allows(bad.parse().unwrap()), "{bad}");
        }
        let here = Reach::Public { loopback: true };
        for (address, allowed) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("169.254.169.254", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(here.allows(address.parse().unwrap()), allowed, "{address}");
        }
    }

    #[tokio::test]
    async fn names_that_lead_inside_are_refused_after_they_were_looked_up() {
        let mut resolver = Resolver(PUBLIC);
        // `localhost` by the hosts file; the others are ways to write an address that only the system's look-up knows.
        for name in [
            "localhost",
            "0x7f000001",
            "2130706433",
            "0xa9fea9fe",
            "10.1",
        ] {
            let found = resolver.call(name.parse().unwrap()).await;
            assert!(matches!(found, Err(LookUpError::Forbidden)), "{name}");
        }
        let found = Resolver(Reach::Public { loopback: true })
            .call("localhost".parse().unwrap())
            .await;
        assert!(found.unwrap().all(|address| address.ip().is_loopback()));
    }
}
