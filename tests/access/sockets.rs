//! The UNIX socket as it is made and removed.

use std::{
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener as StdListener,
    },
    path::Path,
    time::Duration,
};

use plegd::{
    api::listen::{ListenError, Listening},
    config::{FileMode, SocketGroup},
};

use super::server::*;

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn mode_and_group_are_as_configured() {
    // Only root may give a socket to any group.
    let group = if is_root() { 54_321 } else { rustix::process::getegid().as_raw() };
    for mode in [0o660, 0o600, 0o666] {
        let folder = folder();
        let mut config = config(&folder);
        config.socket_mode = FileMode(mode);
        config.socket_group = SocketGroup::Number(group);
        let listening = Listening::bind(&config).await.unwrap();
        let socket = listening.socket().unwrap();
        let file = std::fs::metadata(socket).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!((mode_of(socket), file.gid()), (mode, group));
    }
}

#[tokio::test]
async fn a_missing_folder_is_made_for_all_to_pass() {
    let folder = folder();
    let mut config = config(&folder);
    let above = folder.path().join("run");
    config.socket = Some(above.join("plegd/plegd.sock"));
    let listening = Listening::bind(&config).await.unwrap();
    assert_eq!((mode_of(&above), mode_of(&above.join("plegd"))), (0o755, 0o755));
    drop(listening);
    // One that is there is left as it is.
    std::fs::set_permissions(above.join("plegd"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let _listening = Listening::bind(&config).await.unwrap();
    assert_eq!(mode_of(&above.join("plegd")), 0o700);
}

#[tokio::test]
async fn a_group_that_is_not_there_is_named() {
    let folder = folder();
    let mut config = config(&folder);
    config.socket_group = SocketGroup::Name("no-such-group-of-plegd".into());
    let error = Listening::bind(&config).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "there is no group \"no-such-group-of-plegd\" in /etc/group, to which api.socket_group gives the socket; \
         make it, or give its number"
    );
    config.socket_group = SocketGroup::Name("root".into());
    match Listening::bind(&config).await {
        Ok(listening) => assert_eq!(std::fs::metadata(listening.socket().unwrap()).unwrap().gid(), 0),
        Err(error) => assert!(!is_root() && matches!(error, ListenError::Group { gid: 0, .. }), "{error}"),
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let folder = folder();
    let config = config(&folder);
    let path = config.socket.clone().unwrap();
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Server::configured(|of_server| of_server.socket = Some(path)).await;
    server.assert_serves().await;
}

#[tokio::test]
async fn a_live_socket_is_refused_and_stays() {
    let server = Server::start().await;
    let mut config = config(&server.folder);
    let error = Listening::bind(&config).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "the socket {} is taken: another plegd or another program answers there; end it, or choose another path \
             with api.socket (\"off\" for none)",
            server.socket.display()
        )
    );
    server.assert_serves().await;
    // Another program's, too.
    let other = server.folder.path().join("other.sock");
    let _listener = StdListener::bind(&other).unwrap();
    config.socket = Some(other.clone());
    assert!(
        matches!(Listening::bind(&config).await, Err(ListenError::SocketTaken { path }) if path == other)
    );
}

#[tokio::test]
async fn what_is_not_a_socket_is_not_touched() {
    let folder = folder();
    let mut config = config(&folder);
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "mine").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let inner = folder.path().join("folder");
    std::fs::create_dir(&inner).unwrap();
    for path in [&path, &link, &inner] {
        config.socket = Some(path.clone());
        let error = Listening::bind(&config).await.err().unwrap();
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "mine");
    assert!(inner.is_dir());
    // The folder of the socket can be a file, too.
    config.socket = Some(path.join("plegd.sock"));
    let error = Listening::bind(&config).await.err().unwrap();
    assert!(error.to_string().starts_with("cannot make the socket's folder "), "{error}");
}

#[tokio::test]
async fn of_many_that_are_started_at_once_one_gets_the_socket() {
    let folder = folder();
    let path = config(&folder).socket.unwrap();
    drop(StdListener::bind(&path).unwrap());
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let config = config(&folder);
        starts.spawn(async move { Listening::bind(&config).await });
    }
    let outcomes = soon("starting", starts.join_all()).await;
    let (got, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(got.len(), 1);
    for error in refused {
        let error = error.err().unwrap();
        assert!(matches!(error, ListenError::SocketTaken { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_socket_is_removed_at_the_end_if_it_is_still_ours() {
    let server = Server::start().await;
    let (socket, folder) = (server.socket.clone(), folder());
    server.assert_serves().await;
    server.end().await;
    assert!(!socket.exists());

    let config = config(&folder);
    let path = config.socket.clone().unwrap();
    let listening = Listening::bind(&config).await.unwrap();
    // Somebody has removed it and put another in its place.
    std::fs::remove_file(&path).unwrap();
    let _other = StdListener::bind(&path).unwrap();
    drop(listening);
    assert!(path.exists());
}

#[tokio::test]
async fn it_ends_in_time_whatever_is_open() {
    let server = Server::start().await;
    let silent = server.raw().await;
    let channel = server.channel().await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let mut watch = client.watch(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let socket = server.socket.clone();
    server.end().await;
    assert!(soon("the end of the stream", watch.message()).await.is_err());
    assert!(super::server::channel(&socket).await.is_err());
    drop(silent);
}

#[tokio::test]
async fn nothing_is_served_where_nothing_is_asked_for() {
    let server = Server::configured(|config| config.socket = None).await;
    assert_eq!(server.socket, Path::new(""));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!server.task.is_finished());
    server.end().await;
}
