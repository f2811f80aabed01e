//! A request and what the kernel makes of it: one answer, or a list that is read again when it
//! was disturbed.

use neli::consts::nl::NlmF;
use nix::errno::Errno;

use super::frame::{Body, KernelError, MalformedMessage, Messages};
use super::socket::{NetlinkSocket, ReceiveError};

/// How often a list is asked for at most: it is asked for again when the kernel says that it
/// changed meanwhile (`NLM_F_DUMP_INTR`), when an answer was dropped, and when another list is
/// still under way in this socket.
const ATTEMPTS: u32 = 5;

/// A list as the kernel gave it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dump<T> {
    pub(crate) rows: Vec<T>,
    /// The number of datagrams that had rows: nothing can change within one.
    pub(crate) datagrams: usize,
}

impl NetlinkSocket {
    /// Sends the request that `write` appends with its sequence number, and gives what `read`
    /// makes of the answer's type and body; `None` if the kernel only says that it is done. An
    /// error of the kernel is what `refused` makes of it.
    pub(crate) fn ask<T, E: From<ReceiveError> + From<MalformedMessage>>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>, u32),
        refused: impl Fn(KernelError) -> E,
        mut read: impl FnMut(u16, &[u8]) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let sequence = self.next_sequence();
        let mut request = Vec::new();
        write(&mut request, sequence);
        self.send(&request).map_err(ReceiveError::Socket)?;
        let answer = self.receive_until(|message| match message.body {
            _ if message.sequence != sequence => Ok(None),
            Body::Reply(kind, body) => read(kind, body).map(Some),
            Body::Done => Ok(Some(None)),
            Body::Refused(error) => Err(refused(error)),
            Body::Overrun => Err(ReceiveError::Dropped.into()),
            Body::Noop => Ok(None),
        });
        if answer.is_err() {
            self.drain();
        }
        answer
    }

    /// Sends the request for a list, and gives what `read` makes of each message's type and
    /// body. Asks again, [`ATTEMPTS`] times in all, if the list was disturbed.
    pub(crate) fn dump<T, E: From<ReceiveError> + From<MalformedMessage>>(
        &mut self,
        write: impl Fn(&mut Vec<u8>, u32),
        refused: impl Fn(KernelError) -> E,
        mut read: impl FnMut(u16, &[u8]) -> Result<Option<T>, E>,
    ) -> Result<Dump<T>, E> {
        for _ in 0..ATTEMPTS {
            let dump = self.dump_once(&write, &refused, &mut read);
            if let Ok(Some(dump)) = dump {
                return Ok(dump);
            }
            // A list that was begun goes on until it is read: the next would be refused.
            self.drain();
            dump?;
        }
        Err(ReceiveError::Disturbed.into())
    }

    /// Reads a list to its end; `None` if it was disturbed.
    fn dump_once<T, E: From<ReceiveError> + From<MalformedMessage>>(
        &mut self,
        write: &impl Fn(&mut Vec<u8>, u32),
        refused: &impl Fn(KernelError) -> E,
        read: &mut impl FnMut(u16, &[u8]) -> Result<Option<T>, E>,
    ) -> Result<Option<Dump<T>>, E> {
        let sequence = self.next_sequence();
        let mut request = Vec::new();
        write(&mut request, sequence);
        match self.send(&request) {
            Ok(()) => {}
            Err(Errno::ENOBUFS) => return Ok(None),
            Err(errno) => return Err(ReceiveError::Socket(errno).into()),
        }
        let mut dump = Dump { rows: Vec::new(), datagrams: 0 };
        let (mut settled, mut ended) = (true, false);
        while !ended {
            let datagram = match self.receive() {
                Ok(datagram) => datagram,
                Err(ReceiveError::Dropped) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let known = dump.rows.len();
            for message in Messages::new(datagram) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                settled &= !message.flags.contains(NlmF::DUMP_INTR);
                match message.body {
                    Body::Reply(kind, body) => dump.rows.extend(read(kind, body)?),
                    Body::Done => ended = true,
                    Body::Overrun => return Ok(None),
                    Body::Refused(error) => match Errno::from_raw(error.errno) {
                        Errno::EBUSY | Errno::EINTR => return Ok(None),
                        _ => return Err(refused(error)),
                    },
                    Body::Noop => {}
                }
            }
            dump.datagrams += usize::from(dump.rows.len() > known);
        }
        Ok(settled.then_some(dump))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, OwnedFd};

    use nix::sys::socket::{MsgFlags, recv, send};

    use super::super::frame::Writer;
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Failure {
        Receive(ReceiveError),
        Malformed(MalformedMessage),
        Kernel(i32),
    }

    impl From<ReceiveError> for Failure {
        fn from(error: ReceiveError) -> Failure {
            Failure::Receive(error)
        }
    }

    impl From<MalformedMessage> for Failure {
        fn from(error: MalformedMessage) -> Failure {
            Failure::Malformed(error)
        }
    }

    const INTERRUPTED: u16 = 0x10;
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    const OK: Errno = Errno::UnknownErrno;

    /// Has the kernel say these messages in one datagram: type, flags, sequence number, errno.
    fn say(kernel: &OwnedFd, messages: &[(u16, u16, u32, Errno)]) {
        let mut datagram = Vec::new();
        for (kind, flags, sequence, errno) in messages {
            let errno = (-(*errno as i32)).to_ne_bytes();
            Writer::begin(&mut datagram, *kind, NlmF::from_bits_retain(*flags), *sequence, &errno)
                .end();
        }
        send(kernel.as_raw_fd(), &datagram, MsgFlags::empty()).expect("a datagram");
    }

    /// Answers each request, the first of which is number 0, until the other side closes; gives
    /// how many came.
    fn serve(
        kernel: OwnedFd,
        answer: impl Fn(usize, &OwnedFd) + Send + 'static,
    ) -> std::thread::JoinHandle<usize> {
        std::thread::spawn(move || {
            let mut asked = 0;
            while recv(kernel.as_raw_fd(), &mut [0; 16], MsgFlags::empty()) != Ok(0) {
                answer(asked, &kernel);
                asked += 1;
            }
            asked
        })
    }

    fn request(buffer: &mut Vec<u8>, sequence: u32) {
        Writer::begin(buffer, 18, NlmF::REQUEST, sequence, &[]).end();
    }

    /// A list whose rows are the messages' types.
    fn dump(socket: &mut NetlinkSocket) -> Result<Dump<u16>, Failure> {
        socket.dump(request, |error| Failure::Kernel(error.errno), |kind, _| Ok(Some(kind)))
    }

    #[test]
    fn an_answer_to_another_request_is_none_to_this_one() {
        let (mut socket, kernel) = NetlinkSocket::pair();
        socket.count_from(4);
        say(&kernel, &[(20, 0, 4, OK), (21, 0, 5, OK), (22, 0, 5, OK)]);
        let answer = socket.ask(
            request,
            |error| Failure::Kernel(error.errno),
            |kind, _| Ok::<_, Failure>(Some(kind)),
        );
        assert_eq!(answer, Ok(Some(21)));
    }

    #[test]
    fn a_list_is_read_to_its_end_and_its_datagrams_are_counted() {
        let (mut socket, kernel) = NetlinkSocket::pair();
        say(&kernel, &[(20, 0, 1, OK), (21, 0, 1, OK)]);
        say(&kernel, &[(22, 0, 1, OK), (23, 0, 9, OK)]);
        say(&kernel, &[(DONE, 0, 1, OK)]);
        assert_eq!(dump(&mut socket), Ok(Dump { rows: vec![20, 21, 22], datagrams: 2 }));
    }

    #[test]
    fn a_list_that_was_disturbed_is_asked_for_again() {
        // It changed, or another was under way, or the kernel was interrupted.
        for end in
            [(DONE, INTERRUPTED, 1, OK), (ERROR, 0, 1, Errno::EBUSY), (DONE, 0, 1, Errno::EINTR)]
        {
            let (mut socket, kernel) = NetlinkSocket::pair();
            let server = serve(kernel, move |asked, kernel| match asked {
                0 => say(kernel, &[(20, 0, 1, OK), end]),
                _ => say(kernel, &[(21, 0, 2, OK), (DONE, 0, 2, OK)]),
            });
            assert_eq!(dump(&mut socket), Ok(Dump { rows: vec![21], datagrams: 1 }));
            drop(socket);
            assert_eq!(server.join().unwrap(), 2);
        }
    }

    #[test]
    fn a_list_that_is_disturbed_again_and_again_is_given_up() {
        let (mut socket, kernel) = NetlinkSocket::pair();
        let server = serve(kernel, |asked, kernel| {
            say(kernel, &[(DONE, INTERRUPTED, 1 + asked as u32, OK)]);
        });
        assert_eq!(dump(&mut socket), Err(Failure::Receive(ReceiveError::Disturbed)));
        drop(socket);
        assert_eq!(server.join().unwrap(), ATTEMPTS as usize);
    }

    #[test]
    fn a_list_that_ends_in_an_error_is_an_error() {
        let (mut socket, kernel) = NetlinkSocket::pair();
        say(&kernel, &[(20, 0, 1, OK), (DONE, 0, 1, Errno::ENOMEM)]);
        assert_eq!(dump(&mut socket), Err(Failure::Kernel(Errno::ENOMEM as i32)));
    }

    #[test]
    fn a_malformed_message_ends_a_list_with_an_error() {
        let (mut socket, kernel) = NetlinkSocket::pair();
        send(kernel.as_raw_fd(), &[1; 16], MsgFlags::empty()).unwrap();
        assert!(matches!(dump(&mut socket), Err(Failure::Malformed(_))));
    }
}
