//! How plegd creates and removes its UNIX socket.

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
        let dir = dir();
        let mut config = config(&dir);
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
async fn a_missing_directory_is_created_with_mode_0755() {
    let dir = dir();
    let mut config = config(&dir);
    let above = dir.path().join("run");
    config.socket = Some(above.join("plegd/plegd.sock"));
    let listening = Listening::bind(&config).await.unwrap();
    assert_eq!((mode_of(&above), mode_of(&above.join("plegd"))), (0o755, 0o755));
    drop(listening);
    // The mode of an existing directory does not change.
    std::fs::set_permissions(above.join("plegd"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let _listening = Listening::bind(&config).await.unwrap();
    assert_eq!(mode_of(&above.join("plegd")), 0o700);
}

#[tokio::test]
async fn the_error_names_a_group_that_does_not_exist() {
    let dir = dir();
    let mut config = config(&dir);
    config.socket_group = SocketGroup::Name("no-such-group-of-plegd".into());
    let error = Listening::bind(&config).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "the group \"no-such-group-of-plegd\" of api.socket_group does not exist in /etc/group: create it, or set its number"
    );
    config.socket_group = SocketGroup::Name("root".into());
    match Listening::bind(&config).await {
        Ok(listening) => assert_eq!(std::fs::metadata(listening.socket().unwrap()).unwrap().gid(), 0),
        Err(error) => assert!(!is_root() && matches!(error, ListenError::Group { gid: 0, .. }), "{error}"),
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let dir = dir();
    let config = config(&dir);
    let path = config.socket.clone().unwrap();
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Server::configured(|of_server| of_server.socket = Some(path)).await;
    server.assert_serves().await;
}

#[tokio::test]
async fn a_live_socket_is_refused_and_stays() {
    let server = Server::start().await;
    let mut config = config(&server.dir);
    let error = Listening::bind(&config).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "the socket {} is in use by another process: stop it, or choose another path with api.socket (\"off\" disables \
             the socket)",
            server.socket.display()
        )
    );
    server.assert_serves().await;
    // Another program's socket too.
    let other = server.dir.path().join("other.sock");
    let _listener = StdListener::bind(&other).unwrap();
    config.socket = Some(other.clone());
    assert!(
        matches!(Listening::bind(&config).await, Err(ListenError::SocketTaken { path }) if path == other)
    );
}

#[tokio::test]
async fn a_file_that_is_not_a_socket_is_not_changed() {
    let dir = dir();
    let mut config = config(&dir);
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "mine").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let inner = dir.path().join("dir");
    std::fs::create_dir(&inner).unwrap();
    for path in [&path, &link, &inner] {
        config.socket = Some(path.clone());
        let error = Listening::bind(&config).await.err().unwrap();
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "mine");
    assert!(inner.is_dir());
    // The parent of the socket may also be a file.
    config.socket = Some(path.join("plegd.sock"));
    let error = Listening::bind(&config).await.err().unwrap();
    assert!(error.to_string().starts_with("cannot create the socket's directory "), "{error}");
}

#[tokio::test]
async fn a_directory_in_which_others_could_replace_the_socket_is_refused() {
    let dir = dir();
    let inner = dir.path().join("run");
    std::fs::create_dir(&inner).unwrap();
    let mut config = config(&dir);
    config.socket = Some(inner.join("plegd.sock"));
    let set_mode = |mode| {
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o777);
    let error = Listening::bind(&config).await.err().unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let expected =
        format!("the socket's directory {} (uid {uid}, mode 0777) is unsafe, because", inner.display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    for mode in [0o1777, 0o770, 0o700] {
        set_mode(mode);
        Listening::bind(&config).await.unwrap();
    }
    if is_root() {
        std::os::unix::fs::chown(&inner, Some(65_534), None).unwrap();
        let error = Listening::bind(&config).await.err().unwrap();
        assert!(matches!(error, ListenError::UnsafeDirectory { uid: 65_534, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_lock_on_the_directory_does_not_keep_plegd_from_starting() {
    use rustix::fs::{FlockOperation, flock};
    let dir = dir();
    let opened = std::fs::File::open(dir.path()).unwrap();
    flock(&opened, FlockOperation::LockExclusive).unwrap();
    let config = config(&dir);
    let listening = Listening::bind(&config).await.unwrap();
    let lock = dir.path().join("plegd.sock.lock");
    assert_eq!(mode_of(&lock), 0o600);
    drop(listening);
    assert!(!config.socket.as_ref().unwrap().exists());
    // A symbolic link in place of the lock file is not followed.
    let notes = dir.path().join("notes.txt");
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&notes, &lock).unwrap();
    let error = Listening::bind(&config).await.err().unwrap();
    assert!(error.to_string().starts_with("cannot open the lock "), "{error}");
    assert!(!notes.exists());
}

/// Runs in a process of a user who may not give files to that group; the test below starts it.
#[tokio::test]
#[ignore = "run by the test that needs another user"]
async fn another_user_gives_the_socket_to_a_group() {
    let Some(path) = std::env::var_os(SOCKET_VARIABLE) else { return };
    let config = plegd::config::Api {
        socket: Some(path.into()),
        socket_group: SocketGroup::Number(54_321),
        ..plegd::config::Api::default()
    };
    let error = Listening::bind(&config).await.err().unwrap();
    assert!(matches!(error, ListenError::Group { gid: 54_321, .. }), "{error}");
}

#[tokio::test]
async fn a_socket_whose_group_cannot_be_set_is_removed() {
    use std::os::unix::process::CommandExt as _;
    let dir = dir();
    if !is_root() {
        eprintln!("not tested: only root can become another user");
        return;
    }
    let program = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let socket = dir.path().join("plegd.sock");
    let output = std::process::Command::new(program)
        .uid(65_534)
        .gid(65_534)
        .args(["--exact", "sockets::another_user_gives_the_socket_to_a_group", "--ignored"])
        .env(SOCKET_VARIABLE, &socket)
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(!socket.exists());
}

#[tokio::test]
async fn of_many_concurrent_starts_one_gets_the_socket() {
    let dir = dir();
    let path = config(&dir).socket.unwrap();
    drop(StdListener::bind(&path).unwrap());
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let config = config(&dir);
        starts.spawn(async move { Listening::bind(&config).await });
    }
    let outcomes = in_time("starting", starts.join_all()).await;
    let (got, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(got.len(), 1);
    for error in refused {
        let error = error.err().unwrap();
        assert!(matches!(error, ListenError::SocketTaken { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_socket_is_removed_at_the_end_unless_it_was_replaced() {
    let server = Server::start().await;
    let (socket, dir) = (server.socket.clone(), dir());
    server.assert_serves().await;
    server.end().await;
    assert!(!socket.exists());

    let config = config(&dir);
    let path = config.socket.clone().unwrap();
    let listening = Listening::bind(&config).await.unwrap();
    // Another program has removed the socket and created its own.
    std::fs::remove_file(&path).unwrap();
    let _other = StdListener::bind(&path).unwrap();
    drop(listening);
    assert!(path.exists());
}

#[tokio::test]
async fn the_server_ends_in_time_with_open_connections() {
    let server = Server::start().await;
    let silent = server.raw().await;
    let channel = server.channel().await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let mut watch = client.watch(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let socket = server.socket.clone();
    server.end().await;
    assert!(in_time("the end of the stream", watch.message()).await.is_err());
    assert!(super::server::channel(&socket).await.is_err());
    drop(silent);
}

#[tokio::test]
async fn without_addresses_the_server_runs_and_serves_nothing() {
    let server = Server::configured(|config| config.socket = None).await;
    assert_eq!(server.socket, Path::new(""));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!server.task.is_finished());
    server.end().await;
}
