//! Clients with something to lose: many short requests at a rate, a long download, numbered datagrams. They live in this
//! process, with sockets that are a member's, and say of every single request what became of it and when. Beside them
//! stands a server that they can ask.

mod datagrams;
mod download;
mod established;
mod report;
mod requests;
mod server;

pub use datagrams::{Datagrams, answer_datagram};
pub use download::{Download, write_pattern};
pub use established::established;
pub use report::{Outcome, Report, Request};
pub use requests::{Requests, Running};
pub use server::WebServer;
