//! Asks the kernel who holds a socket, by netlink's `sock_diag(7)`: one exact look-up, no scan of `/proc/net/tcp`.

use super::{OwnerUnknown, User};
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `struct nlmsghdr` and `struct inet_diag_req_v2`, and the answer's `struct inet_diag_msg`, are this long.
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
const ANSWER: usize = HEADER + 72;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const ENOENT: i32 = 2;

/// The user who holds the socket with address `peer` that is connected to `local`.
pub(super) fn owner(peer: SocketAddr, local: SocketAddr) -> Result<User, OwnerUnknown> {
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG))
        .map_err(io::Error::from)?;
    // Connected to the kernel, the socket takes no message from another program.
    connect(&netlink, &SocketAddrNetlink::new(0, 0)).map_err(io::Error::from)?;
    send(&netlink, &request(peer, local), SendFlags::empty()).map_err(io::Error::from)?;
    // The kernel has queued its answer before `send` returned.
    let mut answer = [0; 512];
    let (length, _) = recv(&netlink, &mut answer, RecvFlags::DONTWAIT).map_err(io::Error::from)?;
    parse(answer.get(..length).unwrap_or_default(), peer, local)
}

fn request(peer: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let family = if peer.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut message = Vec::with_capacity(REQUEST);
    message.extend(72u32.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: one question, one answer
    message.extend([family, IPPROTO_TCP, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes()); // in any state
    message.extend(peer.port().to_be_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(address_bytes(peer.ip()));
    message.extend(address_bytes(local.ip()));
    message.extend([0; 4]); // on any interface
    message.extend([0xff; 8]); // with any cookie
    message
}

fn address_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(ip.octets()).for_each(|(to, from)| *to = from);
            bytes
        }
    }
}

/// Reads the answer, and believes it only if it tells of exactly this socket: for want of one the kernel
/// answers with a listener on the same port.
fn parse(answer: &[u8], peer: SocketAddr, local: SocketAddr) -> Result<User, OwnerUnknown> {
    let malformed = || OwnerUnknown::Kernel(io::ErrorKind::InvalidData.into());
    let kind = u16::from_ne_bytes(*field(answer, 4).ok_or_else(malformed)?);
    if kind == NLMSG_ERROR {
        let errno = i32::from_ne_bytes(*field(answer, HEADER).ok_or_else(malformed)?).saturating_neg();
        return Err(match errno {
            ENOENT => OwnerUnknown::Gone,
            errno => OwnerUnknown::Kernel(io::Error::from_raw_os_error(errno)),
        });
    }
    if kind != SOCK_DIAG_BY_FAMILY || answer.len() < ANSWER {
        return Err(malformed());
    }
    let [family] = *field(answer, HEADER).ok_or_else(malformed)?;
    let port = |at| field(answer, at).map(|bytes| u16::from_be_bytes(*bytes));
    let found = |address_at, port_at| Some(SocketAddr::new(address(family, answer, address_at)?, port(port_at)?));
    let inode = u32::from_ne_bytes(*field(answer, HEADER + 68).ok_or_else(malformed)?);
    let same = found(HEADER + 8, HEADER + 4) == Some(peer) && found(HEADER + 24, HEADER + 6) == Some(local);
    // A socket that its program has closed has no inode, and the kernel shows root as its owner.
    if !same || inode == 0 {
        return Err(OwnerUnknown::Gone);
    }
    Ok(User::numbered(u32::from_ne_bytes(*field(answer, HEADER + 64).ok_or_else(malformed)?)))
}

/// An address as a program sees it: an IPv6 socket may hold an IPv4 connection.
fn address(family: u8, answer: &[u8], at: usize) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(*field::<4>(answer, at)?).into()),
        AF_INET6 => Some(Ipv6Addr::from(*field::<16>(answer, at)?).to_canonical()),
        _ => None,
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    fn own() -> User {
        User::own()
    }

    #[test]
    fn knows_its_own_connections_over_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, peer) = listener.accept().unwrap();
            assert_eq!(owner(peer, accepted.local_addr().unwrap()).unwrap(), own());
            drop(client);
        }
    }

    /// Programs that use IPv6 sockets for everything (Java does) are known too.
    #[test]
    fn knows_an_ipv6_socket_that_holds_an_ipv4_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Ok(client) = Socket::new(Domain::IPV6, Type::STREAM, None) else { return };
        let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port));
        if client.connect(&mapped.into()).is_err() {
            return;
        }
        let (accepted, peer) = listener.accept().unwrap();
        assert_eq!(owner(peer, accepted.local_addr().unwrap()).unwrap(), own());
    }

    /// A18: a program that sends and closes at once leaves a socket without owner, which the kernel shows as root's.
    #[test]
    fn a18_a_socket_that_was_closed_has_no_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        drop(client);
        let (accepted, peer) = listener.accept().unwrap();
        assert!(matches!(owner(peer, accepted.local_addr().unwrap()), Err(OwnerUnknown::Gone)));
    }

    /// A18: a listener on the asked-for port is not mistaken for the connection.
    #[test]
    fn a18_a_listener_does_not_stand_in_for_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        assert!(matches!(owner(listener.local_addr().unwrap(), elsewhere), Err(OwnerUnknown::Gone)));
    }

    /// A18: a real other user is told apart. Needs root to become one.
    #[test]
    fn a18_another_user_is_told_apart() {
        if own() != User::numbered(0) {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -r _ <&3");
        let mut other = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        assert_eq!(owner(peer, accepted.local_addr().unwrap()).unwrap(), User::numbered(65534));
        drop(accepted);
        other.wait().unwrap();
    }

    /// A30: no answer makes it panic, and no truncated one is believed.
    #[test]
    fn a30_a_truncated_answer_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        for length in 0..ANSWER {
            assert!(parse(&vec![20; length], local, local).is_err());
        }
    }
}
