//! An agent with the client alone: prints each event of the plegd of this node.
//!
//! ```console
//! $ cargo run --manifest-path examples/agent-crate/Cargo.toml -- unix:///run/plegd/plegd.sock
//! ```

use plegd::client::{Address, Client, Since, Update, WatchOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = match std::env::args().nth(1) {
        Some(address) => address.parse()?,
        None => Address::default(),
    };
    let client = Client::connect(&address).await?;
    let mut watch = client.watch(WatchOptions { since: Since::Now, ..WatchOptions::named("agent-example") });
    while let Some(update) = watch.next().await {
        match update? {
            Update::Event { event, position, .. } => println!("{position} {} {:?}", event.container_id, event.r#type()),
            Update::Gap(gap) => println!("events from {} on are missing; a snapshot follows", gap.from),
            _ => {}
        }
    }
    Ok(())
}
