//! docs/kubernetes.md: its cvip.conf on three control-plane nodes, and kubectl as the client. In kube-apiserver's
//! place is nginx, which answers what kubectl asks, over HTTPS with a certificate that names the CVIP.

use std::fs;
use std::path::{Path, PathBuf};

use cvip::protocol::Protocol::Tcp;
use cvip_lab::{Nginx, Plan, process};

use super::support::Site;

const PAGE: &str = include_str!("../../docs/kubernetes.md");

/// What kubectl reads of `/version`.
const VERSION: &str = r#"{"major": "1", "minor": "20", "gitVersion": "v1.20.2"}"#;

/// The page's cvip.conf, with this CVIP.
fn configuration(cvip: &str) -> String {
    let (_, block) = PAGE.split_once("```xml\n").expect("the page has a cvip.conf");
    let (conf, _) = block.split_once("```").expect("its block ends");
    assert_eq!(conf.matches("192.168.200.10<").count(), 1, "{conf}");
    conf.replace("192.168.200.10<", &format!("{cvip}<"))
}

/// The folder of a node's server. It is ready while a file `ready` is there.
fn folder(site: &Site, node: u32) -> PathBuf {
    site.dir.join(format!("apiserver-{node}"))
}

/// Starts a server in kube-apiserver's place.
#[track_caller]
fn serve(site: &Site, node: u32, certificate: &Path, key: &Path) -> Nginx {
    let dir = folder(site, node);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("ready"), "ok").unwrap();
    let server = format!(
        "server {{ listen 6443 ssl; ssl_certificate {}; ssl_certificate_key {}; root {};\n\
         location = /readyz {{ try_files /ready =500; }}\n\
         location = /node {{ return 200 '{node}'; }}\n\
         location = /version {{ default_type application/json; return 200 '{VERSION}'; }} }}",
        certificate.display(),
        key.display(),
        dir.display(),
    );
    Nginx::start(site.host(node), &dir, &server).unwrap()
}

/// What kubectl gets from the CVIP; none if it fails.
fn kubectl(site: &Site, certificate: &Path, path: &str) -> Option<String> {
    let mut command = site.cluster.client().command("kubectl");
    // Without a token it asks for a name and a password.
    command.args(["--token=none", "--request-timeout=10s", "get", "--raw", path]);
    command.arg(format!("--server=https://{}", site.at(6443)));
    command.arg(format!("--certificate-authority={}", certificate.display()));
    command.env("KUBECONFIG", "/dev/null").env("HOME", &site.dir);
    process::stdout(&mut command).ok()
}

#[test]
fn kubectl_is_served_while_an_api_server_is_not_ready_and_after_the_active_director_dies() {
    let mut site = Site::on_etcd(|b| b.directors(3).nodes(0).stores(1), &Plan::default());
    let cvip = site.cvip(false).to_string();
    fs::write(site.dir.join("cvip.conf"), configuration(&cvip)).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["api.example.org".into(), cvip]).unwrap();
    let (certificate, key) = (site.dir.join("apiserver.crt"), site.dir.join("apiserver.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    site.start_on(&[1], &[]);
    site.start_on(&[2, 3], &[]);
    let mut servers: Vec<Nginx> =
        (1..=3).map(|node| serve(&site, node, &certificate, &key)).collect();
    let api = site.v4(Tcp, 6443);
    site.await_pool(api, Some(&[(1, 1), (2, 1), (3, 1)]));
    // Every server is reached through the CVIP, by clients that verify its certificate.
    let mut reached = Vec::new();
    site.until("all three answer", |site| {
        reached.push(kubectl(site, &certificate, "/node")?);
        ["1", "2", "3"].iter().all(|node| reached.iter().any(|by| by == node)).then_some(())
    });
    let served = |site: &Site, path| {
        site.until("kubectl is served", |site| kubectl(site, &certificate, path))
    };
    assert_eq!(served(&site, "/version"), VERSION);

    // One listens, and is not ready.
    fs::remove_file(folder(&site, 2).join("ready")).unwrap();
    site.await_pool(api, Some(&[(1, 1), (2, 0), (3, 1)]));
    for _ in 0..10 {
        assert_ne!(served(&site, "/node"), "2");
    }
    fs::write(folder(&site, 2).join("ready"), "ok").unwrap();
    site.await_pool(api, Some(&[(1, 1), (2, 1), (3, 1)]));
    // One ends.
    drop(servers.pop());
    site.await_pool(api, Some(&[(1, 1), (2, 1)]));
    servers.push(serve(&site, 3, &certificate, &key));
    site.await_pool(api, Some(&[(1, 1), (2, 1), (3, 1)]));

    site.power_off(1).unwrap();
    for _ in 0..10 {
        assert_ne!(served(&site, "/node"), "1");
    }
}
