//! What a migration drafts: a cvip.conf, and the nodes that it needs.

use std::fmt::Write;

use crate::conf::{Clustertab, Conf, Xml};

/// A cvip.conf and the clustertab that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    /// What the cvip.conf says.
    pub conf: Conf,
    /// The nodes that stood before, and the new ones.
    pub clustertab: Clustertab,
}

impl Draft {
    /// The text of the cvip.conf.
    pub(crate) fn conf_text(&self) -> String {
        Xml(&self.conf).to_string()
    }

    /// The lines that a clustertab lacks which stands.
    pub(crate) fn new_nodes(&self, before: &Clustertab) -> String {
        let new = self.clustertab.nodes.iter().filter(|(node, _)| before.addr(**node).is_none());
        new.fold(String::new(), |mut text, (node, addr)| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{node} {addr}");
            text
        })
    }
}
