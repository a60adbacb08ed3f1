//! The shortest agent: prints each container that ends, with its reason and exit code. `docs/agents.md` explains it.
//!
//! ```console
//! $ cargo run --example first_agent -- unix:///run/plegd/plegd.sock
//! ```

use plegd::{
    client::{Address, Client, Since, Update, WatchOptions},
    v1,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).map_or(Ok(Address::default()), |text| text.parse())?;
    let types = vec![v1::EventType::ContainerDied.into()];
    let died = v1::Filter { types, containers_only: true, ..Default::default() };
    let options = WatchOptions { since: Since::Now, filter: died, ..WatchOptions::named("first-agent") };
    let mut watch = Client::connect(&address).await?.watch(options);
    while let Some(update) = watch.next().await {
        match update? {
            Update::Event { event, .. } => {
                let pod = event.pod.unwrap_or_default();
                let code = event.exit_code.map_or("unknown".into(), |code| code.to_string());
                println!("{} {} {} {} {code}", pod.namespace, pod.name, event.container_name, event.reason);
            }
            Update::Gap(gap) => eprintln!("events are missing from {} on", gap.from),
            _ => {}
        }
    }
    Ok(())
}
