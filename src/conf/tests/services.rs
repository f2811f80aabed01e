//! Faults of what a `service` says beyond its ports: scheduling, persistence, thresholds,
//! weights by node, flapping, sorry servers.

use snapbox::{assert_data_eq, str};

use super::*;
use crate::ipvs::service_flags::{SCHED1, SCHED2, SCHED3};

/// The one service of a file that has no fault.
fn one(text: &str) -> ServiceConf {
    loaded(text).cvips.remove(0).services.remove(0)
}

/// A file with one IPv6 CVIP, around the children of its service, which start in line 6.
fn service6(children: &str) -> String {
    let server =
        "<real_server_node><node_num>1</node_num><ip_addr>fd00::1</ip_addr></real_server_node>";
    service(children)
        .replace("192.168.200.10", "fd00::10")
        .replace(DIRECTOR, &format!("{DIRECTOR}{server}"))
}

#[test]
fn everything_that_a_service_says_of_scheduling_is_read() {
    let conf = one(&service(
        "<protocol>udp</protocol><port>5060</port><scheduler>mh</scheduler>\
         <scheduler_flags> mh-port , MH-FALLBACK,flag-3</scheduler_flags>\
         <one_packet>Yes</one_packet><persistence>60</persistence>\
         <persistence_netmask>255.255.254.0</persistence_netmask>\
         <persistence_engine>sip</persistence_engine>\
         <upper_threshold>2147483647</upper_threshold><lower_threshold>1</lower_threshold>\
         <node><node_num>1</node_num><weight>0</weight></node>\
         <flap_limit>0</flap_limit><damp_time>1</damp_time>\
         <quorum>3</quorum><hysteresis>2</hysteresis>\
         <slow_start><window>60</window><aggression>1.5</aggression></slow_start>\
         <sorry_server><ip_addr>192.168.200.4</ip_addr></sorry_server>\
         <sorry_server><weight>65535</weight><ip_addr>10.9.9.9</ip_addr><port>5060</port></sorry_server>",
    ));
    let mut expected = ServiceConf::new(Protocol::Udp, 5060, 5060);
    expected.scheduler = "mh".to_owned();
    expected.scheduler_flags = SCHED1 | SCHED2 | SCHED3;
    expected.one_packet = true;
    expected.persistence = Some(60);
    expected.persistence_netmask = Some(23);
    expected.persistence_engine = Some("sip".to_owned());
    expected.upper_threshold = Some(i32::MAX as u32);
    expected.lower_threshold = Some(1);
    expected.node_weights = [(1, 0)].into();
    expected.flap_limit = 0;
    expected.damp_time = 1;
    expected.quorum = Some(Quorum { weight: 3, hysteresis: 2 });
    expected.slow_start = Some(SlowStart { aggression: 150, ..SlowStart::new(60) });
    let sorry = |host: &str, weight| SorryServer { addr: addr(host), port: None, weight };
    expected.sorry_servers = vec![sorry("192.168.200.4", 1), sorry("10.9.9.9", 65_535)];
    assert_eq!(conf, expected);
}

#[test]
fn a_slow_start_says_how_long_it_lasts_and_how_steep_it_is() {
    let of = |slow: &str| {
        refused(&service(&format!("<port>80</port>\n<slow_start>{slow}</slow_start>")))
    };
    let told = of("<aggression>2</aggression>");
    assert!(told.contains("window"), "{told}");
    let told = of(
        "<window>0</window><aggression>0</aggression><min_weight_percent>101</min_weight_percent>",
    );
    for fault in [
        "window `0` is outside",
        "aggression `0` is no number",
        "min_weight_percent `101` is outside",
    ] {
        assert!(told.contains(fault), "{told}");
    }
}

#[test]
fn a_hysteresis_is_below_its_quorum() {
    let of = |quorum: &str| refused(&service(&format!("<port>80</port>\n{quorum}")));
    let told = of("<quorum>2</quorum><hysteresis>2</hysteresis>");
    assert!(told.contains("error: hysteresis 2 is not below quorum 2"), "{told}");
    let told = of("<hysteresis>2</hysteresis>");
    assert!(told.contains("error: `hysteresis` without `quorum`"), "{told}");
    let told = of("<quorum>0</quorum><hysteresis>2</hysteresis>");
    assert!(told.contains("quorum `0` is outside 1 to") && !told.contains("without"), "{told}");
}

#[test]
fn no_is_the_default_and_a_flag_may_be_given_by_number() {
    let conf = one(&service(
        "<port>80</port><one_packet>no</one_packet><scheduler>sh</scheduler>\
         <scheduler_flags>flag-1,sh-fallback</scheduler_flags>",
    ));
    assert_eq!((conf.one_packet, conf.scheduler_flags), (false, SCHED1));
}

#[test]
fn wrong_flags_are_marked_one_by_one() {
    assert_data_eq!(
        refused(&service(
            "<port>80</port>\n<scheduler>mh</scheduler>\n\
             <scheduler_flags>mh-prot, sh-port,speedy,flag-1</scheduler_flags>"
        )),
        str![[r#"
cvip.conf:8:18: error: unknown scheduler flag `mh-prot`
<scheduler_flags>mh-prot, sh-port,speedy,flag-1</scheduler_flags>
                 ^~~~~~~
help: did you mean `mh-port`?
cvip.conf:8:27: error: `sh-port` is a flag of the scheduler sh, and this service's is mh
<scheduler_flags>mh-prot, sh-port,speedy,flag-1</scheduler_flags>
                          ^~~~~~~
help: give the service <scheduler>sh</scheduler>, or remove the flag
cvip.conf:8:35: error: unknown scheduler flag `speedy`
<scheduler_flags>mh-prot, sh-port,speedy,flag-1</scheduler_flags>
                                  ^~~~~~
help: it is one of sh-fallback, sh-port, mh-fallback, mh-port, flag-1, flag-2 or flag-3

"#]]
    );
    assert_data_eq!(
        refused(&service("<port>80</port>\n<scheduler_flags>sh-port</scheduler_flags>")),
        str![[r#"
cvip.conf:7:18: error: `sh-port` is a flag of the scheduler sh, and this service's is wlc
<scheduler_flags>sh-port</scheduler_flags>
                 ^~~~~~~
help: give the service <scheduler>sh</scheduler>, or remove the flag

"#]]
    );
    assert_data_eq!(
        refused(&service("<port>80</port>\n<scheduler_flags>flag-1,,flag-2</scheduler_flags>")),
        str![[r#"
cvip.conf:7:25: error: an empty item in a list
<scheduler_flags>flag-1,,flag-2</scheduler_flags>
                        ^
help: one comma stands between two items, and none at the end

"#]]
    );
    // A comment in the list: no item has a place of its own.
    assert_data_eq!(
        refused(&service(
            "<port>80</port>\n<scheduler_flags>flag-1,<!-- x -->flag-9</scheduler_flags>"
        )),
        str![[r#"
cvip.conf:7:18: error: unknown scheduler flag `flag-9`
<scheduler_flags>flag-1,<!-- x -->flag-9</scheduler_flags>
                 ^~~~~~~~~~~~~~~~~~~~~~~
help: did you mean `flag-1`?

"#]]
    );
    // A scheduler that is wrong says nothing of its flags.
    assert_data_eq!(
        refused(&service(
            "<port>80</port>\n<scheduler>m h</scheduler><scheduler_flags>sh-port</scheduler_flags>"
        )),
        str![[r#"
cvip.conf:7:12: error: `m h` is not a scheduler: its name has letters, digits, `-` and `_` only
<scheduler>m h</scheduler><scheduler_flags>sh-port</scheduler_flags>
           ^~~

"#]]
    );
}

#[test]
fn one_packet_is_for_udp() {
    assert_data_eq!(
        refused(&service("<port>80</port>\n<one_packet>yes</one_packet>")),
        str![[r#"
cvip.conf:7:13: error: `one_packet` is for UDP only, and this service is tcp
<one_packet>yes</one_packet>
            ^~~
help: give the service <protocol>udp</protocol>, or remove `one_packet`

"#]]
    );
    assert_data_eq!(
        refused(&service("<port>80</port>\n<one_packet>true</one_packet>")),
        str![[r#"
cvip.conf:7:13: error: `one_packet` is yes or no, not `true`
<one_packet>true</one_packet>
            ^~~~

"#]]
    );
    loaded(&service("<port>80</port><one_packet>no</one_packet>"));
}

#[test]
fn a_netmask_is_of_the_cvips_family_and_its_bits_are_at_the_front() {
    let masked = |mask: &str| {
        service(&format!(
            "<port>80</port><persistence>9</persistence>\n<persistence_netmask>{mask}</persistence_netmask>"
        ))
    };
    for (mask, bits) in [("255.255.255.0", 24), ("24", 24), ("/8", 8), ("255.255.255.255", 32)] {
        assert_eq!(one(&masked(mask)).persistence_netmask, Some(bits), "{mask}");
    }
    let masked6 =
        |mask: &str| masked(mask).replace("192.168.200.10", "fd00::10").replace(">DR<", ">TUN<");
    assert_eq!(one(&masked6("128")).persistence_netmask, Some(128));
    assert_data_eq!(
        refused(&masked("255.0.255.0")),
        str![[r#"
cvip.conf:7:22: error: `255.0.255.0` is not a netmask: its bits are not all at the front
<persistence_netmask>255.0.255.0</persistence_netmask>
                     ^~~~~~~~~~~
help: write a mask such as 255.255.255.0, or the number of its leading bits

"#]]
    );
    assert_data_eq!(
        refused(&masked("0.0.0.0")),
        str![[r#"
cvip.conf:7:22: error: `0.0.0.0` is not a netmask: it would take all clients for one
<persistence_netmask>0.0.0.0</persistence_netmask>
                     ^~~~~~~
help: write a mask such as 255.255.255.0, or the number of its leading bits

"#]]
    );
    assert_data_eq!(
        refused(&masked("129")),
        str![[r#"
cvip.conf:7:22: error: `129` is not a netmask: a prefix length is 1 to 32 in IPv4, 1 to 128 in IPv6
<persistence_netmask>129</persistence_netmask>
                     ^~~
help: write a mask such as 255.255.255.0, or the number of its leading bits

"#]]
    );
    assert_data_eq!(
        refused(&masked("64")),
        str![[r#"
cvip.conf:7:22: error: 64 bits, and an IPv4 address has 32
<persistence_netmask>64</persistence_netmask>
                     ^~
help: CVIP 192.168.200.10 is IPv4: write 1 to 32

"#]]
    );
    assert_data_eq!(
        refused(&masked6("255.255.255.0")),
        str![[r#"
cvip.conf:7:22: error: an IPv4 netmask, and CVIP fd00::10 is IPv6
<persistence_netmask>255.255.255.0</persistence_netmask>
                     ^~~~~~~~~~~~~
help: write the number of leading bits, such as 48

"#]]
    );
    for mask in ["-1", "+8", "0", "/", "24 ", "fd00::", "255.255.255.0/24", "1e1"] {
        let fault = faults(&masked(mask));
        assert_eq!(fault.contains("error: "), mask != "24 ", "{mask}: {fault}");
    }
}

#[test]
fn what_belongs_to_persistence_is_refused_without_it() {
    assert_data_eq!(
        refused(&service(
            "<port>80</port>\n<persistence_netmask>24</persistence_netmask>\n\
             <persistence_engine>sip</persistence_engine>"
        )),
        str![[r#"
cvip.conf:7:22: error: `persistence_netmask` without `persistence`
<persistence_netmask>24</persistence_netmask>
                     ^~
help: add `persistence`, the seconds that clients stay, or remove `persistence_netmask`
cvip.conf:8:21: error: `persistence_engine` without `persistence`
<persistence_engine>sip</persistence_engine>
                    ^~~
help: add `persistence`, the seconds that clients stay, or remove `persistence_engine`
cvip.conf:8:21: error: the engine sip reads UDP only, and this service is tcp
<persistence_engine>sip</persistence_engine>
                    ^~~
help: the kernel would drop all of its packets: remove `persistence_engine`

"#]]
    );
    // A persistence that is wrong is there all the same.
    assert_data_eq!(
        refused(&service(
            "<port>80</port>\n<persistence>soon</persistence><persistence_netmask>24</persistence_netmask>"
        )),
        str![[r#"
cvip.conf:7:14: error: persistence `soon` is not a whole number
<persistence>soon</persistence><persistence_netmask>24</persistence_netmask>
             ^~~~
help: whole seconds; leave the element out for none

"#]]
    );
}

#[test]
fn an_engine_that_linux_does_not_have_is_warned_about_and_sip_reads_udp_only() {
    let engine = |protocol: &str, name: &str| {
        service(&format!(
            "<protocol>{protocol}</protocol><port>5060</port><persistence>9</persistence>\n\
             <persistence_engine>{name}</persistence_engine>"
        ))
    };
    assert_data_eq!(
        warned(&engine("tcp", "sipp")),
        str![[r#"
cvip.conf:7:21: warning: `sipp` is none of Linux's own persistence engines: a kernel without it refuses the service
<persistence_engine>sipp</persistence_engine>
                    ^~~~
help: did you mean `sip`?

"#]]
    );
    assert_data_eq!(
        refused(&engine("tcp", "sip")),
        str![[r#"
cvip.conf:7:21: error: the engine sip reads UDP only, and this service is tcp
<persistence_engine>sip</persistence_engine>
                    ^~~
help: the kernel would drop all of its packets: remove `persistence_engine`

"#]]
    );
    assert_data_eq!(
        refused(&engine("udp", "seventeen-bytes-x")),
        str![[r#"
cvip.conf:7:21: error: `seventeen-bytes-x` is not a persistence engine: it is longer than 16 bytes
<persistence_engine>seventeen-bytes-x</persistence_engine>
                    ^~~~~~~~~~~~~~~~~

"#]]
    );
}

#[test]
fn thresholds_are_in_order() {
    let thresholds = |upper: &str, lower: &str| {
        service(&format!(
            "<port>80</port>\n<upper_threshold>{upper}</upper_threshold>\n<lower_threshold>{lower}</lower_threshold>"
        ))
    };
    assert_eq!(one(&thresholds("5", "5")).lower_threshold, Some(5));
    assert_data_eq!(
        refused(&thresholds("5", "6")),
        str![[r#"
cvip.conf:8:18: error: lower_threshold 6 is above upper_threshold 5
<lower_threshold>6</lower_threshold>
                 ^
help: a server is full at the upper one, and taken again below the lower one

"#]]
    );
    assert_data_eq!(
        refused(&thresholds("0", "2147483648")),
        str![[r#"
cvip.conf:7:18: error: upper_threshold `0` is outside 1 to 2147483647
<upper_threshold>0</upper_threshold>
                 ^
help: a number of connections; leave the element out for none
cvip.conf:8:18: error: lower_threshold `2147483648` is outside 1 to 2147483647
<lower_threshold>2147483648</lower_threshold>
                 ^~~~~~~~~~
help: a number of connections; leave the element out for none

"#]]
    );
    assert_data_eq!(
        refused(&service("<port>80</port>\n<lower_threshold>5</lower_threshold>")),
        str![[r#"
cvip.conf:7:18: error: `lower_threshold` without `upper_threshold`
<lower_threshold>5</lower_threshold>
                 ^
help: add the connections at which a server is full, or remove this one

"#]]
    );
}

#[test]
fn a_weight_by_node_is_for_a_real_server_of_the_cvip_and_once_for_each() {
    assert_data_eq!(
        refused(&service(
            "<port>80</port>\n<node><node_num>1</node_num><weight>2</weight></node>\n\
             <node><node_num>2</node_num><weight>2</weight></node>\n\
             <node><node_num>1</node_num><weight>3</weight></node>\n<node/>\n\
             <node><node_num>1</node_num><weight>heavy</weight></node>"
        )),
        str![[r#"
cvip.conf:8:17: error: node 2 is not a real server of this CVIP
<node><node_num>2</node_num><weight>2</weight></node>
                ^
help: add a `real_server_node` for it, or fix the number
cvip.conf:9:17: error: node 1 has two weights in this service
<node><node_num>1</node_num><weight>3</weight></node>
                ^
help: the first is on line 7; keep one of them
cvip.conf:10:1: error: `node_num` is missing in this `node`
<node/>
^~~~~
help: the node's number in clustertab
cvip.conf:10:1: error: `weight` is missing in this `node`
<node/>
^~~~~
help: the node's weight on this service's ports
cvip.conf:11:17: error: node 1 has two weights in this service
<node><node_num>1</node_num><weight>heavy</weight></node>
                ^
help: the first is on line 7; keep one of them
cvip.conf:11:37: error: weight `heavy` is not a whole number
<node><node_num>1</node_num><weight>heavy</weight></node>
                                    ^~~~~
help: weight 0 takes no connections

"#]]
    );
    // A director without a number may be the node that is meant.
    let unnumbered =
        service("<port>80</port><node><node_num>2</node_num><weight>2</weight></node>")
            .replace("<node_num>1</node_num>", "<node_num>one</node_num>");
    assert_eq!(refused(&unnumbered).matches("error: ").count(), 1);
}

#[test]
fn the_bounds_of_flapping_are_told() {
    assert_data_eq!(
        refused(&service(
            "<port>80</port>\n<flap_limit>1001</flap_limit>\n<damp_time>0</damp_time>"
        )),
        str![[r#"
cvip.conf:7:13: error: flap_limit `1001` is outside 0 to 1000
<flap_limit>1001</flap_limit>
            ^~~~
help: how often a real server may leave within a minute; 0 for as often as it likes
cvip.conf:8:12: error: damp_time `0` is outside 1 to 2678400
<damp_time>0</damp_time>
           ^
help: whole seconds

"#]]
    );
    let conf = one(&service("<port>80</port>"));
    assert_eq!((conf.flap_limit, conf.damp_time), (5, 10));
}

#[test]
fn a_sorry_server_is_another_machine() {
    let sorry = |addr: &str| format!("<sorry_server>\n<ip_addr>{addr}</ip_addr></sorry_server>\n");
    let addrs = [
        "192.168.200.1",
        "192.168.200.22",
        "192.168.200.10",
        "192.168.200.4",
        "192.168.200.4",
        "fd00::9",
        "nowhere",
    ];
    let server = "<real_server_node><node_num>3</node_num><ip_addr>192.168.200.22</ip_addr></real_server_node>";
    let text = service(&format!("<port>80</port>\n{}", addrs.map(sorry).concat()))
        .replace(DIRECTOR, &format!("{DIRECTOR}{server}"));
    assert_data_eq!(
        refused(&text),
        str![[r#"
cvip.conf:8:10: error: 192.168.200.1 is node 1's, a real server of this CVIP
<ip_addr>192.168.200.1</ip_addr></sorry_server>
         ^~~~~~~~~~~~~
help: a sorry server serves when no real server does: name another machine
cvip.conf:10:10: error: 192.168.200.22 is node 3's, a real server of this CVIP
<ip_addr>192.168.200.22</ip_addr></sorry_server>
         ^~~~~~~~~~~~~~
help: a sorry server serves when no real server does: name another machine
cvip.conf:12:10: error: 192.168.200.10 is a CVIP
<ip_addr>192.168.200.10</ip_addr></sorry_server>
         ^~~~~~~~~~~~~~
help: give the sorry server's own address
cvip.conf:16:10: error: 192.168.200.4 is a sorry server of this service twice
<ip_addr>192.168.200.4</ip_addr></sorry_server>
         ^~~~~~~~~~~~~
help: the first is on line 14; keep one of them
cvip.conf:18:10: error: this sorry server's address is IPv6, CVIP 192.168.200.10 is IPv4
<ip_addr>fd00::9</ip_addr></sorry_server>
         ^~~~~~~
help: give an IPv4 address; only TUN carries one family in the other
cvip.conf:20:10: error: `nowhere` is not an IP address
<ip_addr>nowhere</ip_addr></sorry_server>
         ^~~~~~~

"#]]
    );
    loaded(&service(&format!("<port>80</port>{}", sorry("fd00::9"))).replace(">DR<", ">TUN<"));
    assert_data_eq!(
        refused(&service6(&format!("<port>80</port>\n{}{}", sorry("fd00::1"), sorry("10.0.0.1")))),
        str![[r#"
cvip.conf:8:10: error: fd00::1 is node 1's, a real server of this CVIP
<ip_addr>fd00::1</ip_addr></sorry_server>
         ^~~~~~~
help: a sorry server serves when no real server does: name another machine
cvip.conf:10:10: error: this sorry server's address is IPv4, CVIP fd00::10 is IPv6
<ip_addr>10.0.0.1</ip_addr></sorry_server>
         ^~~~~~~~
help: give an IPv6 address; only TUN carries one family in the other

"#]]
    );
}

#[test]
fn only_nat_gives_a_sorry_server_another_port_and_only_in_a_service_of_one() {
    let sorry = |port: u16| {
        format!("\n<sorry_server><ip_addr>10.9.9.9</ip_addr>\n<port>{port}</port></sorry_server>")
    };
    let single = service(&format!("<port>80</port>{}", sorry(8080)));
    assert_data_eq!(
        refused(&single),
        str![[r#"
cvip.conf:8:7: error: port 8080 for port 80: DR changes no ports
<port>8080</port></sorry_server>
      ^~~~
help: remove `port`, and let the sorry server listen on the service's own

"#]]
    );
    let nat = single.replace(">DR<", ">NAT<");
    assert_eq!(one(&nat).sorry_servers[0].port, Some(8080));
    assert_eq!(one(&single.replace("8080", "80")).sorry_servers[0].port, None);
    let both = service(&format!("<port>80</port>{}{}", sorry(8080), sorry(80)));
    assert_eq!(one(&both.replace(">DR<", ">NAT<")).sorry_servers.len(), 2);
    let range =
        service(&format!("<start_port>80</start_port><end_port>81</end_port>{}", sorry(80)));
    assert_data_eq!(
        refused(&range.replace(">DR<", ">NAT<")),
        str![[r#"
cvip.conf:8:7: error: a sorry server's `port` in a service of several ports
<port>80</port></sorry_server>
      ^~
help: remove it: each port is that of the sorry server too

"#]]
    );
}

#[test]
fn sorry_servers_of_a_thousand_ports_are_warned_about() {
    assert_data_eq!(
        warned(&service(
            "<start_port>8000</start_port><end_port>9000</end_port>\n\
             <sorry_server><ip_addr>192.168.200.9</ip_addr></sorry_server>"
        )),
        str![[r#"
cvip.conf:6:13: warning: sorry servers for a range of 1001 ports
<start_port>8000</start_port><end_port>9000</end_port>
            ^~~~
help: the kernel gets a virtual service for each of them, used or not

"#]]
    );
}
