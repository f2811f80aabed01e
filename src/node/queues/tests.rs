//! Accept queues of played sockets: who hangs, who is only overloaded, and who is not asked.

use super::*;
use crate::protocol::Protocol;

const CVIP: [u8; 4] = [10, 0, 0, 100];

fn listener(addr: &str, cookie: u64, queue: u32) -> Listener {
    Listener {
        protocol: Protocol::Tcp,
        addr: addr.parse().unwrap(),
        port: 80,
        v6only: false,
        device: 0,
        uid: 0,
        cookie,
        queue,
        backlog: 4,
    }
}

fn service(port: u16) -> ServiceKey {
    ServiceKey { cvip: CVIP.into(), protocol: Protocol::Tcp, port }
}

/// Only the sockets of root on 0.0.0.0 serve.
fn servers(sockets: &[Listener]) -> Servers {
    let mut servers = Servers::default();
    for socket in sockets.iter().filter(|socket| socket.addr.is_unspecified() && socket.uid == 0) {
        servers.add(service(80), socket.identity());
    }
    servers
}

/// Connections to the CVIP that wait.
fn waiting(cookies: impl IntoIterator<Item = u64>) -> Vec<Unaccepted> {
    let addr = CVIP.into();
    cookies.into_iter().map(|cookie| Unaccepted { addr, device: 0, cookie }).collect()
}

/// A node that dumps its sockets every 200 ms.
struct Node {
    queues: Queues,
    now: Instant,
    looks: u32,
}

impl Node {
    fn new() -> Node {
        Node { queues: Queues::default(), now: Instant::now(), looks: 0 }
    }

    /// One dump of these sockets, with these connections waiting if it is asked.
    fn dump(&mut self, sockets: &[Listener], waiting: &[Unaccepted]) -> bool {
        let mut sockets = sockets.to_vec();
        sockets.sort_unstable();
        let servers = servers(&sockets);
        // The sockets that matter say as much as all of them.
        let mut by_all = self.queues.clone();
        by_all.dumped(&servers, &sockets);
        if let Some(crowded) = self.queues.crowded(&servers, &sockets) {
            self.queues.dumped(&servers, &crowded);
        }
        assert_eq!(self.queues, by_all);
        for port in self.queues.wanted(self.now) {
            self.looks += 1;
            let waiting = WaitingGroup::of(port, waiting, &servers, &sockets);
            self.queues.looked(port, &waiting, &servers, self.now);
        }
        self.now += Duration::from_millis(200);
        self.queues.hangs(service(80))
    }

    /// So many dumps that show the same.
    fn dumps(&mut self, count: usize, sockets: &[Listener], waiting: &[Unaccepted]) -> bool {
        (0..count).map(|_| self.dump(sockets, waiting)).last().unwrap()
    }
}

#[test]
fn a_queue_that_stays_full_of_the_same_connections_is_a_server_that_hangs() {
    let mut node = Node::new();
    let sockets = [listener("0.0.0.0", 1, 5)];
    assert!(!node.dumps(11, &sockets, &waiting(1..6)), "1.8 s after the first look");
    assert!(node.dump(&sockets, &waiting(1..6)), "2 s");
    assert_eq!(node.looks, 2, "the list is not read oftener than a verdict needs");
}

#[test]
fn connections_that_give_up_in_the_queue_make_no_server_accept() {
    let mut node = Node::new();
    let sockets = [listener("0.0.0.0", 1, 5)];
    assert!(!node.dumps(11, &sockets, &waiting(1..6)));
    assert!(node.dump(&sockets, &waiting(2..4)), "the kernel keeps their places");
}

#[test]
fn a_flood_at_a_server_that_accepts_is_no_hang() {
    let mut node = Node::new();
    let sockets = [listener("0.0.0.0", 1, 5)];
    // It accepts one connection every second, and another takes its place.
    for dump in 0..300u64 {
        let first = dump / 5;
        assert!(!node.dump(&sockets, &waiting(first..first + 5)), "dump {dump}");
    }
}

#[test]
fn a_burst_is_no_hanging_server_and_mostly_costs_no_look() {
    let mut node = Node::new();
    for queue in [5, 4, 5, 0, 5, 3, 5, 1] {
        assert!(!node.dump(&[listener("0.0.0.0", 1, queue)], &waiting(1..6)));
    }
    assert_eq!(node.looks, 0);
    assert_eq!(node.queues.services.len(), 0);
}

#[test]
fn a_server_counts_again_when_its_queue_has_half_emptied_or_when_it_goes_on_accepting() {
    let hung = || {
        let mut node = Node::new();
        assert!(node.dumps(13, &[listener("0.0.0.0", 1, 5)], &waiting(1..6)));
        node
    };
    assert!(hung().dump(&[listener("0.0.0.0", 1, 3)], &[]));
    assert!(!hung().dump(&[listener("0.0.0.0", 1, 2)], &[]));
    assert!(!hung().dump(&[], &[]), "no socket listens there any more");
    let (mut node, full) = (hung(), [listener("0.0.0.0", 1, 5)]);
    assert!(node.dumps(12, &full, &waiting(3..8)), "once may be chance");
    assert!(!node.dumps(11, &full, &waiting(9..14)), "a flood keeps it full");
    let mut node = hung();
    for look in 1..6 {
        assert!(node.dumps(11, &full, &waiting(1..6)), "{look}: it still hangs");
    }
}

#[test]
fn what_a_user_opens_on_the_port_neither_feigns_a_hang_nor_hides_one() {
    let loopback =
        |cookie, queue, backlog| Listener { uid: 1000, backlog, ..listener("::1", cookie, queue) };
    let to_loopback = |cookie| Unaccepted { addr: "::1".parse().unwrap(), device: 0, cookie };
    // 200 sockets with a full queue of 0 beside a healthy server.
    let mut sockets: Vec<Listener> = (2..202).map(|cookie| loopback(cookie, 1, 0)).collect();
    sockets.push(listener("0.0.0.0", 1, 0));
    assert!(!Node::new().dumps(50, &sockets, &[to_loopback(9)]));
    // A large backlog, and a user that accepts, beside a server that hangs.
    let sockets = [listener("0.0.0.0", 1, 5), loopback(2, 0, 4096)];
    let mut node = Node::new();
    let hangs = (0..13u64).map(|dump| {
        let mut waits = waiting(1..6);
        waits.push(to_loopback(100 + dump));
        node.dump(&sockets, &waits)
    });
    assert!(hangs.last().unwrap());
}

#[test]
fn sockets_that_share_a_port_hang_only_if_all_do() {
    let one = [listener("0.0.0.0", 1, 5), listener("0.0.0.0", 2, 0)];
    assert!(!Node::new().dumps(50, &one, &waiting(1..6)));
    let both = [listener("0.0.0.0", 1, 5), listener("0.0.0.0", 2, 5)];
    assert!(Node::new().dumps(50, &both, &waiting(1..11)));
    // One of two full ones accepts.
    let mut node = Node::new();
    for dump in 0..50u64 {
        let waits = waiting((1..6).chain(100 + dump..105 + dump));
        assert!(!node.dump(&both, &waits), "dump {dump}");
    }
}

#[test]
fn a_restarted_server_is_not_taken_for_its_former_director() {
    let mut node = Node::new();
    assert!(node.dumps(13, &[listener("0.0.0.0", 1, 5)], &waiting(1..6)));
    assert!(!node.dump(&[listener("0.0.0.0", 2, 0)], &[]));
    assert_eq!(node.queues, Queues::default());
}

#[test]
fn a_waiting_connection_belongs_to_the_listener_that_the_kernel_prefers() {
    let any4 = listener("0.0.0.0", 1, 0);
    let any6 = listener("::", 2, 0);
    let only6 = Listener { v6only: true, ..any6 };
    let exact = listener("10.0.0.100", 3, 0);
    let on_device = Listener { device: 2, ..any4 };
    let takes = |addr: &str, device, listeners: &[Listener]| {
        let waits = Unaccepted { addr: addr.parse().unwrap(), device, cookie: 9 };
        takers(&waits, &listeners.iter().collect::<Vec<_>>())
    };
    let cvip = "10.0.0.100";
    assert_eq!(takes(cvip, 0, &[any4, any6]), [any4.identity()]);
    assert_eq!(takes(cvip, 0, &[any6]), [any6.identity()], "dual-stack");
    assert_eq!(takes(cvip, 0, &[only6]), []);
    assert_eq!(takes("fd00::1", 0, &[any4, only6]), [only6.identity()]);
    assert_eq!(takes(cvip, 0, &[any4, exact]), [exact.identity()]);
    assert_eq!(takes(cvip, 2, &[any4, on_device]), [on_device.identity()]);
    assert_eq!(takes(cvip, 0, &[any4, on_device]), [any4.identity()]);
    assert_eq!(takes(cvip, 0, &[any4, Listener { cookie: 7, ..any4 }]).len(), 1);
}
