//! What every judgement of a configuration reads and reports to.

use std::collections::btree_map::{BTreeMap, Entry};
use std::net::IpAddr;

use crate::conf::clustertab::Clustertab;
use crate::conf::model::Routing;
use crate::conf::report::{ConfReport, Reported, Span};

/// The judgement of a configuration under way.
pub(super) struct Checks<'c, 'r, 'a> {
    pub(super) report: &'r mut ConfReport<'a>,
    pub(super) clustertab: Option<&'c Clustertab>,
    /// None if it is missing or wrong: nothing that depends on it is judged.
    pub(super) routing: Option<Routing>,
    /// Directors tell one another their connections.
    pub(super) synchronised: bool,
}

impl Checks<'_, '_, '_> {
    pub(super) fn error(&mut self, at: &Span, message: impl Into<String>) -> Reported<'_> {
        self.report.error(at, message)
    }

    pub(super) fn warning(&mut self, at: &Span, message: impl Into<String>) -> Reported<'_> {
        self.report.warning(at, message)
    }

    /// Whether real servers may be of another family than their CVIP. The kernel refuses that where
    /// it synchronises connections (ip_vs_add_dest, net/netfilter/ipvs/ip_vs_ctl.c).
    pub(super) fn mixes_families(&self) -> bool {
        self.routing.is_none_or(Routing::mixes_families) && !self.synchronised
    }

    /// How to have one family.
    pub(super) fn one_family(&self, other: &str) -> String {
        match self.routing.is_none_or(Routing::mixes_families) {
            true => format!(
                "give an {other} address, or leave every `sync_interface` out: the kernel does not \
                 synchronise connections where families mix"
            ),
            false => format!("give an {other} address; only TUN carries one family in the other"),
        }
    }

    pub(super) fn line(&self, at: &Span) -> usize {
        self.report.line_of(at.start)
    }

    /// Remembers where a value stands, and reports one that stood before.
    pub(super) fn once<T: Ord>(
        &mut self,
        seen: &mut BTreeMap<T, Span>,
        value: T,
        span: &Span,
        message: String,
        advice: &str,
    ) {
        match seen.entry(value) {
            Entry::Vacant(free) => drop(free.insert(span.clone())),
            Entry::Occupied(first) => {
                let line = self.line(first.get());
                self.error(span, message).help(format!("the first is on line {line}; {advice}"));
            }
        }
    }
}

pub(super) fn family(addr: IpAddr) -> &'static str {
    if addr.is_ipv4() { "IPv4" } else { "IPv6" }
}
