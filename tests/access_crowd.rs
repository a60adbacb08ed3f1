//! Ten thousand concurrent clients. This is its own program, because it uses all file descriptors of its process.

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use plegd::{
    api::{
        listen::{Listening, raise_open_files},
        standard,
    },
    config,
    metrics::Metrics,
};
use rustix::process::{Resource, getrlimit};
use tokio::{io::AsyncWriteExt as _, net::UnixStream, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{service::RoutesBuilder, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const CROWD: usize = 10_000;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const DEADLINE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_leave_a_healthy_client_served() {
    raise_open_files();
    let limit =
        getrlimit(Resource::Nofile).current.map_or(CROWD * 3, |limit| usize::try_from(limit).unwrap());
    // Both ends of each connection are in this process; 200 descriptors are reserved for it.
    let crowd = CROWD.min((limit - limit.min(200)) / 2);
    if crowd < CROWD {
        eprintln!("the limit is {limit} open files: {crowd} connections instead of {CROWD}");
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("plegd.sock");
    // One user may have half of the connections.
    let config =
        config::Api { socket: Some(socket.clone()), connections: 3 * CROWD, ..config::Api::default() };
    let listening = Listening::bind(&config).await.unwrap();
    let mut routes = RoutesBuilder::default();
    standard::add(&mut routes).await.set(true).await;
    let (metrics, shutdown) = (Arc::new(Metrics::new()), CancellationToken::new());
    let server = tokio::spawn(listening.serve(routes.routes(), metrics.clone(), shutdown.clone()));

    let connect = {
        let socket = socket.clone();
        tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        })
    };
    let channel = Endpoint::from_static("http://plegd").connect_with_connector(connect).await.unwrap();
    let mut client = HealthClient::new(channel);
    client.check(HealthCheckRequest::default()).await.unwrap();
    let mut connections = Vec::new();
    while connections.len() < crowd {
        // connect fails with EAGAIN while the backlog is full; the server accepts meanwhile.
        match UnixStream::connect(&socket).await {
            Ok(mut stream) => {
                stream.write_all(PREFACE).await.unwrap();
                connections.push(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
            Err(error) => panic!("after {} connections: {error}", connections.len()),
        }
        if connections.len() % 1000 == 0 {
            timeout(DEADLINE, client.check(HealthCheckRequest::default())).await.unwrap().unwrap();
        }
    }
    let all = i64::try_from(crowd).unwrap() + 1;
    timeout(DEADLINE, async {
        while metrics.api.connections.get() < all {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    timeout(DEADLINE, client.check(HealthCheckRequest::default())).await.unwrap().unwrap();
    shutdown.cancel();
    timeout(DEADLINE, server).await.unwrap().unwrap();
    assert_eq!(metrics.api.connections.get(), 0);
}
