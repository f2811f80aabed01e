//! What a node knows of itself, read from the system.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use nix::unistd::User;

use crate::conf::{Conf, Owner};
use crate::{files, net};

/// UID_MIN where /etc/login.defs does not say (shadow's own default).
const DEFAULT_UID_MIN: u32 = 1000;

/// ip_local_port_range where it cannot be read (the kernel's own default, ip-sysctl.rst).
const DEFAULT_EPHEMERAL: (u16, u16) = (32768, 60999);

/// What the rules of eligibility need to know of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// This node's number.
    pub node: u32,
    /// Interface indexes by local address.
    pub devices: BTreeMap<IpAddr, u32>,
    /// ip_local_port_range, inclusive.
    pub ephemeral: (u16, u16),
    /// UID_MIN of /etc/login.defs.
    pub uid_min: u32,
    /// User ids by name, of the users that cvip.conf names and that exist here.
    pub users: BTreeMap<String, u32>,
    /// The names of this host's own users, by user id.
    pub names: BTreeMap<u32, String>,
}

/// A user, for people: by its name, or by its id where it has none.
pub fn user_name(uid: u32, names: &BTreeMap<u32, String>) -> String {
    match names.get(&uid) {
        Some(name) => format!("user {name}"),
        None => format!("user id {uid}"),
    }
}

impl System {
    /// Reads them. What cannot be read is taken as a fresh system has it.
    pub fn read(node: u32, conf: &Conf) -> System {
        let named = conf.cvips.iter().flat_map(|cvip| &cvip.services).flat_map(|s| &s.owners);
        let users = named
            .filter_map(|owner| match owner {
                Owner::User(name) => {
                    let user = User::from_name(name).ok().flatten()?;
                    Some((name.clone(), user.uid.as_raw()))
                }
                Owner::Anyone => None,
            })
            .collect();
        let read = |path: &str| files::read(Path::new(path), 1 << 20).unwrap_or_default();
        let login_defs = read("/etc/login.defs");
        System {
            node,
            devices: net::local_addresses().unwrap_or_default(),
            ephemeral: net::local_port_range().unwrap_or(DEFAULT_EPHEMERAL),
            uid_min: uid_min(&String::from_utf8_lossy(&login_defs)),
            users,
            names: names(&String::from_utf8_lossy(&read("/etc/passwd"))),
        }
    }
}

/// The users of a passwd(5), by user id; the first of an id counts.
fn names(passwd: &str) -> BTreeMap<u32, String> {
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    };
    passwd.lines().rev().filter_map(user).collect()
}

/// UID_MIN of a login.defs(5).
fn uid_min(login_defs: &str) -> u32 {
    login_defs
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("UID_MIN"))
        .find_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(DEFAULT_UID_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_called_by_its_name_and_by_its_id_where_it_has_none() {
        let names =
            names("root:x:0:0:root:/root:/bin/sh\nbad\n:x:7:\ntoor:x:0:0::/:\nal:x:1000:0\n");
        let shown: Vec<String> = [0, 7, 1000].map(|uid| user_name(uid, &names)).into();
        assert_eq!(shown, ["user root", "user id 7", "user al"]);
    }

    #[test]
    fn uid_min_is_read_from_login_defs_comments_aside() {
        assert_eq!(uid_min("# UID_MIN 5\nUMASK 022\nUID_MIN\t\t\t 500\nUID_MAX 60000\n"), 500);
        assert_eq!(uid_min("UID_MIN many\n"), DEFAULT_UID_MIN);
        assert_eq!(uid_min(""), DEFAULT_UID_MIN);
    }
}
