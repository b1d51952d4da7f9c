//! A private certificate authority, and a TLS proxy.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// A certificate authority for this machine.
pub struct Authority {
    /// Its own certificate.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate for this machine and its key, in PEM.
pub struct SignedCertificate {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub fn sign(&self) -> SignedCertificate {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        SignedCertificate { certificate, key: key.serialize_pem() }
    }

    /// Returns a client that trusts only this authority.
    pub fn client(&self) -> reqwest::ClientBuilder {
        let certificate = reqwest::Certificate::from_pem(self.pem.as_bytes()).expect("a certificate");
        reqwest::Client::builder()
            .no_proxy()
            .https_only(true)
            .timeout(super::gateway::TIMEOUT)
            .tls_certs_only([certificate])
    }

    /// Returns a TLS connector without HTTP, for these versions.
    pub fn connector(&self, versions: &[&'static SupportedProtocolVersion]) -> tokio_rustls::TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("a root");
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth()).into()
    }
}

impl SignedCertificate {
    /// Writes both into this folder, each atomically.
    pub fn write(&self, folder: &Path) {
        for (name, text) in [("tls.crt", &self.certificate), ("tls.key", &self.key)] {
            let temporary = folder.join(format!("{name}.new"));
            std::fs::write(&temporary, text).expect("the file can be written");
            std::fs::rename(temporary, folder.join(name)).expect("the file can be replaced");
        }
    }

    /// Returns the certificate in DER.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM")
    }

    /// Returns a server configuration with this certificate.
    pub fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM");
        Arc::new(
            builder.expect("versions").with_no_client_auth().with_single_cert(vec![self.der()], key).expect("a pair"),
        )
    }
}

/// Starts a proxy that terminates TLS with this certificate and forwards to this address.
pub async fn start_tls_proxy(address: SocketAddr, signed: &SignedCertificate) -> SocketAddr {
    let acceptor = TlsAcceptor::from(signed.server());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let proxy_address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate disconnects here.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut upstream = TcpStream::connect(address).await.expect("a listener");
                tokio::io::copy_bidirectional(&mut stream, &mut upstream).await.ok();
            });
        }
    });
    proxy_address
}
