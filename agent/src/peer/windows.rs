//! Asks the system's table of connections which process holds a socket, and whom that process acts for.

use super::{OwnerUnknown, User};
use netstat2::{AddressFamilyFlags, ProtocolFlags, ProtocolSocketInfo, iterate_sockets_info};
use postern_client::user::Held;
use std::net::SocketAddr;

/// The user who holds the socket with address `peer` that is connected to `local`.
pub(super) fn owner(peer: SocketAddr, local: SocketAddr) -> Result<User, OwnerUnknown> {
    let process = holder(peer, local)?;
    let held = Held::open(process);
    // Looked up again while the process is held open: its number has not gone from one process to another in between.
    if holder(peer, local)? != process {
        return Err(OwnerUnknown::Gone);
    }
    Ok(held.user())
}

fn holder(peer: SocketAddr, local: SocketAddr) -> Result<u32, OwnerUnknown> {
    let families = AddressFamilyFlags::IPV4 | AddressFamilyFlags::IPV6;
    for socket in iterate_sockets_info(families, ProtocolFlags::TCP)? {
        let socket = socket?;
        let ProtocolSocketInfo::Tcp(tcp) = socket.protocol_socket_info else { continue };
        // An IPv6 socket may hold an IPv4 connection.
        let own = SocketAddr::new(tcp.local_addr.to_canonical(), tcp.local_port);
        let other = SocketAddr::new(tcp.remote_addr.to_canonical(), tcp.remote_port);
        if (own, other) == (peer, local) {
            // A socket that its process has closed belongs to nobody, which is written as 0.
            return socket.associated_pids.first().copied().filter(|id| *id != 0).ok_or(OwnerUnknown::Gone);
        }
    }
    Err(OwnerUnknown::Gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn knows_its_own_connections_over_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, peer) = listener.accept().unwrap();
            assert_eq!(owner(peer, accepted.local_addr().unwrap()).unwrap(), User::own());
            drop(client);
        }
    }

    /// A18: a listener on the asked-for port is not mistaken for the connection.
    #[test]
    fn a18_a_listener_does_not_stand_in_for_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        assert!(matches!(owner(listener.local_addr().unwrap(), elsewhere), Err(OwnerUnknown::Gone)));
    }
}
