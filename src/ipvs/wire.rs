//! What IPVS's messages have beyond netlink's framing: the header of generic netlink, and fields
//! that must be there and be as long as linux/ip_vs.h says.
//!
//! Formats: linux/genetlink.h. Everything is in the machine's byte order; what is not says so.

use neli::consts::nl::NlmF;

use crate::netlink::{MalformedMessage, Writer};

/// `GENL_HDRLEN`.
const GENL_HEADER: usize = 4;

/// A reply that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends, or claims to end, where it cannot.
    #[error("it has {0}")]
    Truncated(&'static str),
    /// Something without which the rest means nothing is not there.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A field of fixed length has another one.
    #[error("{name} is {length} bytes long")]
    Length {
        /// The field.
        name: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A field has a value that linux/ip_vs.h does not name.
    #[error("{name} has the unknown value {value}")]
    Value {
        /// The field.
        name: &'static str,
        /// Its value.
        value: u32,
    },
}

impl From<MalformedMessage> for Malformed {
    fn from(message: MalformedMessage) -> Malformed {
        Malformed::Truncated(message.0)
    }
}

/// Begins a message to `family` with `command` of interface version 1.
pub(super) fn begin(
    buffer: &mut Vec<u8>,
    family: u16,
    command: u8,
    flags: NlmF,
    sequence: u32,
) -> Writer<'_> {
    Writer::begin(buffer, family, flags, sequence, &[command, 1, 0, 0])
}

/// The attributes of a reply, behind its generic-netlink header.
pub(super) fn attributes(reply: &[u8]) -> Result<&[u8], Malformed> {
    reply.get(GENL_HEADER..).ok_or(Malformed::Truncated("a truncated generic header"))
}

/// A value of exactly `N` bytes.
pub(super) fn fixed<const N: usize>(
    name: &'static str,
    value: Option<&[u8]>,
) -> Result<[u8; N], Malformed> {
    let value = value.ok_or(Malformed::Missing(name))?;
    value.try_into().map_err(|_| Malformed::Length { name, length: value.len() })
}

/// 16 bits.
pub(super) fn u16(name: &'static str, value: Option<&[u8]>) -> Result<u16, Malformed> {
    fixed(name, value).map(u16::from_ne_bytes)
}

/// 16 bits in network order.
pub(super) fn be16(name: &'static str, value: Option<&[u8]>) -> Result<u16, Malformed> {
    fixed(name, value).map(u16::from_be_bytes)
}

/// 32 bits.
pub(super) fn u32(name: &'static str, value: Option<&[u8]>) -> Result<u32, Malformed> {
    fixed(name, value).map(u32::from_ne_bytes)
}
