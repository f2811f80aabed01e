//! cvip.conf and clustertab: what the cluster is.

pub mod model;

pub use model::{
    Conf, Cvip, DirectorNode, DirectorSet, Owner, RealServer, Registration, Routing, ServiceConf,
};
