//! Reads the certificate and key of `[server.tls]` and builds the listener's TLS configuration.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error, ServerConfig};

use super::TlsSettings;
use crate::config::error::ConfigErrors;
use crate::secret::{ConfigFingerprint, Secret, SecretRef, SecretSource};

/// ALPN protocols of the listener, in order of preference (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The gateway's TLS identity.
#[derive(Clone)]
pub struct ServerCertificate {
    /// TLS configuration: certificate, key, versions and protocols.
    pub server: Arc<ServerConfig>,
    fingerprint: ConfigFingerprint,
}

impl ServerCertificate {
    /// Returns whether certificate and key are the same.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.fingerprint.same(&other.fingerprint)
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Builds the TLS identity; returns `None` after an error.
pub(super) fn identity(
    settings: &TlsSettings,
    secrets: &dyn SecretSource,
    errors: &mut ConfigErrors<'_>,
) -> Option<ServerCertificate> {
    let certificate = read("certificate", &settings.certificate, secrets, errors, chain);
    let key = read("key", &settings.key, secrets, errors, private_key);
    let ((certificate, chain), (key, private_key)) = (certificate?, key?);
    match server(chain, private_key) {
        Ok(server) => Some(ServerCertificate {
            server: Arc::new(server),
            fingerprint: ConfigFingerprint::of(vec![certificate, key]),
        }),
        Err((name, detail)) => {
            errors.push(&["server", "tls", name], detail);
            None
        }
    }
}

fn read<T>(
    name: &str,
    reference: &SecretRef,
    secrets: &dyn SecretSource,
    errors: &mut ConfigErrors<'_>,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Option<(Secret, T)> {
    let at = ["server", "tls", name];
    let text = errors.check(&at, reference.resolve(secrets))?;
    let parsed = errors.check(&at, parse(text.expose()))?;
    Some((text, parsed))
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let chain = chain.map_err(|_| "contains a PEM block that cannot be read")?;
    if chain.is_empty() {
        return Err("contains no certificate; expected PEM, `-----BEGIN CERTIFICATE-----`");
    }
    Ok(chain)
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, &'static str> {
    // Drop the parser's error: it may quote a line, and the lines are the key.
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| "contains no private key; expected PEM without a passphrase, `-----BEGIN PRIVATE KEY-----`")
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, (&'static str, &'static str)> {
    let built = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut server = built.map_err(|error| match error {
        Error::InconsistentKeys(_) => ("key", "does not belong to the certificate"),
        Error::InvalidCertificate(_) => ("certificate", "contains a certificate that cannot be read"),
        _ => ("key", "has an unsupported type; use ECDSA P-256 or P-384, Ed25519 or RSA"),
    })?;
    server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(server)
}
