//! Netlink, as three modules speak it with the kernel: generic netlink for the IPVS table,
//! rtnetlink for addresses, sock_diag for sockets.
//!
//! ```text
//!   frame     bytes of messages and attributes, written and read     pure
//!   socket    requests out, datagrams in, nothing lost in silence    kernel
//!   exchange  one request and its answer; a list, read again when it was disturbed
//! ```
//!
//! It exists so that lengths which the other side wrote are checked in one place, and that a
//! lost answer is told by everybody. It knows no family: what a message's type, its fixed header
//! and its attributes mean stands with those who ask, and so do their words for what went wrong.

mod exchange;
mod frame;
mod socket;

pub(crate) use exchange::Dump;
#[cfg(feature = "daemon")]
pub(crate) use frame::ACK;
pub(crate) use frame::{
    Body, DUMP, HEADER, KernelError, MalformedMessage, Messages, REQUEST, Writer, table, text,
    u32_at, write_barrier,
};
#[cfg(test)]
pub(crate) use frame::{DUMP_INTR, NetlinkMessage};
pub(crate) use socket::{LONG_DUMPS, NetlinkSocket, ReceiveError, short_dumps};
