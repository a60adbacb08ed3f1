//! How verbs that talk to a running plegd reach it.

use crate::client::{Address, Client, ConnectError};

/// The flag of these verbs.
#[derive(Clone, Debug, clap::Args)]
pub struct Connection {
    /// Where plegd listens: unix:///path, /path, or http://127.0.0.1:PORT
    #[arg(
        long,
        short,
        value_name = "ADDRESS",
        env = SOCKET_VARIABLE,
        hide_env_values = true,
        default_value_t
    )]
    pub socket: Address,
}

/// The variable that says where plegd listens. The daemon's configuration passes over it.
pub const SOCKET_VARIABLE: &str = "PLEGD_SOCKET";

// === impl Connection ===

impl Connection {
    /// A client of the plegd that is meant, if one is there.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]
    pub async fn client(&self) -> Result<Client, ConnectError> {
        Client::connect(&self.socket).await
    }
}
