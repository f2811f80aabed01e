//! Netlink, as three modules speak it with the kernel: generic netlink for the IPVS table,
//! rtnetlink for addresses, sock_diag for sockets.
//!
//! ```text
//!   frame     bytes of messages and attributes, written and read     pure
//!   socket    requests out, datagrams in, nothing lost in silence    kernel
//!   body      what stands in a message, in neli's types              pure
//!   route     rtnetlink's messages                                   pure
//!   exchange  one request and its answer; a list, read again when it was disturbed
//! ```
//!
//! It exists so that lengths which the other side wrote are checked in one place, and that a
//! lost answer is told by everybody. What the messages of the other families mean stands with
//! those who ask, and so do their words for what went wrong.

pub(crate) mod body;
mod exchange;
mod frame;
// Without the daemon, only the fuzz targets read it.
#[cfg_attr(not(feature = "daemon"), allow(dead_code, unreachable_pub))]
pub(crate) mod route;
mod socket;

pub(crate) use exchange::Dump;
#[cfg(test)]
pub(crate) use frame::NetlinkMessage;
pub(crate) use frame::{
    Body, HEADER, KernelError, MalformedMessage, Messages, Writer, table, text, u32_at,
    write_barrier,
};
pub(crate) use socket::{LONG_DUMPS, NetlinkSocket, ReceiveError, short_dumps};
