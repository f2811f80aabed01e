//! `check` elements: what is read, and which faults are told.

use snapbox::{assert_data_eq, str};

use super::*;
use crate::checks::settings::Check;

/// A file around the children of the check of a TCP service; they start in line 9.
fn check(children: &str) -> String {
    service(&format!("<port>80</port>\n<!-- -->\n<check>\n{children}\n</check>"))
}

fn read(children: &str) -> Check {
    let service = loaded(&check(children)).cvips.remove(0).services.remove(0);
    service.check.expect("a check")
}

#[test]
fn a_check_is_its_type_with_defaults_for_all_else() {
    for kind in ["tcp", "http", "https", "dns"] {
        let check = read(&format!("<type>{}</type>", kind.to_uppercase()));
        assert_eq!(check.kind.name(), kind);
        assert_eq!(check, Check::new(check.kind.clone()));
    }
}

#[test]
fn everything_that_a_check_says_is_read() {
    let https = read(
        "<status>200, 204 ,300-304</status><verify>yes</verify><pattern>^ok &lt;b></pattern>\
         <path>/health?a=1</path><host>Example.ORG</host><port>8443</port><fall>1</fall>\
         <rise>100</rise><timeout>0.25</timeout><interval>250ms</interval><type>https</type>",
    );
    assert_eq!(
        serde_json::to_value(&https).unwrap(),
        serde_json::json!({
            "kind": "http", "tls": true, "host": "example.org", "path": "/health?a=1",
            "status": "200,204,300-304", "pattern": "^ok <b>", "verify": true,
            "interval_ms": 250, "timeout_ms": 250, "rise": 100, "fall": 1, "port": 8443,
        })
    );
    let exec = read(
        "<type>exec</type><command>/usr/local/bin/check --fast 'two words' \"\" #1</command>\
         <user>nobody</user>",
    );
    let exec = serde_json::to_value(&exec).unwrap();
    assert_eq!(exec["user"], "nobody");
    assert_eq!(
        exec["program"],
        serde_json::json!(["/usr/local/bin/check", "--fast", "two words", ""]),
        "as in a shell, # begins a comment"
    );
}

#[test]
fn a_dns_check_asks_for_the_address_of_a_name_and_for_the_roots_name_servers() {
    let asked = |children: &str| read(&format!("<type>dns</type>{children}")).kind.to_string();
    assert_eq!(asked(""), "dns NS .");
    assert_eq!(asked("<name>example.org</name>"), "dns A example.org");
    assert_eq!(asked("<record>soa</record><name>example.org.</name>"), "dns SOA example.org");
    assert_eq!(asked("<record>A</record>"), "dns A .");
}

#[test]
fn every_wrong_value_is_told_with_what_it_may_be() {
    assert_data_eq!(
        refused(&check(
            "<type>http</type>\n<interval>soon</interval>\n<timeout>0</timeout>\n<rise>0</rise>\n\
             <fall>three</fall>\n<port>0</port>\n<host>a b</host>\n<path>health</path>\n\
             <status>20-30</status>\n<pattern>(</pattern>"
        )),
        str![[r#"
cvip.conf:10:11: error: `interval` cannot be `soon`
<interval>soon</interval>
          ^~~~
help: a duration is seconds with at most three decimals, such as 5 or 0.25, or milliseconds, such as 250ms
cvip.conf:11:10: error: `timeout` cannot be `0`
<timeout>0</timeout>
         ^
help: a duration is 10 ms to 3600 s
cvip.conf:12:7: error: `rise` cannot be `0`
<rise>0</rise>
      ^
help: a count is a whole number from 1 to 100
cvip.conf:13:7: error: `fall` cannot be `three`
<fall>three</fall>
      ^~~~~
help: a count is a whole number from 1 to 100
cvip.conf:14:7: error: port `0` is outside 1 to 65535
<port>0</port>
      ^
cvip.conf:15:7: error: `host` cannot be `a b`
<host>a b</host>
      ^~~
help: a host is a name of letters, digits, `-` and `_` in labels between dots, or an IP address without a port
cvip.conf:16:7: error: `path` cannot be `health`
<path>health</path>
      ^~~~~~
help: a path begins with `/`, has neither blanks nor `#` and no letters beyond ASCII (write them as %XX), and 2048 bytes at most
cvip.conf:17:9: error: `status` cannot be `20-30`
<status>20-30</status>
        ^~~~~
help: a status is a code from 100 to 999, a range such as 200-399, or several between commas
cvip.conf:18:10: error: `pattern` cannot be `(`
<pattern>(</pattern>
         ^
help: not a regular expression: unclosed group

"#]]
    );
    assert_data_eq!(
        refused(&check("<type>https</type>\n<verify>maybe</verify>")),
        str![[r#"
cvip.conf:10:9: error: `verify` is yes or no, not `maybe`
<verify>maybe</verify>
        ^~~~~

"#]]
    );
    assert_data_eq!(
        refused(&check("<type>dns</type>\n<name>a..b</name>\n<record>ANY</record>")),
        str![[r#"
cvip.conf:10:7: error: `name` cannot be `a..b`
<name>a..b</name>
      ^~~~
help: a domain name is `.`, or labels of at most 63 letters, digits, `-`, `_` or `*` between dots, 253 bytes at most
cvip.conf:11:9: error: `record` cannot be `ANY`
<record>ANY</record>
        ^~~
help: a record type is one of A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV

"#]]
    );
    assert_data_eq!(
        refused(&check("<type>exec</type>\n<command>check --fast</command>\n<user>root</user>")),
        str![[r#"
cvip.conf:10:10: error: `command` cannot be `check --fast`
<command>check --fast</command>
         ^~~~~~~~~~~~
help: a program is given by its absolute path, such as /usr/local/lib/check-it, then its arguments
cvip.conf:11:7: error: `user` cannot be `root`
<user>root</user>
      ^~~~
help: a check's program does not run as root: name a user that has only what the program needs

"#]]
    );
    assert_data_eq!(
        refused(&check("<type>exec</type>\n<command>/bin/check 'x</command>\n<user>a:b</user>")),
        str![[r#"
cvip.conf:10:10: error: `command` cannot be `/bin/check 'x`
<command>/bin/check 'x</command>
         ^~~~~~~~~~~~~
help: a quotation mark or a backslash has no end
cvip.conf:11:7: error: `user` cannot be `a:b`
<user>a:b</user>
      ^~~
help: a user is given by name, without blanks, `:` or `/`

"#]]
    );
}

#[test]
fn what_belongs_to_another_type_is_refused() {
    assert_data_eq!(
        refused(&check(
            "<type>tcp</type>\n<path>/</path>\n<name>x</name>\n<command>/x</command>\n<verify>no</verify>"
        )),
        str![[r#"
cvip.conf:10:1: error: `path` in a check of type tcp
<path>/</path>
^~~~~~
help: it belongs to the type http or https: remove it, or change `type`
cvip.conf:11:1: error: `name` in a check of type tcp
<name>x</name>
^~~~~~
help: it belongs to the type dns: remove it, or change `type`
cvip.conf:12:1: error: `command` in a check of type tcp
<command>/x</command>
^~~~~~~~~
help: it belongs to the type exec: remove it, or change `type`
cvip.conf:13:1: error: `verify` in a check of type tcp
<verify>no</verify>
^~~~~~~~
help: it belongs to the type https: remove it, or change `type`

"#]]
    );
    assert_data_eq!(
        refused(&check("<type>http</type>\n<verify>yes</verify>\n<user>x</user>")),
        str![[r#"
cvip.conf:10:1: error: `verify` in a check of type http
<verify>yes</verify>
^~~~~~~~
help: it belongs to the type https: remove it, or change `type`
cvip.conf:11:1: error: `user` in a check of type http
<user>x</user>
^~~~~~
help: it belongs to the type exec: remove it, or change `type`

"#]]
    );
}

#[test]
fn a_check_without_what_it_needs_is_refused() {
    assert_data_eq!(
        refused(&check("<path>/</path>")),
        str![[r#"
cvip.conf:8:1: error: `type` is missing in this `check`
<check>
^~~~~~~
help: what a real server is asked: tcp, http, https, dns or exec

"#]]
    );
    assert_data_eq!(
        refused(&check("<type>ping</type>\n<path>/</path>")),
        str![[r#"
cvip.conf:9:7: error: unknown type of check `ping`
<type>ping</type>
      ^~~~
help: it is one of tcp, http, https, dns or exec

"#]]
    );
    assert_data_eq!(
        refused(&check("<type>exec</type>")),
        str![[r#"
cvip.conf:9:7: error: a check of type exec without `command`
<type>exec</type>
      ^~~~
help: give the program's absolute path, and its arguments if it has any

"#]]
    );
    assert_data_eq!(
        refused(&check("<type>exec</type><command/>")),
        str![[r#"
cvip.conf:9:18: error: `command` is empty
<type>exec</type><command/>
                 ^~~~~~~~

"#]]
    );
}

#[test]
fn a_check_over_another_protocol_than_the_service_needs_a_port_of_its_own() {
    let udp = |children: &str| {
        check(children)
            .replace("<port>80</port>\n<!-- -->", "<protocol>udp</protocol><port>80</port>\n")
    };
    assert_data_eq!(
        refused(&udp("<type>http</type>")),
        str![[r#"
cvip.conf:9:7: error: this check tells nothing of a udp service
<type>http</type>
      ^~~~
help: a http check connects over tcp and this service is udp: give the check the tcp port that tells of it

"#]]
    );
    loaded(&udp("<type>http</type><port>8080</port>"));
    loaded(&udp("<type>dns</type>"));
    loaded(&udp("<type>exec</type><command>/x</command>"));
    let wrong = udp("<type>http</type>").replace(">udp<", ">icmp<");
    assert_eq!(refused(&wrong).matches("error: ").count(), 1);
}
