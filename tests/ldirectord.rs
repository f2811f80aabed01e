//! ldirectord, a real program that has driven ipvsadm for decades, drives ipvsadm-rs instead.
//!
//! It is Debian's own. It reads the table with `-L -n` and `-L -n --thresholds`, takes the
//! texts apart with regular expressions, and changes the table by shell commands: whatever it
//! leans on has to be as it was. With `-d` it takes `./ipvsadm` before the system's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use cvip_lab::{Cluster, Host, Nginx, Process, wait_until};
use nix::sys::signal::Signal;

/// Generous: it is Perl, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A web server on port 80 of a node, which says its name.
fn web_server(host: &Host, folder: &Path) -> Nginx {
    let page = format!("up: {}", host.name());
    Nginx::with_page(host, &folder.join(host.name()), &page).unwrap()
}

struct Site {
    cluster: Cluster,
    folder: tempfile::TempDir,
    ldirectord: Process,
}

impl Site {
    fn start(name: &str, quiescent: &str) -> Site {
        cvip_lab::require();
        let cluster = Cluster::builder(name).nodes(2).client(false).ipv6(false).build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        symlink(env!("CARGO_BIN_EXE_ipvsadm-rs"), folder.path().join("ipvsadm")).unwrap();
        let [one, two] = [1, 2].map(|number| cluster.node(number).v4());
        let text = format!(
            "checktimeout=5\n\
             checkinterval=1\n\
             autoreload=no\n\
             quiescent={quiescent}\n\
             logfile=\"{log}\"\n\
             virtual={vip}:80\n\
             \treal={one}:80 gate 1\n\
             \treal={two}:80 masq 2\n\
             \tservice=http\n\
             \trequest=\"/\"\n\
             \treceive=\"up\"\n\
             \tscheduler=wrr\n\
             \tpersistent=600\n\
             \tnetmask=255.255.255.0\n\
             \tprotocol=tcp\n\
             \tchecktype=negotiate\n",
            log = folder.path().join("log").display(),
            vip = cluster.vip4(1),
        );
        let conf = folder.path().join(format!("{name}.cf"));
        fs::write(&conf, text).unwrap();
        let said = File::create(folder.path().join("said")).unwrap();
        let mut command = cluster.director().command("ldirectord");
        command.arg("-d").arg(&conf).arg("start").current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        let ldirectord = Process::spawn_group(command).expect("Debian's ldirectord");
        Site { cluster, folder, ldirectord }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("said")).unwrap()).into_owned()
    }

    /// The table, as the original shows it.
    fn rules(&self) -> String {
        self.cluster.director().stdout(&["ipvsadm", "-Sn"]).unwrap()
    }

    /// Waits until these of the two nodes are in the table, each with its weight.
    #[track_caller]
    fn await_weights(&self, wanted: &[(usize, u32)]) {
        let wanted: BTreeMap<usize, u32> = wanted.iter().copied().collect();
        let reached = wait_until(PATIENCE, || {
            let rules = self.rules();
            let weight_of = |number: usize| {
                let server = format!(" -r {}:80 ", self.cluster.node(number).v4());
                let rule = rules.lines().find(|rule| rule.contains(&server))?;
                rule.rsplit(' ').next()?.parse::<u32>().ok()
            };
            let weights: BTreeMap<usize, u32> =
                [1, 2].into_iter().filter_map(|n| Some((n, weight_of(n)?))).collect();
            (weights == wanted).then_some(())
        });
        let (rules, said) = (self.rules(), self.said());
        assert!(reached.is_some(), "not {wanted:?} but\n{rules}\nldirectord said:\n{said}");
    }

    /// Ends ldirectord in good order: it takes its service out of the table.
    fn stop(mut self) {
        self.ldirectord.signal(Signal::SIGTERM).unwrap();
        let emptied = wait_until(PATIENCE, || self.rules().is_empty().then_some(()));
        assert!(emptied.is_some(), "{}\n{}", self.rules(), self.said());
        self.ldirectord.wait(PATIENCE).unwrap();
        let said = self.said();
        assert!(said.contains("./ipvsadm -A"), "it was not ours that it ran:\n{said}");
        assert!(!said.contains("Unknown line"), "it could not read a listing:\n{said}");
    }
}

/// Both servers in, one dies and is back; `out` is what the other one's death leaves.
fn a_dead_server_is_taken_out(name: &str, quiescent: &str, out: &[(usize, u32)]) {
    let site = Site::start(name, quiescent);
    let dir = site.folder.path();
    let _one = web_server(site.cluster.node(1), dir);
    let two = web_server(site.cluster.node(2), dir);
    site.await_weights(&[(1, 1), (2, 2)]);
    let service = format!("-A -t {}:80 -s wrr -p 600 -M 255.255.255.0\n", site.cluster.vip4(1));
    assert!(site.rules().starts_with(&service), "{}", site.rules());
    drop(two);
    site.await_weights(out);
    let _two = web_server(site.cluster.node(2), dir);
    site.await_weights(&[(1, 1), (2, 2)]);
    let rules = site.rules();
    assert!(rules.contains(" -g -w 1\n") && rules.contains(" -m -w 2\n"), "{rules}");
    site.stop();
}

#[test]
fn ldirectord_deletes_a_server_that_died_and_adds_it_when_it_is_back() {
    a_dead_server_is_taken_out("ldd", "no", &[(1, 1)]);
}

#[test]
fn a_quiescent_ldirectord_sets_a_dead_servers_weight_to_nothing_and_back() {
    a_dead_server_is_taken_out("ldq", "yes", &[(1, 1), (2, 0)]);
}
