//! The client against a scripted kernel, and against the running one where that needs no IPVS.

use std::os::fd::OwnedFd;

use neli::consts::nl::NlmF;

use super::super::fake_kernel::{self, FAMILY, done, error, serve};
use super::*;
use crate::netlink::NetlinkMessage;
use crate::protocol::Protocol;

/// A generic-netlink family that no kernel has: `GENL_MAX_ID` is 1023, numbers are given out
/// from 16 up. The kernel refuses every message to it with `ENOENT`, to anybody.
const NO_FAMILY: u16 = 1022;

fn scripted() -> (Client, OwnedFd) {
    let (socket, kernel) = NetlinkSocket::pair();
    (Client { socket, family: FAMILY, outgoing: Vec::new() }, kernel)
}

fn to_no_family() -> Client {
    let mut socket = NetlinkSocket::open(SockProtocol::NetlinkGeneric, 10, short_dumps())
        .expect("a generic-netlink socket");
    socket.count_from(u32::MAX - 500);
    Client { socket, family: NO_FAMILY, outgoing: Vec::new() }
}

fn id(port: u16) -> ServiceId {
    ServiceId::Address { protocol: Protocol::Tcp, addr: [192, 0, 2, 1].into(), port }
}

fn entry(port: u16, connections: u64) -> ServiceEntry {
    ServiceEntry {
        service: Service::new(id(port), "wlc"),
        stats: Stats { connections, ..Stats::default() },
    }
}

fn deletions(count: u16) -> Vec<Change> {
    (0..count).map(|port| Change::DeleteService(id(port))).collect()
}

#[test]
fn each_failure_of_a_batch_is_attributed_to_its_change() {
    let (mut client, kernel) = scripted();
    let mut change = 0;
    let server = serve(kernel, move |request| {
        if request.body == Body::Noop {
            return vec![error(request.sequence, 0)];
        }
        change += 1;
        if [3, 4, 2500].contains(&change) { vec![error(request.sequence, 17)] } else { vec![] }
    });
    let failures = client.apply(&deletions(2500)).unwrap();
    assert_eq!(failures.iter().map(|f| f.index).collect::<Vec<_>>(), [2, 3, 2499]);
    assert!(failures.iter().all(|f| f.errno == 17 && f.operation == Operation::DeleteService));
    drop(client);
    server.join().unwrap();
}

#[test]
fn only_the_barrier_at_the_end_of_a_send_asks_for_an_acknowledgement() {
    let (mut client, kernel) = scripted();
    let (tell, hear) = std::sync::mpsc::channel();
    let server = serve(kernel, move |request| {
        let acknowledge = request.flags.contains(NlmF::ACK);
        tell.send(acknowledge).unwrap();
        if acknowledge { vec![error(request.sequence, 0)] } else { vec![] }
    });
    let part = client.apply_part(&deletions(5000)).unwrap();
    assert!((100..5000).contains(&part.done), "{}", part.done);
    drop(client);
    server.join().unwrap();
    let asked: Vec<usize> =
        hear.iter().enumerate().filter(|(_, asked)| *asked).map(|(at, _)| at).collect();
    assert_eq!(asked, [part.done]);
}

#[test]
fn an_empty_batch_sends_nothing() {
    let (mut client, kernel) = scripted();
    assert_eq!(client.apply(&[]).unwrap(), []);
    drop(client);
    serve(kernel, |_| panic!("nothing was to be asked")).join().unwrap();
}

#[test]
fn the_running_kernel_refuses_a_thousand_messages_and_each_is_known_by_its_index() {
    let mut client = to_no_family();
    let failures = client.apply(&deletions(1000)).unwrap();
    assert_eq!(failures.len(), 1000);
    for (index, failure) in failures.iter().enumerate() {
        assert_eq!((failure.index, failure.errno), (index, libc::ENOENT));
    }
}

#[test]
fn a_full_receive_buffer_is_told_and_the_client_goes_on() {
    let mut client = to_no_family();
    client.socket.starve();
    assert!(matches!(client.apply(&deletions(400)), Err(IpvsError::RepliesLost)));
    // What was lost stays lost; what comes next is answered, with no old answer in between.
    let failures = client.apply(&deletions(1)).unwrap();
    assert_eq!((failures.len(), failures[0].index), (1, 0));
}

#[test]
fn an_answer_to_something_given_up_is_no_answer() {
    let (mut client, kernel) = scripted();
    let server = serve(kernel, |request| {
        let stale = |ago| error(request.sequence.wrapping_sub(ago), 16);
        let errno = if request.body == Body::Noop { 0 } else { 17 };
        vec![stale(3), stale(2), error(request.sequence, errno)]
    });
    let failures = client.apply(&deletions(1)).unwrap();
    assert_eq!((failures.len(), failures[0].errno), (1, 17));
    assert!(matches!(client.service(&id(80)), Err(IpvsError::Kernel { errno: 17, .. })));
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_dump_of_several_datagrams_is_read_to_its_end() {
    let (mut client, kernel) = scripted();
    let server = serve(kernel, |request| {
        let s = request.sequence;
        let first =
            [fake_kernel::service(s, 0, &entry(1, 0)), fake_kernel::service(s, 0, &entry(2, 0))];
        vec![first.concat(), fake_kernel::service(s, 0, &entry(3, 0)), done(s, 0)]
    });
    assert_eq!(client.services().unwrap(), [entry(1, 0), entry(2, 0), entry(3, 0)]);
    drop(client);
    server.join().unwrap();
}

/// The port in a request: IPVS_SVC_ATTR_PORT is 6 bytes long and number 4.
fn request_port(request: &NetlinkMessage<'_>) -> u16 {
    let Body::Reply(_, attributes) = request.body else { return 0 };
    let place = attributes.windows(4).position(|bytes| bytes == [6, 0, 4, 0]);
    place.map_or(0, |at| u16::from_be_bytes([attributes[at + 4], attributes[at + 5]]))
}

#[test]
fn a_service_that_one_dump_of_a_changing_table_misses_is_found() {
    // The first dump misses 2, the second 3; 9 is deleted meanwhile, and 4 comes.
    const DUMPS: [&[u16]; 3] = [&[1, 3, 9], &[1, 2, 4], &[1, 2, 4]];
    let (mut client, kernel) = scripted();
    let mut dumps = DUMPS.iter();
    let mut asked_for = Vec::new();
    let (tell, hear) = std::sync::mpsc::channel();
    let server = serve(kernel, move |request| {
        let s = request.sequence;
        if request.flags.contains(NlmF::DUMP) {
            let shown = dumps.next().expect("no more dumps than needed");
            let shown = shown.iter().map(|port| fake_kernel::service(s, 0, &entry(*port, 0)));
            return shown.chain([done(s, 0)]).collect();
        }
        asked_for.push(s);
        tell.send(asked_for.len()).unwrap();
        // 3 stands, 9 does not; they are asked for in any order.
        match request_port(request) {
            3 => vec![fake_kernel::service(s, 0, &entry(3, 0))],
            _ => vec![error(s, libc::ESRCH)],
        }
    });
    let shown = client.services().unwrap();
    assert_eq!(shown, [entry(1, 0), entry(2, 0), entry(4, 0), entry(3, 0)]);
    drop(client);
    server.join().unwrap();
    assert_eq!(hear.iter().last(), Some(2));
}

#[test]
fn a_table_that_never_stands_still_is_given_after_a_few_dumps() {
    let (mut client, kernel) = scripted();
    let mut dumps = 0;
    let (tell, hear) = std::sync::mpsc::channel();
    let server = serve(kernel, move |request| {
        let s = request.sequence;
        if !request.flags.contains(NlmF::DUMP) {
            return vec![error(s, libc::ESRCH)];
        }
        dumps += 1;
        tell.send(dumps).unwrap();
        let shown = [entry(1, 0), entry(1000 + dumps, 0)];
        let shown = shown.iter().map(|entry| fake_kernel::service(s, 0, entry));
        shown.chain([done(s, 0)]).collect()
    });
    assert_eq!(client.services().unwrap(), [entry(1, 0), entry(1006, 0)]);
    drop(client);
    server.join().unwrap();
    assert_eq!(hear.iter().last(), Some(6));
}

#[test]
fn a_service_that_a_dump_shows_twice_is_given_once_as_it_was_last() {
    let (mut client, kernel) = scripted();
    let server = serve(kernel, |request| {
        let s = request.sequence;
        let shown = [entry(1, 5), entry(2, 0), entry(1, 6)];
        let shown = shown.map(|entry| fake_kernel::service(s, 0, &entry));
        shown.into_iter().chain([done(s, 0)]).collect()
    });
    assert_eq!(client.services().unwrap(), [entry(1, 6), entry(2, 0)]);
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_dump_that_the_kernel_calls_interrupted_is_begun_anew() {
    let (mut client, kernel) = scripted();
    let server = serve(kernel, |request| {
        let s = request.sequence;
        let flags = if s < 3 { NlmF::DUMP_INTR.bits() } else { 0 };
        vec![fake_kernel::service(s, flags, &entry(s as u16, 0)), done(s, 0)]
    });
    assert_eq!(client.services().unwrap(), [entry(3, 0)]);
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_table_that_never_settles_ends_in_an_error() {
    let (mut client, kernel) = scripted();
    let server = serve(kernel, |request| {
        let end = fake_kernel::end(3, NlmF::DUMP_INTR.bits(), request.sequence, 0);
        vec![fake_kernel::service(request.sequence, 0, &entry(1, 0)), end]
    });
    assert!(matches!(client.services(), Err(IpvsError::Unsettled)));
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_dump_that_ends_in_an_error_is_an_error() {
    let (mut client, kernel) = scripted();
    let server = serve(kernel, |request| {
        let s = request.sequence;
        vec![fake_kernel::service(s, 0, &entry(1, 0)), done(s, 12)]
    });
    let error = client.services().unwrap_err();
    assert!(
        matches!(error, IpvsError::Kernel { operation: Operation::ListServices, errno: 12, .. }),
        "{error}"
    );
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_missing_service_is_none_and_a_missing_privilege_is_advice() {
    let (mut client, kernel) = scripted();
    let server = serve(kernel, |request| {
        let errno = if request.sequence == 1 { libc::ESRCH } else { libc::EPERM };
        vec![error(request.sequence, errno)]
    });
    assert_eq!(client.service(&id(80)).unwrap(), None);
    assert!(matches!(client.service(&id(80)), Err(IpvsError::Permission)));
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_reply_that_makes_no_sense_is_an_error_and_the_next_dump_works() {
    let (mut client, kernel) = scripted();
    let server = serve(kernel, |request| {
        let s = request.sequence;
        let mut shown = fake_kernel::service(s, 0, &entry(1, 0));
        if s == 1 {
            shown.truncate(90);
            return vec![shown];
        }
        vec![shown, done(s, 0)]
    });
    assert!(matches!(client.services(), Err(IpvsError::Malformed(_))));
    assert_eq!(client.services().unwrap(), [entry(1, 0)]);
    drop(client);
    server.join().unwrap();
}
