//! Root certificates that a connection trusts besides the platform's, for vendors with their own certificate authority.

use std::fmt;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// Additional root certificates for one connection.
#[derive(Clone, Default)]
pub struct RootCertificates(Vec<reqwest::Certificate>);

impl RootCertificates {
    /// Parses certificates from concatenated PEM blocks; other kinds of blocks are skipped.
    ///
    /// # Errors
    /// A sentence that does not quote the text.
    pub fn read(pem: &str) -> Result<Self, String> {
        let mut checked = RootCertStore::empty();
        let mut found = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| "holds a PEM block that cannot be read".to_owned())?;
            // The client would reject it too, but only when it is built and without naming the setting.
            let der = reqwest::Certificate::from_der(&certificate);
            match (checked.add(certificate), der) {
                (Ok(()), Ok(certificate)) => found.push(certificate),
                _ => return Err("holds a certificate that cannot be a root".to_owned()),
            }
        }
        if found.is_empty() {
            return Err("holds no certificate; expected PEM, `-----BEGIN CERTIFICATE-----`".to_owned());
        }
        Ok(Self(found))
    }

    /// Returns the certificates.
    pub(super) fn certificates(&self) -> impl Iterator<Item = reqwest::Certificate> + '_ {
        self.0.iter().cloned()
    }
}

impl fmt::Debug for RootCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}
