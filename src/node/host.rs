//! What cvip.conf asks of this host, if it is a node: interfaces, users and programs that it names
//! and the host lacks.

use std::collections::BTreeSet;
use std::path::Path;

use nix::unistd::User;

use crate::checks::settings::Kind;
use crate::conf::{Conf, Diagnostic, DiagnosticSeverity, Owner};
use crate::net::Interface;

/// What is lacking on this host, which is this node: it cannot serve or direct as the file says.
/// `has_user` tells whether there is a user of that name.
pub fn lacks(
    conf: &Conf,
    me: u32,
    interfaces: &[Interface],
    has_user: impl Fn(&str) -> bool,
) -> Vec<Diagnostic> {
    let mut found = BTreeSet::new();
    for (element, name) in conf.interfaces(me) {
        if !interfaces.iter().any(|interface| interface.name == name) {
            found.insert(format!("{element}: there is no interface {name} here"));
        }
    }
    for cvip in conf.cvips.iter().filter(|cvip| cvip.real_server(me).is_some()) {
        for service in &cvip.services {
            for owner in &service.owners {
                match owner {
                    Owner::User(name) if !has_user(name) => {
                        found.insert(format!("owner: there is no user {name} here"));
                    }
                    _ => {}
                }
            }
            let Some(Kind::Exec(exec)) = service.check.as_ref().map(|check| &check.kind) else {
                continue;
            };
            if !Path::new(exec.program.path()).exists() {
                found.insert(format!("command: there is no {} here", exec.program.path()));
            }
            if let Some(user) = exec.user.as_ref().filter(|user| !has_user(user.as_str())) {
                found.insert(format!("user: there is no user {} here", user.as_str()));
            }
        }
    }
    let fault = |message: String| Diagnostic {
        severity: DiagnosticSeverity::Error,
        path: format!("this host, node {me}"),
        place: None,
        help: message.contains(": there is no user ").then(|| {
            "correct the name, or make the user: until then no listeners register as this \
             user's"
                .to_owned()
        }),
        message,
    };
    found.into_iter().map(fault).collect()
}

/// The users that cvip.conf names as owners and that this host, which may be no node at all, does
/// not have although it has one whose name is almost the same.
pub fn misspelt_owners(conf: &Conf, users: &[String]) -> Vec<Diagnostic> {
    let services = conf.cvips.iter().flat_map(|cvip| &cvip.services);
    let named: BTreeSet<&str> = services
        .flat_map(|service| &service.owners)
        .filter_map(|owner| match owner {
            Owner::User(name) => Some(name.as_str()),
            Owner::Anyone => None,
        })
        .collect();
    let unknown = named.into_iter().filter(|name| !users.iter().any(|user| user == name));
    let almost = unknown.filter_map(|name| {
        let meant = crate::conf::closest(name, users.iter().map(String::as_str))?;
        Some(Diagnostic {
            severity: DiagnosticSeverity::Warning,
            path: "this host".to_owned(),
            place: None,
            message: format!("owner: there is no user {name} here"),
            help: Some(format!("did you mean `{meant}`?")),
        })
    });
    almost.collect()
}

/// The names of the users in this host's /etc/passwd.
pub fn users() -> Vec<String> {
    let text = std::fs::read("/etc/passwd").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let names = text.lines().filter_map(|line| line.split(':').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether this host has a user of that name. Who cannot be looked up is taken to be there.
pub fn has_user(name: &str) -> bool {
    !matches!(User::from_name(name), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Clustertab;

    #[test]
    fn what_a_node_lacks_is_named_once_and_what_others_need_is_not() {
        let tab = Clustertab::parse("1 10.0.0.1\n2 10.0.0.2\n", "clustertab").0.unwrap();
        let conf = "<cvips><routing>DR</routing><cvip><ip_addr>10.0.0.9</ip_addr>\
             <director_node><node_num>1</node_num><garp_interface>eth7</garp_interface>\
             </director_node><real_server_node><node_num>2</node_num></real_server_node>\
             <service><port>80</port><owner>ghost</owner></service>\
             <service><port>81</port><owner>ghost</owner><check><type>exec</type>\
             <command>/no/such/program --now</command><user>phantom</user></check></service>\
             </cvip></cvips>";
        let (conf, faults) = crate::conf::parse(conf, "cvip.conf", &tab);
        let conf = conf.unwrap_or_else(|| panic!("{faults:?}"));
        let said = |me| -> Vec<String> {
            lacks(&conf, me, &[], |name| name == "root").into_iter().map(|d| d.message).collect()
        };
        let of_both = [
            "command: there is no /no/such/program here",
            "owner: there is no user ghost here",
            "user: there is no user phantom here",
        ];
        assert_eq!(said(2), of_both);
        // A director is a real server too.
        let interface = "garp_interface: there is no interface eth7 here";
        let of_director = said(1);
        assert!(of_director.iter().any(|line| line == interface), "{of_director:?}");
        assert_eq!(of_director.len(), 1 + of_both.len());
        assert!(has_user("root") && !has_user("no-such-user-anywhere"));
        assert!(
            lacks(&conf, 2, &[], |_| false).iter().all(|d| d.severity == DiagnosticSeverity::Error)
        );
        assert!(users().iter().any(|user| user == "root"));
        let almost = misspelt_owners(&conf, &["gohst".to_owned(), "web".to_owned()]);
        assert_eq!(almost.len(), 1, "{almost:?}");
        assert_eq!(almost[0].help.as_deref(), Some("did you mean `gohst`?"));
        assert_eq!(misspelt_owners(&conf, &["ghost".to_owned()]), []);
        assert_eq!(misspelt_owners(&conf, &["web".to_owned()]), [], "it may be another node's");
    }
}
