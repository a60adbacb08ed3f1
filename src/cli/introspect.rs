//! Operators' calls to a running plegd, each with a deadline: a missing answer is a result too.

use std::time::Duration;

use tonic::Request;

use crate::{
    client::{CallError, Client},
    v1::{
        DisconnectSubscriberRequest, GetConfigRequest, GetConfigResponse, GetStatusRequest,
        GetStatusResponse, ListSubscribersRequest, ListSubscribersResponse, SetLogLevelRequest,
    },
};

/// plegd answers from memory: a call that takes longer is stuck.
const DEADLINE: Duration = Duration::from_secs(5);

/// A client of the introspection service.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Introspect(Client);

// === impl Introspect ===

impl Introspect {
    pub(in crate::cli) fn over(client: &Client) -> Self {
        Self(client.clone().with_deadline(DEADLINE))
    }

    pub(in crate::cli) async fn status(&self) -> Result<GetStatusResponse, CallError> {
        self.0.call(self.0.introspection().get_status(timed(GetStatusRequest {}))).await
    }

    pub(in crate::cli) async fn subscribers(&self) -> Result<ListSubscribersResponse, CallError> {
        self.0.call(self.0.introspection().list_subscribers(timed(ListSubscribersRequest {}))).await
    }

    pub(in crate::cli) async fn disconnect(&self, id: u64) -> Result<(), CallError> {
        let request = timed(DisconnectSubscriberRequest { id });
        self.0.call(self.0.introspection().disconnect_subscriber(request)).await.map(drop)
    }

    pub(in crate::cli) async fn config(&self) -> Result<GetConfigResponse, CallError> {
        self.0.call(self.0.introspection().get_config(timed(GetConfigRequest {}))).await
    }

    /// Changes the log level; returns the previous one.
    pub(in crate::cli) async fn set_log_level(&self, level: &str) -> Result<String, CallError> {
        let request = timed(SetLogLevelRequest { level: level.to_owned() });
        Ok(self.0.call(self.0.introspection().set_log_level(request)).await?.previous)
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

#[cfg(test)]
mod mock;
