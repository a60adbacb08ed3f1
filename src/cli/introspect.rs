//! What operators ask a running plegd, each call with a deadline: an answer that does not come is one too.

use std::time::Duration;

use tonic::Request;

use crate::{
    client::{CallError, Client},
    v1::{
        DisconnectSubscriberRequest, GetConfigRequest, GetConfigResponse, GetStatusRequest,
        GetStatusResponse, ListSubscribersRequest, ListSubscribersResponse, SetLogLevelRequest,
    },
};

/// plegd answers from memory: what takes longer is stuck.
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Introspect(Client);

// === impl Introspect ===

impl Introspect {
    /// Asks over this client.
    pub(in crate::cli) fn over(client: &Client) -> Self {
        Self(client.clone().with_deadline(DEADLINE))
    }

    /// How plegd does.
    pub(in crate::cli) async fn status(&self) -> Result<GetStatusResponse, CallError> {
        self.0.call(self.0.introspection().get_status(timed(GetStatusRequest {}))).await
    }

    /// Who watches.
    pub(in crate::cli) async fn subscribers(&self) -> Result<ListSubscribersResponse, CallError> {
        self.0.call(self.0.introspection().list_subscribers(timed(ListSubscribersRequest {}))).await
    }

    /// Ends the stream of a subscriber.
    pub(in crate::cli) async fn disconnect(&self, id: u64) -> Result<(), CallError> {
        let request = timed(DisconnectSubscriberRequest { id });
        self.0.call(self.0.introspection().disconnect_subscriber(request)).await.map(drop)
    }

    /// The configuration in force.
    pub(in crate::cli) async fn config(&self) -> Result<GetConfigResponse, CallError> {
        self.0.call(self.0.introspection().get_config(timed(GetConfigRequest {}))).await
    }

    /// Changes what is logged; says what was before.
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
