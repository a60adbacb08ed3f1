//! Limits on what a client costs plegd; other clients are not affected.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use plegd::{
    api::{listen::Timeouts, standard},
    config,
    metrics::{Call, CallCode, Refusal},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};
use tonic::{
    Code,
    service::{Routes, RoutesBuilder},
    transport::Channel,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::ServiceExt as _;

use super::server::*;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Reads until the server closes the connection.
async fn closed(mut stream: UnixStream) {
    let mut rest = Vec::new();
    // The connection may also be reset.
    let _ = in_time("the end of a connection", stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_request_of_100_mb_is_refused_before_it_is_read() {
    let server = Server::start().await;
    let channel = server.channel().await;
    for path in [CHECK, GET_POD, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let mut head = vec![0];
        head.extend(100_000_000_u32.to_be_bytes());
        let mut head = Some(Bytes::from(head));
        let body = Endless(move || {
            Some(head.take().unwrap_or_else(|| {
                counted.fetch_add(65_536, Ordering::Relaxed);
                Bytes::from_static(&[0x20; 65_536])
            }))
        });
        let expected = match path {
            CHECK => Code::ResourceExhausted,
            // No service reads the body.
            GET_POD => Code::Unimplemented,
            // tonic's reflection service ends its stream with OK even if the request stream fails.
            _ => Code::Ok,
        };
        assert_eq!(code_of_body(&channel, path, body).await, expected, "{path}");
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < 10_000_000, "{path}: the server read {sent} bytes");
    }
    assert_eq!(server.metrics.api.refused.with(Refusal::Message).get(), 2);
    check(&channel).await.unwrap();
    server.assert_serves().await;
}

#[tokio::test]
async fn a_request_of_the_largest_size_is_accepted_and_one_byte_more_is_not() {
    let server = Server::configured(|config| config.message_bytes = config::Bytes(1024)).await;
    let channel = server.channel().await;
    // One byte for the field, two for its length.
    for (length, expected) in [(1021, Code::NotFound), (1022, Code::ResourceExhausted)] {
        let request = HealthCheckRequest { service: "x".repeat(length) };
        let status = HealthClient::new(channel.clone()).check(request).await.unwrap_err();
        assert_eq!(status.code(), expected, "{status}");
        if length == 1022 {
            let message = "the request has 1025 bytes; the limit is 1024 (api.message_bytes)";
            assert_eq!(status.message(), message);
        }
    }
    assert_eq!(server.counted(Call::Health, CallCode::ResourceExhausted), 1);
}

#[tokio::test]
async fn a_request_that_never_ends_exceeds_its_deadline() {
    let server = Server::with(|_| {}, |timeouts| timeouts.request = Duration::from_millis(50)).await;
    let channel = server.channel().await;
    let mut begun = Some(Bytes::from_static(&[0, 0, 0, 0, 100, 1, 2, 3]));
    let body = Endless(move || begun.take());
    assert_eq!(code_of_body(&channel, CHECK, body).await, Code::DeadlineExceeded);
    check(&channel).await.unwrap();
}

#[tokio::test]
async fn metadata_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let channel = server.channel().await;
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("x-large", "y".repeat(64 * 1024).parse().unwrap());
    let refused = in_time("an answer", HealthClient::new(channel).check(request)).await;
    assert!(refused.is_err());
    server.assert_serves().await;
}

#[tokio::test]
async fn requests_per_peer_limits_concurrent_requests() {
    let server = Server::configured(|config| config.requests_per_peer = 2).await;
    let channel = server.channel().await;
    let watch = async || {
        let mut client = HealthClient::new(channel.clone());
        let mut stream = client.watch(HealthCheckRequest::default()).await?.into_inner();
        stream.message().await?;
        Ok::<_, tonic::Status>(stream)
    };
    let first = watch().await.unwrap();
    let _second = watch().await.unwrap();
    let refused = watch().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused
            .message()
            .ends_with("has 2 requests in flight, which is the limit set by api.requests_per_peer")
    );
    // A second connection of the same peer counts to the same limit.
    assert_eq!(check(&server.channel().await).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(code(&channel, GET_POD).await, Code::ResourceExhausted);
    assert_eq!(code(&channel, WATCH).await, Code::ResourceExhausted);
    drop(first);
    until("a request permit is free", async || check(&channel).await.is_ok()).await;
    assert_eq!(server.counted(Call::Health, CallCode::Canceled), 1);
    assert!(server.metrics.api.refused.with(Refusal::Requests).get() >= 3);
}

#[tokio::test]
async fn past_the_limit_a_connection_is_closed_at_once() {
    // One user may have half of the connections.
    let server = Server::configured(|config| config.connections = 4).await;
    let (first, second) = (server.channel().await, server.channel().await);
    check(&first).await.unwrap();
    check(&second).await.unwrap();
    closed(server.raw().await).await;
    // A gRPC client gets an error.
    let refused = match channel(&server.socket).await {
        Ok(channel) => in_time("an answer", check(&channel)).await.map_err(|status| status.code()),
        Err(_) => Err(Code::Unavailable),
    };
    assert!(refused.is_err());
    assert!(server.metrics.api.refused.with(Refusal::Connections).get() >= 2);
    check(&first).await.unwrap();
    drop(second);
    until("a connection permit is free", async || match channel(&server.socket).await {
        Ok(channel) => check(&channel).await.is_ok(),
        Err(_) => false,
    })
    .await;
}

#[tokio::test]
async fn tcp_connections_do_not_count_to_the_limit_of_the_unix_socket() {
    let server = Server::configured(|config| {
        config.connections = 4;
        config.tcp_address = Some("127.0.0.1:0".parse().unwrap());
        config.tcp_plaintext = true;
    })
    .await;
    let connect = async || TcpStream::connect(server.tcp.unwrap()).await.unwrap();
    let crowd = [connect().await, connect().await, connect().await];
    until("connections beyond half of TCP's limit are closed", async || {
        server.metrics.api.refused.with(Refusal::Connections).get() == 2
    })
    .await;
    server.assert_serves().await;
    drop(crowd);
}

/// A server with this handler instead of plegd's own services.
async fn serving(
    path: &'static str,
    handler: axum::routing::MethodRouter,
    change: impl FnOnce(&mut config::Api, &mut Timeouts),
) -> Server {
    let dir = dir();
    let (mut config, mut timeouts) = (config(&dir), Timeouts::default());
    change(&mut config, &mut timeouts);
    let mut standard_ones = RoutesBuilder::default();
    let serving = standard::add(&mut standard_ones).await;
    let router = standard_ones.routes().into_axum_router().route(path, handler);
    Server::of(dir, &config, timeouts, Routes::from(router), serving).await
}

/// The response's head; its body follows.
async fn begin<F>(channel: &Channel, path: &str, body: Endless<F>) -> http::Response<tonic::body::Body>
where
    F: FnMut() -> Option<Bytes> + Unpin + Send + 'static,
{
    let request = http::Request::post(format!("http://plegd{path}"))
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(body))
        .unwrap();
    in_time("an answer", channel.clone().oneshot(request)).await.unwrap()
}

async fn received(answer: http::Response<tonic::body::Body>) -> Result<usize, tonic::Status> {
    let (mut body, mut bytes) = (std::pin::pin!(answer.into_body()), 0);
    loop {
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx));
        match in_time("the next frame of an answer", frame).await {
            None => return Ok(bytes),
            Some(frame) => bytes += frame?.data_ref().map_or(0, Bytes::len),
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_disconnected() {
    /// More than fits into a client's flow control windows.
    const ANSWER: usize = 16 << 20;
    let large = || axum::routing::any(|| async { axum::body::Body::from(vec![7; ANSWER]) });
    let server = serving(GET_POD, large(), |_, _| {}).await;
    let channel = server.channel().await;
    let answer = begin(&channel, GET_POD, Endless(|| None)).await;
    assert_eq!(received(answer).await.unwrap(), ANSWER);
    server.end().await;

    let brief = |_: &mut config::Api, timeouts: &mut Timeouts| timeouts.answer = Duration::from_millis(100);
    let server = serving(GET_POD, large(), brief).await;
    let (bystander, channel) = (server.channel().await, server.channel().await);
    check(&bystander).await.unwrap();
    let unread = begin(&channel, GET_POD, Endless(|| None)).await;
    until("only the bystander is left", async || server.metrics.api.connections.get() == 1).await;
    assert!(received(unread).await.is_err());
    check(&bystander).await.unwrap();
    // The client left before the end of the answer, so the call counts as canceled.
    assert_eq!(server.counted(Call::GetPod, CallCode::Canceled), 1);
    server.end().await;

    // A stream has no such limit.
    let server = serving(WATCH, large(), brief).await;
    let channel = server.channel().await;
    let unread = begin(&channel, WATCH, Endless(|| None)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(received(unread).await.unwrap(), ANSWER);
}

#[tokio::test]
async fn a_watch_counts_to_the_request_limit_until_it_is_answered() {
    // The handler answers after the first byte of the request; its answer never ends.
    let watch = axum::routing::any(|request: http::Request<axum::body::Body>| async {
        let mut body = request.into_body();
        let _ =
            std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)).await;
        axum::body::Body::new(Endless(|| None))
    });
    let server = serving(WATCH, watch, |config, _| config.requests_per_peer = 1).await;
    let channel = server.channel().await;
    let mut empty = Some(Bytes::from_static(&[0; 5]));
    let answered = begin(&channel, WATCH, Endless(move || empty.take())).await;
    check(&channel).await.unwrap();
    let held = tokio::spawn({
        let channel = channel.clone();
        async move { begin(&channel, WATCH, Endless(|| None)).await }
    });
    until("the watch holds its permit", async || {
        check(&channel).await.is_err_and(|status| status.code() == Code::ResourceExhausted)
    })
    .await;
    held.abort();
    until("the permit is free", async || check(&channel).await.is_ok()).await;
    drop(answered);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let server = Server::with(|_| {}, |timeouts| timeouts.first_request = Duration::from_millis(100)).await;
    let healthy = server.channel().await;
    check(&healthy).await.unwrap();
    let silent = server.raw().await;
    let mut half = server.raw().await;
    half.write_all(&PREFACE[..10]).await.unwrap();
    let mut with_preface = server.raw().await;
    with_preface.write_all(PREFACE).await.unwrap();
    for stream in [silent, half, with_preface] {
        closed(stream).await;
    }
    check(&healthy).await.unwrap();
    until("only the healthy connection is open", async || server.metrics.api.connections.get() == 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_one_that_waits_for_an_answer() {
    let idle = Duration::from_millis(100);
    let server = Server::with(|_| {}, |timeouts| timeouts.idle = idle).await;
    let busy = server.channel().await;
    let mut watch =
        HealthClient::new(busy.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    let idler = server.channel().await;
    check(&idler).await.unwrap();
    until("the idle connection is closed", async || server.metrics.api.connections.get() == 1).await;
    tokio::time::sleep(3 * idle).await;
    server.serving.set(false).await;
    assert!(in_time("a health change", watch.message()).await.unwrap().is_some());
    // The idle client reconnects for its next call.
    until("the idle client is served again", async || check(&idler).await.is_ok()).await;
}

#[tokio::test]
async fn malformed_input_affects_no_other_client() {
    let server = Server::start().await;
    let healthy = server.channel().await;
    let mut flood = PREFACE.to_vec();
    // CONTINUATION without HEADERS, DATA on stream 0, a frame of 16 MB.
    flood.extend([0, 0, 1, 9, 0, 0, 0, 0, 1, 0]);
    let mut long = PREFACE.to_vec();
    long.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(100_000).collect();
    let mut hidden = PREFACE.to_vec();
    hidden.extend(&random);
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: node\r\n\r\n"[..],
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        &random,
        &flood,
        &long,
        &hidden,
    ] {
        let mut stream = server.raw().await;
        // The server may close the connection before all of it is written.
        let _ = stream.write_all(garbage).await;
        closed(stream).await;
        check(&healthy).await.unwrap();
    }
    server.assert_serves().await;
}

#[tokio::test]
async fn a_flood_of_resets_ends_only_its_own_connection() {
    let server = Server::start().await;
    let healthy = server.channel().await;
    let mut stream = server.raw().await;
    stream.write_all(PREFACE).await.unwrap();
    let mut flood = Vec::new();
    for id in (1..40_000_u32).step_by(2) {
        // HEADERS with POST, a short literal path and END_HEADERS; then RST_STREAM with CANCEL.
        let block = [0x83, 0x86, 0x44, 0x02, b'/', b'x', 0x41, 0x01, b'n'];
        flood.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 4]);
        flood.extend(id.to_be_bytes());
        flood.extend(block);
        flood.extend([0, 0, 4, 3, 0]);
        flood.extend(id.to_be_bytes());
        flood.extend([0, 0, 0, 8]);
    }
    let (mut reader, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move { writer.write_all(&flood).await.is_err() });
    let mut rest = Vec::new();
    let _ = in_time("the end of the connection", reader.read_to_end(&mut rest)).await;
    assert!(in_time("the writer", writing).await.unwrap(), "the server read the whole flood");
    check(&healthy).await.unwrap();
}
