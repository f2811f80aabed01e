//! etcd's servers, and each cvipd's connection to them.
//!
//! Requests and answers are values, which the caller carries ([`Request`], [`Answer`]). As TCP
//! does, it keeps the answers of one connection in order or not: [`StoreClient`] takes them in
//! order, and a lost one breaks the connection.

mod client;
mod host;
mod lease;
mod link;
mod messages;
mod server;
#[cfg(test)]
mod tests;

pub use client::{
    Poll, StoreClient, StoreSettings, StoreWrite, ViewId, WriteId, WriteOutcome, WriteResult,
};
pub use host::{FileFault, HostFiles};
pub use messages::{Answer, Ask, ClientId, Reply, Request, WatchedEvent};
pub use server::{ServerState, Snapshot, StoreCluster};
