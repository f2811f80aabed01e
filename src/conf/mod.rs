//! cvip.conf and clustertab: what the cluster is.
//!
//! The way of a file: [`load`](load()) reads it, `xml` makes a tree of it, `draft` judges
//! each value by itself, `validate` judges what values mean to each other, and a [`Conf`]
//! comes out, or [`Diagnostic`]s that show every fault where it stands.

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

pub use clustertab::Clustertab;
pub use diagnostic::{Diagnostic, Place, Severity};
pub use insert::with_services;
pub use load::{CLUSTERTAB_PATH, CONF_PATH, Loaded, Sources, load, load_clustertab};
pub use model::{
    Conf, Cvip, DirectorNode, DirectorSet, Owner, RealServer, Registration, Routing, ServiceConf,
    SorryServer,
};
pub use parse::parse;
pub(crate) use words::closest;
pub use write::Xml;
