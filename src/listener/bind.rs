//! The listener's beginning and its end.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// How many connections the system may have accepted that we have not.
const BACKLOG: u32 = 4_096;

/// Listens on an address, with a queue that a burst of connections fits into: what does not fit is not answered, and its client tries
/// again after a second.
///
/// # Errors
/// Where the system does not let us.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Has the system drop each packet that begins a new connection, and complete those that have begun. The client tries again after a
/// second, is refused, and knows that nothing was received. Without it, a connection that is made between the last look at the queue
/// and the close of the listener is reset together with its request.
///
/// Where the system has no such filters, that moment stays.
pub(super) fn refuse_new_ones(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    {
        use socket2::{SockFilter, SockRef};

        /// The byte of a TCP header with the flags, and the flag that begins a connection (RFC 9293, 3.1).
        const FLAGS: u32 = 13;
        const SYN: u32 = 0b10;
        // In the machine language of BPF: load a byte, skip one if a bit of it is not set, drop, keep.
        let filter = [
            SockFilter::new(0x30, 0, 0, FLAGS),
            SockFilter::new(0x45, 0, 1, SYN),
            SockFilter::new(0x06, 0, 0, 0),
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ];
        if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
            tracing::debug!(%error, "new connections are taken until the end: one at the last moment may be reset");
        }
    }
}
