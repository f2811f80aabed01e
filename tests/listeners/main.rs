//! Who listens, asked of a real kernel: each trap between an event and the truth has a test.
//!
//! Needs root on any Linux. Every test has a network namespace of its own. Where the kernel or
//! the place forbids BPF, the tests of the socket events fail and say why; those of the dump and of
//! polling do not need it.

mod dump;
mod socket_events;
mod support;
mod watch;
