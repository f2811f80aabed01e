//! `cvipctl etcd-roles`: the users and roles in etcd by which each host may write what is its
//! own and nothing else.

use std::fmt::Write as _;

use super::super::{OK, Site, Streams};
use crate::conf::Conf;
use crate::json;
use crate::store::layout::{Accounts, Grant, Layout};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// Users without passwords: each is known by the common name of its certificate (etcd's
    /// --client-cert-auth)
    #[arg(long)]
    certificates: bool,

    /// Print users and roles as JSON
    #[arg(long, conflicts_with = "certificates")]
    json: bool,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let conf = site.conf()?;
    let accounts = accounts(&conf, &site.settings()?.etcd.prefix);
    if args.json {
        json::write(streams.out, &accounts)?;
    } else {
        write!(streams.out, "{}", script(&accounts, args.certificates))?;
    }
    Ok(OK)
}

fn accounts(conf: &Conf, prefix: &str) -> Accounts {
    let sets: Vec<(u32, Vec<u32>)> = conf
        .director_sets()
        .into_iter()
        .filter_map(|set| Some((*set.directors.iter().min()?, set.directors)))
        .collect();
    Layout::new(prefix).access(&conf.nodes(), &sets)
}

/// A shell script that can be run again when nodes have come.
fn script(accounts: &Accounts, certificates: bool) -> String {
    let mut text = String::from(
        "# cvip's users and roles in etcd: `cvipctl etcd-roles | sh -e`, where etcdctl reaches\n\
         # etcd (ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_USER=root:... and so on).\n",
    );
    // Writing into a string does not fail.
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}");
    };
    line(format_args!("export ETCDCTL_API=3"));
    if !certificates {
        line(format_args!("umask 077"));
    }
    for role in &accounts.roles {
        let name = &role.name;
        line(format_args!("etcdctl role get {name} >/dev/null 2>&1 || etcdctl role add {name}"));
        for Grant { key, below, write } in &role.grants {
            let may = if *write { "readwrite" } else { "read" };
            let below = if *below { " --prefix=true" } else { "" };
            line(format_args!("etcdctl role grant-permission {name}{below} {may} {key}"));
        }
    }
    if !certificates {
        line(format_args!(
            "# A password for each, in a file here: it becomes the password_file of that host."
        ));
    }
    for user in &accounts.users {
        let name = &user.name;
        let add = match certificates {
            true => format!("etcdctl user add {name} --no-password"),
            false => {
                line(format_args!(
                    "[ -s {name}.password ] || head -c 24 /dev/urandom | base64 >{name}.password"
                ));
                format!("etcdctl user add {name} --interactive=false <{name}.password")
            }
        };
        line(format_args!("etcdctl user get {name} >/dev/null 2>&1 || {add}"));
        for role in &user.roles {
            line(format_args!("etcdctl user grant-role {name} {role}"));
        }
    }
    let root = match certificates {
        true => {
            "# Where authentication is off yet, this turns it on; root is known by a certificate:\n\
                 # etcdctl user add root --no-password"
        }
        false => {
            "# Where authentication is off yet, this turns it on; etcd asks for root's password:\n\
                  # etcdctl user add root"
        }
    };
    line(format_args!("{root} && etcdctl user grant-role root root && etcdctl auth enable"));
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::super::testing::run_with;
    use super::super::run;

    const CONF: &str = "<cvips><routing>DR</routing><cvip><ip_addr>10.0.0.100</ip_addr>\
        <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>\
        <real_server_node><node_num>2</node_num></real_server_node></cvip></cvips>";

    fn roles(options: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cvip.conf"), CONF).unwrap();
        fs::write(dir.path().join("clustertab"), "1 10.0.0.1\n2 10.0.0.2\n").unwrap();
        let file =
            |option: &str, name: &str| format!("--{option}={}", dir.path().join(name).display());
        let (conf, tab) = (file("conf", "cvip.conf"), file("clustertab", "clustertab"));
        let mut args = vec!["cvipctl", "etcd-roles", &conf, &tab, "--store=local"];
        args.extend(options);
        let (status, out, err) = run_with(&args, run);
        assert_eq!((status, err.as_str()), (0, ""));
        out
    }

    #[test]
    fn the_script_says_who_may_write_what_and_names_no_secret() {
        let script = roles(&["--etcd-prefix=/lab/cvip"]);
        for line in [
            "etcdctl role grant-permission lab-cvip-reader --prefix=true read /lab/cvip/",
            "etcdctl role grant-permission lab-cvip-node-2 --prefix=true readwrite \
             /lab/cvip/nodes/2/",
            "etcdctl role grant-permission lab-cvip-director --prefix=true readwrite \
             /lab/cvip/directors/",
            "etcdctl role grant-permission lab-cvip-operator readwrite /lab/cvip/drains",
            "etcdctl user grant-role lab-cvip-node-1 lab-cvip-director",
        ] {
            assert!(script.lines().any(|l| l == line), "no `{line}` in\n{script}");
        }
        assert!(!script.contains("lab-cvip-node-2 lab-cvip-director"), "{script}");
        assert!(script.contains("umask 077"), "{script}");
        let certificates = roles(&["--certificates"]);
        assert!(certificates.contains("etcdctl user add cvip-node-1 --no-password"));
        assert!(certificates.contains("etcdctl user add root --no-password &&"));
        assert!(!certificates.contains(".password"), "{certificates}");
    }

    #[test]
    fn the_same_as_json_for_other_tools() {
        let json: serde_json::Value = serde_json::from_str(&roles(&["--json"])).unwrap();
        let users = json["users"].as_array().unwrap();
        let names: Vec<_> = users.iter().map(|user| user["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["cvip-node-1", "cvip-node-2", "cvip-operator"]);
    }
}
