//! What is asked of the kernel directly.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, RawFd},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::SocketConfig;

/// One write without blocking, on the file descriptor itself: a runtime's bookkeeping costs a tenth of it.
///
/// `fd` must belong to a connection that its shard still holds; a shard forgets a connection before its socket closes,
/// and is one thread, so no other socket can have taken the number.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a live slice, and the kernel only reads them.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Whether a write failed only because the socket takes nothing now.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// As many listeners on one address as there are shards: the kernel spreads connections over them.
pub fn listeners(address: SocketAddr, count: u16, config: &SocketConfig) -> io::Result<Vec<TcpListener>> {
    must_be_free(address)?;
    let first = listener(address, config)?;
    let bound = first.local_addr()?;
    let rest = (1..count).map(|_| listener(bound, config));
    std::iter::once(Ok(first)).chain(rest).collect()
}

// Sharing a port would otherwise succeed with another process too, and each would get a part of the clients.
fn must_be_free(address: SocketAddr) -> io::Result<()> {
    let alone = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    alone.set_reuse_address(true)?;
    alone.bind(&address.into())
}

// Accepted sockets inherit these options: no call per connection.
fn listener(address: SocketAddr, config: &SocketConfig) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_send_buffer_size(config.send_buffer_bytes as usize)?;
    socket.set_tcp_nodelay(true)?;
    set_not_sent_low_water(&socket, config.not_sent_low_water_bytes)?;
    socket.bind(&address.into())?;
    socket.listen(i32::from(config.accept_queue))?;
    Ok(socket.into())
}

fn set_not_sent_low_water(socket: &Socket, bytes: u32) -> io::Result<()> {
    let size = std::mem::size_of::<u32>() as libc::socklen_t;
    // SAFETY: the option takes an integer of this size, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            std::ptr::from_ref(&bytes).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether accepting failed for want of descriptors or memory: it may work again soon.
pub fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Keeps the calling thread on the `index`th core that this process may use.
pub fn pin_to_core(index: usize) -> io::Result<()> {
    // SAFETY: a cpu_set_t is plain bits, valid when zero; the calls read and write it within its size.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, std::mem::size_of_val(&allowed), &mut allowed) != 0 {
            return Err(io::Error::last_os_error());
        }
        let cores: Vec<usize> =
            (0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &allowed)).collect();
        let Some(core) = cores.get(index % cores.len().max(1)) else { return Ok(()) };
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(*core, &mut one);
        if libc::sched_setaffinity(0, std::mem::size_of_val(&one), &one) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
