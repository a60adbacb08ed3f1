use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tonic::{body::Body, server::NamedService, transport::Server};

use super::*;

/// Answers any list call with this body.
#[derive(Clone)]
struct Blunt(String);

impl tower::Service<http::Request<Body>> for Blunt {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        let mut answer = http::Response::new(Body::new(self.0.clone()));
        answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
        answer.headers_mut().insert("grpc-status", http::HeaderValue::from_static("0"));
        ready(Ok(answer))
    }
}

impl NamedService for Blunt {
    const NAME: &'static str = "runtime.v1.RuntimeService";
}

/// A message of this many empty containers, which happens to be text.
fn message(items: usize) -> String {
    let length = u32::try_from(2 * items).expect("a length").to_be_bytes();
    let header = std::iter::once(0).chain(length).map(char::from);
    header.chain("\x0a\0".repeat(items).chars()).collect()
}

/// How many containers are listed for this answer.
async fn listed(body: String) -> Result<usize, Status> {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let incoming = tokio_stream::once(Ok::<_, Infallible>(theirs));
    let serving = tokio::spawn(Server::builder().add_service(Blunt(body)).serve_with_incoming(incoming));
    let mut ours = Some(ours);
    let channel = Channel::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(
        move |_: http::Uri| ready(ours.take().map(TokioIo::new).ok_or(std::fmt::Error)),
    ));
    let request = Request::new(v1::StreamContainersRequest { filter: None });
    let items = |page: v1::StreamContainersResponse| page.containers.into_iter();
    let list = Pager::new(channel).list(Method::StreamContainers, request, items, listed_container).await;
    serving.abort();
    list.map(|list| list.len())
}

#[tokio::test]
async fn a_list_with_too_many_items_is_refused_in_one_message_or_many() {
    let half = ITEMS_LIMIT / 2;
    assert_eq!(listed(message(half).repeat(2)).await.expect("a list"), ITEMS_LIMIT);
    for body in [message(ITEMS_LIMIT + 1), message(half).repeat(2) + &message(1)] {
        let status = listed(body).await.expect_err("too many");
        let error = CriError::of(Method::StreamContainers, &status);
        assert!(matches!(error, CriError::Malformed { .. }), "{error}");
        assert!(error.to_string().ends_with("a list of more than 262144 items"), "{error}");
    }
}
