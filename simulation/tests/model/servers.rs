//! The nodes' servers: sockets of this process in the nodes' network namespaces.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use cvip::protocol::Protocol;
use cvip_lab::{Host, wait_until};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, bind, listen,
    setsockopt, shutdown, socket, sockopt,
};

use cvip_simulation::real::world::Socket;

/// How many connections the kernel keeps for a server that has not accepted them yet.
const BACKLOG: i32 = 64;

/// For how long an address may still be in use: a process that is about to run its program has a
/// copy of every socket until then.
const FREE_WITHIN: Duration = Duration::from_secs(10);

/// The servers of all nodes.
#[derive(Default)]
pub(crate) struct Servers(BTreeMap<(u32, Socket), Server>);

/// One server; its socket is closed with it. A TCP server writes its node's number.
enum Server {
    Tcp(OwnedFd, Option<JoinHandle<()>>),
    Udp(#[expect(dead_code, reason = "it is open for as long as it is kept")] OwnedFd),
}

impl Servers {
    /// Opens a node's socket, if it is not open.
    pub(crate) fn open(&mut self, host: &Host, node: u32, socket: Socket) -> Result<()> {
        if self.0.contains_key(&(node, socket)) {
            return Ok(());
        }
        let opened = host.enter(|| {
            wait_until(FREE_WITHIN, || match open(socket) {
                Err(Errno::EADDRINUSE) => None,
                opened => Some(opened),
            })
        });
        let fd = opened.context("the address stays in use")?;
        let fd = fd.with_context(|| format!("node {node} cannot listen on {socket:?}"))?;
        let server = match socket.0 {
            Protocol::Udp => Server::Udp(fd),
            _ => {
                let listener = TcpListener::from(fd.try_clone()?);
                Server::Tcp(fd, Some(thread::spawn(move || answer(&listener, node))))
            }
        };
        self.0.insert((node, socket), server);
        Ok(())
    }

    /// Closes a node's socket, if it is open.
    pub(crate) fn close(&mut self, node: u32, socket: Socket) {
        self.0.remove(&(node, socket));
    }

    /// Closes all sockets of a node.
    pub(crate) fn close_all(&mut self, node: u32) {
        self.0.retain(|(of, _), _| *of != node);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Server::Tcp(fd, thread) = self {
            // It listens no more at once, and the thread that accepts is told.
            let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}

fn open((protocol, port, ipv6): Socket) -> nix::Result<OwnedFd> {
    let (family, any): (_, IpAddr) = match ipv6 {
        false => (AddressFamily::Inet, Ipv4Addr::UNSPECIFIED.into()),
        true => (AddressFamily::Inet6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let kind = if protocol == Protocol::Udp { SockType::Datagram } else { SockType::Stream };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if kind == SockType::Stream {
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    if ipv6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(any, port)))?;
    if kind == SockType::Stream {
        listen(&fd, Backlog::new(BACKLOG)?)?;
    }
    Ok(fd)
}

fn answer(listener: &TcpListener, node: u32) {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let _ = stream.write_all(format!("{node}\n").as_bytes());
            }
            // It was shut down.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(_) => {}
        }
    }
}
