//! What a director checks: the real servers of static services, which need no cvipd. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::flaps::ServerKey;
use crate::checks::CheckTarget;
use crate::conf::{Conf, RegistrationMode};
use crate::store::ServiceKey;

/// The targets of the static services that this director directs, at their own addresses.
pub(super) fn targets(conf: &Conf, me: u32) -> BTreeMap<ServerKey, CheckTarget> {
    let mut targets = BTreeMap::new();
    for cvip in conf.cvips.iter().filter(|cvip| cvip.is_director(me)) {
        let fixed = cvip.services.iter().filter(|s| s.registration == RegistrationMode::Static);
        for (service, check) in fixed.filter_map(|s| Some((s, s.check.as_ref()?))) {
            for port in service.start..=service.end {
                let key = ServiceKey { cvip: cvip.addr, protocol: service.protocol, port };
                for server in &cvip.real_servers {
                    let target = CheckTarget {
                        addr: SocketAddr::new(server.addr, port),
                        protocol: service.protocol,
                        device: None,
                        check: check.clone(),
                    };
                    targets.insert((key, server.node), target);
                }
            }
        }
    }
    targets
}
