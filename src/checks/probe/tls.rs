//! TLS for HTTPS checks: a client that accepts any certificate, or only valid ones.
//!
//! Accepting any is the default: a check asks whether a real server can do TLS, not who it is. Its
//! certificate is the CVIP's, its address is not, and a check reveals nothing. That the server
//! has its certificate's key is seen in either case.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::deadline::Deadline;
use super::stream::Stream;
use crate::checks::settings::Http;

/// How long this machine's authorities are taken to be the same.
const AUTHORITIES_FOR: Duration = Duration::from_secs(300);

/// A client for one connection.
pub(super) fn client(http: &Http, addr: IpAddr) -> Result<ClientConnection, String> {
    let config = if http.verify { verifying()? } else { Arc::clone(believing()) };
    connection(config, http, addr)
}

fn connection(
    config: Arc<ClientConfig>,
    http: &Http,
    addr: IpAddr,
) -> Result<ClientConnection, String> {
    // An address is verified as one, and never sent as SNI.
    let name = match &http.host {
        Some(host) => ServerName::try_from(host.as_str().to_owned())
            .map_err(|error| format!("TLS: host {host}: {error}"))?,
        None => ServerName::from(addr),
    };
    ClientConnection::new(config, name).map_err(|error| format!("TLS: {error}"))
}

/// The handshake by itself, so that what goes wrong in it is told as such.
pub(super) fn shake_hands(
    connection: &mut ClientConnection,
    stream: &mut Stream,
    deadline: Deadline,
) -> Result<(), String> {
    while connection.is_handshaking() {
        connection.complete_io(stream).map_err(|error| deadline.because("TLS", &error))?;
    }
    Ok(())
}

/// Accepts any certificate.
fn believing() -> &'static Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let verifier = Arc::new(AnyCertificate(provider()));
        let config = builder().dangerous().with_custom_certificate_verifier(verifier);
        Arc::new(without_memory(config.with_no_client_auth()))
    })
}

/// Accepts certificates that this machine's authorities signed; they are read anew every
/// [`AUTHORITIES_FOR`].
fn verifying() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: Mutex<Option<(Instant, Arc<ClientConfig>)>> = Mutex::new(None);
    let mut cached = CONFIG.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((read, config)) = &*cached
        && read.elapsed() < AUTHORITIES_FOR
    {
        return Ok(Arc::clone(config));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!(
            "no authorities to verify a certificate with: install ca-certificates{why}"
        ));
    }
    let config = Arc::new(trusting(roots));
    *cached = Some((Instant::now(), Arc::clone(&config)));
    Ok(config)
}

/// Accepts certificates that these authorities signed.
fn trusting(roots: RootCertStore) -> ClientConfig {
    without_memory(builder().with_root_certificates(roots).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions' ciphers")
}

/// Each run is a whole handshake: a resumed session would not show the certificate.
fn without_memory(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}

/// Accepts any certificate, if only the handshake was signed with its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "tls/tests.rs"]
mod tests;
