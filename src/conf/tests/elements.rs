//! Faults of single elements: missing, doubled, unknown, or with a value that cannot be.

use snapbox::{assert_data_eq, str};

use super::*;

#[test]
fn another_root_is_refused() {
    assert_data_eq!(
        refused("<cvip>\n</cvip>\n"),
        str![[r#"
cvip.conf:1:1: error: the root element is `cvip`, not `cvips`
<cvip>
^~~~~~
help: see cvip.conf(5) for an example

"#]]
    );
}

#[test]
fn what_is_missing_is_said_once_for_each() {
    assert_data_eq!(
        refused(
            "<cvips>\n <cvip>\n  <director_node/>\n  <real_server_node/>\n  <service/>\n </cvip>\n</cvips>"
        ),
        str![[r#"
cvip.conf:1:1: error: `routing` is missing in this `cvips`
<cvips>
^~~~~~~
help: how packets reach the real servers: DR, NAT or TUN
cvip.conf:2:2: error: `ip_addr` is missing in this `cvip`
 <cvip>
 ^~~~~~
help: the virtual address itself
cvip.conf:3:3: error: `node_num` is missing in this `director_node`
  <director_node/>
  ^~~~~~~~~~~~~~
help: the node's number in clustertab
cvip.conf:3:3: error: `garp_interface` is missing in this `director_node`
  <director_node/>
  ^~~~~~~~~~~~~~
help: the interface that carries and announces the CVIP
cvip.conf:4:3: error: `node_num` is missing in this `real_server_node`
  <real_server_node/>
  ^~~~~~~~~~~~~~~~~
help: the node's number in clustertab
cvip.conf:5:3: error: this `service` has no port
  <service/>
  ^~~~~~~~
help: a service has one `port`, or a `start_port` and an `end_port`

"#]]
    );
    assert_data_eq!(
        refused("<cvips/>"),
        str![[r#"
cvip.conf:1:1: error: `routing` is missing in this `cvips`
<cvips/>
^~~~~~
help: how packets reach the real servers: DR, NAT or TUN
cvip.conf:1:1: error: `cvip` is missing in this `cvips`
<cvips/>
^~~~~~
help: one for each virtual address of the cluster

"#]]
    );
    assert_data_eq!(
        refused(&service("<start_port>80</start_port>")),
        str![[r#"
cvip.conf:6:1: error: `start_port` without `end_port`
<start_port>80</start_port>
^~~~~~~~~~~~
help: a service has one `port`, or a `start_port` and an `end_port`

"#]]
    );
    assert_data_eq!(
        refused(&service("<end_port>80</end_port>")),
        str![[r#"
cvip.conf:6:1: error: `end_port` without `start_port`
<end_port>80</end_port>
^~~~~~~~~~
help: a service has one `port`, or a `start_port` and an `end_port`

"#]]
    );
}

#[test]
fn an_element_that_stands_twice_is_refused() {
    assert_data_eq!(
        refused(
            &cvip("DR", "<ip_addr>192.168.200.11</ip_addr>")
                .replace("</cvips>", "<routing>NAT</routing>\n</cvips>")
        ),
        str![[r#"
cvip.conf:5:1: error: `ip_addr` stands twice in this `cvip`
<ip_addr>192.168.200.11</ip_addr>
^~~~~~~~~
help: the first is on line 4; keep one of them
cvip.conf:8:1: error: `routing` stands twice in this `cvips`
<routing>NAT</routing>
^~~~~~~~~
help: the first is on line 2; keep one of them

"#]]
    );
}

#[test]
fn an_unknown_element_is_ignored_with_a_warning() {
    assert_data_eq!(
        warned(&cvip("DR", "<lvs_persistence>5</lvs_persistence>\n<comment>of web</comment>")),
        str![[r#"
cvip.conf:5:1: warning: unknown element `lvs_persistence` in `cvip`: it is ignored
<lvs_persistence>5</lvs_persistence>
^~~~~~~~~~~~~~~~~
help: is it of another version? See cvip.conf(5) for the elements that there are
cvip.conf:6:1: warning: unknown element `comment` in `cvip`: it is ignored
<comment>of web</comment>
^~~~~~~~~
help: comments stand between <!-- and -->

"#]]
    );
}

#[test]
fn a_slip_of_the_pen_is_an_error_that_says_what_was_meant() {
    assert_data_eq!(
        refused(&cvip(
            "DR",
            "<ipaddr><port>0</port>text</ipaddr>\n<scheduler>wlc</scheduler>\n<Prot>80</Prot>\n\
             <servcie/>\n<real_server/>\n<service start_port=\"1\" colour=\"red\"/>"
        )),
        str![[r#"
cvip.conf:5:1: error: unknown element `ipaddr` in `cvip`
<ipaddr><port>0</port>text</ipaddr>
^~~~~~~~
help: did you mean `ip_addr`?
cvip.conf:6:1: error: unknown element `scheduler` in `cvip`
<scheduler>wlc</scheduler>
^~~~~~~~~~~
help: `scheduler` belongs in `service`
cvip.conf:7:1: error: unknown element `Prot` in `cvip`
<Prot>80</Prot>
^~~~~~
help: did you mean `port`? It belongs in `service`
cvip.conf:8:1: error: unknown element `servcie` in `cvip`
<servcie/>
^~~~~~~~
help: did you mean `service`?
cvip.conf:9:1: error: unknown element `real_server` in `cvip`
<real_server/>
^~~~~~~~~~~~
help: did you mean `real_server_node`?
...
"#]]
    );
    let attribute = refused(&cvip("DR", "<service start_port=\"1\" colour=\"red\"/>"));
    assert!(attribute.contains("error: attribute `start_port` where `service` takes an element"));
    assert!(attribute.contains("warning: attribute `colour` is ignored"), "{attribute}");
}

#[test]
fn an_element_that_is_the_value_of_another_one_is_an_error_that_names_that_one() {
    let faults = refused(&service("<port>80</port>\n<static/>\n<UDP/>"));
    assert!(faults.contains("error: unknown element `static` in `service`"), "{faults}");
    assert!(faults.contains("help: write <registration>static</registration>"), "{faults}");
    assert!(faults.contains("help: write <protocol>udp</protocol>"), "{faults}");
}

#[test]
fn attributes_are_ignored_with_a_warning() {
    assert_data_eq!(
        warned(&service("<port proto=\"tcp\">80</port>")),
        str![[r#"
cvip.conf:6:7: warning: attribute `proto` is ignored
<port proto="tcp">80</port>
      ^~~~~~~~~~~
help: cvip.conf has no attributes: values stand between tags

"#]]
    );
}

#[test]
fn text_where_elements_stand_and_elements_where_text_stands_are_refused() {
    assert_data_eq!(
        refused(&service("80\n<port><tcp>80</tcp></port>\n<weight></weight><owner> </owner>")),
        str![[r#"
cvip.conf:6:1: error: text `80` where `service` takes elements only
80
^~
help: put it between the tags of an element, or in a comment: <!-- ... -->
cvip.conf:7:7: error: `port` takes a value, not the element `tcp`
<port><tcp>80</tcp></port>
      ^~~~~
cvip.conf:8:1: error: `weight` is empty
<weight></weight><owner> </owner>
^~~~~~~~
cvip.conf:8:18: error: `owner` is empty
<weight></weight><owner> </owner>
                 ^~~~~~~

"#]]
    );
}

#[test]
fn numbers_outside_their_bounds_are_refused() {
    assert_data_eq!(
        refused(&service("<port>0</port>")),
        str![[r#"
cvip.conf:6:7: error: port `0` is outside 1 to 65535
<port>0</port>
      ^

"#]]
    );
    assert_data_eq!(
        refused(&service(
            "<start_port>65536</start_port><end_port>http</end_port>\n<weight>65536</weight>\n\
             <persistence>0</persistence>\n<drain_timeout>2678401</drain_timeout>"
        )),
        str![[r#"
cvip.conf:6:13: error: port `65536` is outside 1 to 65535
<start_port>65536</start_port><end_port>http</end_port>
            ^~~~~
cvip.conf:6:41: error: port `http` is not a whole number
<start_port>65536</start_port><end_port>http</end_port>
                                        ^~~~
cvip.conf:7:9: error: weight `65536` is outside 0 to 65535
<weight>65536</weight>
        ^~~~~
help: weight 0 takes no connections
cvip.conf:8:14: error: persistence `0` is outside 1 to 2678400
<persistence>0</persistence>
             ^
help: whole seconds; leave the element out for none
cvip.conf:9:16: error: drain_timeout `2678401` is outside 0 to 2678400
<drain_timeout>2678401</drain_timeout>
               ^~~~~~~
help: whole seconds

"#]]
    );
    assert_data_eq!(
        refused(&service(
            "<port>99999999999999999999999</port>\n<weight>-1</weight>\n\
             <persistence>2678401</persistence>\n<drain_timeout>+5</drain_timeout>"
        )),
        str![[r#"
cvip.conf:6:7: error: port `99999999999999999999999` is outside 1 to 65535
<port>99999999999999999999999</port>
      ^~~~~~~~~~~~~~~~~~~~~~~
cvip.conf:7:9: error: weight `-1` is outside 0 to 65535
<weight>-1</weight>
        ^~
help: weight 0 takes no connections
cvip.conf:8:14: error: persistence `2678401` is outside 1 to 2678400
<persistence>2678401</persistence>
             ^~~~~~~
help: whole seconds; leave the element out for none
cvip.conf:9:16: error: drain_timeout `+5` is not a whole number
<drain_timeout>+5</drain_timeout>
               ^~
help: whole seconds

"#]]
    );
    assert_data_eq!(
        refused(&service("<start_port>90</start_port>\n<end_port>80</end_port>")),
        str![[r#"
cvip.conf:6:13: error: start port 90 is above end port 80
<start_port>90</start_port>
            ^~
help: a range counts upwards, both ends included

"#]]
    );
    assert_data_eq!(
        refused(&service("<port>80</port>\n<start_port>80</start_port>")),
        str![[r#"
cvip.conf:6:1: error: `port` stands beside `start_port` or `end_port`
<port>80</port>
^~~~~~
help: a service has one `port`, or a `start_port` and an `end_port`

"#]]
    );
}

#[test]
fn the_bounds_themselves_are_taken() {
    let conf = loaded(&service(
        "<start_port>23</start_port><end_port>65535</end_port><weight>65535</weight>\
         <persistence>2678400</persistence><drain_timeout>2678400</drain_timeout>\
         <scheduler>lblcr</scheduler>",
    ));
    assert_eq!(conf.cvips[0].services[0].persistence, Some(2_678_400));
    loaded(&service("<port>1</port><persistence>1</persistence>"));
}

#[test]
fn unknown_words_are_refused_with_the_known_ones() {
    assert_data_eq!(
        refused(&service(
            "<port>80</port><protocol>icmp</protocol>\n<registration>manual</registration>\n\
             <owner>a b</owner>"
        )),
        str![[r#"
cvip.conf:6:26: error: unknown protocol `icmp`
<port>80</port><protocol>icmp</protocol>
                         ^~~~
help: it is one of tcp, udp or sctp
cvip.conf:7:15: error: unknown registration `manual`
<registration>manual</registration>
              ^~~~~~
help: it is automatic or static
cvip.conf:8:8: error: `a b` is not a user name
<owner>a b</owner>
       ^~~
help: write one `owner` for each user, or `*` for anyone

"#]]
    );
    assert_data_eq!(
        refused(&cvip("direct", "")),
        str![[r#"
cvip.conf:2:10: error: unknown routing method `direct`
<routing>direct</routing>
         ^~~~~~
help: it is one of DR, NAT or TUN

"#]]
    );
}

#[test]
fn a_scheduler_that_linux_does_not_have_is_warned_about() {
    assert_data_eq!(
        warned(&service("<port>80</port>\n<scheduler>wcl</scheduler>")),
        str![[r#"
cvip.conf:7:12: warning: `wcl` is none of Linux's own schedulers: a kernel without it refuses the service
<scheduler>wcl</scheduler>
           ^~~
help: did you mean `wlc`?

"#]]
    );
    assert_data_eq!(
        warned(&service("<port>80</port>\n<scheduler>maglev_of_ours</scheduler>")),
        str![[r#"
cvip.conf:7:12: warning: `maglev_of_ours` is none of Linux's own schedulers: a kernel without it refuses the service
<scheduler>maglev_of_ours</scheduler>
           ^~~~~~~~~~~~~~
help: Linux has rr, wrr, lc, wlc, fo, ovf, lblc, lblcr, dh, sh, mh, sed, nq or twos

"#]]
    );
    assert_data_eq!(
        refused(&service("<port>80</port>\n<scheduler>sixteen_bytes_ab</scheduler>")),
        str![[r#"
cvip.conf:7:12: error: `sixteen_bytes_ab` is not a scheduler: it is longer than 15 bytes
<scheduler>sixteen_bytes_ab</scheduler>
           ^~~~~~~~~~~~~~~~

"#]]
    );
    assert_data_eq!(
        refused(&service("<port>80</port>\n<scheduler>../x</scheduler>\n<scheduler/>")),
        str![[r#"
cvip.conf:7:12: error: `../x` is not a scheduler: its name has letters, digits, `-` and `_` only
<scheduler>../x</scheduler>
           ^~~~
cvip.conf:8:1: error: `scheduler` stands twice in this `service`
<scheduler/>
^~~~~~~~~~
help: the first is on line 7; keep one of them

"#]]
    );
}

#[test]
fn interface_names_that_linux_refuses_are_refused() {
    let director = |interfaces: &str| {
        cvip(
            "DR",
            &format!("<director_node>\n<node_num>2</node_num>\n{interfaces}\n</director_node>"),
        )
    };
    assert_data_eq!(
        refused(&director(
            "<garp_interface>eth0:1</garp_interface>\n<sync_interface>a/b</sync_interface>"
        )),
        str![[r#"
cvip.conf:7:17: error: `eth0:1` is not an interface name: it has a `:`
<garp_interface>eth0:1</garp_interface>
                ^~~~~~
help: write `eth0`
cvip.conf:8:17: error: `a/b` is not an interface name: it has a `/`
<sync_interface>a/b</sync_interface>
                ^~~
cvip.conf:10:1: warning: director 1 has no `sync_interface`
<director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
^~~~~~~~~~~~~~~
help: connections break when another director takes over from it

"#]]
    );
    assert_data_eq!(
        refused(&director(
            "<garp_interface>sixteen-bytes-ab</garp_interface>\n<sync_interface>a b</sync_interface>"
        )),
        str![[r#"
cvip.conf:7:17: error: `sixteen-bytes-ab` is not an interface name: it is longer than 15 bytes
<garp_interface>sixteen-bytes-ab</garp_interface>
                ^~~~~~~~~~~~~~~~
help: `ip link` lists the names
cvip.conf:8:17: error: `a b` is not an interface name: it has a blank
<sync_interface>a b</sync_interface>
                ^~~
cvip.conf:10:1: warning: director 1 has no `sync_interface`
<director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
^~~~~~~~~~~~~~~
help: connections break when another director takes over from it

"#]]
    );
    assert_data_eq!(
        refused(&director(
            "<garp_interface>..</garp_interface>\n<sync_interface></sync_interface>"
        )),
        str![[r#"
cvip.conf:7:17: error: `..` is not an interface name: Linux keeps it for folders
<garp_interface>..</garp_interface>
                ^~
cvip.conf:8:1: error: `sync_interface` is empty
<sync_interface></sync_interface>
^~~~~~~~~~~~~~~~
cvip.conf:10:1: warning: director 1 has no `sync_interface`
<director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
^~~~~~~~~~~~~~~
help: connections break when another director takes over from it

"#]]
    );
}

#[test]
fn addresses_that_no_machine_can_have_are_refused() {
    assert_data_eq!(
        refused(&cvip(
            "DR",
            "<gateway>192.168.200.1/24</gateway>\n<real_server_node><node_num>2</node_num>\n\
             <ip_addr>127.0.0.1</ip_addr></real_server_node>\n<real_server_node>\n\
             <node_num>3</node_num><ip_addr>ff02::1</ip_addr></real_server_node>"
        )),
        str![[r#"
cvip.conf:5:10: error: `192.168.200.1/24` is not an IP address
<gateway>192.168.200.1/24</gateway>
         ^~~~~~~~~~~~~~~~
help: write the address alone, without a prefix length
cvip.conf:7:10: error: 127.0.0.1 is a loopback address: other machines cannot reach it
<ip_addr>127.0.0.1</ip_addr></real_server_node>
         ^~~~~~~~~
cvip.conf:9:32: error: ff02::1 is a multicast address, no machine's own
<node_num>3</node_num><ip_addr>ff02::1</ip_addr></real_server_node>
                               ^~~~~~~

"#]]
    );
}

#[test]
fn thousands_of_faults_are_counted_and_cost_little() {
    let text = format!("<cvips>{}</cvips>", "<a/>".repeat(200_000));
    let (conf, diagnostics) = parse(&text, "cvip.conf", &clustertab());
    assert_eq!(conf, None);
    assert_eq!(diagnostics.len(), 1001);
    let services = "<service><port>80</port></service>".repeat(20_000);
    let (conf, diagnostics) = parse(&cvip("DR", &services), "cvip.conf", &clustertab());
    assert_eq!((conf, diagnostics.len()), (None, 1001));
}
