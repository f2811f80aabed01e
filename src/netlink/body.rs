//! Bodies of messages in neli's types, whose names and numbers are the kernel's: read from bytes
//! that [`frame`](super::frame) has measured, and written for it to frame.
//!
//! Where neli 0.7.5 takes a length that the other side wrote, it checks it in attributes
//! (`Nlattr`, `Rtattr`), in what stands before them (`Ifinfomsg`, `Ifaddrmsg`, `Rtmsg`) and in its `Buffer`: an error, and never a panic, as the fuzz targets see. It does
//! not in `Nlmsghdr`, `NlmsghdrErr` and `Nlmsgerr`, which are not used, nor in `String` and
//! `&str`, which take a byte from an empty attribute that has none: so what an attribute holds
//! leaves here as bytes.

use std::io::Cursor;

use neli::consts::genl::NlAttrType;
use neli::consts::rtnl::RtaType;
use neli::genl::{AttrTypeBuilder, Nlattr, NlattrBuilder};
use neli::rtnl::{Rtattr, RtattrBuilder};
use neli::types::{Buffer, GenlBuffer, RtBuffer};
use neli::{FromBytesWithInput, Size, ToBytes};

use super::frame::{MalformedMessage, NAME_LIMIT, Writer};

/// What a builder that was given everything cannot fail of.
const COMPLETE: &str = "every field is given";

/// Reads the whole of `body`.
pub(crate) fn read<T: FromBytesWithInput<Input = usize>>(
    body: &[u8],
) -> Result<T, MalformedMessage> {
    let read = T::from_bytes_with_input(&mut Cursor::new(body), body.len());
    read.map_err(|_| MalformedMessage("a truncated attribute"))
}

/// The bytes of `message`.
pub(crate) fn to_vec(message: &impl ToBytes) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    message.to_bytes(&mut bytes).expect("a vector takes every byte");
    bytes.into_inner()
}

/// Text with the NUL that the kernel wants at its end.
pub(crate) fn c_string(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes()[..text.len().min(NAME_LIMIT)].to_vec();
    bytes.push(0);
    bytes
}

/// The attributes of generic netlink.
pub(crate) struct Attributes<T>(GenlBuffer<T, Buffer>);

impl<T: NlAttrType> Attributes<T> {
    /// Reads attributes that stand behind a header, or in another attribute.
    pub(crate) fn read(data: &[u8]) -> Result<Attributes<T>, MalformedMessage> {
        read(data).map(Attributes)
    }

    /// What one of them holds; the last counts, as the kernel has it.
    pub(crate) fn get(&self, kind: T) -> Option<&[u8]> {
        let found = self.0.iter().rfind(|attribute| *attribute.nla_type().nla_type() == kind);
        found.map(|attribute| attribute.nla_payload().as_ref())
    }
}

/// An attribute of generic netlink.
pub(crate) fn generic<T: NlAttrType>(kind: T, value: impl Size + ToBytes) -> Nlattr<T, Buffer> {
    let kind = AttrTypeBuilder::default().nla_type(kind).build().expect(COMPLETE);
    NlattrBuilder::default().nla_type(kind).nla_payload(value).build().expect(COMPLETE)
}

impl Writer<'_> {
    /// Adds attributes.
    pub(crate) fn attributes<T: NlAttrType>(
        &mut self,
        attributes: impl IntoIterator<Item = Nlattr<T, Buffer>>,
    ) {
        attributes.into_iter().for_each(|attribute| self.raw(&to_vec(&attribute)));
    }
}

/// An attribute of rtnetlink.
pub(crate) fn routing<T: RtaType>(kind: T, value: impl Size + ToBytes) -> Rtattr<T, Buffer> {
    RtattrBuilder::default().rta_type(kind).rta_payload(value).build().expect(COMPLETE)
}

/// What an attribute of rtnetlink holds; the last counts, as the kernel has it.
pub(crate) fn value<T: RtaType>(attributes: &RtBuffer<T, Buffer>, kind: T) -> Option<&[u8]> {
    let found = attributes.iter().rfind(|attribute| *attribute.rta_type() == kind);
    found.map(|attribute| attribute.rta_payload().as_ref())
}
