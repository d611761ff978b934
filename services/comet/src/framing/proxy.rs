//! The PROXY protocol, versions 1 and 2: what a balancer says of a connection before its first byte.
//!
//! See haproxy.org/download/3.0/doc/proxy-protocol.txt. Nothing is guessed: what is no whole and well-formed header is
//! refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V1: &[u8] = b"PROXY ";
/// Longest line of version 1, its end included.
const V1_MAX: usize = 107;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
/// Most bytes behind these: addresses and what balancers add to them (names, certificates' subjects).
const V2_REST_MAX: usize = 2048;

/// Most bytes of a header.
pub const HEADER_MAX_BYTES: usize = V2_FIXED + V2_REST_MAX;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Client(IpAddr),
    /// The balancer itself (it looks whether we live), or it doesn't know.
    Balancer,
}

/// This is no PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY header: {0}")]
pub struct NoHeader(&'static str);

/// Reads a header: how many bytes it took, and what it says. `None`: more bytes are needed.
pub fn read(buf: &[u8]) -> Result<Option<(usize, Origin)>, NoHeader> {
    let begins = |signature: &[u8]| {
        let length = signature.len().min(buf.len());
        buf[..length] == signature[..length]
    };
    if begins(V2) {
        version_2(buf)
    } else if begins(V1) {
        version_1(buf)
    } else {
        Err(NoHeader("the connection begins with something else"))
    }
}

fn version_1(buf: &[u8]) -> Result<Option<(usize, Origin)>, NoHeader> {
    let seen = &buf[..buf.len().min(V1_MAX)];
    let Some(end) = seen.windows(2).position(|two| two == b"\r\n") else {
        return if seen.len() < V1_MAX { Ok(None) } else { Err(NoHeader("a line of more than 107 bytes")) };
    };
    let line = std::str::from_utf8(&seen[V1.len()..end]).map_err(|_| NoHeader("a line that is no text"))?;
    let taken = end + 2;
    let words: Vec<&str> = line.split(' ').collect();
    let origin = match words[..] {
        ["UNKNOWN", ..] => Origin::Balancer,
        ["TCP4", from, to, from_port, to_port] => {
            let (from, _) = (address::<Ipv4Addr>(from)?, address::<Ipv4Addr>(to)?);
            ports(from_port, to_port)?;
            Origin::Client(from.into())
        }
        ["TCP6", from, to, from_port, to_port] => {
            let (from, _) = (address::<Ipv6Addr>(from)?, address::<Ipv6Addr>(to)?);
            ports(from_port, to_port)?;
            Origin::Client(from.into())
        }
        _ => return Err(NoHeader("a line that is not TCP4, TCP6 or UNKNOWN with two addresses and two ports")),
    };
    Ok(Some((taken, origin)))
}

fn address<T: std::str::FromStr>(text: &str) -> Result<T, NoHeader> {
    text.parse().map_err(|_| NoHeader("a malformed address"))
}

fn ports(from: &str, to: &str) -> Result<(), NoHeader> {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok();
    if is_port(from) && is_port(to) { Ok(()) } else { Err(NoHeader("a malformed port")) }
}

fn version_2(buf: &[u8]) -> Result<Option<(usize, Origin)>, NoHeader> {
    let Some(&[version, family, high, low]) = buf.get(V2.len()..V2_FIXED) else { return Ok(None) };
    let is_proxied = match version {
        0x20 => false,
        0x21 => true,
        _ => return Err(NoHeader("an unknown version or command")),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_REST_MAX {
        return Err(NoHeader("more than 2,048 bytes of addresses and additions"));
    }
    let taken = V2_FIXED + length;
    let Some(rest) = buf.get(V2_FIXED..taken) else { return Ok(None) };
    let origin = match (is_proxied, family) {
        (false, _) => Origin::Balancer,
        (true, 0x11) => match rest {
            [a, b, c, d, _to @ ..] if rest.len() >= 12 => Origin::Client(Ipv4Addr::new(*a, *b, *c, *d).into()),
            _ => return Err(NoHeader("too short for its addresses")),
        },
        (true, 0x21) => match rest.first_chunk::<16>() {
            Some(from) if rest.len() >= 36 => Origin::Client(Ipv6Addr::from(*from).into()),
            _ => return Err(NoHeader("too short for its addresses")),
        },
        // No address, or a local socket's.
        (true, 0x00 | 0x31) => Origin::Balancer,
        (true, _) => return Err(NoHeader("a family that is no stream")),
    };
    Ok(Some((taken, origin)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(version: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [V2, &[version, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    fn client(text: &str) -> Origin {
        Origin::Client(text.parse().unwrap())
    }

    fn good() -> Vec<(Vec<u8>, Origin)> {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x1f, 0x90];
        let mut six = [0; 36];
        six[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        vec![
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n".to_vec(), client("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n".to_vec(), client("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Origin::Balancer),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), Origin::Balancer),
            (v2(0x21, 0x11, &four), client("192.0.2.7")),
            (v2(0x21, 0x11, &[&four[..], &[0x04, 0, 1, 0]].concat()), client("192.0.2.7")),
            (v2(0x21, 0x21, &six), client("2001:db8::7")),
            (v2(0x20, 0x00, &[]), Origin::Balancer),
            (v2(0x20, 0x11, &four), Origin::Balancer),
            (v2(0x21, 0x31, &[0; 216]), Origin::Balancer),
        ]
    }

    #[test]
    fn headers_are_read_once_they_are_whole_and_what_follows_is_left() {
        for (header, origin) in good() {
            for cut in 0..header.len() {
                assert_eq!(read(&header[..cut]), Ok(None), "{header:x?} cut at {cut}");
            }
            let more = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(read(&more), Ok(Some((header.len(), origin))), "{header:x?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
        let long_line = [b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\r\n\r\nx",
            b"PROXx",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 65536\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +5 443\r\n",
            b"PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 2001:db8::7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY \xff\xff\r\n",
            b"PROXY \r\n",
            &long_line,
            &v2(0x11, 0x11, &[0; 12]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x21, 0x12, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x21, &[0; 35]),
            &v2(0x21, 0x11, &[0; V2_REST_MAX + 1])[..V2_FIXED],
        ] {
            assert!(read(bytes).is_err(), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_header_takes_more_than_there_is(
            which in 0usize..10, at: prop::sample::Index, byte: u8, noise in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = [good()[which].0.clone(), noise].concat();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(Some((taken, _))) = read(&bytes) {
                prop_assert!(taken <= bytes.len());
            }
        }
    }
}
