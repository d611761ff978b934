//! Ports that stay whose they are.

use tokio::net::TcpSocket;

/// A TCP port of the loopback address that the kernel gives to nobody else, until dropped: not while a server on it is down,
/// and not before one is up.
///
/// A socket that is bound and does not listen holds it. Beside that a server may listen, if it sets `SO_REUSEADDR` as Go's
/// do; while none does, who connects is refused.
pub struct Port {
    number: u16,
    _held: TcpSocket,
}

impl Port {
    /// A free one.
    pub fn take() -> Port {
        let held = TcpSocket::new_v4().expect("a socket");
        held.set_reuseaddr(true).expect("an option that every socket has");
        held.bind(([127, 0, 0, 1], 0).into()).expect("the loopback address has free ports");
        let number = held.local_addr().expect("a bound socket has an address").port();
        Port { number, _held: held }
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}
