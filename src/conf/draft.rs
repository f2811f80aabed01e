//! From the XML tree to a draft of the configuration, each value with its place.
//!
//! Here every value is judged by itself; what values mean to each other is validated later.
//! A value that is wrong is reported and left out, so that one run finds all faults.

use std::net::IpAddr;

use roxmltree::Node;

use super::grammar::{CVIP, CVIPS, DIRECTOR_NODE, REAL_SERVER_NODE};
use super::model::Routing;
use super::report::{At, ConfReport, Span};
use super::words::quoted;

mod check;
mod reader;
mod service;

use reader::DraftReader;
pub(super) use service::{DraftService, DraftSorry, Netmask};

#[derive(Default)]
pub(super) struct DraftConf {
    pub(super) routing: Option<At<Routing>>,
    pub(super) cvips: Vec<DraftCvip>,
}

#[derive(Default)]
pub(super) struct DraftCvip {
    /// The start tag.
    pub(super) tag: Span,
    pub(super) addr: Option<At<IpAddr>>,
    pub(super) gateway: Option<At<IpAddr>>,
    pub(super) directors: Vec<DraftDirector>,
    pub(super) real_servers: Vec<DraftServer>,
    pub(super) services: Vec<DraftService>,
}

#[derive(Default)]
pub(super) struct DraftDirector {
    /// The start tag.
    pub(super) tag: Span,
    pub(super) node: Option<At<u32>>,
    pub(super) garp_interface: Option<At<String>>,
    pub(super) sync_interface: Option<At<String>>,
    /// The element is there, be its value right or wrong.
    pub(super) names_sync_interface: bool,
}

pub(super) struct DraftServer {
    pub(super) node: Option<At<u32>>,
    pub(super) addr: Option<At<IpAddr>>,
    pub(super) weight: Option<u16>,
}

/// Reads the tree of a cvip.conf from its root; reports what is wrong with it.
pub(super) fn read(report: &mut ConfReport<'_>, root: Node<'_, '_>) -> DraftConf {
    let mut conf = DraftConf::default();
    let mut reader = DraftReader { report };
    let name = root.tag_name().name();
    if name != CVIPS.name {
        reader
            .error(&reader.tag(root), format!("the root element is {}, not `cvips`", quoted(name)))
            .help("see cvip.conf(5) for an example");
        return conf;
    }
    reader.walk(root, &CVIPS, |reader, name, node| match name {
        "routing" => conf.routing = reader.routing(node),
        _ => conf.cvips.push(reader.cvip(node)),
    });
    conf
}

impl DraftReader<'_, '_> {
    fn cvip(&mut self, node: Node<'_, '_>) -> DraftCvip {
        let mut cvip = DraftCvip { tag: self.tag(node), ..DraftCvip::default() };
        self.walk(node, &CVIP, |reader, name, node| match name {
            "ip_addr" => cvip.addr = reader.address(node),
            "gateway" => cvip.gateway = reader.address(node),
            "director_node" => cvip.directors.push(reader.director(node)),
            "real_server_node" => cvip.real_servers.push(reader.real_server(node)),
            _ => cvip.services.push(reader.service(node)),
        });
        cvip
    }

    fn director(&mut self, node: Node<'_, '_>) -> DraftDirector {
        let mut director = DraftDirector { tag: self.tag(node), ..DraftDirector::default() };
        self.walk(node, &DIRECTOR_NODE, |reader, name, node| match name {
            "node_num" => director.node = reader.node_num(node),
            "garp_interface" => director.garp_interface = reader.interface(node),
            _ => {
                director.names_sync_interface = true;
                director.sync_interface = reader.interface(node);
            }
        });
        director
    }

    fn real_server(&mut self, node: Node<'_, '_>) -> DraftServer {
        let mut server = DraftServer { node: None, addr: None, weight: None };
        self.walk(node, &REAL_SERVER_NODE, |reader, name, node| match name {
            "node_num" => server.node = reader.node_num(node),
            "ip_addr" => server.addr = reader.address(node),
            _ => server.weight = reader.weight(node, 0),
        });
        server
    }
}
