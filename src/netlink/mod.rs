//! Netlink, as three rooms speak it with the kernel: generic netlink for the IPVS table,
//! rtnetlink for addresses, sock_diag for sockets.
//!
//! ```text
//!   frame    bytes of messages and attributes, written and read    pure
//!   socket   requests out, answers in, nothing lost in silence     kernel
//! ```
//!
//! It exists so that lengths which the other side wrote are checked in one place, and that a
//! lost answer is told by everybody. It knows no family: what a message's type, its fixed header
//! and its attributes mean stands with those who ask, and so do their words for what went wrong.

mod frame;
mod socket;

#[cfg(feature = "daemon")]
pub(crate) use frame::ACK;
#[cfg(test)]
pub(crate) use frame::Message;
pub(crate) use frame::{
    Body, Cut, DUMP, DUMP_INTR, HEADER, Messages, REQUEST, Refusal, Writer, table, text, u32_at,
    write_barrier,
};
pub(crate) use socket::{LONG_DUMPS, Loss, Socket, short_dumps};
