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

/// The TLS configuration in force.
pub(super) struct Tls {
    files: Files,
    current: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
}

/// The paths of certificates and key.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
}

/// The result of the last check of the files.
struct Seen {
    contents: u64,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The contents are not applied yet. They may be incomplete; the next check decides.
    New,
    /// The contents are in force, or the log line about their rejection is written.
    Settled,
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
        let seen = Seen { contents: contents.fingerprint(), outcome: Outcome::Settled };
        Ok(Self { files, current: ArcSwap::from_pointee(config), seen: Mutex::new(seen) })
    }

    /// Checks the files and applies new contents once two checks in a row agree. The three files are not replaced in one step, and a
    /// truncated list of authorities looks like a shorter one. Unusable contents are logged once, and the previous ones stay in force.
    ///
    /// The files are small and local, so reading them blocks only briefly.
    pub(super) fn reload(&self) {
        let contents = self.files.read();
        let fingerprint = contents.fingerprint();
        let mut seen = self.seen.lock();
        if seen.contents != fingerprint {
            *seen = Seen { contents: fingerprint, outcome: Outcome::New };
            return;
        }
        if seen.outcome == Outcome::Settled {
            return;
        }
        seen.outcome = Outcome::Settled;
        match self.files.config(&contents) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                tracing::info!(certificate = %self.files.certificate.display(), "The TLS certificates were read anew.");
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    "The TLS certificates have changed and cannot be used; the old ones stay in force. Correct the files: they are \
                     then read again by themselves."
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
            .map_err(|why| malformed(&self.key, "api.tls_key", "private key", &why))?;

        let provider = Arc::new(ring::default_provider());
        let authorities = |why: String| TlsError::Authorities { path: self.client_ca.clone(), why };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.client_ca, "api.tls_client_ca", &contents.client_ca)? {
            roots.add(certificate).map_err(|error| authorities(error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| authorities(error.to_string()))?;
        let pair = |why: tokio_rustls::rustls::Error| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            why: why.to_string(),
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
        .map_err(|why| malformed(path, key, "certificate", &why))?;
    if certificates.is_empty() {
        return Err(malformed(path, key, "certificate", &"no section of that kind"));
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

fn malformed(path: &Path, key: &'static str, wanted: &'static str, why: &dyn std::fmt::Display) -> TlsError {
    TlsError::Malformed { key, path: path.into(), wanted, why: why.to_string() }
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

    struct Given {
        folder: tempfile::TempDir,
    }

    impl Given {
        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
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

    fn given() -> Given {
        let given = Given { folder: tempfile::tempdir().unwrap() };
        given.write();
        given
    }

    #[test]
    fn what_is_new_is_taken_at_the_second_look_and_what_is_not_is_left_alone() {
        let given = given();
        let tls = given.load().unwrap();
        let first = tls.current.load_full();
        for _ in 0..3 {
            tls.reload();
            assert!(Arc::ptr_eq(&first, &tls.current.load()));
        }
        given.write();
        tls.reload();
        assert!(Arc::ptr_eq(&first, &tls.current.load()));
        tls.reload();
        let second = tls.current.load_full();
        assert!(!Arc::ptr_eq(&first, &second));
        tls.reload();
        assert!(Arc::ptr_eq(&second, &tls.current.load()));
    }

    #[test]
    fn authorities_that_are_still_being_written_are_not_taken() {
        let given = given();
        let tls = given.load().unwrap();
        let first = tls.current.load_full();
        let one = std::fs::read_to_string(given.path("ca")).unwrap();
        given.write();
        // Each intermediate state is a valid list.
        for authorities in 2..5 {
            std::fs::write(given.path("ca"), one.repeat(authorities)).unwrap();
            tls.reload();
            assert!(Arc::ptr_eq(&first, &tls.current.load()));
        }
        tls.reload();
        assert!(!Arc::ptr_eq(&first, &tls.current.load()));
    }

    #[test]
    fn what_cannot_be_used_leaves_the_old_in_force() {
        let given = given();
        let tls = given.load().unwrap();
        let first = tls.current.load_full();
        let looks = || {
            [Outcome::New, Outcome::Settled, Outcome::Settled].map(|expected| {
                tls.reload();
                assert_eq!(tls.seen.lock().outcome, expected);
            })
        };
        for broken in ["crt", "key", "ca"] {
            given.write();
            std::fs::write(given.path(broken), "half").unwrap();
            looks();
            std::fs::remove_file(given.path(broken)).unwrap();
            looks();
            assert!(Arc::ptr_eq(&first, &tls.current.load()), "{broken}");
        }
        given.write();
        looks();
        assert!(!Arc::ptr_eq(&first, &tls.current.load()));
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        let given = given();
        assert!(matches!(
            Tls::load(Path::new("/dev/zero"), &given.path("key"), &given.path("ca")),
            Err(TlsError::Malformed { .. })
        ));
    }
}
