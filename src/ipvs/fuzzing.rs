//! Doors for the fuzz targets ([`crate::fuzzing`]): nothing else is to go through them.

use super::codec;
use super::types::{Change, Family};
use super::wire;
use crate::netlink::{Body, Messages};

/// Reads a datagram as every kind of reply; gives the number of things that could be read.
#[must_use]
pub(crate) fn decode(datagram: &[u8]) -> usize {
    let mut read = 0;
    for message in Messages::new(datagram) {
        let Ok(message) = message else { break };
        let Body::Reply(_, reply) = message.body else { continue };
        let Ok(attributes) = wire::attributes(reply) else { continue };
        read += decode_control(attributes);
        for family in [Family::V4, Family::V6] {
            read += usize::from(codec::read_destination(attributes, family).is_ok());
        }
        if let Ok(entry) = codec::read_service(attributes) {
            read += 1;
            // What the kernel says can be said to the kernel, and means the same.
            let again = encode(&Change::AddService(entry.service.clone()));
            for message in Messages::new(&again) {
                let Ok(Body::Reply(_, reply)) = message.map(|message| message.body) else {
                    panic!("what was written cannot be read")
                };
                let attributes = wire::attributes(reply).expect("it has a header");
                let id = codec::read_service(attributes).map(|entry| entry.service.id);
                assert_eq!(id, Ok(entry.service.id));
            }
        }
    }
    read
}

/// Reads attributes as every kind of reply that tells of no service and no destination; gives
/// the number of things that could be read.
#[must_use]
pub(crate) fn decode_control(attributes: &[u8]) -> usize {
    usize::from(codec::read_family(attributes).is_ok())
        + usize::from(codec::read_info(attributes).is_ok())
        + usize::from(codec::read_timeouts(attributes).is_ok())
        + usize::from(codec::read_daemon(attributes).is_ok())
}

/// A change as its message.
///
/// # Panics
/// If it is longer than the client makes room for.
#[must_use]
pub(crate) fn encode(change: &Change) -> Vec<u8> {
    let mut message = Vec::new();
    codec::write_change(&mut message, 0x1b, 1, change);
    assert!(message.len() <= codec::LARGEST_CHANGE, "{} bytes: {change:?}", message.len());
    message
}
