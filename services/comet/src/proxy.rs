//! Whether balancers say who is behind them, and which ones may.

use std::{fmt, io, net::IpAddr, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::framing::proxy::{self, HEADER_MAX_BYTES, NoHeader, Origin};

/// `service.proxy_protocol`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// Connections begin with what the client says.
    #[default]
    Off,
    /// Every connection begins with a PROXY header, version 1 or 2; one without it is closed.
    Required,
}

/// Reads the header off a connection and says where the client is; what came behind it is left in `buf`. To be bounded in
/// time by the caller.
pub async fn origin(
    stream: &mut (impl AsyncRead + Unpin),
    buf: &mut Vec<u8>,
    peer: IpAddr,
    trusted: &[Network],
) -> Result<IpAddr, NoOrigin> {
    if !trusted.is_empty() && !trusted.iter().any(|network| network.contains(peer)) {
        return Err(NoOrigin::Untrusted);
    }
    loop {
        if let Some((taken, origin)) = proxy::read(buf)? {
            buf.drain(..taken);
            return Ok(match origin {
                Origin::Client(ip) => ip,
                Origin::Balancer => peer,
            });
        }
        // A header is refused before it is longer than this: there is always room.
        let room = (HEADER_MAX_BYTES - buf.len()) as u64;
        if (&mut *stream).take(room).read_buf(buf).await? == 0 {
            return Err(NoOrigin::Ended);
        }
    }
}

/// Why nobody knows where a connection comes from.
#[derive(Debug, thiserror::Error)]
pub enum NoOrigin {
    #[error("not in service.trusted_proxies")]
    Untrusted,
    #[error(transparent)]
    NoHeader(#[from] NoHeader),
    #[error("the connection ended before its PROXY header did")]
    Ended,
    #[error("the connection broke before its PROXY header ended")]
    Broken(#[from] io::Error),
}

/// Addresses that begin alike: `10.0.0.0/8`, `2001:db8::/32`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => same(base.to_bits().into(), ip.to_bits().into(), 32 - self.bits),
            (IpAddr::V6(base), IpAddr::V6(ip)) => same(base.to_bits(), ip.to_bits(), 128 - self.bits),
            _ => false,
        }
    }
}

// Equal but for the last `free` bits.
fn same(a: u128, b: u128, free: u8) -> bool {
    (a ^ b).checked_shr(free.into()).unwrap_or(0) == 0
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let malformed = || format!("{text:?} is no address and no network such as 10.0.0.0/8");
        let base: IpAddr = address.parse().map_err(|_| malformed())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| malformed())?;
        if bits > most {
            return Err(malformed());
        }
        let zeros = match base {
            IpAddr::V4(base) => base.to_bits().trailing_zeros(),
            IpAddr::V6(base) => base.to_bits().trailing_zeros(),
        };
        if zeros < u32::from(most - bits) {
            return Err(format!("{text:?} has bits set behind its first {bits}"));
        }
        Ok(Self { base, bits })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_like_it() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "2001::", "1.2.3.4"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        for text in ["", "10.0.0.0/33", "10.0.0.1/8", "::1/64", "10.0.0.0/", "10.0.0.0/x", "host/8", "10.0.0/8"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
