//! What the kernel would say, for tests: its messages, and a thread that answers with them.
//!
//! Fields and their order are those of `ip_vs_genl_fill_service`, `ip_vs_genl_fill_dest` and
//! `ip_vs_genl_fill_stats64` (net/netfilter/ipvs/ip_vs_ctl.c, 6.1).

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use neli::consts::nl::NlmF;

use super::types::*;
use super::wire;
use crate::netlink::{Messages, NetlinkMessage, Writer};

/// Number of the family that the fake kernel gives out.
pub(super) const FAMILY: u16 = 0x1d;

const NLM_F_MULTI: u16 = 2;

/// A message header and 32-bit errno: `NLMSG_ERROR` (2) or `NLMSG_DONE` (3).
pub(super) fn end(kind: u16, flags: u16, sequence: u32, errno: i32) -> Vec<u8> {
    let mut bytes = 36u32.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((0x100 | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend((-errno).to_ne_bytes());
    bytes.extend([0; 16]);
    bytes
}

/// `NLMSG_ERROR`; errno 0 is an acknowledgement.
pub(super) fn error(sequence: u32, errno: i32) -> Vec<u8> {
    end(2, 0, sequence, errno)
}

/// `NLMSG_DONE`.
pub(super) fn done(sequence: u32, errno: i32) -> Vec<u8> {
    end(3, NLM_F_MULTI, sequence, errno)
}

fn reply(sequence: u32, command: u8, flags: u16, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = wire::begin(
        &mut bytes,
        FAMILY,
        command,
        NlmF::from_bits_retain(NLM_F_MULTI | flags),
        sequence,
    );
    fill(&mut writer);
    writer.end();
    bytes
}

/// The message that shows a service.
pub(super) fn service(sequence: u32, flags: u16, entry: &ServiceEntry) -> Vec<u8> {
    let Service { id, scheduler, flags: settings, timeout, netmask, pe } = &entry.service;
    reply(sequence, 1, flags, |w| {
        w.nest(1, |w| {
            w.u16(1, if id.family() == Family::V4 { 2 } else { 10 });
            match id {
                ServiceId::Mark { mark, .. } => w.u32(5, *mark),
                ServiceId::Address { protocol, addr, port } => {
                    w.u16(2, protocol.number().into());
                    w.bytes(3, &address(*addr));
                    w.be16(4, *port);
                }
            }
            w.text(6, scheduler);
            if let Some(pe) = pe {
                w.text(11, pe);
            }
            let mut flags = (settings | service_flags::HASHED).to_ne_bytes().to_vec();
            flags.extend([0xff; 4]);
            w.bytes(7, &flags);
            w.u32(8, *timeout);
            match id.family() {
                Family::V4 => w.bytes(9, &netmask.to_be_bytes()),
                Family::V6 => w.u32(9, *netmask),
            }
            stats(w, 10, 12, &entry.stats);
        });
    })
}

/// The message that shows a destination.
pub(super) fn destination(sequence: u32, flags: u16, entry: &DestinationEntry) -> Vec<u8> {
    let Destination { id, forward, weight, upper, lower, tunnel } = entry.destination;
    reply(sequence, 5, flags, |w| {
        w.nest(2, |w| {
            w.bytes(1, &address(id.addr));
            w.be16(2, id.port);
            w.u32(3, forward as u32);
            w.u32(4, weight);
            w.u8(13, tunnel.kind as u8);
            w.be16(14, tunnel.port);
            w.u16(15, tunnel.flags);
            w.u32(5, upper);
            w.u32(6, lower);
            w.u32(7, entry.active);
            w.u32(8, entry.inactive);
            w.u32(9, entry.persistent);
            w.u16(11, if id.addr.is_ipv4() { 2 } else { 10 });
            stats(w, 10, 12, &entry.stats);
        });
    })
}

fn address(addr: IpAddr) -> Vec<u8> {
    let mut bytes = match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    bytes.resize(16, 0);
    bytes
}

/// Both nests: 32 bits that wrap, and 64.
fn stats(writer: &mut Writer<'_>, narrow: u16, wide: u16, stats: &Stats) {
    let Stats {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
        cps,
        in_pps,
        out_pps,
        in_bps,
        out_bps,
    } = *stats;
    let counters = [
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
        cps,
        in_pps,
        out_pps,
        in_bps,
        out_bps,
    ];
    writer.nest(narrow, |w| {
        for (number, counter) in (1..).zip(counters) {
            match number {
                4 | 5 => w.bytes(number, &counter.to_ne_bytes()),
                _ => w.u32(number, counter as u32),
            }
        }
    });
    writer.nest(wide, |w| {
        for (number, counter) in (1..).zip(counters) {
            w.bytes(number, &counter.to_ne_bytes());
        }
    });
}

/// Answers every request that arrives at `end` with the datagrams that `answer` gives for it,
/// until the other side closes.
pub(super) fn serve(
    end: OwnedFd,
    mut answer: impl FnMut(&NetlinkMessage<'_>) -> Vec<Vec<u8>> + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        // The pair is of datagrams; read and write take one each.
        let mut end = UnixStream::from(end);
        let mut buffer = vec![0; 1 << 17];
        loop {
            let length = end.read(&mut buffer).expect("a request");
            if length == 0 {
                return;
            }
            for request in Messages::new(&buffer[..length]) {
                for datagram in answer(&request.expect("a well-formed request")) {
                    end.write_all(&datagram).expect("an answer");
                }
            }
        }
    })
}
