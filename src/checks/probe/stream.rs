//! A TCP connection with a deadline, and the probe that wants no more than one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};

use super::deadline::Deadline;
use crate::checks::{CheckOutcome, CheckTarget};

/// What is read of an answer that is not needed, so that closing does not reset the connection.
const UNWANTED_MOST: usize = 256 << 10;

/// That a target takes a connection.
pub(super) fn probe(target: &CheckTarget, deadline: Deadline) -> CheckOutcome {
    Stream::connect(target, deadline)?.part();
    Ok("connected".to_owned())
}

/// A connection of which no read and no write goes on beyond the deadline.
pub(super) struct Stream {
    socket: TcpStream,
    deadline: Deadline,
}

impl Stream {
    /// Connects to a target, bound to its device.
    pub(super) fn connect(target: &CheckTarget, deadline: Deadline) -> Result<Stream, String> {
        let addr = target.probed();
        let socket = socket(target, Type::STREAM, Protocol::TCP)?;
        deadline
            .left()
            .and_then(|left| socket.connect_timeout(&addr.into(), left))
            .map_err(|error| deadline.because("connect", &error))?;
        let socket = TcpStream::from(socket);
        // Small requests, each written at once: nothing to wait for. If it cannot be set, the
        // probe is as good, only slower.
        let _ = socket.set_nodelay(true);
        Ok(Stream { socket, deadline })
    }

    /// Ends the connection with FIN. A connection closed with something unread is reset instead,
    /// which some servers log as an error: what has come is read first.
    pub(super) fn part(mut self) {
        // A server may be gone first; then there is nothing to be polite about.
        let _ = self.socket.shutdown(Shutdown::Write);
        if self.socket.set_nonblocking(true).is_err() {
            return;
        }
        let mut buffer = [0; 4096];
        let mut read = 0;
        while read < UNWANTED_MOST {
            match self.socket.read(&mut buffer) {
                Ok(length) if length > 0 => read += length,
                _ => break,
            }
        }
    }
}

/// A socket for a target, bound to its device.
pub(super) fn socket(
    target: &CheckTarget,
    kind: Type,
    protocol: Protocol,
) -> Result<Socket, String> {
    let said = |doing: &str, error: &io::Error| match error.raw_os_error() {
        Some(code) => format!("{doing}: {}", nix::errno::Errno::from_raw(code).desc()),
        None => format!("{doing}: {error}"),
    };
    let socket = Socket::new(Domain::for_address(target.addr), kind, Some(protocol))
        .map_err(|error| said("make a socket", &error))?;
    if let Some(device) = &target.device {
        socket
            .bind_device(Some(device.as_bytes()))
            .map_err(|error| said(&format!("bind to {device}"), &error))?;
    }
    Ok(socket)
}

/// Calls again what a signal interrupted; a time-out of the socket is one of the deadline.
fn persist<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ErrorKind::TimedOut.into());
            }
            result => return result,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        persist(|| {
            self.socket.set_read_timeout(Some(self.deadline.left()?))?;
            self.socket.read(buffer)
        })
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        persist(|| {
            self.socket.set_write_timeout(Some(self.deadline.left()?))?;
            self.socket.write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener};
    use std::thread;

    use super::super::probe;
    use super::super::test_support::{LONG, closed_tcp_port, loopbacks, target};
    use super::*;
    use crate::checks::settings::Kind;

    #[test]
    fn a_listener_is_fit_over_both_families_and_sees_a_clean_end() {
        for host in loopbacks() {
            let listener = TcpListener::bind((host, 0)).unwrap();
            let server = thread::spawn({
                let listener = listener.try_clone().unwrap();
                move || {
                    let (mut peer, _) = listener.accept().unwrap();
                    peer.set_read_timeout(Some(LONG)).unwrap();
                    peer.read(&mut [0; 16]).unwrap()
                }
            });
            let outcome = probe(&target(listener.local_addr().unwrap(), Kind::Tcp));
            assert_eq!(outcome, Ok("connected".to_owned()));
            assert_eq!(server.join().unwrap(), 0, "FIN, not a reset");
        }
    }

    #[test]
    fn a_port_on_which_no_process_listens_is_unhealthy_at_once() {
        for host in loopbacks() {
            let (_reserved, addr) = closed_tcp_port(host);
            let outcome = probe(&target(addr, Kind::Tcp));
            assert_eq!(outcome, Err("connect: Connection refused".to_owned()));
        }
    }

    #[test]
    fn a_check_with_a_port_of_its_own_probes_that_one() {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let (_reserved, addr) = closed_tcp_port(Ipv6Addr::LOCALHOST.into());
        let mut target = target(addr, Kind::Tcp);
        assert!(probe(&target).is_err());
        target.check.port = Some(listener.local_addr().unwrap().port());
        assert!(probe(&target).is_ok());
    }

    #[test]
    fn an_interface_that_is_not_there_is_the_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut target = target(listener.local_addr().unwrap(), Kind::Tcp);
        target.device = Some("nosuch0".to_owned());
        assert_eq!(probe(&target), Err("bind to nosuch0: No such device".to_owned()));
    }
}
