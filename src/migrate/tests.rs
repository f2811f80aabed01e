//! Whole configurations: what the draft says, and what is said of the rest.

mod public;

use proptest::prelude::*;
use snapbox::{assert_data_eq, str};

use super::*;
use crate::conf::{Clustertab, RegistrationMode, Routing, parse};
use crate::ipvsadm::names::Numbers;

/// Two directors with addresses of both families.
pub(super) fn options(clustertab: &Clustertab) -> DraftOptions<'_> {
    static DIRECTORS: std::sync::LazyLock<Vec<Vec<std::net::IpAddr>>> =
        std::sync::LazyLock::new(|| {
            let addrs = |v4: &str, v6: &str| vec![v4.parse().unwrap(), v6.parse().unwrap()];
            vec![addrs("203.0.113.1", "2001:db8::1"), addrs("203.0.113.2", "2001:db8::2")]
        });
    DraftOptions {
        directors: &DIRECTORS,
        interface: Some("eth0"),
        sync_interface: None,
        routing: None,
        registration: RegistrationMode::Static,
        clustertab,
    }
}

fn migrated(text: &str) -> Migration {
    migrate(text, None, &options(&Clustertab::default()), &mut Numbers).unwrap()
}

/// The services of the draft, without what surrounds them.
fn services(migration: &Migration) -> String {
    let text = migration.draft.as_ref().unwrap_or_else(|why| panic!("{why}")).conf_text();
    let mut is_within = false;
    let within = text.lines().filter(|line| {
        is_within |= line.trim() == "<service>";
        let shown = is_within || line.contains("<weight>") || line.trim() == "<cvip>";
        is_within &= line.trim() != "</service>";
        shown
    });
    within.map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect()
}

/// The notes on statements that are not carried as they are.
fn notes(migration: &Migration) -> String {
    let told = migration.notes.iter().filter(|note| note.outcome != Outcome::Carried);
    told.map(|note| {
        let why = note.message.as_deref().unwrap_or_default();
        format!("{} {}: {}: {why}\n", note.line, note.statement, note.outcome)
    })
    .collect()
}

const KEEPALIVED: &str = "global_defs {
    router_id lb1
    lvs_sync_daemon eth1 VI_1
}
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    unicast_src_ip 10.0.0.1
    unicast_peer {
        10.0.0.2
    }
    virtual_ipaddress {
        10.0.0.100/24 dev bond0
        10.0.0.101
    }
    authentication {
        auth_pass hunter2
    }
    nopreempt
}
virtual_server 10.0.0.100 80 {
    delay_loop 6
    lvs_sched wrr
    lvs_method DR
    persistence_timeout 300
    persistence_granularity 255.255.255.0
    protocol TCP
    quorum 2
    hysteresis 5
    virtualhost www.example.org
    sorry_server 10.0.0.200 80
    real_server 10.0.0.11 80 {
        weight 3
        inhibit_on_failure
        HTTP_GET {
            url {
                path /health
                status_code 200
            }
            connect_timeout 3
            retry 3
            delay_before_retry 1
        }
        notify_down /bin/mail-me
    }
    real_server 10.0.0.12 80 {
        HTTP_GET {
            url {
                path /health
                status_code 200
            }
            connect_timeout 3
            retry 3
        }
    }
}
virtual_server 10.0.0.100 53 {
    lvs_sched mh
    mh-port
    lvs_method DR
    protocol UDP
    ops
    real_server 10.0.0.11 53 {
        uthreshold 90
        DNS_CHECK {
            type A
            name example.org
        }
    }
}
include more.conf
frobnicate yes
";

#[test]
fn a_keepalived_conf_becomes_services_and_says_what_it_left_out() {
    let (clustertab, mut options) = (Clustertab::default(), None);
    let options = options.insert(super::tests::options(&clustertab));
    (options.directors, options.interface) = (&[], None);
    let migration = migrate(KEEPALIVED, None, options, &mut Numbers).unwrap();
    assert_eq!(migration.format, SourceFormat::Keepalived);
    let draft = migration.draft.as_ref().unwrap();
    assert_eq!(draft.new_nodes(&clustertab), "1 10.0.0.1\n2 10.0.0.2\n3 10.0.0.11\n4 10.0.0.12\n");
    assert_eq!(draft.conf.director_sets()[0].directors, [1, 2]);
    let interfaces: Vec<_> = draft.conf.interfaces(1).collect();
    assert_eq!(interfaces, [("garp_interface", "bond0"), ("sync_interface", "eth1")]);
    assert_data_eq!(
        services(&migration),
        str![[r#"
<cvip>
        <weight>0</weight>
        <weight>0</weight>
        <weight>0</weight>
        <weight>0</weight>
    <service>
        <port>80</port>
        <scheduler>wrr</scheduler>
        <persistence>300</persistence>
        <persistence_netmask>24</persistence_netmask>
        <node>
            <node_num>3</node_num>
            <weight>3</weight>
        </node>
        <node>
            <node_num>4</node_num>
            <weight>1</weight>
        </node>
        <registration>static</registration>
        <quorum>2</quorum>
        <hysteresis>1</hysteresis>
        <sorry_server>
            <ip_addr>10.0.0.200</ip_addr>
        </sorry_server>
        <check>
            <type>http</type>
            <interval>6</interval>
            <timeout>3</timeout>
            <fall>4</fall>
            <host>www.example.org</host>
            <path>/health</path>
            <status>200</status>
        </check>
    </service>
    <service>
        <protocol>udp</protocol>
        <port>53</port>
        <scheduler>mh</scheduler>
        <scheduler_flags>mh-port</scheduler_flags>
        <one_packet>yes</one_packet>
        <upper_threshold>90</upper_threshold>
        <node>
            <node_num>3</node_num>
            <weight>1</weight>
        </node>
        <registration>static</registration>
        <check>
            <type>dns</type>
            <name>example.org</name>
            <record>A</record>
        </check>
    </service>

"#]]
    );
    let told = notes(&migration);
    for (line, begin) in [
        (2, "router_id lb1: not carried: a node is named by its number"),
        (3, "lvs_sync_daemon eth1 VI_1: carried differently: the interface is carried"),
        (6, "state MASTER: not carried: which director is active first"),
        (13, "10.0.0.100/24 dev bond0: carried differently: a CVIP is carried"),
        (14, "10.0.0.101: not carried: no virtual server that is carried has this address"),
        (17, "auth_pass: not carried: heartbeats are signed"),
        (19, "nopreempt: carried differently: a director that returns never"),
        (29, "hysteresis 5: carried differently: it is below the quorum, as in keepalived: 1"),
        (34, "inhibit_on_failure: carried differently: a server that fails"),
        (41, "retry 3: carried differently: fall 4"),
        (42, "delay_before_retry 1: not carried: a check that failed"),
        (44, "notify_down /bin/mail-me: not carried: cvipd runs no program"),
        (71, "include more.conf: not carried: the file that it names was not read"),
        (72, "frobnicate yes: not carried: its keyword is not known here"),
    ] {
        let begin = format!("{line} {begin}");
        assert!(told.lines().any(|told| told.starts_with(&begin)), "{begin}\n{told}");
    }
    assert!(!told.contains("hunter2"));
}

#[test]
fn an_ldirectord_cf_becomes_services_and_says_what_it_left_out() {
    let text = "checktimeout = 3
checkinterval=5 # seconds
quiescent=no
emailalert=\"root@example.org\"
fallback=10.0.0.200:80 gate
virtual=10.0.0.100:80
\treal=10.0.0.11->10.0.0.12:80 gate 2
\treal=10.0.0.13:80 gate 1 \".check\", \"ok\"
\tservice=http
\trequest=\"alive.html\"
\treceive=\"I'm #1\"
\tvirtualhost=www.example.org
\tfailurecount=2
\tscheduler=sh
\tpersistent=600
\tnetmask=255.255.255.255
\tprotocol=tcp
virtual=[2001:db8:1::1]:25
\treal6=[2001:db8:1::11]:25 gate
\tfallback=127.0.0.1:25
\tservice=smtp
\tchecktype=negotiate
virtual=7
\treal=10.0.0.11:80 gate
";
    let migration = migrated(text);
    assert_eq!(migration.format, SourceFormat::Ldirectord);
    assert_data_eq!(
        services(&migration),
        str![[r#"
<cvip>
        <weight>0</weight>
        <weight>0</weight>
        <weight>2</weight>
        <weight>2</weight>
        <weight>1</weight>
    <service>
        <port>80</port>
        <scheduler>sh</scheduler>
        <persistence>600</persistence>
        <registration>static</registration>
        <sorry_server>
            <ip_addr>10.0.0.200</ip_addr>
        </sorry_server>
        <check>
            <type>http</type>
            <timeout>3</timeout>
            <fall>2</fall>
            <host>www.example.org</host>
            <path>/alive.html</path>
            <pattern>I'm #1</pattern>
        </check>
    </service>
<cvip>
        <weight>0</weight>
        <weight>0</weight>
        <weight>1</weight>
    <service>
        <port>25</port>
        <registration>static</registration>
        <check>
            <type>tcp</type>
            <timeout>3</timeout>
        </check>
    </service>

"#]]
    );
    assert_data_eq!(
        notes(&migration),
        str![[r#"
3 quiescent=no: carried differently: a server that fails its check keeps its place with weight 0, and its connections
4 emailalert="root@example.org": not carried: cvipd sends no mail: `cvipctl events --follow` tells what happens, and `cvipctl metrics` counts it
8 real=10.0.0.13:80 gate 1 ".check", "ok": carried differently: what the server is asked is the service's in cvip.conf: its request and answer here are left out
11 receive="I'm #1": carried differently: its syntax is that of Rust's regex, without look-around
20 fallback=127.0.0.1:25: not carried: it is the director itself: name another machine as sorry server
21 service=smtp: carried differently: it is asked whether it takes a TCP connection, without the protocol of this service: an exec check can run a program that speaks it
23 virtual=7: not carried: it is found by a firewall mark, which cvip.conf has not: write a service for each address and port that the firewall marks
24 real=10.0.0.11:80 gate: not carried: it is found by a firewall mark, which cvip.conf has not: write a service for each address and port that the firewall marks

"#]]
    );
}

#[test]
fn rules_of_ipvsadm_become_services_and_say_what_was_left_out() {
    let text = "-A -t 10.0.0.100:80 -s sh -p 60 -M 255.255.255.0 -b sh-port
-a -t 10.0.0.100:80 -r 10.0.0.11:80 -g -w 1 -x 9 -y 7
-a -t 10.0.0.100:80 -r 10.0.0.12:80 -g -w 2 -x 9 -y 7
# a comment
ipvsadm -A -u 10.0.0.100:53 -o
ipvsadm -a -u 10.0.0.100:53 -r 10.0.0.11 -i
-A -f 3
-a -f 3 -r 10.0.0.11
--start-daemon master --mcast-interface eth1
--set 900 120 300
-A -t $VIP:80
echo hello
";
    let migration = migrated(text);
    assert_eq!(migration.format, SourceFormat::Ipvsadm);
    assert_data_eq!(
        services(&migration),
        str![[r#"
<cvip>
        <weight>0</weight>
        <weight>0</weight>
        <weight>1</weight>
        <weight>2</weight>
    <service>
        <port>80</port>
        <scheduler>sh</scheduler>
        <scheduler_flags>sh-port</scheduler_flags>
        <persistence>60</persistence>
        <persistence_netmask>24</persistence_netmask>
        <upper_threshold>9</upper_threshold>
        <lower_threshold>7</lower_threshold>
        <registration>static</registration>
    </service>

"#]]
    );
    let told = notes(&migration);
    for begin in [
        "5 --add-service: not carried: it is reached by TUN, and a cvip.conf has one method, here DR",
        "7 --fwmark-service 3: not carried: it is found by a firewall mark",
        "9 --start-daemon master: carried differently",
        "10 --set: not carried: the kernel's time-outs",
        "11 --tcp-service $VIP:80: not carried: illegal virtual server address",
        "12 echo hello: not carried: it is no command of ipvsadm",
    ] {
        assert!(told.lines().any(|told| told.starts_with(begin)), "{begin}\n{told}");
    }
    let draft = migration.draft.unwrap();
    assert_eq!(draft.conf.sync_interface(1), Some("eth1"));
}

#[test]
fn the_forwarding_method_can_be_chosen_and_is_else_that_of_most_services() {
    let text = "-A -t 10.0.0.100:80\n-a -t 10.0.0.100:80 -r 10.0.0.11:80 -m\n\
                -A -t 10.0.0.100:81\n-a -t 10.0.0.100:81 -r 10.0.0.11:81 -m\n\
                -A -t 10.0.0.100:82\n-a -t 10.0.0.100:82 -r 10.0.0.11:82 -i\n\
                -A -t 10.0.0.100:83\n-a -t 10.0.0.100:83 -r 10.0.0.11:8083 -m\n";
    let clustertab = Clustertab::default();
    let ports = |routing| {
        let options = DraftOptions { routing, ..options(&clustertab) };
        let draft = migrate(text, None, &options, &mut Numbers).unwrap().draft.unwrap();
        let services = draft.conf.cvips[0].services.iter().map(|service| service.start);
        (draft.conf.routing, services.collect::<Vec<u16>>())
    };
    assert_eq!(ports(None), (Routing::Nat, vec![80, 81]));
    assert_eq!(ports(Some(Routing::Tun)), (Routing::Tun, vec![82]));
}

#[test]
fn machines_of_a_clustertab_keep_their_numbers() {
    let clustertab = Clustertab::parse("7 10.0.0.11\n1 10.0.0.50\n", "clustertab").0.unwrap();
    let text = "-A -t 10.0.0.100:80\n-a -t 10.0.0.100:80 -r 10.0.0.11:80\n";
    let migration = migrate(text, None, &options(&clustertab), &mut Numbers).unwrap();
    let draft = migration.draft.unwrap();
    assert_eq!(draft.new_nodes(&clustertab), "2 203.0.113.1\n3 203.0.113.2\n");
    let nodes: Vec<u32> = draft.conf.nodes();
    assert_eq!(nodes, [2, 3, 7]);
}

#[test]
fn what_cvip_conf_itself_refuses_takes_its_service_with_it_and_no_other() {
    // The director's own address as a CVIP, and a real server that is none for its family.
    let text = "-A -t 203.0.113.1:80\n-a -t 203.0.113.1:80 -r 10.0.0.11:80\n\
                -A -t 10.0.0.100:80\n-a -t 10.0.0.100:80 -r 10.0.0.11:80\n\
                -A -t 10.0.0.100:80\n";
    let migration = migrated(text);
    let draft = migration.draft.as_ref().unwrap();
    assert_eq!(draft.conf.cvips.len(), 1);
    let told = notes(&migration);
    assert!(told.contains("1 --add-service: not carried: cvip.conf refuses it: "), "{told}");
    assert!(told.contains("5 --add-service: not carried: Service already exists"), "{told}");
}

#[test]
fn servers_that_are_asked_different_things_have_no_check_in_common() {
    let server = |number: u32, program: &str| {
        format!(
            "real_server 10.0.0.{number} 80 {{\n MISC_CHECK {{\n misc_path \"{program}\"\n }}\n}}\n"
        )
    };
    let text = |first: &str, second: &str| {
        let servers = server(11, first) + &server(12, second);
        format!("virtual_server 10.0.0.100 80 {{\n lb_kind DR\n delay_loop 9\n{servers}}}\n")
    };
    let check = |text: &str| migrated(text).draft.unwrap().conf.cvips[0].services[0].check.clone();
    assert!(check(&text("/bin/check all", "/bin/check all")).is_some());
    let differing = text("/bin/check 10.0.0.11", "/bin/check 10.0.0.12");
    assert_eq!(check(&differing), None);
    let told = notes(&migrated(&differing));
    let begin = "6 misc_path /bin/check 10.0.0.11: not carried: a service has one check";
    assert!(told.contains(begin), "{told}");
    assert!(told.contains("3 delay_loop 9: not carried"), "{told}");
}

#[test]
fn a_group_has_a_service_for_each_of_its_addresses() {
    let text = "virtual_server_group web {\n 10.0.0.100-101 80\n 10.0.0.102 90-92\n fwmark 4\n}\n\
                virtual_server_group idle {\n 10.0.0.103 80\n}\n\
                virtual_server group web {\n lb_kind DR\n real_server 10.0.0.11 80 {\n }\n}\n";
    let migration = migrated(text);
    let draft = migration.draft.as_ref().unwrap();
    let services = draft.conf.cvips.iter().flat_map(|cvip| {
        cvip.services
            .iter()
            .map(|service| format!("{} {}-{}", cvip.addr, service.start, service.end))
    });
    let services: Vec<String> = services.collect();
    assert_eq!(services, ["10.0.0.100 80-80", "10.0.0.101 80-80", "10.0.0.102 90-92"]);
    let told = notes(&migration);
    assert!(told.contains("4 fwmark 4: not carried: it is found by a firewall mark"), "{told}");
    assert!(told.contains("6 virtual_server_group idle: not carried: no virtual server"), "{told}");
}

#[test]
fn what_is_lacking_is_asked_for() {
    let clustertab = Clustertab::default();
    let text = "-A -t 10.0.0.100:80\n-a -t 10.0.0.100:80 -r 10.0.0.11:80\n";
    let why = |options: &DraftOptions<'_>| {
        migrate(text, None, options, &mut Numbers).unwrap().draft.unwrap_err()
    };
    let options = options(&clustertab);
    assert!(why(&DraftOptions { directors: &[], ..options.clone() }).contains("--director"));
    assert!(why(&DraftOptions { interface: None, ..options }).contains("--interface"));
    let unknown = migrate("hello\n", None, &super::tests::options(&clustertab), &mut Numbers);
    assert_eq!(unknown.unwrap_err(), MigrationError::UnknownFormat);
}

#[test]
fn a_short_text_cannot_ask_for_more_than_a_cvip_conf_can_say() {
    let groups: String = (0..200).map(|n| format!(" 10.{n}.0.0-10.{n}.255.255 80\n")).collect();
    let servers: String =
        (0..200).map(|n| format!(" real_server 172.16.0.{n} 80 {{\n }}\n")).collect();
    let text = format!(
        "virtual_server_group g {{\n{groups} 10.250.0.0-10.250.39.255 80\n}}\n\
         virtual_server group g {{\n lb_kind DR\n{servers}}}\n"
    );
    let migration = migrated(&text);
    assert!(migration.draft.is_err());
    let told = notes(&migration);
    assert!(told.contains("more than 16384 addresses") && told.contains("destinations"), "{told}");
    let large = "#".repeat(MAX_BYTES + 1);
    let options = options(&Clustertab { nodes: Default::default() }).registration;
    assert_eq!(options, RegistrationMode::Static);
    let clustertab = Clustertab::default();
    let refused = migrate(&large, None, &super::tests::options(&clustertab), &mut Numbers);
    assert_eq!(refused.unwrap_err(), MigrationError::TooLarge);
}

/// Whatever comes in, each statement has a note, and a draft is a cvip.conf that says the same.
fn is_sound(text: &str, format: Option<SourceFormat>) -> Result<(), TestCaseError> {
    let clustertab = Clustertab::default();
    let Ok(migration) = migrate(text, format, &options(&clustertab), &mut Numbers) else {
        return Ok(());
    };
    for note in &migration.notes {
        let is_told = note.outcome == Outcome::Carried || note.message.is_some();
        prop_assert!(is_told && note.line > 0 && note.column > 0, "{:?}", note);
    }
    if let Ok(draft) = migration.draft {
        let (conf, _) = parse(&draft.conf_text(), "draft", &draft.clustertab);
        prop_assert_eq!(conf, Some(draft.conf));
    }
    Ok(())
}

/// Texts of words that mean something to a format, in any order.
fn words(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    let word = prop::sample::select(of);
    prop::collection::vec(word, 0..60).prop_map(|words| words.join(" ").replace("; ", "\n"))
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in "\\PC{0,200}", format in 0..3usize) {
        is_sound(&text, Some(SourceFormat::ALL[format]))?;
    }

    #[test]
    fn any_statements_of_keepalived_are_judged(text in words(&[
        "virtual_server 10.0.0.100 80 {;", "virtual_server fwmark 3 {;", "real_server", "{;", "};",
        "10.0.0.11 80", "10.0.0.12 81 {;", "weight 3;", "lb_kind NAT;", "HTTP_GET {;", "url {;",
        "path /x;", "TCP_CHECK {;", "connect_timeout 3;", "virtual_ipaddress {;", "10.0.0.100;",
        "vrrp_instance A {;", "interface eth0;", "sorry_server 10.0.0.12 80;", "quorum 1;",
        "protocol UDP;", "ops;", "$A=1;", "$A;", "virtual_server_group g {;", "group g {;",
        "10.0.0.1-9 80-90;", "uthreshold 5;", "lthreshold 9;", "persistence_timeout 0;", ";",
    ])) {
        is_sound(&text, Some(SourceFormat::Keepalived))?;
    }

    #[test]
    fn any_lines_of_ldirectord_are_judged(text in words(&[
        "virtual=10.0.0.100:80;", "virtual=3;", "\treal=10.0.0.11:80 gate 3;", "\treal=10.0.0.1->10.0.0.9:80 masq;",
        "\tfallback=10.0.0.12:80;", "fallback=10.0.0.11 masq;", "\tchecktype=connect;", "checkinterval=3;",
        "\tservice=http;", "\trequest=\"x\";", "\treceive=\"(\";", "\tprotocol=udp;", "\tnetmask=64;",
        "\tpersistent=3;", "=;", "\tcheckport=0;", "checktimeout=x;", "quiescent=yes;", "#;", ";",
    ])) {
        is_sound(&text, Some(SourceFormat::Ldirectord))?;
    }

    #[test]
    fn any_rules_of_ipvsadm_are_judged(text in words(&[
        "-A", "-a", "-E", "-D", "-d", "-C;", "-t 10.0.0.100:80", "-u 10.0.0.100:53", "-f 3", "-r 10.0.0.11:80",
        "-r 10.0.0.12:53", "-g", "-m;", "-i", "-s sh", "-p 9", "-M 255.255.0.0", "-w 3;", "-w 99999;",
        "-x 9", "-y 7", "-o;", "--set 1 2 3;", "--start-daemon master;", "ipvsadm", ";", ";",
    ])) {
        is_sound(&text, Some(SourceFormat::Ipvsadm))?;
    }
}
