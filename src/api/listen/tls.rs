//! Mutual TLS: the server's certificate, the certificate authorities of the clients, and the reload of both.
//!
//! Only TLS 1.3, always with a client certificate. Sessions are not resumed, because a resumed session would rely on authorities that may
//! have been replaced.

mod names;

use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::{NoServerSessionStorage, WebPkiClientVerifier},
        version::TLS13,
    },
    server::TlsStream,
};

use super::TlsError;

/// More than a certificate needs. It limits the memory if a path names another file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The TLS configuration in use, and its files.
pub(super) struct Tls {
    files: Files,
    current: ArcSwap<ServerConfig>,
    last_check: Mutex<Check>,
}

/// The paths of certificates and key.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
}

/// The result of the last check of the files.
struct Check {
    fingerprint: u64,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The contents are new. They may be incomplete; the next check decides.
    Unconfirmed,
    /// The contents are in use, or the log line about their rejection is written.
    Done,
}

/// The contents of the files.
struct Contents {
    certificate: Result<Vec<u8>, io::ErrorKind>,
    key: Result<Vec<u8>, io::ErrorKind>,
    client_ca: Result<Vec<u8>, io::ErrorKind>,
}

// === impl Tls ===

impl Tls {
    pub(super) fn load(certificate: &Path, key: &Path, client_ca: &Path) -> Result<Self, TlsError> {
        let files = Files { certificate: certificate.into(), key: key.into(), client_ca: client_ca.into() };
        let contents = files.read();
        let config = files.config(&contents)?;
        let check = Check { fingerprint: contents.fingerprint(), outcome: Outcome::Done };
        Ok(Self { files, current: ArcSwap::from_pointee(config), last_check: Mutex::new(check) })
    }

    /// Checks the files and applies new contents once two checks in a row agree. The three files are not replaced in one step, and a
    /// truncated list of authorities looks like a shorter one. Unusable contents are logged once, and the previous ones stay in use.
    ///
    /// The files are small and local, so reading them blocks only briefly.
    pub(super) fn reload(&self) {
        let contents = self.files.read();
        let fingerprint = contents.fingerprint();
        let mut last_check = self.last_check.lock();
        if last_check.fingerprint != fingerprint {
            *last_check = Check { fingerprint, outcome: Outcome::Unconfirmed };
            return;
        }
        if last_check.outcome == Outcome::Done {
            return;
        }
        last_check.outcome = Outcome::Done;
        match self.files.config(&contents) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                tracing::info!(certificate = %self.files.certificate.display(), "Reloaded the TLS certificates.");
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    "Failed to reload the changed TLS certificates; the previous ones stay in use. Correct the files; plegd then \
                     reloads them."
                );
            }
        }
    }

    /// Performs the handshake. Returns the stream and the names in the client's certificate.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Arc<[String]>)> {
        let stream = TlsAcceptor::from(self.current.load_full()).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        // The handshake has refused a client without a certificate.
        let certificate = certificate.ok_or(io::ErrorKind::PermissionDenied)?;
        let names = names::of(certificate);
        Ok((stream, names.into()))
    }
}

// === impl Files ===

impl Files {
    fn read(&self) -> Contents {
        Contents {
            certificate: read(&self.certificate),
            key: read(&self.key),
            client_ca: read(&self.client_ca),
        }
    }

    fn config(&self, contents: &Contents) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&self.certificate, "api.tls_certificate", &contents.certificate)?;
        let key = present(&self.key, "api.tls_key", &contents.key)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|reason| malformed(&self.key, "api.tls_key", "private key", &reason))?;

        let provider = Arc::new(ring::default_provider());
        let authorities = |reason: String| TlsError::Authorities { path: self.client_ca.clone(), reason };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.client_ca, "api.tls_client_ca", &contents.client_ca)? {
            roots.add(certificate).map_err(|error| authorities(error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| authorities(error.to_string()))?;
        let pair = |reason: tokio_rustls::rustls::Error| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            reason: reason.to_string(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(pair)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

fn certificates(
    path: &Path,
    key: &'static str,
    contents: &Result<Vec<u8>, io::ErrorKind>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let contents = present(path, key, contents)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(contents)
        .collect::<Result<_, _>>()
        .map_err(|reason| malformed(path, key, "certificate", &reason))?;
    if certificates.is_empty() {
        return Err(malformed(path, key, "certificate", &"no such section"));
    }
    Ok(certificates)
}

fn present<'a>(
    path: &Path,
    key: &'static str,
    contents: &'a Result<Vec<u8>, io::ErrorKind>,
) -> Result<&'a [u8], TlsError> {
    let unreadable =
        |kind: &io::ErrorKind| TlsError::Unreadable { key, path: path.into(), error: (*kind).into() };
    contents.as_deref().map_err(unreadable)
}

fn malformed(
    path: &Path,
    key: &'static str,
    expected: &'static str,
    reason: &dyn std::fmt::Display,
) -> TlsError {
    TlsError::Malformed { key, path: path.into(), expected, reason: reason.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, io::ErrorKind> {
    let mut contents = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut contents));
    read.map(|_| contents).map_err(|error| error.kind())
}

// === impl Contents ===

impl Contents {
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.certificate, &self.key, &self.client_ca).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    struct TestFiles {
        directory: tempfile::TempDir,
    }

    impl TestFiles {
        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        /// Writes a certificate with its key. The certificate is its own authority.
        fn write(&self) {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["node".to_owned()]).unwrap();
            std::fs::write(self.path("crt"), cert.pem()).unwrap();
            std::fs::write(self.path("ca"), cert.pem()).unwrap();
            std::fs::write(self.path("key"), signing_key.serialize_pem()).unwrap();
        }

        fn load(&self) -> Result<Tls, TlsError> {
            Tls::load(&self.path("crt"), &self.path("key"), &self.path("ca"))
        }
    }

    fn test_files() -> TestFiles {
        let files = TestFiles { directory: tempfile::tempdir().unwrap() };
        files.write();
        files
    }

    #[test]
    fn new_contents_are_applied_at_the_second_check_and_unchanged_contents_never() {
        let files = test_files();
        let tls = files.load().unwrap();
        let first = tls.current.load_full();
        for _ in 0..3 {
            tls.reload();
            assert!(Arc::ptr_eq(&first, &tls.current.load()));
        }
        files.write();
        tls.reload();
        assert!(Arc::ptr_eq(&first, &tls.current.load()));
        tls.reload();
        let second = tls.current.load_full();
        assert!(!Arc::ptr_eq(&first, &second));
        tls.reload();
        assert!(Arc::ptr_eq(&second, &tls.current.load()));
    }

    #[test]
    fn incomplete_authorities_are_not_applied() {
        let files = test_files();
        let tls = files.load().unwrap();
        let first = tls.current.load_full();
        let one = std::fs::read_to_string(files.path("ca")).unwrap();
        files.write();
        // Each intermediate state is a valid list.
        for authorities in 2..5 {
            std::fs::write(files.path("ca"), one.repeat(authorities)).unwrap();
            tls.reload();
            assert!(Arc::ptr_eq(&first, &tls.current.load()));
        }
        tls.reload();
        assert!(!Arc::ptr_eq(&first, &tls.current.load()));
    }

    #[test]
    fn unusable_contents_leave_the_previous_ones_in_use() {
        let files = test_files();
        let tls = files.load().unwrap();
        let first = tls.current.load_full();
        let check_three_times = || {
            [Outcome::Unconfirmed, Outcome::Done, Outcome::Done].map(|expected| {
                tls.reload();
                assert_eq!(tls.last_check.lock().outcome, expected);
            })
        };
        for broken in ["crt", "key", "ca"] {
            files.write();
            std::fs::write(files.path(broken), "half").unwrap();
            check_three_times();
            std::fs::remove_file(files.path(broken)).unwrap();
            check_three_times();
            assert!(Arc::ptr_eq(&first, &tls.current.load()), "{broken}");
        }
        files.write();
        check_three_times();
        assert!(!Arc::ptr_eq(&first, &tls.current.load()));
    }

    #[test]
    fn an_endless_file_is_read_up_to_the_size_limit() {
        let files = test_files();
        assert!(matches!(
            Tls::load(Path::new("/dev/zero"), &files.path("key"), &files.path("ca")),
            Err(TlsError::Malformed { .. })
        ));
    }
}
