//! Opening the listener, and closing it without losing requests.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// How many connections may wait in the system's queue until we accept them.
const BACKLOG: u32 = 4_096;

/// Listens on an address, with a queue that is large enough for a burst of connections. The system does not answer a
/// connection that does not fit, and its client retries after a second.
///
/// # Errors
/// If the system refuses.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Makes the system drop each packet that begins a new connection, and complete the connections that have begun. The
/// client of a dropped packet retries after a second, is refused, and so knows that nothing was received. Without this,
/// a connection that is completed between the last accept and the close of the listener is reset together with its
/// request.
///
/// On systems without such filters, that gap remains.
pub(super) fn refuse_new_ones(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    {
        use socket2::{SockFilter, SockRef};

        /// The offset of the flags in a TCP header, and the flag that begins a connection (RFC 9293, 3.1).
        const FLAGS: u32 = 13;
        const SYN: u32 = 0b10;
        // In BPF instructions: load a byte, skip one instruction if its bit is not set, drop, keep.
        let filter = [
            SockFilter::new(0x30, 0, 0, FLAGS),
            SockFilter::new(0x45, 0, 1, SYN),
            SockFilter::new(0x06, 0, 0, 0),
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ];
        if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
            tracing::debug!(%error, "new connections are accepted until the end: one at the last moment may be reset");
        }
    }
}
