//! What a client can cost, and that others do not notice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use plegd::{
    config,
    metrics::{Call, CallCode, Refusal},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::server::*;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Reads until the server closes the connection.
async fn closed(mut stream: UnixStream) {
    let mut rest = Vec::new();
    // It may be reset, too.
    let _ = soon("the end of a connection", stream.read_to_end(&mut rest)).await;
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
            // Nobody reads it.
            GET_POD => Code::Unimplemented,
            // tonic's reflection ends its stream in peace, whatever the requests end with.
            _ => Code::Ok,
        };
        assert_eq!(code_of_body(&channel, path, body).await, expected, "{path}");
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < 10_000_000, "{path}: {sent} bytes were taken");
    }
    assert_eq!(server.metrics.api.refused.with(Refusal::Message).get(), 2);
    check(&channel).await.unwrap();
    server.assert_serves().await;
}

#[tokio::test]
async fn a_request_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
    let server = Server::configured(|config| config.message_bytes = config::Bytes(1024)).await;
    let channel = server.channel().await;
    // One byte for the field, two for its length.
    for (length, expected) in [(1021, Code::NotFound), (1022, Code::ResourceExhausted)] {
        let request = HealthCheckRequest { service: "x".repeat(length) };
        let status = HealthClient::new(channel.clone()).check(request).await.unwrap_err();
        assert_eq!(status.code(), expected, "{status}");
        if length == 1022 {
            let message = "the request has 1025 bytes, and 1024 are allowed; api.message_bytes sets this";
            assert_eq!(status.message(), message);
        }
    }
    assert_eq!(server.counted(Call::Health, CallCode::ResourceExhausted), 1);
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up() {
    let server = Server::with(|_| {}, |patience| patience.request = Duration::from_millis(50)).await;
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
    let refused = soon("an answer", HealthClient::new(channel).check(request)).await;
    assert!(refused.is_err());
    server.assert_serves().await;
}

#[tokio::test]
async fn a_peer_has_so_many_requests_at_a_time_and_watches_do_not_count() {
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
            .ends_with("has 2 requests under way, as many as are allowed; api.requests_per_peer sets this")
    );
    // From another connection it is the same peer.
    assert_eq!(check(&server.channel().await).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(code(&channel, GET_POD).await, Code::ResourceExhausted);
    assert_eq!(code(&channel, WATCH).await, Code::Unimplemented);
    drop(first);
    until("a place becomes free", async || check(&channel).await.is_ok()).await;
    assert_eq!(server.counted(Call::Health, CallCode::Canceled), 1);
    assert!(server.metrics.api.refused.with(Refusal::Requests).get() >= 3);
}

#[tokio::test]
async fn past_the_limit_a_connection_is_closed_at_once() {
    let server = Server::configured(|config| config.connections = 2).await;
    let (first, second) = (server.channel().await, server.channel().await);
    check(&first).await.unwrap();
    check(&second).await.unwrap();
    closed(server.raw().await).await;
    // A client is told so.
    let refused = match channel(&server.socket).await {
        Ok(channel) => soon("an answer", check(&channel)).await.map_err(|status| status.code()),
        Err(_) => Err(Code::Unavailable),
    };
    assert!(refused.is_err());
    assert!(server.metrics.api.refused.with(Refusal::Connections).get() >= 2);
    check(&first).await.unwrap();
    drop(second);
    until("a place becomes free", async || match channel(&server.socket).await {
        Ok(channel) => check(&channel).await.is_ok(),
        Err(_) => false,
    })
    .await;
}

#[tokio::test]
async fn whoever_asks_for_nothing_is_dropped() {
    let server = Server::with(|_| {}, |patience| patience.first_request = Duration::from_millis(100)).await;
    let healthy = server.channel().await;
    check(&healthy).await.unwrap();
    let silent = server.raw().await;
    let mut half = server.raw().await;
    half.write_all(&PREFACE[..10]).await.unwrap();
    let mut polite = server.raw().await;
    polite.write_all(PREFACE).await.unwrap();
    for stream in [silent, half, polite] {
        closed(stream).await;
    }
    check(&healthy).await.unwrap();
    until("only the healthy one is left", async || server.metrics.api.connections.get() == 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_one_that_waits_for_an_answer() {
    let idle = Duration::from_millis(100);
    let server = Server::with(|_| {}, |patience| patience.idle = idle).await;
    let busy = server.channel().await;
    let mut watch =
        HealthClient::new(busy.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    let idler = server.channel().await;
    check(&idler).await.unwrap();
    until("the idle one is closed", async || server.metrics.api.connections.get() == 1).await;
    tokio::time::sleep(3 * idle).await;
    server.serving.set(false).await;
    assert!(soon("news", watch.message()).await.unwrap().is_some());
    // The idle client connects again when it has a use for it.
    until("it is served", async || check(&idler).await.is_ok()).await;
}

#[tokio::test]
async fn garbage_harms_nobody() {
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
        // It may be closed before it is all written.
        let _ = stream.write_all(garbage).await;
        closed(stream).await;
        check(&healthy).await.unwrap();
    }
    server.assert_serves().await;
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_only() {
    let server = Server::start().await;
    let healthy = server.channel().await;
    let mut stream = server.raw().await;
    stream.write_all(PREFACE).await.unwrap();
    let mut flood = Vec::new();
    for id in (1..40_000_u32).step_by(2) {
        // HEADERS with POST and a literal path of nothing much, END_HEADERS; then RST_STREAM with CANCEL.
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
    let _ = soon("the end of the connection", reader.read_to_end(&mut rest)).await;
    assert!(soon("the writer", writing).await.unwrap(), "all of the flood was taken");
    check(&healthy).await.unwrap();
}
