//! How keys are laid out in etcd, and who may write which: pure, and the same whether cvip was
//! built with etcd or not.
//!
//! Everything stands below one prefix, so that a cluster can share an etcd with others:
//!
//! ```text
//! PREFIX nodes/N/record   node N's record
//! PREFIX nodes/N/alive    that node N's cvipd lives; attached to its lease
//! PREFIX directors/SET    which director the set has elected
//! PREFIX flags            the cluster's port flags
//! PREFIX drains           operators' drains
//! ```
//!
//! etcd's roles name ranges of keys, and this is why a node's keys stand in a folder of its own.

use std::collections::BTreeSet;

use super::{Interest, Key, Scope};

/// A range of keys: the first, and the first that is not meant any more.
pub type KeyRange = (Vec<u8>, Vec<u8>);

/// The keys below one prefix, which ends in a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    prefix: String,
}

impl Layout {
    /// The keys below a prefix; a slash at its end is added where there is none.
    pub fn new(prefix: &str) -> Layout {
        let slash = if prefix.ends_with('/') { "" } else { "/" };
        Layout { prefix: format!("{prefix}{slash}") }
    }

    /// The prefix, with its slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where a key stands; `None` for what stands on the host alone.
    pub fn path(&self, key: Key) -> Option<String> {
        let prefix = &self.prefix;
        Some(match key {
            Key::Node(node) => format!("{prefix}nodes/{node}/record"),
            Key::Alive(node) => format!("{prefix}nodes/{node}/alive"),
            Key::Director(set) => format!("{prefix}directors/{set}"),
            Key::Flags(Scope::Cluster) => format!("{prefix}flags"),
            Key::Drains => format!("{prefix}drains"),
            Key::Flags(Scope::Node(_)) | Key::Owned(_) => return None,
        })
    }

    /// Which key stands there; `None` for keys that are not cvip's.
    pub fn key(&self, path: &[u8]) -> Option<Key> {
        let path = std::str::from_utf8(path).ok()?.strip_prefix(&self.prefix)?;
        let number =
            |text: &str| text.parse::<u32>().ok().filter(|n| *n > 0 && n.to_string() == text);
        match path.split('/').collect::<Vec<_>>()[..] {
            ["nodes", node, "record"] => number(node).map(Key::Node),
            ["nodes", node, "alive"] => number(node).map(Key::Alive),
            ["directors", set] => number(set).map(Key::Director),
            ["flags"] => Some(Key::Flags(Scope::Cluster)),
            ["drains"] => Some(Key::Drains),
            _ => None,
        }
    }

    /// The ranges that a view follows.
    pub fn ranges(&self, interest: Interest) -> Vec<KeyRange> {
        let nodes = format!("{}nodes/", self.prefix);
        // What stands for the whole cluster comes before the nodes, in etcd's order.
        let orders = || (self.prefix.clone().into_bytes(), nodes.clone().into_bytes());
        match interest {
            Interest::All => vec![below(&self.prefix)],
            Interest::Node(node) => vec![orders(), below(&format!("{nodes}{node}/"))],
            Interest::Orders => vec![orders()],
        }
    }

    /// The roles that the set-up needs, and who has them, given cvip.conf's nodes and the
    /// lowest director of each set with all of that set's directors.
    pub fn access(&self, nodes: &[u32], sets: &[(u32, Vec<u32>)]) -> Accounts {
        // `/a/b/' and `/a-b/' are two clusters.
        let name = self.prefix.trim_matches('/').replace('-', "--").replace('/', "-");
        let name = |role: String| match name.as_str() {
            "" => role,
            name => format!("{name}-{role}"),
        };
        let reader = name("reader".to_owned());
        let mut roles = vec![EtcdRole {
            name: reader.clone(),
            grants: vec![Grant { key: self.prefix.clone(), below: true, write: false }],
        }];
        let write = |key: String, below| Grant { key, below, write: true };
        let mut users = Vec::new();
        let directing: BTreeSet<u32> = sets.iter().flat_map(|(_, of)| of).copied().collect();
        if !directing.is_empty() {
            roles.push(EtcdRole {
                name: name("director".to_owned()),
                grants: vec![write(format!("{}directors/", self.prefix), true)],
            });
        }
        for node in nodes {
            let own = name(format!("node-{node}"));
            roles.push(EtcdRole {
                name: own.clone(),
                grants: vec![write(format!("{}nodes/{node}/", self.prefix), true)],
            });
            let mut has = vec![reader.clone(), own.clone()];
            has.extend(directing.contains(node).then(|| name("director".to_owned())));
            users.push(User { name: own, roles: has });
        }
        let operator = name("operator".to_owned());
        let orders = [Key::Flags(Scope::Cluster), Key::Drains];
        roles.push(EtcdRole {
            name: operator.clone(),
            grants: orders.iter().filter_map(|key| Some(write(self.path(*key)?, false))).collect(),
        });
        users.push(User { name: operator.clone(), roles: vec![reader, operator] });
        Accounts { roles, users }
    }
}

/// The range of the keys that begin so: etcd's own idea of a prefix.
fn below(prefix: &str) -> KeyRange {
    let mut end = prefix.as_bytes().to_vec();
    // The prefix ends in a slash, which has a successor.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (prefix.as_bytes().to_vec(), end)
}

/// Users and roles of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Accounts {
    /// Every role.
    pub roles: Vec<EtcdRole>,
    /// Every user: one for each node, and one for operators.
    pub users: Vec<User>,
}

/// A role, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EtcdRole {
    /// Its name in etcd.
    pub name: String,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// A key, or all keys that begin so.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Grant {
    /// The key, or its beginning.
    pub key: String,
    /// All keys that begin so.
    pub below: bool,
    /// Write, and read too: etcd wants both where a write depends on what stands there.
    pub write: bool,
}

/// A user and its roles.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct User {
    /// Its name in etcd.
    pub name: String,
    /// The roles that it has.
    pub roles: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_where_it_was_put_and_nothing_else_is_a_key() {
        let layout = Layout::new("/cvip");
        assert_eq!(layout.prefix(), "/cvip/");
        for key in
            [Key::Node(3), Key::Alive(3), Key::Director(1), Key::Flags(Scope::Cluster), Key::Drains]
        {
            assert_eq!(layout.key(layout.path(key).unwrap().as_bytes()), Some(key));
        }
        for key in [Key::Owned(1), Key::Flags(Scope::Node(1))] {
            assert_eq!(layout.path(key), None, "{key:?} stands on its host");
        }
        for path in [
            "/cvip/nodes/0/record",
            "/cvip/nodes/03/record",
            "/cvip/nodes/3",
            "/other/flags",
            "\u{fe}",
        ] {
            assert_eq!(layout.key(path.as_bytes()), None, "{path}");
        }
        assert_eq!(layout.key(b"/cvip/\xff"), None);
    }

    #[test]
    fn a_node_follows_its_own_records_and_what_stands_for_all() {
        let layout = Layout::new("/cvip/");
        let follows = |interest, key| {
            let path = layout.path(key).unwrap().into_bytes();
            layout.ranges(interest).iter().any(|(first, end)| *first <= path && path < *end)
        };
        let whole = [Key::Flags(Scope::Cluster), Key::Drains, Key::Director(7)];
        for key in whole.into_iter().chain([Key::Node(3), Key::Alive(3)]) {
            assert!(follows(Interest::Node(3), key) && follows(Interest::All, key), "{key:?}");
            assert_eq!(follows(Interest::Orders, key), whole.contains(&key), "{key:?}");
        }
        for key in [Key::Node(30), Key::Alive(2)] {
            assert!(!follows(Interest::Node(3), key) && follows(Interest::All, key), "{key:?}");
        }
    }

    #[test]
    fn two_clusters_on_one_etcd_share_no_account() {
        let names = |prefix| {
            let accounts = Layout::new(prefix).access(&[1], &[(1, vec![1])]);
            let users = accounts.users.into_iter().map(|user| user.name);
            users.chain(accounts.roles.into_iter().map(|r| r.name)).collect::<BTreeSet<_>>()
        };
        assert!(names("/a/b/").is_disjoint(&names("/a-b/")));
        assert!(names("/").is_disjoint(&names("/cvip/")));
    }

    #[test]
    fn a_node_may_write_its_own_keys_directors_elections_and_operators_their_orders() {
        let layout = Layout::new("/cvip/");
        let accounts = layout.access(&[1, 2, 3], &[(1, vec![1, 2])]);
        let may = |user: &str, key| {
            let path = layout.path(key).unwrap();
            let user = accounts.users.iter().find(|u| u.name == user).unwrap();
            let roles = accounts.roles.iter().filter(|role| user.roles.contains(&role.name));
            let mut grants = roles.flat_map(|role| &role.grants).filter(|grant| grant.write);
            grants.any(|g| if g.below { path.starts_with(&g.key) } else { path == g.key })
        };
        for node in [1, 2, 3] {
            let user = format!("cvip-node-{node}");
            for other in [1, 2, 3, 10, 30] {
                assert_eq!(may(&user, Key::Node(other)), node == other, "{user} {other}");
                assert_eq!(may(&user, Key::Alive(other)), node == other, "{user} {other}");
            }
            assert_eq!(may(&user, Key::Director(1)), node < 3);
            assert!(!may(&user, Key::Drains) && !may(&user, Key::Flags(Scope::Cluster)));
        }
        let operator = "cvip-operator";
        assert!(may(operator, Key::Drains) && may(operator, Key::Flags(Scope::Cluster)));
        assert!(!may(operator, Key::Node(1)) && !may(operator, Key::Director(1)));
    }
}
