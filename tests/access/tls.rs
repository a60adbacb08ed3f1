//! TCP: with TLS and a client certificate, or in plaintext on loopback.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use plegd::{
    api::{
        access::Principal,
        listen::{ListenError, Listening, TlsError},
    },
    config,
    metrics::Refusal,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    },
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use super::server::*;

const AGENT: &str = "spiffe://example.org/agent";

/// Signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, san: SanType, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![san];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    fn server(&self) -> Identity {
        self.sign(SanType::IpAddress([127, 0, 0, 1].into()), ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn client(&self, uri: &str) -> Identity {
        self.sign(SanType::URI(uri.try_into().unwrap()), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }
}

/// Writes the three files of a server.
fn write(dir: &Path, identity: &Identity, client_ca: &Authority) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("tls.crt"), identity.certificate.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), identity.key.serialize_pem()).unwrap();
    std::fs::write(dir.join("ca.crt"), client_ca.0.pem()).unwrap();
}

fn with_tls(config: &mut config::Api, dir: &Path) {
    config.tcp_address = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.tls_certificate = Some(dir.join("tls.crt"));
    config.tls_key = Some(dir.join("tls.key"));
    config.tls_client_ca = Some(dir.join("ca.crt"));
}

fn connector(server_ca: &Authority, identity: Option<&Identity>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(server_ca.certificate()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![identity.certificate.der().clone()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// The code of a health check on a new connection; `Unavailable` if there is no connection.
async fn check_over(address: SocketAddr, connector: TlsConnector) -> Result<(), Code> {
    let channel = channel_over(address, connector).await.map_err(|_| Code::Unavailable)?;
    in_time("an answer", check(&channel)).await.map_err(|status| status.code())
}

async fn channel_over(
    address: SocketAddr,
    connector: TlsConnector,
) -> Result<Channel, tonic::transport::Error> {
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::from(address.ip());
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    in_time("a handshake", Endpoint::from_static("http://plegd").connect_with_connector(connect)).await
}

async fn plain(address: SocketAddr) -> Result<(), Code> {
    let connect =
        tower::service_fn(move |_| async move { TcpStream::connect(address).await.map(TokioIo::new) });
    let channel = Endpoint::from_static("http://plegd").connect_with_connector(connect).await;
    let channel = channel.map_err(|_| Code::Unavailable)?;
    in_time("an answer", check(&channel)).await.map_err(|status| status.code())
}

#[tokio::test]
async fn a_client_needs_a_certificate_from_the_configured_authority() {
    let (own, foreign, files) =
        (Authority::new("own"), Authority::new("foreign"), tempfile::tempdir().unwrap());
    write(files.path(), &own.server(), &own);
    let server = Server::configured(|config| with_tls(config, files.path())).await;
    let address = server.tcp.unwrap();

    assert_eq!(check_over(address, connector(&own, Some(&own.client(AGENT)))).await, Ok(()));
    let nameless = own.sign(SanType::IpAddress([10, 0, 0, 1].into()), ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(check_over(address, connector(&own, Some(&nameless))).await, Ok(()));

    let refused = [
        ("no certificate", connector(&own, None)),
        ("another authority", connector(&own, Some(&foreign.client(AGENT)))),
        ("a server's certificate", connector(&own, Some(&own.server()))),
    ];
    for (what, connector) in refused {
        assert!(check_over(address, connector).await.is_err(), "{what}");
    }
    assert!(plain(address).await.is_err());
    assert_eq!(server.metrics.api.refused.with(Refusal::Tls).get(), 4);
    // The client also verifies the server's authority.
    assert!(channel_over(address, connector(&foreign, Some(&own.client(AGENT)))).await.is_err());
    server.end().await;
}

#[tokio::test]
async fn the_name_in_a_certificate_can_be_required() {
    let (own, files) = (Authority::new("own"), tempfile::tempdir().unwrap());
    write(files.path(), &own.server(), &own);
    let server = Server::configured(|config| {
        with_tls(config, files.path());
        config.allow_watch = principals([Principal::TlsName(AGENT.into())]);
    })
    .await;
    let address = server.tcp.unwrap();
    assert_eq!(check_over(address, connector(&own, Some(&own.client(AGENT)))).await, Ok(()));
    let other = channel_over(address, connector(&own, Some(&own.client("spiffe://example.org/other"))))
        .await
        .unwrap();
    let status = call(&other, WATCH).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().ends_with(
            "(spiffe://example.org/other) may not call Watch: api.allow_watch does not admit it; \
             to allow it, add \"tls:spiffe://example.org/other\" to api.allow_watch"
        ),
        "{status}"
    );
}

#[tokio::test]
async fn certificates_are_reloaded_and_invalid_ones_are_ignored() {
    let (old, new, dir) = (Authority::new("old"), Authority::new("new"), tempfile::tempdir().unwrap());
    // Like the kubelet's Secret volumes: the files are links through `..data`, which is replaced atomically.
    let (first, second, third) = (dir.path().join("1"), dir.path().join("2"), dir.path().join("3"));
    write(&first, &old.server(), &old);
    write(&second, &new.server(), &new);
    write(&third, &old.server(), &old);
    std::fs::write(third.join("tls.key"), "not a key").unwrap();
    let data = dir.path().join("..data");
    let swap = |to: &Path| {
        let link = dir.path().join("..data_tmp");
        std::os::unix::fs::symlink(to, &link).unwrap();
        std::fs::rename(&link, &data).unwrap();
    };
    swap(&first);
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        std::os::unix::fs::symlink(Path::new("..data").join(file), dir.path().join(file)).unwrap();
    }
    let server = Server::with(
        |config| with_tls(config, dir.path()),
        |timeouts| timeouts.certificates = Duration::from_millis(10),
    )
    .await;
    let address = server.tcp.unwrap();
    let (old_client, new_client) = (old.client(AGENT), new.client(AGENT));
    let with_old = || check_over(address, connector(&old, Some(&old_client)));
    let with_new = || check_over(address, connector(&new, Some(&new_client)));
    assert_eq!(with_old().await, Ok(()));
    assert!(with_new().await.is_err());
    let stays = channel_over(address, connector(&old, Some(&old_client))).await.unwrap();
    check(&stays).await.unwrap();

    swap(&second);
    until("the new certificates are in force", async || with_new().await.is_ok()).await;
    assert!(with_old().await.is_err());
    check(&stays).await.unwrap();

    swap(&third);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(with_new().await, Ok(()));
    }
    swap(&first);
    until("the valid certificates are in force again", async || with_old().await.is_ok()).await;
}

#[tokio::test]
async fn a_connection_without_a_handshake_is_closed() {
    let (own, files) = (Authority::new("own"), tempfile::tempdir().unwrap());
    write(files.path(), &own.server(), &own);
    let server = Server::with(
        |config| with_tls(config, files.path()),
        |timeouts| timeouts.first_request = Duration::from_millis(100),
    )
    .await;
    let mut silent = TcpStream::connect(server.tcp.unwrap()).await.unwrap();
    let mut rest = Vec::new();
    let _ = in_time("the end of the connection", silent.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    assert_eq!(server.metrics.api.refused.with(Refusal::Tls).get(), 1);
}

#[tokio::test]
async fn the_error_names_a_file_that_cannot_be_used() {
    let (own, files) = (Authority::new("own"), tempfile::tempdir().unwrap());
    let dir = dir();
    let mut config = config(&dir);
    with_tls(&mut config, files.path());
    let refusal = async || match Listening::bind(&config).await {
        Err(ListenError::Tls(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the configuration is accepted"),
    };
    let path = |name: &str| files.path().join(name).display().to_string();
    let error = refusal().await;
    assert_eq!(
        error.to_string(),
        format!(
            "cannot read {} (api.tls_certificate): entity not found; check the permissions of plegd's user",
            path("tls.crt")
        )
    );

    write(files.path(), &own.server(), &own);
    std::fs::write(path("tls.crt"), "hello").unwrap();
    let error = refusal().await.to_string();
    assert!(error.contains(&path("tls.crt")) && error.contains("contains no certificate"), "{error}");

    write(files.path(), &own.server(), &own);
    std::fs::write(path("tls.key"), own.server().key.serialize_pem()).unwrap();
    let error = refusal().await;
    assert!(matches!(error, TlsError::Pair { .. }), "{error}");
    assert!(error.to_string().contains("api.tls_certificate and api.tls_key must belong together"));

    write(files.path(), &own.server(), &own);
    std::fs::write(path("ca.crt"), own.server().key.serialize_pem()).unwrap();
    let error = refusal().await.to_string();
    assert!(error.contains(&path("ca.crt")) && error.contains("api.tls_client_ca"), "{error}");
    // No socket remains.
    assert!(!config.socket.as_ref().unwrap().exists());
}

#[tokio::test]
async fn plaintext_is_allowed_on_loopback_and_for_its_principal() {
    let plaintext = |config: &mut config::Api| {
        config.tcp_address = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.tcp_plaintext = true;
    };
    let server = Server::configured(plaintext).await;
    assert_eq!(plain(server.tcp.unwrap()).await, Ok(()));
    server.end().await;

    let server = Server::configured(|config| {
        plaintext(config);
        config.allow_watch = principals([Principal::Root, Principal::Group, Principal::Tls]);
    })
    .await;
    assert_eq!(plain(server.tcp.unwrap()).await, Err(Code::PermissionDenied));
    server.assert_serves().await;

    // An embedding program may pass a configuration that was not validated.
    let dir = dir();
    let mut config = config(&dir);
    config.tcp_plaintext = true;
    config.tcp_address = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    assert!(matches!(Listening::bind(&config).await, Err(ListenError::Unprotected { .. })));
    config.tcp_address = server.tcp;
    assert!(matches!(Listening::bind(&config).await, Err(ListenError::AddressTaken { .. })));
    config.tcp_address = Some("192.0.2.1:80".parse().unwrap());
    config.tcp_plaintext = false;
    assert!(matches!(Listening::bind(&config).await, Err(ListenError::Unprotected { .. })));
}
