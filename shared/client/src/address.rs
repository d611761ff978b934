//! Where a comet listens.

use std::{fmt, str::FromStr};

/// Longest address, in bytes.
const ADDRESS_MAX_BYTES: usize = 512;

/// `ws://host:port[/path]` or `tcp://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    WebSocket { host: String, path: String },
    Tcp { host: String },
}

/// Why a text is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("address {0:?} must begin with ws:// or tcp://")]
    Scheme(String),
    #[error("address {0:?} must name host and port, like ws://127.0.0.1:7400")]
    HostPort(String),
    #[error("address has {0} bytes; the limit is {ADDRESS_MAX_BYTES}")]
    TooLong(usize),
}

impl Address {
    /// `host:port`, as it is connected to.
    pub fn host(&self) -> &str {
        match self {
            Self::WebSocket { host, .. } | Self::Tcp { host } => host,
        }
    }

    /// How this address is reached, as api calls it.
    pub(crate) fn transport(&self) -> &'static str {
        match self {
            Self::WebSocket { .. } => "ws",
            Self::Tcp { .. } => "tcp",
        }
    }

    /// What a comet says instead of itself: a whole address, or `host:port` reached in the same way as this one.
    pub(crate) fn instead(&self, said: &str) -> Result<Self, AddressError> {
        if said.contains("://") {
            return said.parse();
        }
        match self {
            Self::WebSocket { path, .. } => format!("ws://{said}{path}").parse(),
            Self::Tcp { .. } => format!("tcp://{said}").parse(),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_MAX_BYTES {
            return Err(AddressError::TooLong(text.len()));
        }
        let host_port = |host: &str| {
            let port = host.rsplit_once(':').filter(|(name, _)| !name.is_empty()).map(|(_, port)| port);
            let plain = host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b'@');
            match port.and_then(|port| port.parse::<u16>().ok()) {
                Some(port) if port > 0 && plain => Ok(host.to_owned()),
                _ => Err(AddressError::HostPort(text.to_owned())),
            }
        };
        if let Some(rest) = text.strip_prefix("ws://") {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let path = if path.is_empty() { "/" } else { path };
            return Ok(Self::WebSocket { host: host_port(host)?, path: path.to_owned() });
        }
        match text.strip_prefix("tcp://") {
            Some(host) => Ok(Self::Tcp { host: host_port(host.trim_end_matches('/'))? }),
            None => Err(AddressError::Scheme(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WebSocket { host, path } => write!(f, "ws://{host}{path}"),
            Self::Tcp { host } => write!(f, "tcp://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_scheme_host_and_port() {
        let ws: Address = "ws://127.0.0.1:7400".parse().unwrap();
        assert_eq!(ws.host(), "127.0.0.1:7400");
        assert_eq!(ws.to_string(), "ws://127.0.0.1:7400/");
        assert_eq!("ws://[::1]:1/a?b".parse::<Address>().unwrap().to_string(), "ws://[::1]:1/a?b");
        for bad in ["", "127.0.0.1:1", "http://a:1", "ws://a", "ws://:1", "tcp://a:0", "tcp://a:70000", "ws://a b:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
        assert_eq!(format!("ws://{}:1", "a".repeat(600)).parse::<Address>(), Err(AddressError::TooLong(607)));
    }

    #[test]
    fn another_address_is_reached_in_the_same_way() {
        let ws: Address = "ws://a:1/x".parse().unwrap();
        assert_eq!(ws.instead("b:2").unwrap().to_string(), "ws://b:2/x");
        assert_eq!(ws.instead("tcp://b:2").unwrap().to_string(), "tcp://b:2");
        assert!(ws.instead("nowhere").is_err());
    }
}
