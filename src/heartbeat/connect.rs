//! Do a machine's listeners still take connections, with its cvipd down? TCP connects to many
//! at once, none of which waits.
//!
//! The server is to notice as little as can be: the handshake's last acknowledgement is held back
//! (TCP_QUICKACK off, tcp(7)), and as soon as the listener's kernel has agreed, the connection
//! ends by a reset (SO_LINGER of 0). What is asked is so whether there is a listener with room in
//! its queue; its program is not woken.
//!
//! ```text
//!   state    which attempts wait, which are under way, and which are late   pure
//!   driver   the sockets                                                    kernel
//! ```

mod driver;
mod state;

pub use driver::{ConnectOutcome, ConnectProber};
