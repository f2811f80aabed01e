//! What is wrong with an etcd, asked on purpose: `cvipctl check`.
//!
//! Each server is asked for itself, since a link goes on as long as one of them works; then one
//! of them is asked what these credentials may do. Nothing is written.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::runtime;

use super::failure::EtcdFailure;
use super::session::{EtcdSession, LinkCounters};
use super::wire::StatusResponse;
use crate::settings::EtcdSettings;
use crate::store::layout::Layout;
use crate::store::{Interest, Key};

/// The oldest etcd that will do: leases and watches as they are used here.
const OLDEST: (u64, u64) = (3, 4);

/// In these the users of etcd are not kept to their roles: a transaction within a transaction is
/// not looked over (CVE-2026-33343), and some calls ask for no role at all (CVE-2026-33413). The
/// first release of each series that is fixed; later series are.
const FIXED_IN: [(u64, u64, u64); 3] = [(3, 4, 42), (3, 5, 28), (3, 6, 9)];

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFinding {
    /// The store does not work with this; otherwise it works, and should be seen to.
    pub is_error: bool,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

fn error(message: impl Into<String>, help: impl Into<String>) -> ServerFinding {
    ServerFinding { is_error: true, message: message.into(), help: Some(help.into()) }
}

fn warning(message: impl Into<String>, help: impl Into<String>) -> ServerFinding {
    ServerFinding { is_error: false, ..error(message, help) }
}

/// Asks every server how it is, and whether these credentials may read everything and write
/// these keys. The versions of the servers that answered come with the findings.
pub fn probe(settings: &EtcdSettings, writes: &[Key]) -> (Vec<String>, Vec<ServerFinding>) {
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Probe::new(settings).run(writes)),
        Err(e) => (vec![], vec![error(format!("no runtime for etcd: {e}"), "try again")]),
    }
}

/// What is wrong with the servers by what they say of themselves: an alarm, or that they do not
/// keep their users to their roles. Those that do not answer are left out.
pub fn server_faults(settings: &EtcdSettings) -> Vec<ServerFinding> {
    let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let within = settings.timeout;
    let ask = |endpoint: &str| {
        runtime.block_on(async {
            let counters = Arc::new(LinkCounters::new());
            let session =
                EtcdSession::connect(settings, endpoint, 0, counters, within).await.ok()?;
            session.status().await.ok()
        })
    };
    let answers = settings.endpoints.iter().filter_map(|e| Some((e, ask(e)?)));
    answers.flat_map(|(endpoint, status)| lasting(endpoint, &status)).collect()
}

/// The faults of a server that do not go by themselves.
fn lasting(endpoint: &str, status: &StatusResponse) -> Vec<ServerFinding> {
    let mut findings = alarms(endpoint, status);
    let leak = leak(endpoint, &status.version);
    findings.extend(leak.map(|(message, help)| warning(message, help)));
    findings
}

/// The alarms that a server raises. Without a leader it says so there too, which is no alarm.
fn alarms(endpoint: &str, status: &StatusResponse) -> Vec<ServerFinding> {
    let raised = status.errors.iter().filter(|alarm| !alarm.contains("no leader"));
    let finding = |alarm: &String| {
        error(
            format!("{endpoint} raises an alarm: {alarm}"),
            "for NOSPACE, which ends every write: `etcdctl compact REVISION`, `etcdctl defrag \
             --cluster`, raise --quota-backend-bytes if it stays large, then `etcdctl alarm disarm`",
        )
    };
    raised.map(finding).collect()
}

struct Probe<'a> {
    settings: &'a EtcdSettings,
    versions: Vec<String>,
    findings: Vec<ServerFinding>,
    clusters: BTreeSet<u64>,
}

impl<'a> Probe<'a> {
    fn new(settings: &'a EtcdSettings) -> Probe<'a> {
        Probe { settings, versions: Vec::new(), findings: Vec::new(), clusters: BTreeSet::new() }
    }

    async fn run(mut self, writes: &[Key]) -> (Vec<String>, Vec<ServerFinding>) {
        let mut good = None;
        let mut silent = Vec::new();
        for endpoint in &self.settings.endpoints {
            let counters = Arc::new(LinkCounters::new());
            let within = self.settings.timeout;
            let session = EtcdSession::connect(self.settings, endpoint, 0, counters, within).await;
            let status = match session {
                Ok(session) => session.status().await.map(|status| (session, status)),
                Err(failure) => Err(failure),
            };
            match status {
                Ok((session, status)) => {
                    if self.look_at(endpoint, &status) && good.is_none() {
                        good = Some(session);
                    }
                }
                Err(failure) => silent.push(format!("{endpoint} cannot be reached: {failure}")),
            }
        }
        // One of several is what a cluster is made for; all of them is an end.
        for message in silent {
            let help = match self.settings.endpoints.iter().any(|e| e.starts_with("https:")) {
                false => {
                    "does etcd run there, does a firewall let port 2379 through, and does etcd not \
                     want https:// there?"
                }
                true => {
                    "does etcd run there, and does a firewall let port 2379 through? With TLS also: \
                     is its certificate signed by `ca` and for this address, and does etcd want a \
                     certificate of its clients (`cert` and `key`)?"
                }
            };
            self.findings.push(match self.versions.is_empty() {
                true => error(message, help),
                false => warning(message, help),
            });
        }
        if self.clusters.len() > 1 {
            self.findings.push(error(
                "the endpoints belong to different etcd clusters",
                "name the members of one cluster: `etcdctl member list` shows them",
            ));
        } else if let Some(session) = good {
            self.ask(session, writes).await;
        }
        (self.versions, self.findings)
    }

    /// What a server says of itself. True if it can be asked more.
    fn look_at(&mut self, endpoint: &str, status: &StatusResponse) -> bool {
        self.versions.push(format!("{endpoint} etcd {}", status.version));
        self.clusters.extend(status.header.as_ref().map(|header| header.cluster_id));
        if version(&status.version).is_none_or(|version| version < OLDEST) {
            self.findings.push(error(
                format!("{endpoint} is etcd {}", status.version),
                format!("cvip needs etcd {}.{} or later", OLDEST.0, OLDEST.1),
            ));
        }
        if let Some((message, help)) = leak(endpoint, &status.version) {
            self.findings.push(warning(message, help));
        }
        if status.leader == 0 {
            self.findings.push(error(
                format!("{endpoint} has no leader: there is no quorum"),
                "start more of the cluster's servers: more than half have to run and see one \
                 another",
            ));
        }
        let usable = status.leader != 0 && version(&status.version).is_some_and(|v| v >= OLDEST);
        self.findings.extend(alarms(endpoint, status));
        if status.is_learner {
            self.findings.push(warning(
                format!("{endpoint} is a learner, which answers nothing"),
                "promote it with `etcdctl member promote`, or name another",
            ));
            return false;
        }
        usable
    }

    /// What these credentials may do.
    async fn ask(&mut self, mut session: EtcdSession, writes: &[Key]) {
        if let Err(finding) = self.log_in(&mut session).await {
            self.findings.push(*finding);
            return;
        }
        let layout = Layout::new(&self.settings.prefix);
        let prefix = layout.prefix();
        let roles = "`cvipctl etcd-roles` prints the users and roles that cvip needs";
        let said = |failure: EtcdFailure| error(format!("etcd does not answer: {failure}"), roles);
        for (first, end) in layout.ranges(Interest::All) {
            match session.may_read(&first, &end).await {
                Ok(true) => {}
                Ok(false) => {
                    let message = format!("these credentials may not read the keys under {prefix}");
                    self.findings.push(error(message, roles));
                }
                Err(failure) => self.findings.push(said(failure)),
            }
        }
        for path in writes.iter().filter_map(|key| layout.path(*key)) {
            match session.may_write(path.as_bytes()).await {
                Ok(true) => {}
                Ok(false) => {
                    let message = format!("these credentials may not write {path}");
                    self.findings.push(error(message, roles));
                }
                Err(failure) => self.findings.push(said(failure)),
            }
        }
    }

    async fn log_in(&mut self, session: &mut EtcdSession) -> Result<(), Box<ServerFinding>> {
        let password = self.settings.password().map_err(|e| {
            Box::new(ServerFinding { is_error: true, message: e.to_string(), help: None })
        })?;
        let open = "`cvipctl etcd-roles` prints how to admit the cluster's machines alone";
        let Some((user, password)) = password else {
            if self.settings.cert.is_none() {
                let anybody = session.probe(self.settings.prefix.as_bytes()).await.is_ok();
                if anybody {
                    let message = "etcd admits every client that can reach it";
                    self.findings.push(warning(message, open));
                }
            }
            return Ok(());
        };
        if !is_private(&session.endpoint) {
            let message = format!("the password goes to {} in clear", session.endpoint);
            self.findings.push(warning(message, "use https:// and etcd's --cert-file"));
        }
        match session.log_in(&user, &password).await {
            Ok(()) => Ok(()),
            Err(EtcdFailure::NoUsers) => {
                self.findings.push(warning(
                    format!("user {user} is not asked for: authentication is off in etcd"),
                    open,
                ));
                Ok(())
            }
            Err(EtcdFailure::Password) => Err(Box::new(error(
                format!("etcd knows no user {user}, or not with this password"),
                format!(
                    "see {}; `etcdctl user list` shows the users",
                    self.settings.password_file_name()
                ),
            ))),
            Err(failure) => {
                Err(Box::new(error(format!("logging in fails: {failure}"), "try again")))
            }
        }
    }
}

/// What is sent there cannot be read on the way.
fn is_private(endpoint: &str) -> bool {
    let Some(authority) = endpoint.strip_prefix("http://") else { return true };
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|addr| addr.is_loopback())
}

/// `3.4.23` is (3, 4).
fn version(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// What is wrong with a server that does not keep users to their roles, and what to do.
fn leak(endpoint: &str, version: &str) -> Option<(String, String)> {
    let fixed_in = leaky(version)?;
    let what = format!(
        "{endpoint} is etcd {version}, which does not keep its users to their roles: a user who may \
         write any key can write every key (CVE-2026-33343, CVE-2026-33413)"
    );
    let fix = format!(
        "update etcd to {fixed_in} or later; until then every node's credentials are worth as much \
         as the operator's"
    );
    Some((what, fix))
}

/// The release to update to, of a server that does not keep users to their roles.
fn leaky(text: &str) -> Option<String> {
    let of = version(text)?;
    let third = text.split('.').nth(2).unwrap_or_default();
    let digits = third.find(|c: char| !c.is_ascii_digit()).unwrap_or(third.len());
    let patch: u64 = third[..digits].parse().unwrap_or(0);
    let (major, minor, fixed_in) = *FIXED_IN.iter().find(|(x, y, _)| (*x, *y) >= of)?;
    let is_fixed = (major, minor) == of && patch >= fixed_in;
    (!is_fixed).then(|| format!("{major}.{minor}.{fixed_in}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> EtcdSettings {
        EtcdSettings::default()
    }

    fn says(status: StatusResponse) -> (bool, Vec<String>) {
        let settings = settings();
        let mut probe = Probe::new(&settings);
        let usable = probe.look_at("http://a:2379", &status);
        (usable, probe.findings.into_iter().map(|finding| finding.message).collect())
    }

    fn status() -> StatusResponse {
        StatusResponse { version: "3.5.28".into(), leader: 1, ..StatusResponse::default() }
    }

    #[test]
    fn an_old_server_one_without_a_leader_and_one_with_an_alarm_are_said() {
        assert_eq!(says(status()), (true, vec![]));
        for old in ["3.3.27", "2.3.8", "", "new"] {
            let (usable, said) = says(StatusResponse { version: old.into(), ..status() });
            assert!(!usable && said[0].contains("is etcd"), "{said:?}");
        }
        let (usable, said) = says(StatusResponse {
            leader: 0,
            errors: vec!["etcdserver: no leader".into()],
            ..status()
        });
        assert!(!usable && said.len() == 1 && said[0].contains("no quorum"), "{said:?}");
        let alarm = vec!["memberID:1 alarm:NOSPACE ".into()];
        let (usable, said) = says(StatusResponse { errors: alarm, ..status() });
        assert!(usable && said[0].contains("NOSPACE"), "{said:?}");
    }

    #[test]
    fn doctor_is_told_of_an_alarm_as_an_error_and_of_an_old_server_as_a_warning() {
        let alarm = vec!["etcdserver: no leader".into(), "memberID:1 alarm:NOSPACE ".into()];
        let full = StatusResponse { version: "3.5.1".into(), errors: alarm, ..status() };
        let found = lasting("http://a:2379", &full);
        let is_error: Vec<bool> = found.iter().map(|finding| finding.is_error).collect();
        assert_eq!(is_error, [true, false], "{found:?}");
        let help = found[0].help.as_deref().unwrap();
        assert!(found[0].message.contains("NOSPACE") && help.contains("alarm disarm"), "{found:?}");
        assert_eq!(lasting("http://a:2379", &status()), []);
    }

    #[test]
    fn a_server_that_does_not_keep_its_users_to_their_roles_is_told_what_to_become() {
        for (version, update) in [
            ("3.4.23", Some("3.4.42")),
            ("3.4.41", Some("3.4.42")),
            ("3.4.42", None),
            ("3.5.0", Some("3.5.28")),
            ("3.5.27", Some("3.5.28")),
            ("3.5.28-rc.1", None),
            ("3.5.30", None),
            ("3.6.8", Some("3.6.9")),
            ("3.6.9", None),
            ("3.6", Some("3.6.9")),
            ("3.7.0", None),
            ("4.0.0", None),
        ] {
            assert_eq!(leaky(version).as_deref(), update, "{version}");
        }
        let (usable, said) = says(StatusResponse { version: "3.4.23".into(), ..status() });
        assert!(usable && said[0].contains("CVE-2026-33343"), "{said:?}");
        // It is a fault of theirs, and cvip works with it.
        let settings = settings();
        let mut probe = Probe::new(&settings);
        probe.look_at("http://a:2379", &StatusResponse { version: "3.5.1".into(), ..status() });
        assert!(!probe.findings[0].is_error && probe.findings[0].help.is_some());
    }

    #[test]
    fn a_password_is_private_by_tls_or_on_this_host() {
        for private in ["https://etcd:2379", "http://127.0.0.1:2379", "http://[::1]:2379"] {
            assert!(is_private(private), "{private}");
        }
        for open in ["http://10.0.0.1:2379", "http://etcd:2379", "http://[fd00::1]:2379"] {
            assert!(!is_private(open), "{open}");
        }
    }
}
