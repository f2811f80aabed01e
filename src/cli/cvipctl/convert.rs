//! `cvipctl convert`: cvip.conf as virtual services, without a kernel.

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::super::{OK, Site, Streams};
use crate::clock::Instant;
use crate::conf::Conf;
use crate::director::desired::{Inputs, desired, keys};
use crate::director::restrictions::Restrictions;
use crate::ipvs::{Change, Destination, Service};
use crate::ipvsadm::change_line;
use crate::ipvsadm::documents::ServiceObject;
use crate::json;
use crate::store::{Drains, NodeRecord, Registration, ServiceKey};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// How the entries are printed
    #[arg(long, value_enum, default_value_t = Format::Restore)]
    format: Format,

    /// The same as --format=json
    #[arg(long, conflicts_with = "format")]
    json: bool,

    /// Print automatic services too, as if every real server listened on every port
    #[arg(long)]
    all: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Input for `ipvsadm -R`
    Restore,
    /// The same as shell commands
    Shell,
    /// JSON
    Json,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let conf = site.conf()?;
    let entries = entries(&conf, args.all);
    if args.json || args.format == Format::Json {
        let object = |(service, list): &(_, Vec<_>)| ServiceObject::settings(service, list);
        let services: Vec<_> = entries.iter().map(object).collect();
        json::write(streams.out, BTreeMap::from([("services", services)]))?;
    } else {
        let program = if args.format == Format::Shell { "ipvsadm " } else { "" };
        for (service, destinations) in &entries {
            let add = change_line(&Change::AddService(service.clone()));
            writeln!(streams.out, "{program}{add}")?;
            for destination in destinations {
                let add = Change::AddDestination(service.id, *destination);
                writeln!(streams.out, "{program}{}", change_line(&add))?;
            }
        }
    }
    let services = conf.cvips.iter().flat_map(|cvip| &cvip.services);
    let automatic = services.filter(|service| !service.always_exists()).count();
    if automatic > 0 && !args.all {
        let services = match automatic {
            1 => "1 automatic service has".to_owned(),
            several => format!("{several} automatic services have"),
        };
        writeln!(
            streams.err,
            "cvipctl: {services} no entry until a process listens (--all prints automatic services \
             as if every real server did)"
        )?;
    }
    Ok(OK)
}

/// The services of the configuration, each with its destinations, in order.
fn entries(conf: &Conf, all: bool) -> Vec<(Service, Vec<Destination>)> {
    let mut entries = Vec::new();
    for cvip in &conf.cvips {
        let Some(director) = cvip.directors.first() else { continue };
        let nodes = if all { as_if_all_listened(conf) } else { BTreeMap::new() };
        let (me, restrictions, now) = (director.node, &Restrictions::default(), Instant::now());
        let drains = &Drains::new();
        let inputs = Inputs { conf, nodes: &nodes, me, drains, restrictions, passive: false, now };
        for key in keys(inputs).into_iter().filter(|key| key.cvip == cvip.addr) {
            let desired = desired(key, inputs);
            let destinations = desired.pool([]).destinations.values().copied().collect();
            if let Some(service) = desired.service {
                entries.push((service, destinations));
            }
        }
    }
    entries
}

fn as_if_all_listened(conf: &Conf) -> BTreeMap<u32, NodeRecord> {
    let record = |node| {
        let mut registrations: Vec<Registration> = Vec::new();
        for cvip in conf.cvips.iter().filter(|cvip| cvip.real_server(node).is_some()) {
            for flag in cvip.flags().iter() {
                registrations.extend((flag.start..=flag.end).map(|port| {
                    let (cvip, protocol) = (cvip.addr, flag.protocol);
                    Registration::new(ServiceKey { cvip, protocol, port }, flag.weight)
                }));
            }
        }
        registrations.sort_unstable();
        NodeRecord { registrations, ..NodeRecord::empty(node, 0, 0) }
    };
    conf.nodes().into_iter().map(|node| (node, record(node))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::testing::run_with;

    fn convert(dir: &Path, service: &str, more: &[&str]) -> (u8, String, String) {
        let conf = dir.join("cvip.conf");
        let tab = dir.join("clustertab");
        std::fs::write(&tab, "1 192.168.200.1\n2 192.168.200.2\n3 192.168.200.3\n").unwrap();
        let text = format!(
            "<cvips><routing>DR</routing><cvip><ip_addr>192.168.200.10</ip_addr>\
             <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface>\
             </director_node>\
             <real_server_node><node_num>2</node_num></real_server_node>\
             <real_server_node><node_num>3</node_num></real_server_node>\
             <service>{service}</service></cvip></cvips>"
        );
        std::fs::write(&conf, text).unwrap();
        let (conf, tab) = (conf.display().to_string(), tab.display().to_string());
        let mut args = vec!["cvipctl", "convert", "--conf", &conf, "--clustertab", &tab];
        args.extend(more);
        run_with(&args, super::super::run)
    }

    const XDMCP: &str =
        "<protocol>udp</protocol><port>177</port><registration>static</registration>";

    #[test]
    fn static_xdmcp_is_exactly_the_wikis_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (status, out, err) = convert(dir.path(), XDMCP, &[]);
        assert_eq!(
            out,
            "-A -u 192.168.200.10:177 -s wlc\n\
             -a -u 192.168.200.10:177 -r 192.168.200.1:177 -g -w 1\n\
             -a -u 192.168.200.10:177 -r 192.168.200.2:177 -g -w 1\n\
             -a -u 192.168.200.10:177 -r 192.168.200.3:177 -g -w 1\n"
        );
        assert_eq!((status, err.as_str()), (0, ""));
        let (_, shell, _) = convert(dir.path(), XDMCP, &["--format=shell"]);
        assert!(shell.starts_with("ipvsadm -A -u 192.168.200.10:177 -s wlc\nipvsadm -a -u "));
    }

    #[test]
    fn json_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (_, out, _) = convert(dir.path(), XDMCP, &["--format=json"]);
        assert_eq!(convert(dir.path(), XDMCP, &["--json"]).1, out);
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        let services = &document["services"];
        assert_eq!(services[0]["address"], "192.168.200.10");
        assert_eq!(services[0]["scheduler"], "wlc");
        assert_eq!(services[0]["destinations"].as_array().unwrap().len(), 3);
        assert_eq!(services[0]["destinations"][1]["address"], "192.168.200.2");
    }

    const EVERYTHING: &str = "<protocol>udp</protocol><port>5060</port><weight>2</weight>\
        <registration>static</registration><scheduler>mh</scheduler>\
        <scheduler_flags>mh-port,flag-3</scheduler_flags><one_packet>yes</one_packet>\
        <persistence>60</persistence><persistence_netmask>24</persistence_netmask>\
        <persistence_engine>sip</persistence_engine><upper_threshold>9</upper_threshold>\
        <lower_threshold>7</lower_threshold>\
        <node><node_num>2</node_num><weight>5</weight></node>";

    #[test]
    fn everything_that_a_service_says_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let (status, out, _) = convert(dir.path(), EVERYTHING, &[]);
        let to = |host: u8, weight: u32| {
            format!(
                "-a -u 192.168.200.10:5060 -r 192.168.200.{host}:5060 -g -w {weight} -x 9 -y 7\n"
            )
        };
        let service = "-A -u 192.168.200.10:5060 -s mh -p 60 -M 255.255.255.0 --pe sip -o \
                       -b mh-fallback,mh-port,flag-3\n";
        let expected = [service.to_owned(), to(1, 2), to(2, 10), to(3, 2)].concat();
        assert_eq!((status, out), (0, expected));
        let (_, json, _) = convert(dir.path(), EVERYTHING, &["--json"]);
        let document: serde_json::Value = serde_json::from_str(&json).unwrap();
        let services = &document["services"];
        assert_eq!(
            services[0]["scheduler_flags"],
            serde_json::json!(["mh-fallback", "mh-port", "flag-3"])
        );
        assert_eq!(services[0]["one_packet"], true);
        assert_eq!(services[0]["persistence_netmask"], "255.255.255.0");
        assert_eq!(services[0]["persistence_engine"], "sip");
        assert_eq!(services[0]["destinations"][1]["upper_threshold"], 9);
        assert_eq!(services[0]["destinations"][1]["lower_threshold"], 7);
    }

    #[test]
    fn sorry_servers_are_printed_where_no_node_listens_and_not_where_all_do() {
        let dir = tempfile::tempdir().unwrap();
        let service = "<port>80</port><sorry_server><ip_addr>192.168.200.9</ip_addr>\
                       <weight>3</weight></sorry_server>";
        let (_, out, err) = convert(dir.path(), service, &[]);
        assert_eq!(
            out,
            "-A -t 192.168.200.10:80 -s wlc\n-a -t 192.168.200.10:80 -r 192.168.200.9:80 -g -w 3\n"
        );
        assert_eq!(err, "");
        let (_, out, _) = convert(dir.path(), service, &["--all"]);
        assert_eq!((out.lines().count(), out.contains("200.9:80")), (4, false), "{out}");
    }

    #[test]
    fn an_automatic_service_is_printed_only_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (_, out, err) = convert(dir.path(), "<port>80</port><weight>2</weight>", &[]);
        assert_eq!(out, "");
        assert!(err.contains("--all"), "{err}");
        let (status, out, err) = convert(dir.path(), "<port>80</port>", &["--json"]);
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((status, &document["services"]), (0, &serde_json::json!([])));
        assert!(err.contains("1 automatic service has") && err.contains("--all"), "{err}");
        let (_, out, err) = convert(dir.path(), "<port>80</port><weight>2</weight>", &["--all"]);
        assert_eq!(out.lines().count(), 4, "{out}");
        assert!(out.ends_with("-a -t 192.168.200.10:80 -r 192.168.200.3:80 -g -w 2\n"), "{out}");
        assert_eq!(err, "");
    }

    #[test]
    fn a_faulty_configuration_shows_all_its_faults_and_converts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (status, out, err) = convert(dir.path(), "<port>0</port><weight>-1</weight>", &[]);
        assert_eq!((status, out.as_str()), (1, ""));
        assert!(err.matches("error:").count() == 2 && err.contains('^'), "{err}");
    }
}
