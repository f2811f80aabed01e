//! A UDP client that keeps one source port and numbers what it sends, so that it can say what was lost and who answered
//! the rest.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::namespace::Namespace;

/// The client. A server has to answer each datagram with its text, a space, and its own name: see [`answer_datagram`].
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    sent: u32,
    answers: BTreeMap<u32, String>,
    refused: u32,
}

impl Datagrams {
    /// Takes a source port of a member. Only what comes from the address that is asked counts as an answer.
    ///
    /// # Errors
    /// If the kernel has none.
    pub fn new(from: &Namespace, to: SocketAddr) -> io::Result<Datagrams> {
        let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = from.enter(|| UdpSocket::bind(any).and_then(|s| s.connect(to).map(|()| s)))?;
        Ok(Datagrams { socket, sent: 0, answers: BTreeMap::new(), refused: 0 })
    }

    /// Its source port.
    ///
    /// # Panics
    /// If the kernel does not know it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.socket.local_addr().expect("a bound socket has an address").port()
    }

    /// Sends the next datagram; its number, from 1 on.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn send(&mut self) -> io::Result<u32> {
        self.sent += 1;
        let text = self.sent.to_string();
        // A refusal of an earlier one is told here, and this one has not been sent then.
        while let Err(error) = self.socket.send(text.as_bytes()) {
            self.note_refusal(error)?;
        }
        Ok(self.sent)
    }

    /// Sends the next datagram and waits for its answer; the server's name, or `None` if there was none in that time.
    ///
    /// # Errors
    /// As [`Datagrams::send`].
    pub fn ask(&mut self, patience: Duration) -> io::Result<Option<String>> {
        let number = self.send()?;
        let refused = self.refused;
        let deadline = Instant::now() + patience;
        while !self.answers.contains_key(&number) && self.refused == refused {
            match deadline.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => self.receive(left)?,
                _ => break,
            }
        }
        Ok(self.answers.get(&number).cloned())
    }

    /// Takes in answers until all have been answered, or until that time is up.
    ///
    /// # Errors
    /// If the kernel has none to give for another reason.
    pub fn collect(&mut self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        while self.answers.len() < self.sent as usize {
            match deadline.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => self.receive(left)?,
                _ => break,
            }
        }
        Ok(())
    }

    fn receive(&mut self, patience: Duration) -> io::Result<()> {
        // A time-out of 0 would be none.
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let mut buffer = [0; 512];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let (number, name) = text.split_once(' ').unwrap_or_default();
                match number.parse::<u32>() {
                    Ok(number) if (1..=self.sent).contains(&number) => {
                        self.answers.insert(number, name.to_owned());
                        Ok(())
                    }
                    _ => Err(io::Error::other(format!("an answer to no question: {text:?}"))),
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(())
            }
            Err(error) => self.note_refusal(error),
        }
    }

    fn note_refusal(&mut self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            ErrorKind::ConnectionRefused => {
                self.refused += 1;
                Ok(())
            }
            ErrorKind::Interrupted => Ok(()),
            _ => Err(error),
        }
    }

    /// How many have been sent.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// Those that nobody has answered so far.
    #[must_use]
    pub fn unanswered(&self) -> Vec<u32> {
        (1..=self.sent).filter(|number| !self.answers.contains_key(number)).collect()
    }

    /// How often the network said that nobody is there (ICMP).
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.refused
    }

    /// Who answered which.
    #[must_use]
    pub fn answers(&self) -> &BTreeMap<u32, String> {
        &self.answers
    }
}

/// Answers one datagram as [`Datagrams`] expects it; waits for it if need be. Its text.
///
/// # Errors
/// If there is none, or it cannot be answered.
pub fn answer_datagram(socket: &UdpSocket, name: &str) -> io::Result<String> {
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    socket.send_to(format!("{text} {name}").as_bytes(), from)?;
    Ok(text)
}
