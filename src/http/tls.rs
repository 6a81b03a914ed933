//! TLS with rustls and ring; the roots are the host's.

use std::path::PathBuf;
use std::sync::Arc;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Loads the host's certificates, or those that OpenSSL's two variables name. Called when the
/// first https URL is used: reading a hundred certificates takes milliseconds.
pub(super) fn config(ctx: &Ctx) -> Result<TlsConfig> {
    let path = |name| ctx.env_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let (file, directory) = (path("SSL_CERT_FILE"), path("SSL_CERT_DIR"));
    let found = if file.is_some() || directory.is_some() {
        rustls_native_certs::load_certs_from_paths(file.as_deref(), directory.as_deref())
    } else {
        rustls_native_certs::load_native_certs()
    };
    for err in &found.errors {
        log::debug!("Failed to load a certificate, ignoring: {err}");
    }
    if found.certs.is_empty() {
        return Err(Error::new("Found no trusted certificates, cannot use https.").hint(
            "Install the distribution's CA certificates, or name a file in $SSL_CERT_FILE.",
        ));
    }
    let roots: Vec<_> =
        found.certs.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}
