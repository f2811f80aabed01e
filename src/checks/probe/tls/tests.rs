use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use proptest::prelude::*;
use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::super::probe;
use super::super::test_support::{LONG, loopbacks, target};
use super::*;
use crate::checks::settings::{HostName, Kind};

/// A certificate for these names and addresses, signed with its own key.
fn certificate(names: &[&str]) -> CertifiedKey<KeyPair> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    generate_simple_self_signed(names).unwrap()
}

fn key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// A server for one connection, which may fail in the handshake: where it is, and the name by
/// which it was asked for, if the handshake succeeded.
fn server(
    addr: IpAddr,
    certified: &CertifiedKey<KeyPair>,
    versions: &[&'static SupportedProtocolVersion],
    answer: &'static str,
) -> (SocketAddr, JoinHandle<Option<String>>) {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key(&certified.signing_key))
        .unwrap();
    let listener = TcpListener::bind((addr, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(LONG)).unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut peer);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if !matches!(stream.read(&mut byte), Ok(1)) {
                return None;
            }
            request.extend(byte);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        Some(connection.server_name().unwrap_or_default().to_owned())
    });
    (addr, thread)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn https() -> Http {
    Http::new(true)
}

#[test]
fn a_certificate_of_its_own_making_is_good_enough_over_both_versions_and_families() {
    let certified = certificate(&["cvip.example.org"]);
    for local in loopbacks() {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut http = https();
            http.host = Some("cvip.example.org".parse().unwrap());
            http.pattern = Some("^ok$".parse().unwrap());
            let (addr, server) = server(local, &certified, &[version], OK);
            let outcome = probe(&target(addr, Kind::Http(http)));
            assert_eq!(outcome, Ok("HTTP 200 with the pattern".to_owned()));
            assert_eq!(server.join().unwrap().as_deref(), Some("cvip.example.org"));
        }
    }
}

#[test]
fn without_a_host_no_name_is_sent() {
    for local in loopbacks() {
        let (addr, server) =
            server(local, &certificate(&["x.example"]), &[&rustls::version::TLS13], OK);
        assert_eq!(probe(&target(addr, Kind::Http(https()))), Ok("HTTP 200".to_owned()));
        assert_eq!(server.join().unwrap().as_deref(), Some(""));
    }
}

#[test]
fn a_body_that_ends_without_a_word_of_tls_is_whole() {
    let answer = "HTTP/1.1 200 OK\r\n\r\nto the end";
    let mut http = https();
    http.pattern = Some("the end$".parse().unwrap());
    let (addr, server) =
        server(loopbacks()[0], &certificate(&["x.example"]), &[&rustls::version::TLS13], answer);
    assert_eq!(probe(&target(addr, Kind::Http(http))), Ok("HTTP 200 with the pattern".to_owned()));
    server.join().unwrap();
}

#[test]
fn when_asked_to_verify_this_machines_authorities_decide() {
    let mut http = https();
    http.verify = true;
    let (addr, server) =
        server(loopbacks()[0], &certificate(&["127.0.0.1"]), &[&rustls::version::TLS13], OK);
    let reason = probe(&target(addr, Kind::Http(http))).unwrap_err();
    // A machine may have no authorities at all: then no check connects.
    if reason.starts_with("no authorities") {
        std::net::TcpStream::connect(addr).unwrap();
    } else {
        assert_eq!(reason, "TLS: invalid peer certificate: UnknownIssuer");
    }
    assert_eq!(server.join().unwrap(), None);
}

/// What a client that trusts this certificate says of a server that has it.
fn verified(certified: &CertifiedKey<KeyPair>, host: Option<&str>) -> Result<(), String> {
    let (addr, server) = server(loopbacks()[0], certified, &[&rustls::version::TLS13], OK);
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let mut http = https();
    http.host = host.map(|host| host.parse().unwrap());
    let mut connection = connection(Arc::new(trusting(roots)), &http, addr.ip()).unwrap();
    let deadline = Deadline::after(LONG);
    let mut stream = Stream::connect(&target(addr, Kind::Tcp), deadline).unwrap();
    let result = shake_hands(&mut connection, &mut stream, deadline);
    drop(stream);
    server.join().unwrap();
    result
}

#[test]
fn when_verified_a_certificate_is_for_the_host_or_else_the_address() {
    let certified = certificate(&["cvip.example.org"]);
    assert_eq!(verified(&certified, Some("cvip.example.org")), Ok(()));
    let other = verified(&certified, Some("other.example.org")).unwrap_err();
    assert!(other.contains("not valid for name"), "{other}");
    assert!(verified(&certified, None).is_err());
    assert_eq!(verified(&certificate(&["127.0.0.1"]), None), Ok(()));
}

#[test]
fn a_handshake_that_another_key_signed_is_refused_whatever_the_certificate() {
    let (certified, other) = (certificate(&["x.example"]), certificate(&["x.example"]));
    let stolen = CertifiedKey { cert: certified.cert, signing_key: other.signing_key };
    // A server that does not notice that its key is another's.
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Unsound(Arc::new(rustls::sign::CertifiedKey::new(
            vec![stolen.cert.der().clone()],
            ring::sign::any_supported_type(&key(&stolen.signing_key)).unwrap(),
        )))));
    let listener = TcpListener::bind((loopbacks()[0], 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        let _ = connection.complete_io(&mut peer);
    });
    let outcome = probe(&target(addr, Kind::Http(https())));
    assert_eq!(outcome, Err("TLS: invalid peer certificate: BadSignature".to_owned()));
    server.join().unwrap();
}

#[derive(Debug)]
struct Unsound(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Unsound {
    fn resolve(
        &self,
        _hello: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[test]
fn an_expired_certificate_serves_unless_it_is_verified() {
    let mut params = CertificateParams::new(vec!["x.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let signing_key = KeyPair::generate().unwrap();
    let certified = CertifiedKey { cert: params.self_signed(&signing_key).unwrap(), signing_key };
    let expired = verified(&certified, Some("x.example")).unwrap_err();
    assert!(expired.contains("expired"), "{expired}");
    let (addr, server) = server(loopbacks()[0], &certified, &[&rustls::version::TLS13], OK);
    assert_eq!(probe(&target(addr, Kind::Http(https()))), Ok("HTTP 200".to_owned()));
    server.join().unwrap();
}

proptest! {
    /// The settings judge a host so that no connection need do it again.
    #[test]
    fn every_host_that_the_settings_take_is_a_name_for_tls(text in "[a-zA-Z0-9._:-]{1,30}") {
        if let Ok(host) = text.parse::<HostName>() {
            let name = ServerName::try_from(host.as_str().to_owned());
            prop_assert!(name.is_ok(), "{}", host);
        }
    }
}
