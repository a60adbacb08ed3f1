//! A mock of plegd's introspection for tests, and the verbs against it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::Introspect;
use crate::{
    api::server::introspection_service_server::{IntrospectionService, IntrospectionServiceServer},
    cli::{
        connection::Connection,
        status::{
            self,
            tests::{healthy, subscriber},
        },
    },
    client::{Address, CallError, Client},
    print::answer::Output,
    v1::{
        DisconnectSubscriberRequest, DisconnectSubscriberResponse, GetConfigRequest, GetConfigResponse,
        GetStatusRequest, GetStatusResponse, ListSubscribersRequest, ListSubscribersResponse,
        SetLogLevelRequest, SetLogLevelResponse,
    },
};

/// The mock's answers, and the requests that it has received.
#[derive(Clone)]
struct Mock {
    status: Result<GetStatusResponse, Status>,
    /// It never answers.
    stuck: bool,
    level: Arc<Mutex<String>>,
}

#[tonic::async_trait]
impl IntrospectionService for Mock {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        if self.stuck {
            std::future::pending::<()>().await;
        }
        self.status.clone().map(Response::new)
    }

    async fn list_subscribers(
        &self,
        _: Request<ListSubscribersRequest>,
    ) -> Result<Response<ListSubscribersResponse>, Status> {
        let subscribers = vec![subscriber(7, "agent", 0)];
        Ok(Response::new(ListSubscribersResponse { subscribers, head: None }))
    }

    async fn disconnect_subscriber(
        &self,
        request: Request<DisconnectSubscriberRequest>,
    ) -> Result<Response<DisconnectSubscriberResponse>, Status> {
        match request.into_inner().id {
            7 => Ok(Response::new(DisconnectSubscriberResponse {})),
            id => Err(Status::not_found(format!("there is no subscriber {id}"))),
        }
    }

    async fn get_config(&self, _: Request<GetConfigRequest>) -> Result<Response<GetConfigResponse>, Status> {
        Ok(Response::new(GetConfigResponse::default()))
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<SetLogLevelResponse>, Status> {
        let previous = std::mem::replace(&mut *self.level.lock(), request.into_inner().level);
        Ok(Response::new(SetLogLevelResponse { previous }))
    }
}

// === impl Mock ===

impl Mock {
    fn answering(status: Result<GetStatusResponse, Status>) -> Self {
        Self { status, stuck: false, level: Arc::new(Mutex::new("info".into())) }
    }

    /// Serves it in this directory, and returns the address.
    fn serve(self, directory: &tempfile::TempDir) -> Address {
        let path = directory.path().join("plegd.sock");
        let incoming = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
        let service = IntrospectionServiceServer::new(self);
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        path.to_str().unwrap().parse().unwrap()
    }
}

async fn status_of(answer: Result<GetStatusResponse, Status>) -> anyhow::Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let connection = Connection { socket: Mock::answering(answer).serve(&directory) };
    status::run(status::Args { connection, output: Output::Json }).await
}

#[tokio::test]
async fn the_status_of_a_plegd_that_is_not_ready_is_an_error() {
    status_of(Ok(healthy())).await.unwrap();
    let unready = status_of(Ok(GetStatusResponse { ready: false, ..healthy() })).await.unwrap_err();
    assert_eq!(unready.to_string(), "node-7 is not ready: the first relist is not complete");
    let denied = status_of(Err(Status::permission_denied("not for you"))).await.unwrap_err();
    assert_eq!(denied.to_string(), "permission denied: not for you");
}

#[tokio::test]
async fn a_subscriber_is_disconnected_and_the_log_level_changed() {
    let directory = tempfile::tempdir().unwrap();
    let address = Mock::answering(Ok(healthy())).serve(&directory);
    let introspect = Introspect::over(&Client::connect(&address).await.unwrap());
    assert_eq!(introspect.subscribers().await.unwrap().subscribers[0].id, 7);
    introspect.disconnect(7).await.unwrap();
    let missing = introspect.disconnect(8).await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no subscriber 8");
    assert_eq!(introspect.set_log_level("debug").await.unwrap(), "info");
    assert_eq!(introspect.set_log_level("info").await.unwrap(), "debug");
}

#[tokio::test]
async fn a_call_to_a_plegd_that_does_not_answer_ends_at_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let address = Mock { stuck: true, ..Mock::answering(Ok(healthy())) }.serve(&directory);
    let introspect = Introspect::over(&Client::connect(&address).await.unwrap());
    tokio::time::pause();
    let late = tokio::time::timeout(Duration::from_secs(30), introspect.status()).await.unwrap().unwrap_err();
    assert!(matches!(late, CallError::Deadline { after } if after == super::DEADLINE), "{late}");
}
