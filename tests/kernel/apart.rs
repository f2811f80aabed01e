//! Machines that share nothing but etcd: each has files of its own, and what one says of itself
//! the others know from there.

use cvip::protocol::Protocol::{Tcp, Udp};
use cvip_lab::Plan;

use super::support::{Server, Site, ask_udp, fetch};

const SERVICES: &str = "<service><port>8080</port><scheduler>rr</scheduler></service>\
    <service><protocol>udp</protocol><port>53</port></service>";

#[test]
fn nodes_that_share_etcd_alone_join_and_leave_and_serve_on_while_it_is_away() {
    let plan = Plan { ipv6: true, services: SERVICES, ..Plan::default() };
    let mut site = Site::on_etcd(|builder| builder.nodes(2).stores(1).interconnect(true), &plan);
    site.start_everywhere(&[]);
    let ids = [site.v4(Tcp, 8080), site.v6(Tcp, 8080), site.v4(Udp, 53)];
    let both = Some([(1, 1), (2, 1)].as_slice());
    let serve = |site: &Site, number: u32| {
        let host = site.host(number);
        (Server::tcp(host, "[::]:8080", number), Server::udp(host, site.at(53), number))
    };
    let _one = serve(&site, 1);
    let two = serve(&site, 2);
    ids.iter().for_each(|id| site.await_pool(*id, both));
    let client = site.cluster.client();
    let mut served = [site.at(8080), site.at(8080)].map(|addr| fetch(client, addr).unwrap());
    served.sort_unstable();
    assert_eq!(served, ["1", "2"]);

    drop(two);
    ids.iter().for_each(|id| site.await_pool(*id, Some(&[(1, 1)])));
    assert_eq!(ask_udp(client, site.at(53)).unwrap(), "1");

    // An unavailable store changes nothing for those who are served.
    site.etcd().kill(1);
    site.numbers().for_each(|number| site.await_log(number, "etcd cannot be reached"));
    let client = site.cluster.client();
    for addr in [site.at(8080), site.at6(8080)] {
        assert_eq!(fetch(client, addr).unwrap(), "1", "{addr}");
    }
    // What happened meanwhile is told when it is back.
    let _two = serve(&site, 2);
    site.etcd().start_member(1).unwrap();
    ids.iter().for_each(|id| site.await_pool(*id, both));
    site.assert_right();
}
