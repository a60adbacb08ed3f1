//! The connection of verbs to a running plegd.

use crate::{
    client::{Address, Client, ConnectError},
    config::SOCKET_VARIABLE,
};

/// The flag of these verbs.
#[derive(Clone, Debug, clap::Args)]
pub struct Connection {
    /// Address of plegd: unix:///path, /path, or http://127.0.0.1:PORT
    #[arg(
        long,
        short,
        global = true,
        value_name = "ADDRESS",
        env = SOCKET_VARIABLE,
        hide_env_values = true,
        default_value_t
    )]
    pub socket: Address,
}

// === impl Connection ===

impl Connection {
    /// A client of the selected plegd, if it is reachable.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]
    pub async fn client(&self) -> Result<Client, ConnectError> {
        Client::connect(&self.socket).await
    }
}
