//! Which peer may make which call.

use std::{os::unix::process::CommandExt as _, path::Path, process::Command, sync::Arc};

use parking_lot::Mutex;
use plegd::{
    api::{
        access::{ConnectionAbort, Peer, Principal},
        listen::Timeouts,
        standard,
    },
    config::{FileMode, SocketGroup},
    metrics::{Call, CallCode, Refusal},
};
use tonic::{Code, service::RoutesBuilder};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient, health_server::HealthServer};

use super::server::*;

/// The UID and GID of another user.
const NOBODY: u32 = 65_534;

fn all_calls() -> impl Iterator<Item = &'static str> {
    WATCH_CALLS.into_iter().chain(INTROSPECTION_CALLS).chain(STANDARD_CALLS)
}

#[tokio::test]
async fn a_peer_in_no_list_is_refused_every_call() {
    let server = Server::configured(|config| {
        config.allow_watch = principals([Principal::Uid(4_000_000_001)]);
        config.allow_introspection = principals([Principal::Uid(4_000_000_002)]);
    })
    .await;
    for path in all_calls().chain(["/grpc.health.v1.Health/List", "/nothing.Here/Call", "/"]) {
        assert_eq!(
            in_time(path, code(&server.channel().await, path)).await,
            Code::PermissionDenied,
            "{path}"
        );
    }
    // A peer that may make no call is disconnected.
    let channel = server.channel().await;
    let status = call(&channel, GET_POD).await.unwrap_err();
    until("all connections are closed", async || server.metrics.api.connections.get() == 0).await;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let pid = std::process::id();
    assert_eq!(
        status.message(),
        format!(
            "pid {pid} (uid {uid}, gid {gid}) may not call GetPod: api.allow_watch admits uid:4000000001; \
             to allow it, add \"uid:{uid}\" to api.allow_watch"
        )
    );
    let status = call(&server.channel().await, STANDARD_CALLS[0]).await.unwrap_err();
    assert_eq!(
        status.message(),
        format!(
            "pid {pid} (uid {uid}, gid {gid}) may not call Health: api.allow_watch admits uid:4000000001, \
             api.allow_introspection admits uid:4000000002; to allow it, add \"uid:{uid}\" to either"
        )
    );
    assert_eq!(server.counted(Call::GetPod, CallCode::PermissionDenied), 2);
    assert_eq!(server.metrics.api.refused.with(Refusal::Peer).get(), 20);
    server.end().await;
}

#[tokio::test]
async fn each_service_has_its_own_list_and_the_standard_services_accept_either() {
    let nobody = || principals([Principal::Uid(4_000_000_001)]);
    for watch_too in [true, false] {
        let server = Server::configured(|config| {
            *(if watch_too { &mut config.allow_introspection } else { &mut config.allow_watch }) = nobody();
        })
        .await;
        let channel = server.channel().await;
        let (admitted, refused): (&[_], &[_]) = if watch_too {
            (&WATCH_CALLS, &INTROSPECTION_CALLS)
        } else {
            (&INTROSPECTION_CALLS, &WATCH_CALLS)
        };
        for path in admitted {
            assert_eq!(code(&channel, path).await, Code::Unimplemented, "{path}");
        }
        for path in refused {
            assert_eq!(code(&channel, path).await, Code::PermissionDenied, "{path}");
        }
        for path in STANDARD_CALLS {
            assert_eq!(code(&channel, path).await, Code::Ok, "{path}");
        }
        server.end().await;
    }
}

#[tokio::test]
async fn every_request_carries_its_peer() {
    let observed = Arc::new(Mutex::new(None));
    let recorded = observed.clone();
    let (reporter, _) = tonic_health::server::health_reporter();
    let health = tonic_health::server::HealthService::from_health_reporter(reporter);
    let intercepted = HealthServer::with_interceptor(health, move |request: tonic::Request<()>| {
        *recorded.lock() = request.extensions().get::<Peer>().cloned();
        Ok(request)
    });
    let mut routes = RoutesBuilder::default();
    routes.add_service(intercepted);
    let dir = dir();
    let config = config(&dir);
    let serving = standard::add(&mut RoutesBuilder::default()).await;
    let server = Server::of(dir, &config, Timeouts::default(), routes.routes(), serving).await;
    server.assert_serves().await;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let pid = i32::try_from(std::process::id()).ok();
    assert_eq!(*observed.lock(), Some(Peer::Process { uid, gid, pid }));
}

#[tokio::test]
async fn a_service_can_cut_the_connection_of_a_request() {
    let (reporter, _) = tonic_health::server::health_reporter();
    let health = tonic_health::server::HealthService::from_health_reporter(reporter);
    let cutting = HealthServer::with_interceptor(health, |request: tonic::Request<()>| {
        if request.metadata().contains_key("x-cut") {
            request.extensions().get::<ConnectionAbort>().unwrap().abort();
        }
        Ok(request)
    });
    let mut routes = RoutesBuilder::default();
    routes.add_service(cutting);
    let dir = dir();
    let config = config(&dir);
    let serving = standard::add(&mut RoutesBuilder::default()).await;
    let server = Server::of(dir, &config, Timeouts::default(), routes.routes(), serving).await;
    let (bystander, channel) = (server.channel().await, server.channel().await);
    check(&bystander).await.unwrap();
    let mut client = HealthClient::new(channel);
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("x-cut", "1".parse().unwrap());
    // The answer may still arrive before the connection ends.
    let _ = in_time("an answer or an end", client.check(request)).await;
    // All other calls on the connection end too.
    assert!(in_time("an end", watch.message()).await.is_err());
    until("only the bystander is left", async || server.metrics.api.connections.get() == 1).await;
    check(&bystander).await.unwrap();
}

/// gRPC's C core (Python, C++, Ruby, PHP) sends a percent-encoded socket path as authority, which h2 rejects.
#[tokio::test]
async fn a_client_of_grpcs_c_core_is_served() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    /// The types of frames that answer a request.
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    let server = Server::start().await;
    let mut stream = server.raw().await;
    // As grpcio 1.85 sends it, except for its settings and the length of the authority.
    let literal = |name: &str, value: &str| {
        [b"@", &[name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    let headers = [
        literal(":path", "/grpc.health.v1.Health/Check"),
        literal(":authority", "tmp%2Fplegd%2Fplegd.sock"),
        b"\x83\x86".to_vec(),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat();
    let frame = |kind: u8, flags: u8, id: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, id], payload].concat()
    };
    let request = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, b""),
        frame(HEADERS, 4, 1, &headers),
        frame(0, 1, 1, &[0; 5]),
    ]
    .concat();
    stream.write_all(&request).await.unwrap();
    let answer = in_time("an answer", async {
        loop {
            let mut header = [0; 9];
            stream.read_exact(&mut header).await.unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
            stream.read_exact(&mut payload).await.unwrap();
            if [HEADERS, RST_STREAM].contains(&header[3]) {
                break header[3];
            }
        }
    });
    assert_eq!(answer.await, HEADERS);
    server.end().await;
}

#[tokio::test]
async fn health_follows_the_daemon_and_reflection_lists_plegds_services() {
    use tonic_health::pb::health_check_response::ServingStatus;
    let server = Server::start().await;
    let channel = server.channel().await;
    let mut client = HealthClient::new(channel.clone());
    for serving in [true, false] {
        server.serving.set(serving).await;
        for service in standard::SERVICES {
            let answer =
                client.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
            assert_eq!(answer.status() == ServingStatus::Serving, serving, "{service}");
        }
    }
    let unknown = client.check(HealthCheckRequest { service: "plegd.v1.None".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for service in ["plegd.v1.PodLifecycleService", "plegd.v1.IntrospectionService", "grpc.health.v1.Health"]
    {
        assert!(names.iter().any(|name| name == service), "{service} is not in {names:?}");
    }
}

// === Other users ===

/// Runs in a process of another user; the tests below start it.
#[tokio::test]
#[ignore = "run by the tests that need another user"]
async fn another_user_calls() {
    let Some(socket) = std::env::var_os(SOCKET_VARIABLE) else { return };
    for path in all_calls() {
        // The server also disconnects a peer that may make no call.
        match channel(Path::new(&socket)).await {
            Err(_) => println!("\nunconnected"),
            Ok(channel) => println!("\n{path} {:?}", in_time(path, code(&channel, path)).await),
        }
    }
}

/// The output of [`another_user_calls`], run by `command`: each call with its code.
async fn as_another(socket: &Path, command: impl FnOnce(&Path) -> Command) -> Option<Vec<(String, String)>> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: only root can become another user");
        return None;
    }
    // Other users may have no access to the build's directory.
    let dir = dir();
    let program = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = command(&program);
    command
        .args(["--exact", "peers::another_user_calls", "--ignored", "--nocapture", "--test-threads=1"])
        .env(SOCKET_VARIABLE, socket)
        .current_dir("/");
    let run = move || loop {
        match command.output() {
            // Another test has forked while the program was written; its child holds the file until exec.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => return output.unwrap(),
        }
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
    let line = |line: &str| line.split_once(' ').map(|(path, code)| (path.to_owned(), code.to_owned()));
    Some(text.lines().filter(|line| line.starts_with('/')).filter_map(line).collect())
}

fn nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY);
    command
}

#[tokio::test]
async fn the_mode_of_the_socket_keeps_other_users_from_connecting() {
    let server = Server::start().await;
    let Some(calls) = as_another(&server.socket, nobody).await else { return };
    assert!(calls.is_empty(), "{calls:?}");
    server.assert_serves().await;
}

#[tokio::test]
async fn another_user_that_can_connect_is_refused_every_call() {
    let server = Server::configured(|config| config.socket_mode = FileMode(0o666)).await;
    let Some(calls) = as_another(&server.socket, nobody).await else { return };
    assert_eq!(calls.len(), all_calls().count());
    for (path, code) in calls {
        assert_eq!(code, "PermissionDenied", "{path}");
    }
    server.assert_serves().await;
}

#[tokio::test]
async fn another_user_is_admitted_by_uid_or_by_the_group_of_the_socket() {
    let by_uid = Server::configured(|config| {
        config.socket_mode = FileMode(0o666);
        config.allow_watch = principals([Principal::Uid(NOBODY)]);
    })
    .await;
    let by_group = Server::configured(|config| {
        config.socket_group = SocketGroup::Number(if rustix::process::geteuid().is_root() {
            NOBODY
        } else {
            rustix::process::getegid().as_raw()
        });
        config.allow_introspection = principals([Principal::Root]);
    })
    .await;
    for server in [by_uid, by_group] {
        let Some(calls) = as_another(&server.socket, nobody).await else { return };
        assert_eq!(calls.len(), all_calls().count());
        for (path, code) in calls {
            let expected = match path.as_str() {
                path if WATCH_CALLS.contains(&path) => "Unimplemented",
                path if INTROSPECTION_CALLS.contains(&path) => "PermissionDenied",
                _ => "Ok",
            };
            assert_eq!(code, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn a_supplementary_group_is_accepted_where_other_users_may_connect() {
    const GROUP: u32 = 54_321;
    if !rustix::process::geteuid().is_root() || Command::new("setpriv").arg("--version").output().is_err() {
        eprintln!("not tested: this test needs root and setpriv");
        return;
    }
    let server = Server::configured(|config| {
        config.socket_mode = FileMode(0o666);
        config.socket_group = SocketGroup::Number(GROUP);
        config.allow_watch = principals([Principal::Group]);
    })
    .await;
    let in_groups = |groups: String| {
        move |program: &Path| {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), groups]).arg(program);
            command
        }
    };
    let member = as_another(&server.socket, in_groups(format!("--groups={GROUP}"))).await.unwrap();
    assert_eq!(member[0], (WATCH.into(), "Unimplemented".into()));
    let non_member = as_another(&server.socket, in_groups("--clear-groups".into())).await.unwrap();
    assert_eq!(non_member[0], (WATCH.into(), "PermissionDenied".into()));
}
