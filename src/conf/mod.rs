//! cvip.conf and clustertab: what the cluster is.
//!
//! The way of a file: [`load`](load()) reads it, `xml` makes a tree of it, `draft` judges
//! each value by itself, `validate` judges what values mean to each other, and a [`Conf`]
//! comes out, or [`Diagnostic`]s that show every fault where it stands.
//!
//! ```
//! use cvip::conf::{Clustertab, parse};
//!
//! let (nodes, _) = Clustertab::parse("1 192.0.2.1\n2 192.0.2.2\n", "clustertab");
//! let nodes = nodes.expect("it has no fault");
//! let text = "<?xml version=\"1.0\"?>
//! <cvips>
//!     <routing>DR</routing>
//!     <cvip>
//!         <ip_addr>192.0.2.10</ip_addr>
//!         <director_node>
//!             <node_num>1</node_num>
//!             <garp_interface>eth0</garp_interface>
//!         </director_node>
//!         <real_server_node><node_num>2</node_num></real_server_node>
//!     </cvip>
//! </cvips>";
//! let (conf, diagnostics) = parse(text, "cvip.conf", &nodes);
//! let conf = conf.unwrap_or_else(|| panic!("{}", diagnostics[0]));
//! assert!(conf.is_director(1) && !conf.is_director(2));
//!
//! let (conf, diagnostics) = parse(&text.replace("DR", "round"), "cvip.conf", &nodes);
//! assert!(conf.is_none());
//! assert_eq!(diagnostics[0].place.as_ref().map(|place| place.line), Some(3));
//! ```

mod address;
pub mod clustertab;
pub mod diagnostic;
mod draft;
mod grammar;
pub mod insert;
pub mod load;
pub mod model;
mod parse;
mod report;
#[cfg(test)]
mod tests;
mod validate;
mod words;
pub mod write;
mod xml;

pub(crate) use address::unusable;
pub use clustertab::Clustertab;
pub use diagnostic::{Diagnostic, DiagnosticSeverity, SourcePlace};
pub use insert::with_services;
pub use load::{CLUSTERTAB_PATH, CONF_PATH, Loaded, Sources, load, load_clustertab};
pub use model::{
    Conf, Cvip, DirectorNode, DirectorSet, Owner, Quorum, RealServer, RegistrationMode, Routing,
    ServiceConf, SlowStart, SorryServer,
};
pub use parse::parse;
pub(crate) use words::closest;
pub use write::Xml;

pub use crate::checks::settings as checks;
