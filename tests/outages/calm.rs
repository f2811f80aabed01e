//! What must change nothing: a bad network, a clock that is set, and strangers who forge.

use std::net::UdpSocket;
use std::time::Duration;

use cvip::counter;
use cvip::heartbeat::wire::KEY_LABEL;
use cvip::heartbeat::{ClusterKey, Heartbeat, Leadership, Nonce, PORT};
use cvip_lab::{CLUSTER_KEY, Direction, Fault, Impairment, Network};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use super::support::{FIRST, SECOND, Site};

/// For how long nothing may change.
const CALM: Duration = Duration::from_secs(20);

#[track_caller]
fn nothing_changes(site: &Site, for_so_long: Duration) {
    let terms = |site: &Site| site.status(FIRST)["director_sets"][0]["term"].clone();
    let term = terms(site);
    site.stays_as_it_is(for_so_long);
    assert_eq!(terms(site), term, "nobody was elected");
}

/// How many heartbeats the first director has heard that came to this.
#[track_caller]
fn heartbeats(site: &Site, result: &str) -> u64 {
    let metrics = site.run(FIRST, &["cvipctl", "metrics", "--node", &FIRST.to_string()]).unwrap();
    let name = format!("cvip_heartbeats_total{{result=\"{result}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    value.expect("the metrics have it").parse().unwrap()
}

#[test]
fn a_lossy_and_slow_network_a_set_clock_and_forgeries_change_nothing() {
    let site = Site::start();

    let bad = || Impairment {
        loss_percent: 20.0,
        delay: Duration::from_millis(200),
        jitter: Duration::from_millis(50),
        reorder_percent: 5.0,
    };
    // Heartbeats go one way, requests to the store the other.
    let lines = [Network::Public, Network::Interconnect];
    let faults = Fault::all(site.numbers().flat_map(|number| {
        lines.map(|line| site.host(number).impair(line, Direction::From, bad()).unwrap())
    }));
    nothing_changes(&site, CALM);
    faults.end().unwrap();

    // Every machine of the lab has one clock: all of them see it leap.
    let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap();
    let leap = |seconds| {
        let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap();
        let then = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
        clock_settime(ClockId::CLOCK_REALTIME, then).unwrap();
    };
    for seconds in [3600, -7200, 3600] {
        leap(seconds);
        nothing_changes(&site, Duration::from_secs(3));
    }
    let after = clock_gettime(ClockId::CLOCK_REALTIME).unwrap();
    assert!(after.tv_sec() - now.tv_sec() < 600);

    // A stranger on the segment: bytes that are no heartbeats, forged ones, and an old one that he
    // has kept, which says that another director is the active one.
    let client = site.cluster.client();
    let to = (site.host(FIRST).v4(), PORT);
    let socket = client.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    let key = |secret: &str| ClusterKey::from_bytes(secret.as_bytes()).unwrap().derive(KEY_LABEL);
    let heartbeat = |incarnation| Heartbeat {
        node: SECOND,
        incarnation,
        sequence: 1,
        nonce: Nonce([1; 16]),
        leaving: false,
        cannot_carry: false,
        left: None,
        leaderships: vec![Leadership { set: FIRST, term: counter::LAST, active: true }],
        seen: vec![],
    };
    let forged = heartbeat(counter::LAST)
        .encode(&key("another key, which is as long as it must be"))
        .unwrap();
    let replayed = heartbeat(1).encode(&key(CLUSTER_KEY)).unwrap();
    let (refused, ignored) = (heartbeats(&site, "refused"), heartbeats(&site, "ignored"));
    for _ in 0..50 {
        socket.send_to(&forged, to).unwrap();
        socket.send_to(b"nonsense", to).unwrap();
        socket.send_to(&replayed, to).unwrap();
    }
    site.until("they were refused and ignored", |site| {
        let came = heartbeats(site, "refused") >= refused + 100;
        (came && heartbeats(site, "ignored") >= ignored + 50).then_some(())
    });
    // And an ARP packet which says that the client has the CVIP.
    client.enter(|| cvip::net::announce("eth0", site.cvip(false))).unwrap();
    nothing_changes(&site, Duration::from_secs(3));
}
