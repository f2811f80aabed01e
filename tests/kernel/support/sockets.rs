//! Servers and clients whose sockets are a member's, though they live in this process.
//!
//! A server speaks lines: to `GET ...` it answers with a page and closes, to any other line
//! with its name, and goes on.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cvip_lab::traffic::answer_datagram;
use cvip_lab::{Host, PATIENCE, wait_until};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt,
    socket, sockopt,
};
use nix::unistd::{Uid, setfsuid};

/// How long a client waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A TCP listener on a member, of root's; an IPv6 wildcard takes IPv4 too.
#[track_caller]
pub(crate) fn listen(host: &Host, addr: impl ToString) -> TcpListener {
    listen_as(host, 0, addr)
}

/// A TCP listener on a member that belongs to another user, as the kernel sees it: a socket's
/// owner is the file system user of the thread that makes it (setfsuid(2)).
#[track_caller]
pub(crate) fn listen_as(host: &Host, uid: u32, addr: impl ToString) -> TcpListener {
    let addr = addr.to_string();
    host.enter(|| {
        setfsuid(Uid::from_raw(uid));
        once_free(&addr, || TcpListener::bind(&addr))
    })
}

/// A UDP socket on a member, of root's.
#[track_caller]
pub(crate) fn bind_udp(host: &Host, addr: impl ToString) -> UdpSocket {
    bind_udp_as(host, 0, addr)
}

/// A UDP socket on a member that belongs to another user; see [`listen_as`].
#[track_caller]
pub(crate) fn bind_udp_as(host: &Host, uid: u32, addr: impl ToString) -> UdpSocket {
    let addr = addr.to_string();
    host.enter(|| {
        setfsuid(Uid::from_raw(uid));
        once_free(&addr, || UdpSocket::bind(&addr))
    })
}

/// Binds once the address is free: a process that another test is about to start has a copy of
/// every socket, closed ones too, until it runs its program.
#[track_caller]
fn once_free<S>(addr: &str, bind: impl Fn() -> io::Result<S>) -> S {
    let bound = wait_until(PATIENCE, || match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        bound => Some(bound),
    });
    match bound {
        Some(bound) => bound.unwrap_or_else(|error| panic!("{addr}: {error}")),
        None => panic!("{addr} is in use"),
    }
}

/// What [`raw`] is to set on a socket, beside `SO_REUSEADDR`.
#[derive(Clone, Copy)]
pub(crate) enum With {
    Nothing,
    V6Only,
    ReusePort,
    Sctp,
    UdpReusePort,
}

/// A stream socket on a member, bound and not yet listening; or one for datagrams.
#[track_caller]
pub(crate) fn raw(host: &Host, addr: impl ToString, with: With) -> OwnedFd {
    let addr: SocketAddr = addr.to_string().parse().unwrap();
    let make = || -> io::Result<OwnedFd> {
        let family = if addr.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let protocol = matches!(with, With::Sctp).then_some(SockProtocol::Sctp);
        let kind = match with {
            With::UdpReusePort => SockType::Datagram,
            With::Nothing | With::V6Only | With::ReusePort | With::Sctp => SockType::Stream,
        };
        let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        match with {
            With::V6Only => setsockopt(&fd, sockopt::Ipv6V6Only, &true)?,
            With::ReusePort | With::UdpReusePort => setsockopt(&fd, sockopt::ReusePort, &true)?,
            With::Nothing | With::Sctp => {}
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
        Ok(fd)
    };
    host.enter(|| once_free(&addr.to_string(), make))
}

/// Calls listen(2).
pub(crate) fn start_listening(fd: &impl AsFd, backlog: i32) -> Result<(), Errno> {
    nix::sys::socket::listen(&fd.as_fd(), Backlog::new(backlog)?)
}

/// A server on a member, whose listener is closed when this is dropped; connections go on until
/// their clients end them.
pub(crate) struct Server {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on a TCP address and answers with a name.
    #[track_caller]
    pub(crate) fn tcp(host: &Host, addr: impl ToString, name: impl ToString) -> Server {
        Server::over(listen(host, addr), name)
    }

    /// Answers on a listener with a name.
    pub(crate) fn over(listener: TcpListener, name: impl ToString) -> Server {
        let name = name.to_string();
        Server::serve(listener, move |listener| {
            let Ok((stream, _)) = listener.accept() else { return };
            let name = name.clone();
            // It ends with its connection.
            thread::spawn(move || answer(stream, &name));
        })
    }

    /// Binds a UDP address and answers every datagram with a name.
    #[track_caller]
    pub(crate) fn udp(host: &Host, addr: impl ToString, name: impl ToString) -> Server {
        let name = name.to_string();
        Server::serve(bind_udp(host, addr), move |socket| {
            if let Ok((_, from)) = socket.recv_from(&mut [0; 512]) {
                let _ = socket.send_to(name.as_bytes(), from);
            }
        })
    }

    /// Binds a UDP address and answers every datagram as [`cvip_lab::traffic::Datagrams`] expects
    /// it.
    #[track_caller]
    pub(crate) fn numbered_udp(host: &Host, addr: impl ToString, name: impl ToString) -> Server {
        let name = name.to_string();
        Server::serve(bind_udp(host, addr), move |socket| {
            let _ = answer_datagram(socket, &name);
        })
    }

    fn serve<S: AsFd + Send + 'static>(socket: S, one: impl Fn(&S) + Send + 'static) -> Server {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let thread = thread::spawn(move || {
            while !wait_for(socket.as_fd(), stopped.as_fd()) {
                one(&socket);
            }
        });
        Server { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until a socket has something; true if it is to stop.
fn wait_for(socket: BorrowedFd<'_>, stop: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(stop, PollFlags::POLLIN), PollFd::new(socket, PollFlags::POLLIN)];
    let polled = poll(&mut fds, PollTimeout::NONE);
    polled.is_err_and(|errno| errno != Errno::EINTR)
        || fds[0].revents().is_some_and(|events| !events.is_empty())
}

fn answer(stream: TcpStream, name: &str) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut page = false;
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        page |= line.starts_with("GET ");
        let said = match (page, line.is_empty()) {
            (false, _) => out.write_all(format!("{name}\n").as_bytes()),
            (true, false) => Ok(()),
            (true, true) => {
                let page = format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{name}\n");
                let _ = out.write_all(page.as_bytes());
                return;
            }
        };
        if said.is_err() {
            return;
        }
    }
}

/// Fetches a page from a member, and returns the name of the server that sent it.
pub(crate) fn fetch(from: &Host, addr: SocketAddr) -> io::Result<String> {
    from.enter(|| fetch_here(addr))
}

fn fetch_here(addr: SocketAddr) -> io::Result<String> {
    let mut stream = connect_here(addr)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let body = page.split("\r\n\r\n").nth(1).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(body.trim_end().to_owned())
}

/// A TCP connection from a member.
pub(crate) fn connect(from: &Host, addr: SocketAddr) -> io::Result<TcpStream> {
    from.enter(|| connect_here(addr))
}

fn connect_here(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    Ok(stream)
}

/// A client that fetches again and again, until it is asked how it went.
pub(crate) struct Visitor {
    stop: Arc<AtomicBool>,
    fetches: Arc<AtomicU32>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Visitor {
    pub(crate) fn start(from: &Host, addr: SocketAddr) -> Visitor {
        let (stop, fetches) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&fetches));
        let visit = move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = fetch_here(addr) {
                    failures.push(format!("fetch {}: {error}", count.load(Ordering::Relaxed)));
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            failures
        };
        // A thread that is started in a namespace stays there.
        let thread = from.enter(|| thread::spawn(visit));
        Visitor { stop, fetches, thread: Some(thread) }
    }

    /// How many fetches have ended so far.
    pub(crate) fn fetches(&self) -> u32 {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Ends it; the fetches that failed.
    pub(crate) fn failures(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().unwrap()).unwrap_or_default()
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Asks a UDP server from a member, and returns its name. The answer has to come from the
/// address that was asked.
pub(crate) fn ask_udp(from: &Host, addr: SocketAddr) -> io::Result<String> {
    let any = if addr.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = from.enter(|| UdpSocket::bind(any))?;
    socket.connect(addr)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.send(b"who are you?")?;
    let mut name = [0; 512];
    let length = socket.recv(&mut name)?;
    Ok(String::from_utf8_lossy(&name[..length]).into_owned())
}

/// A client with an open connection.
pub(crate) struct Patron {
    stream: BufReader<TcpStream>,
}

impl Patron {
    #[track_caller]
    pub(crate) fn new(from: &Host, addr: SocketAddr) -> Patron {
        let stream = connect(from, addr).unwrap_or_else(|e| panic!("{addr}: {e}"));
        Patron { stream: BufReader::new(stream) }
    }

    /// Asks the server for its name.
    pub(crate) fn ask(&mut self) -> io::Result<String> {
        self.stream.get_mut().write_all(b"who are you?\n")?;
        let mut name = String::new();
        match self.stream.read_line(&mut name)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(name.trim_end().to_owned()),
        }
    }
}
