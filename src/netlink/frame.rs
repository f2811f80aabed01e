//! Netlink's framing: messages with a 16-byte header, and attributes of type, length, value.
//!
//! Written here and not taken from neli, whose constants it uses, for two reasons. Every message
//! passes here first, and neli's `Nlmsghdr` subtracts unchecked from lengths that the other side
//! wrote; this knows only bytes that are there. And a restore is measured against the bytes
//! alone: for 11,000 destinations neli's builders take 14 ms, these 1 ms, and the kernel 14 ms
//! to carry the messages out (`cargo bench --bench ipvs`). [`body`](super::body) reads and writes
//! in neli's types what comes one at a time.
//!
//! Formats: linux/netlink.h. Everything is in the machine's byte order; what is not says so.

use neli::consts::nl::{NlmF, Nlmsg};

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`.
const TYPE_MASK: u16 = 0x3fff;

/// `NLMSG_HDRLEN`.
pub(crate) const HEADER: usize = 16;
/// `NLA_HDRLEN`.
const ATTR_HEADER: usize = 4;

/// No name that the kernel takes is near this long; a longer one is cut here, so that it is
/// the kernel that refuses it and no 16-bit length can overflow.
pub(super) const NAME_LIMIT: usize = 255;

/// What is wrong with a message, such as "a truncated attribute".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedMessage(pub(crate) &'static str);

/// An `NLMSG_ERROR` or `NLMSG_DONE` that carries an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelError {
    /// Positive errno.
    pub(crate) errno: i32,
    /// The extended acknowledgement's text.
    pub(crate) text: Option<String>,
}

const TRUNCATED_MESSAGE: MalformedMessage = MalformedMessage("a truncated message");
const TRUNCATED_ACKNOWLEDGEMENT: MalformedMessage = MalformedMessage("a truncated acknowledgement");
const TRUNCATED_ATTRIBUTE: MalformedMessage = MalformedMessage("a truncated attribute");

/// Rounds up to the alignment of messages and of attributes, which is the same.
const fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// A message under construction, at the end of a buffer that may hold others.
pub(crate) struct Writer<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    /// Begins a message of type `kind` with the family's own header `fixed`, of 4n bytes.
    pub(crate) fn begin(
        buffer: &'a mut Vec<u8>,
        kind: u16,
        flags: NlmF,
        sequence: u32,
        fixed: &[u8],
    ) -> Writer<'a> {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; 4]); // nlmsg_len, known at the end
        buffer.extend_from_slice(&kind.to_ne_bytes());
        buffer.extend_from_slice(&flags.bits().to_ne_bytes());
        buffer.extend_from_slice(&sequence.to_ne_bytes());
        buffer.extend_from_slice(&[0; 4]); // nlmsg_pid: the kernel knows who asks
        buffer.extend_from_slice(fixed);
        Writer { buffer, start }
    }

    /// Ends the message.
    pub(crate) fn end(self) {
        let length = (self.buffer.len() - self.start) as u32;
        self.buffer[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// An attribute of raw bytes.
    pub(crate) fn bytes(&mut self, attribute: u16, value: &[u8]) {
        debug_assert!(value.len() <= 2048);
        let length = (ATTR_HEADER + value.len()) as u16;
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&attribute.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        self.pad();
    }

    /// A byte.
    pub(crate) fn u8(&mut self, attribute: u16, value: u8) {
        self.bytes(attribute, &[value]);
    }

    /// 16 bits.
    pub(crate) fn u16(&mut self, attribute: u16, value: u16) {
        self.bytes(attribute, &value.to_ne_bytes());
    }

    /// 16 bits in network order.
    pub(crate) fn be16(&mut self, attribute: u16, value: u16) {
        self.bytes(attribute, &value.to_be_bytes());
    }

    /// 32 bits.
    pub(crate) fn u32(&mut self, attribute: u16, value: u32) {
        self.bytes(attribute, &value.to_ne_bytes());
    }

    /// Text with the NUL that the kernel wants at its end.
    pub(crate) fn text(&mut self, attribute: u16, value: &str) {
        let value = &value.as_bytes()[..value.len().min(NAME_LIMIT)];
        let length = (ATTR_HEADER + value.len() + 1) as u16;
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&attribute.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        self.buffer.push(0);
        self.pad();
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(&mut self, attribute: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&(attribute | NESTED).to_ne_bytes());
        fill(self);
        let length = (self.buffer.len() - start) as u16;
        self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Attributes that are written and padded already.
    pub(super) fn raw(&mut self, attributes: &[u8]) {
        self.buffer.extend_from_slice(attributes);
    }

    fn pad(&mut self) {
        let padded = self.start + align(self.buffer.len() - self.start);
        self.buffer.resize(padded, 0);
    }
}

/// Appends a message that does nothing and is acknowledged: the kernel handles the messages of
/// a send in their order, so its answer says that all before it were handled.
///
/// The last change cannot serve for that: netlink answers a request that ended in `EINTR`
/// neither with success nor with failure (`netlink_rcv_skb`), and stopping a sync daemon
/// whose thread has not run yet ends so.
pub(crate) fn write_barrier(buffer: &mut Vec<u8>, sequence: u32) {
    Writer::begin(buffer, Nlmsg::Noop.into(), NlmF::REQUEST | NlmF::ACK, sequence, &[]).end();
}

/// 32 bits of `data` at `at`.
pub(crate) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    array(data, at).map(u32::from_ne_bytes)
}

/// Reads exactly `N` bytes of `data` at `at`.
fn array<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..)?.first_chunk().copied()
}

/// One message of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetlinkMessage<'a> {
    /// Which request it answers.
    pub(crate) sequence: u32,
    /// `nlmsg_flags`.
    pub(crate) flags: NlmF,
    /// What it says.
    pub(crate) body: Body<'a>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    /// A request was carried out.
    Done,
    /// A request, or the dump that it began, failed.
    Refused(KernelError),
    /// A reply: the message's type, and what stands behind its header.
    Reply(u16, &'a [u8]),
    /// Padding.
    Noop,
    /// The kernel lost data.
    Overrun,
}

/// Cuts one datagram into messages; after an error there are no more.
pub(crate) struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Messages<'a> {
        Messages(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<NetlinkMessage<'a>, MalformedMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        let Some(length) = array(rest, 0).map(|b| u32::from_ne_bytes(b) as usize) else {
            return Some(Err(TRUNCATED_MESSAGE));
        };
        let message = match rest.get(..length) {
            Some(message) if length >= HEADER => message,
            _ => return Some(Err(TRUNCATED_MESSAGE)),
        };
        self.0 = rest.get(align(length)..).unwrap_or(&[]);
        Some(self::message(message))
    }
}

/// Reads a message whose length is already known to be at least a header's.
fn message(data: &[u8]) -> Result<NetlinkMessage<'_>, MalformedMessage> {
    let header = || -> Option<(u16, u16, u32)> {
        Some((
            u16::from_ne_bytes(array(data, 4)?),
            u16::from_ne_bytes(array(data, 6)?),
            u32::from_ne_bytes(array(data, 8)?),
        ))
    };
    let (kind, flags, sequence) = header().ok_or(TRUNCATED_MESSAGE)?;
    let flags = NlmF::from_bits_retain(flags);
    let payload = data.get(HEADER..).unwrap_or(&[]);
    let body = match Nlmsg::from(kind) {
        Nlmsg::Noop => Body::Noop,
        Nlmsg::Overrun => Body::Overrun,
        end @ (Nlmsg::Error | Nlmsg::Done) => {
            // The end of a very old kernel's dump has none.
            let none = (end == Nlmsg::Done).then_some([0; 4]);
            let errno = array(payload, 0).or(none).ok_or(TRUNCATED_ACKNOWLEDGEMENT)?;
            match i32::from_ne_bytes(errno) {
                0 => Body::Done,
                errno => Body::Refused(KernelError {
                    errno: errno.saturating_abs(),
                    text: text_of_error(end, flags, payload),
                }),
            }
        }
        Nlmsg::UnrecognizedConst(_) => Body::Reply(kind, payload),
    };
    Ok(NetlinkMessage { sequence, flags, body })
}

/// The kernel's own words about an error. They are a courtesy: where they cannot be read,
/// the errno alone must do.
fn text_of_error(kind: Nlmsg, flags: NlmF, payload: &[u8]) -> Option<String> {
    if !flags.contains(NlmF::ACK_TLVS) {
        return None;
    }
    let behind_errno = payload.get(4..)?;
    let attributes = if kind == Nlmsg::Done {
        behind_errno
    } else {
        let echoed = match flags.contains(NlmF::CAPPED) {
            false => align(u32::from_ne_bytes(array(behind_errno, 0)?) as usize),
            true => HEADER,
        };
        behind_errno.get(echoed..)?
    };
    // NLMSGERR_ATTR_MSG is 1.
    let [_, message] = table::<2>(attributes).ok()?;
    Some(text(message?)).filter(|text| !text.is_empty())
}

/// The attributes of `data` by their number, those below `N`; the rest is for newer programs.
/// One that comes twice counts as its last, as the kernel has it.
pub(crate) fn table<const N: usize>(data: &[u8]) -> Result<[Option<&[u8]>; N], MalformedMessage> {
    let mut found = [None; N];
    let mut rest = data;
    while !rest.is_empty() {
        let header = (array(rest, 0), array(rest, 2));
        let (Some(length), Some(kind)) = header else {
            return Err(TRUNCATED_ATTRIBUTE);
        };
        let length = usize::from(u16::from_ne_bytes(length));
        let kind = usize::from(u16::from_ne_bytes(kind) & TYPE_MASK);
        let Some(value) = rest.get(ATTR_HEADER..length) else {
            return Err(TRUNCATED_ATTRIBUTE);
        };
        if let Some(slot) = found.get_mut(kind) {
            *slot = Some(value);
        }
        rest = rest.get(align(length)..).unwrap_or(&[]);
    }
    Ok(found)
}

/// Text up to its NUL. Interface names are bytes, so what is not UTF-8 shows as U+FFFD.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOOP: u16 = 1;
    const ERROR: u16 = 2;
    const DONE: u16 = 3;

    /// The bytes of a capped `NLMSG_ERROR` with the kernel's words, for request 9.
    fn kernel_error(errno: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(48u32.to_ne_bytes()); // nlmsg_len
        bytes.extend(ERROR.to_ne_bytes()); // nlmsg_type
        bytes.extend((NlmF::CAPPED | NlmF::ACK_TLVS).bits().to_ne_bytes()); // nlmsg_flags
        bytes.extend(9u32.to_ne_bytes()); // nlmsg_seq
        bytes.extend(77u32.to_ne_bytes()); // nlmsg_pid
        bytes.extend((-errno).to_ne_bytes()); // error
        bytes.extend([0; HEADER]); // the request's header
        bytes.extend(9u16.to_ne_bytes()); // nla_len
        bytes.extend(1u16.to_ne_bytes()); // NLMSGERR_ATTR_MSG
        bytes.extend(b"nope\0"); // its words
        bytes.extend([0; 3]); // padding
        assert_eq!(bytes.len(), 48);
        bytes
    }

    fn only(datagram: &[u8]) -> Result<NetlinkMessage<'_>, MalformedMessage> {
        Messages::new(datagram).next().expect("one message")
    }

    #[test]
    fn a_refusal_keeps_its_sequence_number_its_errno_and_its_words() {
        let refused = Body::Refused(KernelError { errno: 17, text: Some("nope".into()) });
        let message =
            NetlinkMessage { sequence: 9, flags: NlmF::CAPPED | NlmF::ACK_TLVS, body: refused };
        assert_eq!(only(&kernel_error(17)), Ok(message));
        assert_eq!(only(&kernel_error(0)).map(|m| m.body), Ok(Body::Done));
    }

    #[test]
    fn a_whole_echo_of_the_request_stands_before_the_kernels_words() {
        let mut bytes = kernel_error(2);
        let echo = [20u32.to_ne_bytes(), [1, 2, 3, 4], [0; 4], [0; 4], [5; 4]].concat();
        bytes.splice(20..36, echo);
        bytes[0] = 52;
        bytes[6..8].copy_from_slice(&NlmF::ACK_TLVS.bits().to_ne_bytes());
        let refused = KernelError { errno: 2, text: Some("nope".into()) };
        assert_eq!(only(&bytes).map(|m| m.body), Ok(Body::Refused(refused)));

        // An echo longer than the message: the errno still counts.
        bytes[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
        let refused = KernelError { errno: 2, text: None };
        assert_eq!(only(&bytes).map(|m| m.body), Ok(Body::Refused(refused)));
    }

    #[test]
    fn a_dump_that_ends_in_an_error_is_a_refusal_and_not_an_end() {
        let mut bytes = kernel_error(16);
        bytes[4..6].copy_from_slice(&DONE.to_ne_bytes());
        bytes.drain(20..36);
        bytes[0] = 32;
        let refused = KernelError { errno: 16, text: Some("nope".into()) };
        assert_eq!(only(&bytes).map(|m| m.body), Ok(Body::Refused(refused)));
    }

    fn message_of(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Writer::begin(&mut bytes, kind, NlmF::empty(), 1, body).end();
        bytes
    }

    #[test]
    fn errors_and_ends_are_told_apart_by_their_errno() {
        let refused = |errno| Body::Refused(KernelError { errno, text: None });
        for (kind, body, expected) in [
            (ERROR, &0i32.to_ne_bytes()[..], Ok(Body::Done)),
            (DONE, &[], Ok(Body::Done)),
            (DONE, &(-4i32).to_ne_bytes(), Ok(refused(4))),
            (ERROR, &i32::MIN.to_ne_bytes(), Ok(refused(i32::MAX))),
            (ERROR, &[], Err(TRUNCATED_ACKNOWLEDGEMENT)),
            (NOOP, &[], Ok(Body::Noop)),
        ] {
            assert_eq!(only(&message_of(kind, body)).map(|m| m.body), expected);
        }
    }

    #[test]
    fn several_messages_of_one_datagram_come_one_by_one() {
        let datagram =
            [kernel_error(0), message_of(20, &[1; 4]), message_of(21, &[2; 8]), kernel_error(0)]
                .concat();
        let bodies: Vec<_> = Messages::new(&datagram).map(|m| m.unwrap().body).collect();
        let (first, second) = (Body::Reply(20, &[1; 4]), Body::Reply(21, &[2; 8]));
        assert_eq!(bodies, [Body::Done, first, second, Body::Done]);
    }

    #[test]
    fn a_length_that_lies_ends_the_datagram_with_an_error() {
        for length in [0u32, 15, 49, u32::MAX] {
            let mut bytes = kernel_error(1);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            let messages: Vec<_> = Messages::new(&bytes).collect();
            assert_eq!(messages, [Err(TRUNCATED_MESSAGE)], "{length}");
        }
    }

    #[test]
    fn an_attribute_shorter_than_its_header_or_longer_than_the_message_is_an_error() {
        let attribute = |length: u16| [length.to_ne_bytes(), 1u16.to_ne_bytes()].concat();
        assert_eq!(table::<2>(&attribute(4)), Ok([None, Some(&[][..])]));
        for length in [0, 3, 5, u16::MAX] {
            let cut = Err(TRUNCATED_ATTRIBUTE);
            assert_eq!(table::<2>(&attribute(length)), cut, "{length}");
        }
        let cut = Err(TRUNCATED_ATTRIBUTE);
        assert_eq!(table::<2>(&attribute(4)[..3]), cut);
    }

    #[test]
    fn the_flags_in_an_attributes_type_are_no_part_of_its_number() {
        let mut buffer = Vec::new();
        let mut writer = Writer::begin(&mut buffer, 0, NlmF::empty(), 0, &[0; 4]);
        writer.nest(1, |inner| inner.u8(1, 7));
        writer.end();
        let [_, nest] = table::<2>(&buffer[20..]).unwrap();
        let [_, byte] = table::<2>(nest.unwrap()).unwrap();
        assert_eq!(byte, Some(&[7][..]));
    }

    #[test]
    fn a_name_beyond_reason_is_cut_and_not_wrapped() {
        let mut buffer = Vec::new();
        let mut writer = Writer::begin(&mut buffer, 0, NlmF::empty(), 0, &[0; 4]);
        writer.text(1, &"x".repeat(70_000));
        writer.end();
        let [_, name] = table::<2>(&buffer[20..]).unwrap();
        assert_eq!(name.map(<[u8]>::len), Some(NAME_LIMIT + 1));
    }
}
