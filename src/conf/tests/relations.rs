//! Faults between elements: addresses that collide, nodes, director sets, services that meet.

use snapbox::{assert_data_eq, str};

use super::*;

#[test]
fn with_dr_and_tun_the_gateway_may_be_any_machine_a_node_too() {
    for routing in ["DR", "TUN", "tun"] {
        loaded(&cvip(routing, "<gateway>192.168.200.1</gateway>"));
    }
}

#[test]
fn unknown_nodes_and_nodes_twice_in_one_list_are_refused() {
    assert_data_eq!(
        refused(&cvip(
            "DR",
            "<director_node>\n<node_num>9</node_num><garp_interface>eth0</garp_interface>\
             <sync_interface>eth1</sync_interface></director_node>\n\
             <director_node>\n<node_num>1</node_num><garp_interface>eth0</garp_interface>\
             <sync_interface>eth1</sync_interface></director_node>\n\
             <real_server_node><node_num>3</node_num></real_server_node>\n\
             <real_server_node><node_num>3</node_num></real_server_node>\n\
             <real_server_node><node_num>0</node_num></real_server_node>\n\
             <real_server_node><node_num>one</node_num></real_server_node>"
        )),
        str![[r#"
cvip.conf:6:11: error: node 9 is not in clustertab
<node_num>9</node_num><garp_interface>eth0</garp_interface><sync_interface>eth1</sync_interface></director_node>
          ^
help: add a line for it to clustertab, or fix the number
cvip.conf:10:29: error: node 3 is a real server of this CVIP twice
<real_server_node><node_num>3</node_num></real_server_node>
                            ^
help: the first is on line 9; keep one of them
cvip.conf:11:29: error: there is no node 0
<real_server_node><node_num>0</node_num></real_server_node>
                            ^
help: node numbers start at 1
cvip.conf:12:29: error: `one` is not a node number
<real_server_node><node_num>one</node_num></real_server_node>
                            ^~~
help: nodes are numbered in clustertab, from 1
cvip.conf:13:26: error: node 1 is a director of this CVIP twice
<director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
                         ^
help: the first is on line 8; keep one of them

"#]]
    );
}

#[test]
fn a_cvip_is_nobodys_own_address() {
    let own = cvip("DR", "").replace("200.10<", "200.3<");
    assert_data_eq!(
        refused(&own),
        str![[r#"
cvip.conf:4:10: error: 192.168.200.3 is node 3's own address
<ip_addr>192.168.200.3</ip_addr>
         ^~~~~~~~~~~~~
help: a CVIP is an address that no node has

"#]]
    );
    assert_data_eq!(
        refused(&cvip(
            "DR",
            "<gateway>192.168.200.10</gateway>\n<real_server_node><node_num>3</node_num>\n\
             <ip_addr>192.168.200.10</ip_addr></real_server_node>"
        )),
        str![[r#"
cvip.conf:4:10: error: 192.168.200.10 is node 3's own address
<ip_addr>192.168.200.10</ip_addr>
         ^~~~~~~~~~~~~~
help: a CVIP is an address that no node has
cvip.conf:5:10: error: gateway 192.168.200.10 is a CVIP
<gateway>192.168.200.10</gateway>
         ^~~~~~~~~~~~~~
help: the gateway is an address of its own on the nodes' inner network

"#]]
    );
    let twice = cvip("DR", "").replace("</cvips>", "<cvip>\n<ip_addr>192.168.200.10</ip_addr>\n<director_node><node_num>2</node_num><garp_interface>eth0</garp_interface></director_node></cvip></cvips>");
    assert_data_eq!(
        refused(&twice),
        str![[r#"
cvip.conf:9:10: error: CVIP 192.168.200.10 stands here a second time
<ip_addr>192.168.200.10</ip_addr>
         ^~~~~~~~~~~~~~
help: the first is on line 4; put everything of it there

"#]]
    );
}

#[test]
fn a_real_server_has_no_other_nodes_address() {
    assert_data_eq!(
        refused(&cvip(
            "DR",
            "<real_server_node><node_num>2</node_num>\n<ip_addr>192.168.200.3</ip_addr>\n\
             </real_server_node>"
        )),
        str![[r#"
cvip.conf:6:10: error: 192.168.200.3 is already the address of node 3
<ip_addr>192.168.200.3</ip_addr>
         ^~~~~~~~~~~~~
help: every node has an address of its own

"#]]
    );
}

#[test]
fn families_do_not_mix_but_in_a_tunnel() {
    let children = "<gateway>fd00::1</gateway>\n<real_server_node><node_num>2</node_num>\n\
                    <ip_addr>fd00::2</ip_addr></real_server_node>";
    assert_data_eq!(
        refused(&cvip("DR", children)),
        str![[r#"
cvip.conf:5:10: error: the gateway is IPv6, its CVIP 192.168.200.10 is IPv4
<gateway>fd00::1</gateway>
         ^~~~~~~
help: give an IPv4 address, or leave `gateway` out
cvip.conf:7:10: error: this real server's address is IPv6, CVIP 192.168.200.10 is IPv4
<ip_addr>fd00::2</ip_addr></real_server_node>
         ^~~~~~~
help: give an IPv4 address; only TUN carries one family in the other

"#]]
    );
    let mixed = cvip("TUN", children).replace("<gateway>fd00::1</gateway>\n", "");
    loaded(&mixed);
    let garp = "<garp_interface>eth0</garp_interface>";
    let synchronised = mixed.replace(garp, &format!("{garp}<sync_interface>eth1</sync_interface>"));
    assert_data_eq!(
        refused(&synchronised),
        str![[r#"
cvip.conf:6:10: error: this real server's address is IPv6, CVIP 192.168.200.10 is IPv4
<ip_addr>fd00::2</ip_addr></real_server_node>
         ^~~~~~~
help: give an IPv4 address, or leave every `sync_interface` out: the kernel does not synchronise connections where families mix

"#]]
    );
    let v6 = cvip("DR", "<gateway>fd00::1</gateway>").replace("192.168.200.10", "fd00::10");
    assert_data_eq!(
        refused(&v6),
        str![[r#"
cvip.conf:6:26: error: node 1 has no IPv6 address: clustertab gives 192.168.200.1
<director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
                         ^
help: give its IPv6 address as `ip_addr` in a `real_server_node` of this CVIP

"#]]
    );
    loaded(&v6.replace("DR", "TUN"));
    loaded(&v6.replace(
        "</gateway>",
        "</gateway><real_server_node><node_num>1</node_num><ip_addr>fd00::2</ip_addr></real_server_node>",
    ));
}

#[test]
fn with_nat_the_gateway_moves_and_several_directors_need_one() {
    assert_data_eq!(
        refused(&cvip("NAT", "<gateway>192.168.200.1</gateway>")),
        str![[r#"
cvip.conf:5:10: error: gateway 192.168.200.1 is node 1's own address
<gateway>192.168.200.1</gateway>
         ^~~~~~~~~~~~~
help: with NAT the gateway moves with the active director: choose a free address

"#]]
    );
    let second = "<director_node><node_num>2</node_num><garp_interface>eth0</garp_interface>\
                  <sync_interface>eth0</sync_interface></director_node>";
    assert_data_eq!(
        warned(&cvip("NAT", second)),
        str![[r#"
cvip.conf:3:1: warning: NAT with several directors and no `gateway`
<cvip>
^~~~~~
help: add a `gateway` that moves with the active director, and make it the real servers' default route
cvip.conf:6:1: warning: director 1 has no `sync_interface`
<director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
^~~~~~~~~~~~~~~
help: connections break when another director takes over from it

"#]]
    );
    loaded(&cvip("NAT", ""));
}

#[test]
fn with_nat_every_set_of_directors_has_a_gateway_of_its_own() {
    let file = |routing: &str| {
        let gateway = "<cvip>\n<gateway>192.168.200.254</gateway>";
        let cvips = directed(10, &[(1, "")]) + &directed(11, &[(2, "")]);
        let cvips = cvips.replace("<cvip>", gateway);
        format!("<cvips>\n<routing>{routing}</routing>\n{cvips}</cvips>\n")
    };
    assert_data_eq!(
        refused(&file("NAT")),
        str![[r#"
cvip.conf:11:10: error: gateway 192.168.200.254 is also that of the CVIP on line 3, which has other directors
<gateway>192.168.200.254</gateway>
         ^~~~~~~~~~~~~~~
help: with NAT every active director carries its gateway: give each set of directors one of its own

"#]]
    );
    loaded(&file("DR"));
    loaded(&file("NAT").replace("<node_num>2<", "<node_num>1<"));
}

/// A CVIP with directors that all synchronise, or with one that does not.
fn directed(host: u8, directors: &[(u32, &str)]) -> String {
    let mut text = format!("<cvip>\n<ip_addr>192.168.200.{host}</ip_addr>\n");
    for (node, sync) in directors {
        text += &format!(
            "<director_node>\n<node_num>{node}</node_num><garp_interface>eth0</garp_interface>{sync}\n</director_node>\n"
        );
    }
    text + "</cvip>\n"
}

#[test]
fn two_cvips_share_all_directors_or_none() {
    let sync = "<sync_interface>eth1</sync_interface>";
    let file = |cvips: &[&[u32]]| {
        let cvips = cvips.iter().zip(10..).map(|(nodes, host)| {
            directed(host, &nodes.iter().map(|node| (*node, sync)).collect::<Vec<_>>())
        });
        format!("<cvips>\n<routing>DR</routing>\n{}</cvips>\n", cvips.collect::<String>())
    };
    let conf = loaded(&file(&[&[1, 2], &[3, 4], &[1, 2], &[3, 4]]));
    assert_eq!(conf.director_sets().len(), 2);
    assert_data_eq!(
        refused(&file(&[&[1, 2], &[2, 3], &[4, 1]])),
        str![[r#"
cvip.conf:15:11: error: director 2 is shared with the CVIP on line 3, but not all directors are: 1, 2 there, 2, 3 here
<node_num>2</node_num><garp_interface>eth0</garp_interface><sync_interface>eth1</sync_interface>
          ^
help: two CVIPs share all their directors or none
cvip.conf:27:11: error: director 1 is shared with the CVIP on line 3, but not all directors are: 1, 2 there, 1, 4 here
<node_num>1</node_num><garp_interface>eth0</garp_interface><sync_interface>eth1</sync_interface>
          ^
help: two CVIPs share all their directors or none

"#]]
    );
    assert_data_eq!(
        refused(&file(&[&[1], &[2, 1]])),
        str![[r#"
cvip.conf:15:11: error: director 1 is shared with the CVIP on line 3, but not all directors are: 1 there, 1, 2 here
<node_num>1</node_num><garp_interface>eth0</garp_interface><sync_interface>eth1</sync_interface>
          ^
help: two CVIPs share all their directors or none

"#]]
    );
    assert_data_eq!(
        warned(&file(&[&[1, 2], &[2, 1]])),
        str![[r#"
cvip.conf:14:1: warning: this order of directors, 2, 1, is ignored: the CVIP on line 3 has 1, 2
<director_node>
^~~~~~~~~~~~~~~
help: directors with several CVIPs are elected in the first one's order

"#]]
    );
}

#[test]
fn several_directors_synchronise_each_on_one_interface() {
    let first = "<sync_interface>eth1</sync_interface>";
    let other = "\n<sync_interface>eth2</sync_interface>";
    let file =
        |cvips: &[String]| format!("<cvips>\n<routing>DR</routing>\n{}</cvips>\n", cvips.concat());
    let none = directed(10, &[(1, ""), (2, first)]);
    assert_data_eq!(
        warned(&file(&[none.clone(), directed(11, &[(1, ""), (2, "")])])),
        str![[r#"
cvip.conf:5:1: warning: director 1 has no `sync_interface`
<director_node>
^~~~~~~~~~~~~~~
help: connections break when another director takes over from it

"#]]
    );
    // Another CVIP of the same directors may name it.
    loaded(&file(&[none, directed(11, &[(1, first), (2, "")])]));
    loaded(&file(&[directed(10, &[(1, "")])]));
    let both = [directed(10, &[(1, first)]), directed(11, &[(1, other)])];
    assert_data_eq!(
        warned(&file(&both)),
        str![[r#"
cvip.conf:13:17: warning: node 1 synchronises on `eth1` already: `eth2` is ignored
<sync_interface>eth2</sync_interface>
                ^~~~
help: the kernel has one synchronisation daemon; the first is on line 6

"#]]
    );
}

#[test]
fn services_that_meet_are_refused() {
    let range = |protocol: &str, start: u16, end: u16| {
        format!(
            "<service><protocol>{protocol}</protocol>\n<start_port>{start}</start_port><end_port>{end}</end_port></service>\n"
        )
    };
    let apart = [range("tcp", 80, 89), range("udp", 80, 89), range("tcp", 90, 99)].concat();
    assert_eq!(loaded(&cvip("DR", &apart)).cvips[0].services.len(), 3);
    let meeting =
        [range("tcp", 85, 86), range("tcp", 80, 89), range("udp", 89, 89), range("tcp", 89, 99)];
    assert_data_eq!(
        refused(&cvip("DR", &meeting.concat())),
        str![[r#"
cvip.conf:8:13: error: tcp 85 to 86 is in two services
<start_port>80</start_port><end_port>89</end_port></service>
            ^~
help: the other is on line 6; ranges must not meet
cvip.conf:12:13: error: tcp 89 is in two services
<start_port>89</start_port><end_port>99</end_port></service>
            ^~
help: the other is on line 8; ranges must not meet

"#]]
    );
}

#[test]
fn a_range_with_sshds_port_is_warned_about_and_the_range_without_it_shown() {
    let range = |start: u16, end: u16| {
        service(&format!("<start_port>{start}</start_port><end_port>{end}</end_port>"))
    };
    assert_data_eq!(
        warned(&range(1, 80)),
        str![[r#"
cvip.conf:6:13: warning: tcp 1 to 80 has sshd's port 22 in it: logins to the CVIP would meet the host keys of different nodes
<start_port>1</start_port><end_port>80</end_port>
            ^
help: to leave sshd out, make it 1 to 21 and 23 to 80 in two services

"#]]
    );
    let help = |start, end| faults(&range(start, end)).lines().last().map(str::to_owned);
    assert_eq!(help(22, 80).as_deref(), Some("help: to leave sshd out, make it 23 to 80"));
    assert_eq!(help(21, 22).as_deref(), Some("help: to leave sshd out, make it 21"));
    // Who flags 22 by itself, or another protocol's, means it.
    loaded(&service("<port>22</port>"));
    loaded(&range(1, 80).replace("<start_port>", "<protocol>udp</protocol><start_port>"));
}

#[test]
fn what_a_static_service_ignores_is_warned_about() {
    assert_data_eq!(
        warned(&service(
            "<start_port>1</start_port><end_port>2000</end_port>\n\
             <registration>static</registration>\n<owner>root</owner>"
        )),
        str![[r#"
cvip.conf:6:13: warning: a static range of 2000 ports
<start_port>1</start_port><end_port>2000</end_port>
            ^
help: the kernel gets a virtual service for each of them, used or not
cvip.conf:8:1: warning: `owner` is ignored: a static service asks no listener
<owner>root</owner>
^~~~~~~
help: remove `owner`, or make the service automatic

"#]]
    );
}
