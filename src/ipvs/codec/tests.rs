//! The codec against bytes written down by hand from linux/ip_vs.h, and against noise.

use proptest::prelude::*;

use super::super::fake_kernel;
use super::*;
use crate::netlink::{Body, Messages};

fn address(addr: &str, port: u16) -> ServiceId {
    ServiceId::Address { protocol: Protocol::Tcp, addr: addr.parse().unwrap(), port }
}

fn written(change: &Change) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_change(&mut bytes, 0x1d, 7, change);
    bytes
}

/// The attributes of a datagram that holds one reply.
fn attributes(datagram: &[u8]) -> &[u8] {
    let mut messages = Messages::new(datagram);
    match messages.next() {
        Some(Ok(message)) => match message.body {
            Body::Reply(_, reply) => wire::attributes(reply).expect("a generic header"),
            body => panic!("no reply: {body:?}"),
        },
        other => panic!("no message: {other:?}"),
    }
}

/// The bytes are those of a little-endian machine.
#[cfg(target_endian = "little")]
mod by_hand {
    use super::*;

    #[rustfmt::skip]
    const ADD_SERVICE: &[u8] = &[
        0x70, 0x00, 0x00, 0x00,                         // nlmsg_len 112
        0x1d, 0x00,                                     // nlmsg_type: the family
        0x01, 0x00,                                     // nlmsg_flags REQUEST
        0x07, 0x00, 0x00, 0x00,                         // nlmsg_seq
        0x00, 0x00, 0x00, 0x00,                         // nlmsg_pid
        0x01, 0x01, 0x00, 0x00,                         // NEW_SERVICE, version 1, reserved
        0x5c, 0x00, 0x01, 0x80,                         // SERVICE, nested, 92 bytes
        0x06, 0x00, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00, // AF: AF_INET, padding
        0x06, 0x00, 0x02, 0x00, 0x06, 0x00, 0x00, 0x00, // PROTOCOL: TCP, padding
        0x14, 0x00, 0x03, 0x00,                         // ADDR
        0xc0, 0x00, 0x02, 0x01,                         //   192.0.2.1
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, //   the rest of the union
        0x00, 0x00, 0x00, 0x00,
        0x06, 0x00, 0x04, 0x00, 0x13, 0xc4, 0x00, 0x00, // PORT: 5060, network order, padding
        0x08, 0x00, 0x06, 0x00, 0x77, 0x6c, 0x63, 0x00, // SCHED_NAME: "wlc"
        0x08, 0x00, 0x0b, 0x00, 0x73, 0x69, 0x70, 0x00, // PE_NAME: "sip"
        0x0c, 0x00, 0x07, 0x00,                         // FLAGS
        0x05, 0x00, 0x00, 0x00,                         //   PERSISTENT | ONEPACKET
        0xff, 0xff, 0xff, 0xff,                         //   mask: all
        0x08, 0x00, 0x08, 0x00, 0x2c, 0x01, 0x00, 0x00, // TIMEOUT: 300 s
        0x08, 0x00, 0x09, 0x00, 0xff, 0xff, 0xff, 0x00, // NETMASK: 255.255.255.0, network order
    ];

    #[test]
    fn a_service_is_added_with_every_setting() {
        let service = Service {
            flags: service_flags::PERSISTENT | service_flags::ONE_PACKET | service_flags::HASHED,
            timeout: 300,
            netmask: 0xffff_ff00,
            pe: Some("sip".into()),
            ..Service::new(address("192.0.2.1", 5060), "wlc")
        };
        assert_eq!(written(&Change::AddService(service.clone())), ADD_SERVICE);

        let mut edit = ADD_SERVICE.to_vec();
        edit[16] = 2; // SET_SERVICE
        assert_eq!(written(&Change::EditService(service)), edit);
    }

    #[rustfmt::skip]
    const ADD_DESTINATION: &[u8] = &[
        0xa4, 0x00, 0x00, 0x00,                         // nlmsg_len 164
        0x1d, 0x00,                                     // nlmsg_type: the family
        0x01, 0x00,                                     // nlmsg_flags REQUEST
        0x07, 0x00, 0x00, 0x00,                         // nlmsg_seq
        0x00, 0x00, 0x00, 0x00,                         // nlmsg_pid
        0x05, 0x01, 0x00, 0x00,                         // NEW_DEST, version 1, reserved
        0x30, 0x00, 0x01, 0x80,                         // SERVICE, nested, 48 bytes
        0x06, 0x00, 0x01, 0x00, 0x0a, 0x00, 0x00, 0x00, //   AF: AF_INET6, padding
        0x06, 0x00, 0x02, 0x00, 0x06, 0x00, 0x00, 0x00, //   PROTOCOL: TCP, padding
        0x14, 0x00, 0x03, 0x00,                         //   ADDR
        0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, //     2001:db8::1
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01,
        0x06, 0x00, 0x04, 0x00, 0x00, 0x50, 0x00, 0x00, //   PORT: 80, network order, padding
        0x60, 0x00, 0x02, 0x80,                         // DEST, nested, 96 bytes
        0x14, 0x00, 0x01, 0x00,                         //   ADDR
        0xc0, 0x00, 0x02, 0x0b,                         //     192.0.2.11
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, //     the rest of the union
        0x00, 0x00, 0x00, 0x00,
        0x06, 0x00, 0x02, 0x00, 0x1f, 0x90, 0x00, 0x00, //   PORT: 8080, network order, padding
        0x06, 0x00, 0x0b, 0x00, 0x02, 0x00, 0x00, 0x00, //   ADDR_FAMILY: AF_INET, padding
        0x08, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x00, //   FWD_METHOD: TUNNEL
        0x08, 0x00, 0x04, 0x00, 0x05, 0x00, 0x00, 0x00, //   WEIGHT: 5
        0x08, 0x00, 0x05, 0x00, 0xe8, 0x03, 0x00, 0x00, //   U_THRESH: 1000
        0x08, 0x00, 0x06, 0x00, 0x20, 0x03, 0x00, 0x00, //   L_THRESH: 800
        0x05, 0x00, 0x0d, 0x00, 0x01, 0x00, 0x00, 0x00, //   TUN_TYPE: GUE, padding
        0x06, 0x00, 0x0e, 0x00, 0x15, 0xb3, 0x00, 0x00, //   TUN_PORT: 5555, network order, padding
        0x06, 0x00, 0x0f, 0x00, 0x02, 0x00, 0x00, 0x00, //   TUN_FLAGS: REMCSUM, padding
    ];

    fn tunnelled() -> Destination {
        Destination {
            upper: 1000,
            lower: 800,
            tunnel: Tunnel { kind: TunnelKind::Gue, port: 5555, flags: 2 },
            ..Destination::new("192.0.2.11".parse().unwrap(), 8080, Forwarding::Tunnel, 5)
        }
    }

    #[test]
    fn a_destination_of_the_other_family_is_added_with_every_setting() {
        let id = address("2001:db8::1", 80);
        assert_eq!(written(&Change::AddDestination(id, tunnelled())), ADD_DESTINATION);

        let mut edit = ADD_DESTINATION.to_vec();
        edit[16] = 6; // SET_DEST
        assert_eq!(written(&Change::EditDestination(id, tunnelled())), edit);

        let mut delete = ADD_DESTINATION[..108].to_vec();
        delete[0] = 108; // nlmsg_len
        delete[16] = 7; // DEL_DEST
        delete[68] = 40; // DEST: only what it is found by
        assert_eq!(written(&Change::DeleteDestination(id, tunnelled().id)), delete);
    }

    #[rustfmt::skip]
    const DELETE_MARK: &[u8] = &[
        0x28, 0x00, 0x00, 0x00,                         // nlmsg_len 40
        0x1d, 0x00, 0x01, 0x00,                         // nlmsg_type, nlmsg_flags REQUEST
        0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // nlmsg_seq, nlmsg_pid
        0x03, 0x01, 0x00, 0x00,                         // DEL_SERVICE, version 1, reserved
        0x14, 0x00, 0x01, 0x80,                         // SERVICE, nested, 20 bytes
        0x06, 0x00, 0x01, 0x00, 0x0a, 0x00, 0x00, 0x00, //   AF: AF_INET6, padding
        0x08, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x80, //   FWMARK: 2^31
    ];

    #[test]
    fn a_marks_service_is_named_by_family_and_mark_alone() {
        let id = ServiceId::Mark { mark: 1 << 31, family: Family::V6 };
        assert_eq!(written(&Change::DeleteService(id)), DELETE_MARK);
        let mut zero = DELETE_MARK.to_vec();
        zero[16] = 16; // ZERO
        assert_eq!(written(&Change::Zero(Some(id))), zero);
    }

    #[rustfmt::skip]
    const SET_TIMEOUTS: &[u8] = &[
        0x2c, 0x00, 0x00, 0x00,                         // nlmsg_len 44
        0x1d, 0x00, 0x01, 0x00,                         // nlmsg_type, nlmsg_flags REQUEST
        0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // nlmsg_seq, nlmsg_pid
        0x0c, 0x01, 0x00, 0x00,                         // SET_CONFIG, version 1, reserved
        0x08, 0x00, 0x04, 0x00, 0x84, 0x03, 0x00, 0x00, // TIMEOUT_TCP: 900 s
        0x08, 0x00, 0x05, 0x00, 0x78, 0x00, 0x00, 0x00, // TIMEOUT_TCP_FIN: 120 s
        0x08, 0x00, 0x06, 0x00, 0x2c, 0x01, 0x00, 0x00, // TIMEOUT_UDP: 300 s
    ];

    #[test]
    fn timeouts_read_and_write_alike() {
        let timeouts = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 };
        assert_eq!(written(&Change::SetTimeouts(timeouts)), SET_TIMEOUTS);
        assert_eq!(read_timeouts(attributes(SET_TIMEOUTS)), Ok(timeouts));
    }

    #[rustfmt::skip]
    const START_DAEMON: &[u8] = &[
        0x54, 0x00, 0x00, 0x00,                         // nlmsg_len 84
        0x1d, 0x00, 0x01, 0x00,                         // nlmsg_type, nlmsg_flags REQUEST
        0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // nlmsg_seq, nlmsg_pid
        0x09, 0x01, 0x00, 0x00,                         // NEW_DAEMON, version 1, reserved
        0x40, 0x00, 0x03, 0x80,                         // DAEMON, nested, 64 bytes
        0x08, 0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0x00, //   STATE: master
        0x09, 0x00, 0x02, 0x00, 0x65, 0x74, 0x68, 0x30, //   MCAST_IFN: "eth0"
        0x00, 0x00, 0x00, 0x00,                         //   its NUL, padding
        0x08, 0x00, 0x03, 0x00, 0x05, 0x00, 0x00, 0x00, //   SYNC_ID: 5
        0x06, 0x00, 0x04, 0x00, 0x14, 0x05, 0x00, 0x00, //   SYNC_MAXLEN: 1300, padding
        0x08, 0x00, 0x05, 0x00, 0xe0, 0x00, 0x00, 0x63, //   MCAST_GROUP: 224.0.0.99
        0x06, 0x00, 0x07, 0x00, 0x92, 0x22, 0x00, 0x00, //   MCAST_PORT: 8850, host order, padding
        0x05, 0x00, 0x08, 0x00, 0x04, 0x00, 0x00, 0x00, //   MCAST_TTL: 4, padding
    ];

    #[test]
    fn a_sync_daemon_reads_and_writes_alike() {
        let daemon = SyncDaemon {
            role: DaemonRole::Master,
            interface: "eth0".into(),
            sync_id: 5,
            max_len: Some(1300),
            group: Some([224, 0, 0, 99].into()),
            port: Some(8850),
            ttl: Some(4),
        };
        assert_eq!(written(&Change::StartDaemon(daemon.clone())), START_DAEMON);
        assert_eq!(read_daemon(attributes(START_DAEMON)), Ok(daemon));
    }

    #[rustfmt::skip]
    const SHOW_SERVICE: &[u8] = &[
        0x24, 0x01, 0x00, 0x00,                         // nlmsg_len 292
        0x1d, 0x00, 0x02, 0x00,                         // nlmsg_type, nlmsg_flags MULTI
        0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // nlmsg_seq, nlmsg_pid
        0x01, 0x01, 0x00, 0x00,                         // NEW_SERVICE, version 1, reserved
        0x10, 0x01, 0x01, 0x80,                         // SERVICE, 272 bytes
        0x06, 0x00, 0x01, 0x00, 0x0a, 0x00, 0x00, 0x00, //   AF: AF_INET6, padding
        0x08, 0x00, 0x05, 0x00, 0x07, 0x00, 0x00, 0x00, //   FWMARK: 7
        0x07, 0x00, 0x06, 0x00, 0x73, 0x68, 0x00, 0x00, //   SCHED_NAME: "sh", padding
        0x0c, 0x00, 0x07, 0x00,                         //   FLAGS
        0x0b, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, //     PERSISTENT | HASHED | SCHED1, mask
        0x08, 0x00, 0x08, 0x00, 0x3c, 0x00, 0x00, 0x00, //   TIMEOUT: 60 s
        0x08, 0x00, 0x09, 0x00, 0x40, 0x00, 0x00, 0x00, //   NETMASK: /64, host order
        0x5c, 0x00, 0x0a, 0x80,                         //   STATS, 92 bytes
        0x08, 0x00, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00, //     CONNS: wrapped at 2^32
        0x08, 0x00, 0x02, 0x00, 0x03, 0x00, 0x00, 0x00, //     INPKTS
        0x08, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x00, //     OUTPKTS
        0x0c, 0x00, 0x04, 0x00,                         //     INBYTES
        0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x05, 0x00,                         //     OUTBYTES
        0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x08, 0x00, 0x06, 0x00, 0x07, 0x00, 0x00, 0x00, //     CPS
        0x08, 0x00, 0x07, 0x00, 0x08, 0x00, 0x00, 0x00, //     INPPS
        0x08, 0x00, 0x08, 0x00, 0x09, 0x00, 0x00, 0x00, //     OUTPPS
        0x08, 0x00, 0x09, 0x00, 0x0a, 0x00, 0x00, 0x00, //     INBPS
        0x08, 0x00, 0x0a, 0x00, 0x0b, 0x00, 0x00, 0x00, //     OUTBPS
        0x7c, 0x00, 0x0c, 0x80,                         //   STATS64, 124 bytes
        0x0c, 0x00, 0x01, 0x00,                         //     CONNS: 2^32 + 2
        0x02, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x02, 0x00,                         //     INPKTS
        0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x03, 0x00,                         //     OUTPKTS
        0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x04, 0x00,                         //     INBYTES
        0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x05, 0x00,                         //     OUTBYTES
        0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x06, 0x00,                         //     CPS
        0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x07, 0x00,                         //     INPPS
        0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x08, 0x00,                         //     OUTPPS
        0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x09, 0x00,                         //     INBPS
        0x0a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x0c, 0x00, 0x0a, 0x00,                         //     OUTBPS
        0x0b, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];

    #[test]
    fn a_service_is_shown_with_its_64_bit_counters_and_without_the_kernels_own_flag() {
        let entry = ServiceEntry {
            service: Service {
                flags: service_flags::PERSISTENT | service_flags::SCHED1,
                timeout: 60,
                netmask: 64,
                ..Service::new(ServiceId::Mark { mark: 7, family: Family::V6 }, "sh")
            },
            stats: Stats {
                connections: (1 << 32) + 2,
                in_packets: 3,
                out_packets: 4,
                in_bytes: 5,
                out_bytes: 6,
                cps: 7,
                in_pps: 8,
                out_pps: 9,
                in_bps: 10,
                out_bps: 11,
            },
        };
        assert_eq!(fake_kernel::service(7, 0, &entry), SHOW_SERVICE);
        assert_eq!(read_service(attributes(SHOW_SERVICE)), Ok(entry));
    }

    #[test]
    fn a_kernel_without_64_bit_counters_is_read_by_the_others() {
        // Before 4.1: the same message without its last attribute.
        let old = &attributes(SHOW_SERVICE)[..272 - 124];
        let mut old = old.to_vec();
        old[..2].copy_from_slice(&148u16.to_ne_bytes());
        let entry = read_service(&old).unwrap();
        assert_eq!((entry.stats.connections, entry.stats.out_bps), (2, 11));
    }

    #[rustfmt::skip]
    const SHOW_FAMILY: &[u8] = &[
        0x09, 0x00, 0x02, 0x00, 0x49, 0x50, 0x56, 0x53, // CTRL_ATTR_FAMILY_NAME: "IPVS"
        0x00, 0x00, 0x00, 0x00,                         // its NUL, padding
        0x06, 0x00, 0x01, 0x00, 0x1d, 0x00, 0x00, 0x00, // CTRL_ATTR_FAMILY_ID: 29, padding
        0x08, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x00, // CTRL_ATTR_VERSION: 1
    ];

    #[rustfmt::skip]
    const SHOW_INFO: &[u8] = &[
        0x08, 0x00, 0x01, 0x00, 0x01, 0x02, 0x01, 0x00, // VERSION: 1.2.1
        0x08, 0x00, 0x02, 0x00, 0x00, 0x10, 0x00, 0x00, // CONN_TAB_SIZE: 4096
        0x08, 0x00, 0x09, 0x00, 0xff, 0xff, 0xff, 0xff, // an attribute of a kernel to come
    ];

    #[test]
    fn family_and_version_are_read_and_what_is_unknown_is_not() {
        assert_eq!(read_family(SHOW_FAMILY), Ok(29));
        let info = Info { version: (1, 2, 1), connection_table_size: 4096 };
        assert_eq!(read_info(SHOW_INFO), Ok(info));
    }
}

#[test]
fn a_timeout_without_the_persistence_flag_is_neither_written_nor_read() {
    let mut entry = ServiceEntry {
        service: Service { timeout: 300, ..Service::new(address("192.0.2.1", 80), "rr") },
        stats: Stats::default(),
    };
    let datagram = fake_kernel::service(1, 0, &entry);
    assert_eq!(read_service(attributes(&datagram)).unwrap().service.timeout, 0);

    let with = written(&Change::AddService(entry.service.clone()));
    entry.service.timeout = 0;
    assert_eq!(written(&Change::AddService(entry.service)), with);
}

#[test]
fn a_kernel_that_knows_one_tunnel_and_one_family_is_read() {
    let shown = DestinationEntry {
        destination: Destination::new("192.0.2.9".parse().unwrap(), 80, Forwarding::Tunnel, 1),
        active: 1,
        inactive: 2,
        persistent: 3,
        stats: Stats::default(),
    };
    let mut bytes = fake_kernel::destination(1, 0, &shown);
    // Numbers from 11 on are of later kernels: renumber them to something unknown.
    let mut at = 24;
    while at < bytes.len() {
        let length = u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let kind = u16::from_ne_bytes([bytes[at + 2], bytes[at + 3]]) & 0xff;
        if kind >= 11 {
            bytes[at + 2..at + 4].copy_from_slice(&(kind + 1000).to_ne_bytes());
        }
        at += usize::from(length).next_multiple_of(4);
    }
    assert_eq!(read_destination(attributes(&bytes), Family::V4), Ok(shown));
}

#[test]
fn what_is_missing_or_of_a_wrong_length_is_named() {
    assert_eq!(read_service(&[]), Err(Malformed::Missing("virtual service")));
    assert_eq!(read_destination(&[], Family::V4), Err(Malformed::Missing("destination")));
    assert_eq!(read_daemon(&[]), Err(Malformed::Missing("sync daemon")));
    assert_eq!(read_info(&[]), Err(Malformed::Missing("the IPVS version")));
    assert_eq!(read_family(&[]), Err(Malformed::Missing("the family's number")));

    let mut bytes = Vec::new();
    let mut writer = wire::begin(&mut bytes, 0, 0, NlmF::empty(), 0);
    writer.u16(1, 5);
    writer.end();
    let wrong = Malformed::Length { name: "the IPVS version", length: 2 };
    assert_eq!(read_info(attributes_of_any(&bytes)), Err(wrong));
}

fn attributes_of_any(message: &[u8]) -> &[u8] {
    &message[20..]
}

// --------------------------------------------------------------------------------- properties

fn an_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|octets| Ipv6Addr::from(octets).into()),
    ]
}

fn a_service_id() -> impl Strategy<Value = ServiceId> {
    let protocol = prop::sample::select(Protocol::ALL.to_vec());
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    prop_oneof![
        (protocol, an_address(), any::<u16>())
            .prop_map(|(protocol, addr, port)| ServiceId::Address { protocol, addr, port }),
        (any::<u32>(), family).prop_map(|(mark, family)| ServiceId::Mark { mark, family }),
    ]
}

fn a_service() -> impl Strategy<Value = Service> {
    let name = "[a-z]{1,15}";
    (a_service_id(), name, any::<u32>(), any::<u32>(), any::<u32>(), prop::option::of(name))
        .prop_map(|(id, scheduler, flags, timeout, netmask, pe)| {
            let flags = flags & !service_flags::HASHED;
            let timeout = persistence(flags, timeout);
            Service { id, scheduler, flags, timeout, netmask, pe }
        })
}

fn a_destination() -> impl Strategy<Value = Destination> {
    use Forwarding::*;
    let forward = prop::sample::select(vec![Masquerade, LocalNode, Tunnel, Route, Bypass]);
    let kind = prop::sample::select(vec![TunnelKind::Ipip, TunnelKind::Gue, TunnelKind::Gre]);
    let tunnel = (kind, any::<u16>(), any::<u16>()).prop_map(|(kind, port, flags)| super::Tunnel {
        kind,
        port,
        flags,
    });
    (an_address(), any::<u16>(), forward, any::<[u32; 3]>(), tunnel).prop_map(
        |(addr, port, forward, [weight, upper, lower], tunnel)| Destination {
            id: DestinationId { addr, port },
            forward,
            weight,
            upper,
            lower,
            tunnel,
        },
    )
}

fn some_stats() -> impl Strategy<Value = Stats> {
    any::<[u64; 10]>().prop_map(|[a, b, c, d, e, f, g, h, i, j]| Stats {
        connections: a,
        in_packets: b,
        out_packets: c,
        in_bytes: d,
        out_bytes: e,
        cps: f,
        in_pps: g,
        out_pps: h,
        in_bps: i,
        out_bps: j,
    })
}

fn a_daemon() -> impl Strategy<Value = SyncDaemon> {
    let role = prop_oneof![Just(DaemonRole::Master), Just(DaemonRole::Backup)];
    let optional = (
        prop::option::of(any::<u16>()),
        prop::option::of(an_address()),
        prop::option::of(any::<u16>()),
        prop::option::of(any::<u8>()),
    );
    (role, "[a-z0-9]{0,15}", any::<u32>(), optional).prop_map(
        |(role, interface, sync_id, (max_len, group, port, ttl))| SyncDaemon {
            role,
            interface,
            sync_id,
            max_len,
            group,
            port,
            ttl,
        },
    )
}

fn a_change() -> impl Strategy<Value = Change> {
    let id_and_destination = || (a_service_id(), a_destination());
    prop_oneof![
        a_service().prop_map(Change::AddService),
        a_service().prop_map(Change::EditService),
        a_service_id().prop_map(Change::DeleteService),
        id_and_destination().prop_map(|(id, d)| Change::AddDestination(id, d)),
        id_and_destination().prop_map(|(id, d)| Change::EditDestination(id, d)),
        id_and_destination().prop_map(|(id, d)| Change::DeleteDestination(id, d.id)),
        prop::option::of(a_service_id()).prop_map(Change::Zero),
        Just(Change::Flush),
        any::<[u32; 3]>().prop_map(|[tcp, tcp_fin, udp]| Change::SetTimeouts(Timeouts {
            tcp,
            tcp_fin,
            udp
        })),
        a_daemon().prop_map(Change::StartDaemon),
        any::<u32>().prop_map(|id| Change::StopDaemon(DaemonRole::Master, id)),
    ]
}

/// A datagram of both kinds of table entries.
fn a_reply() -> impl Strategy<Value = Vec<u8>> {
    let service = (a_service(), some_stats())
        .prop_map(|(service, stats)| fake_kernel::service(1, 0, &ServiceEntry { service, stats }));
    let destination = (a_destination(), any::<[u32; 3]>(), some_stats()).prop_map(
        |(destination, [active, inactive, persistent], stats)| {
            let entry = DestinationEntry { destination, active, inactive, persistent, stats };
            fake_kernel::destination(1, 0, &entry)
        },
    );
    let daemon = a_daemon().prop_map(|daemon| written(&Change::StartDaemon(daemon)));
    (service, destination, daemon).prop_map(|(s, d, daemon)| [s, d, daemon].concat())
}

/// Reads a datagram as everything that it could be, whether or not it is.
fn read_as_anything(datagram: &[u8]) {
    for message in Messages::new(datagram) {
        let Ok(Body::Reply(_, reply)) = message.map(|message| message.body) else {
            continue;
        };
        let Ok(attributes) = wire::attributes(reply) else { continue };
        let _ = read_service(attributes);
        let _ = read_destination(attributes, Family::V4);
        let _ = read_destination(attributes, Family::V6);
        let _ = read_daemon(attributes);
        let _ = read_info(attributes);
        let _ = read_timeouts(attributes);
        let _ = read_family(attributes);
    }
}

proptest! {
    #[test]
    fn what_the_kernel_shows_of_a_service_is_what_it_was_given(
        service in a_service(),
        stats in some_stats(),
    ) {
        let entry = ServiceEntry { service, stats };
        let datagram = fake_kernel::service(1, 0, &entry);
        prop_assert_eq!(read_service(attributes(&datagram)), Ok(entry.clone()));

        // The request says the same; only the counters are the kernel's.
        let request = written(&Change::AddService(entry.service.clone()));
        let [_, settings] = table::<2>(attributes(&request)).unwrap();
        let [_, shown] = table::<2>(attributes(&datagram)).unwrap();
        let settings = table::<13>(settings.unwrap()).unwrap();
        let shown = table::<13>(shown.unwrap()).unwrap();
        for number in (1..12).filter(|number| ![7, 10].contains(number)) {
            prop_assert_eq!(settings[number], shown[number], "attribute {}", number);
        }
    }

    #[test]
    fn what_the_kernel_shows_of_a_destination_is_what_it_was_given(
        destination in a_destination(),
        [active, inactive, persistent] in any::<[u32; 3]>(),
        stats in some_stats(),
    ) {
        let entry = DestinationEntry { destination, active, inactive, persistent, stats };
        let datagram = fake_kernel::destination(1, 0, &entry);
        prop_assert_eq!(read_destination(attributes(&datagram), Family::V4), Ok(entry));

        let id = address("192.0.2.1", 80);
        let request = written(&Change::AddDestination(id, destination));
        let [_, _, settings] = table::<3>(attributes(&request)).unwrap();
        let [_, _, shown] = table::<3>(attributes(&datagram)).unwrap();
        let settings = table::<16>(settings.unwrap()).unwrap();
        let shown = table::<16>(shown.unwrap()).unwrap();
        for number in [1, 2, 3, 4, 5, 6, 11, 13, 14, 15] {
            prop_assert_eq!(settings[number], shown[number], "attribute {}", number);
        }
    }

    #[test]
    fn a_daemon_reads_as_it_was_written(daemon in a_daemon()) {
        let request = written(&Change::StartDaemon(daemon.clone()));
        prop_assert_eq!(read_daemon(attributes(&request)), Ok(daemon));
    }

    #[test]
    fn every_change_is_one_whole_message_below_the_bound(change in a_change()) {
        let bytes = written(&change);
        prop_assert!(bytes.len() <= LARGEST_CHANGE && bytes.len().is_multiple_of(4));
        prop_assert_eq!(u32::from_ne_bytes(*bytes.first_chunk().unwrap()) as usize, bytes.len());
        prop_assert!(table::<16>(attributes(&bytes)).is_ok());
    }

    #[test]
    fn a_reply_cut_anywhere_is_an_error_and_no_panic(
        reply in a_reply(),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(reply.len());
        read_as_anything(&reply[..cut]);
        // The attributes alone, cut where the header does not tell.
        read_as_anything(&with_length_of_what_is_left(&reply[..cut]));
        let whole = Messages::new(&reply).count();
        let left = Messages::new(&reply[..cut]).filter(Result::is_ok).count();
        prop_assert!(left < whole);
    }

    #[test]
    fn a_reply_with_flipped_bits_is_read_without_panic(
        mut reply in a_reply(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..8),
    ) {
        for (at, bit) in flips {
            let at = at.index(reply.len());
            reply[at] ^= 1 << bit;
        }
        read_as_anything(&reply);
    }

    #[test]
    fn noise_is_read_without_panic(noise in prop::collection::vec(any::<u8>(), 0..256)) {
        read_as_anything(&noise);
        read_as_anything(&with_length_of_what_is_left(&noise));
    }
}

/// Makes the first header believe that the message is as long as the bytes that are there.
fn with_length_of_what_is_left(bytes: &[u8]) -> Vec<u8> {
    let left = bytes.len() as u32;
    let mut bytes = bytes.to_vec();
    if let Some(length) = bytes.first_chunk_mut() {
        *length = left.to_ne_bytes();
    }
    bytes
}

#[test]
fn names_beyond_reason_keep_a_message_below_the_bound() {
    let long = "x".repeat(100_000);
    let mut service = Service::new(address("192.0.2.1", 80), &long);
    service.pe = Some(long);
    assert!(written(&Change::AddService(service)).len() <= LARGEST_CHANGE);
}
