//! An authority of the lab's own, and certificates that it issues, made with openssl(1).

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A certificate and its key, as files; the key is root's alone to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Who vouches for everybody in the lab.
#[derive(Debug)]
pub(super) struct Authority {
    dir: PathBuf,
    file: PathBuf,
}

/// Valid since long ago and for long, so that a test can step the clock.
const VALID: [&str; 4] = ["-startdate", "20000101000000Z", "-enddate", "21000101000000Z"];

/// See openssl-ca(1): the least that it has to be told.
const CONFIG: &str = "\
[req]
distinguished_name = nobody
[nobody]
[ca]
default_ca = lab
[lab]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = anybody
copy_extensions = copy
unique_subject = no
[anybody]
commonName = supplied
";

impl Authority {
    /// Makes an authority, and keeps it in a folder.
    pub(super) fn new(dir: &Path) -> Result<Authority> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(dir.join("openssl.cnf"), CONFIG)?;
        fs::write(dir.join("index.txt"), "")?;
        let authority = Authority { dir: dir.to_owned(), file: dir.join("ca.pem") };
        let extensions =
            ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
        authority.request("ca", &extensions)?;
        authority.sign("ca", &["-selfsign", "-keyfile", "ca.key"])?;
        Ok(authority)
    }

    /// The file with its certificate.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The certificate of this name, made if there is none yet; who shows it may be at these addresses.
    pub(super) fn issue(&self, name: &str, addrs: &[IpAddr]) -> Result<Certificate> {
        let file = |end: &str| self.dir.join(format!("{name}.{end}"));
        let issued = Certificate { certificate: file("pem"), key: file("key") };
        if !issued.certificate.exists() {
            let mut extensions = vec!["extendedKeyUsage=serverAuth,clientAuth".to_owned()];
            if !addrs.is_empty() {
                let names: Vec<_> = addrs.iter().map(|addr| format!("IP:{addr}")).collect();
                extensions.push(format!("subjectAltName={}", names.join(",")));
            }
            self.request(name, &extensions.iter().map(String::as_str).collect::<Vec<_>>())?;
            self.sign(name, &["-cert", "ca.pem", "-keyfile", "ca.key"])?;
        }
        Ok(issued)
    }

    /// Makes a key, and a request for a certificate.
    fn request(&self, name: &str, extensions: &[&str]) -> Result<()> {
        let (key, request, subject) =
            (format!("{name}.key"), format!("{name}.csr"), format!("/CN={name}"));
        let mut arguments = vec!["req", "-new", "-nodes", "-newkey", "ec"];
        arguments.extend(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", &subject]);
        arguments.extend(["-keyout", &key, "-out", &request]);
        for extension in extensions {
            arguments.extend(["-addext", extension]);
        }
        self.openssl(&arguments)?;
        fs::set_permissions(self.dir.join(key), fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    fn sign(&self, name: &str, by: &[&str]) -> Result<()> {
        let (request, certificate) = (format!("{name}.csr"), format!("{name}.pem"));
        let arguments = ["ca", "-batch", "-notext", "-in", &request, "-out", &certificate];
        self.openssl(&[&arguments[..], &VALID, by].concat())
    }

    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new("openssl")
            .args(arguments)
            .args(["-config", "openssl.cnf"])
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .output()
            .context("cannot run openssl")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {}: {complaint}", arguments.join(" "));
        Ok(())
    }
}
