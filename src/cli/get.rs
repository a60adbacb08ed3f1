//! `plegd get`: shows pods and containers.

mod render;
pub(in crate::cli) use self::render::pod_table;
pub(super) mod summary;

use std::io::{self, Write as _};

use clap::ValueEnum;

use self::render::{Found, Listed};
use super::{connection::Connection, target};
use crate::{
    client::{CallError, Client, Freshness},
    clock::Clock,
    model::Position,
    printable::visible,
    v1,
};

const EXAMPLES: &str = "\
Examples:
  plegd get pods
  plegd get pods -n kube-system -o wide
  plegd get pods -l 'app=web,tier!=test' -o name
  plegd get pod shop/web -o yaml
  plegd get pod 4537 --fresh                the pod of the container with this id prefix
  plegd get containers -o json | jq -r '.containers[] | select(.state == \"exited\") | .name'

RUNNING is the number of running containers and of those that are expected to run.
A finished container (exit code 0) is not expected to run while another one runs.
STATUS is the status as far as the runtime knows it: NoSandbox, Unknown, the reason
of a failed container (Error, OOMKilled, StartError), Running, Created, Pending,
Waiting, NotReady, Terminated or Completed. Waiting means that all containers have
finished so far, and that the sandbox is ready for another one. A runtime does not
know init containers, future containers, probes, back-off or deletion. Therefore
plegd cannot show whether a pod is ready.";

/// Flags of `plegd get`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Resource: pods or containers
    #[arg(value_enum, hide_possible_values = true)]
    pub resource: Resource,
    /// Names: a pod by name, namespace/name, UID or the prefix of a container id; a container by the prefix of its id
    /// [default: all]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: Connection,
    /// Namespaces, separated by commas [default: all]
    #[arg(long = "namespace", short, value_name = "NAMESPACE", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// All namespaces (the default)
    #[arg(long, short = 'A', conflicts_with = "namespaces")]
    pub all_namespaces: bool,
    /// Label selector, as in kubectl: app=web,tier!=test,env in (a,b),!canary
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "names")]
    pub selector: Option<String>,
    /// Output format: table, wide, json, yaml or name
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT", hide_possible_values = true)]
    pub output: Output,
    /// Do not print the column headers
    #[arg(long)]
    pub no_headers: bool,
    /// Read the current state from the runtime instead of the state that plegd holds
    #[arg(long, requires = "names")]
    pub fresh: bool,
}

/// A type of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Resource {
    /// Pods
    #[value(aliases = ["pod", "po"])]
    Pods,
    /// Containers
    #[value(aliases = ["container", "ctr"])]
    Containers,
}

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table
    #[default]
    Table,
    /// A table with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Names: namespace/name of pods, ids of containers
    Name,
}

/// Prints the objects on stdout.
///
/// # Errors
///
/// If a call to plegd fails, or a named object does not exist.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connection.client().await?;
    let mut out = io::stdout().lock();
    show(&client, &args, &Clock::system(), &mut out).await?;
    Ok(out.flush()?)
}

pub(super) async fn show(
    client: &Client,
    args: &Args,
    clock: &Clock,
    out: &mut impl io::Write,
) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    let listed = match args.resource {
        Resource::Pods => pods(client, args, &mut missing).await?,
        Resource::Containers => containers(client, args, &mut missing).await?,
    };
    // As in kubectl: the existing objects are shown, even if others are missing.
    if missing.len() < args.names.len() || args.names.is_empty() {
        listed.write(args.output, !args.no_headers, clock.wall(), out)?;
        out.flush()?;
        if listed.is_empty() && matches!(args.output, Output::Table | Output::Wide) {
            eprintln!(
                "plegd: {}",
                visible(&format!("no resources found{}", target::within(&args.namespaces)))
            );
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(missing.join("; "))) }
}

async fn pods(client: &Client, args: &Args, missing: &mut Vec<String>) -> Result<Listed, CallError> {
    if args.names.is_empty() {
        let (pods, position) = all(client, args).await?;
        return Ok(Listed { found: Found::Pods(pods), position: Some(position), single: false });
    }
    let mut pods: Vec<v1::Pod> = Vec::new();
    for name in &args.names {
        let found = target::find(client, name, &args.namespaces, args.freshness()).await?;
        if found.is_empty() {
            missing.push(format!("there is no pod {name:?}{}", target::within(&args.namespaces)));
        }
        pods.extend(found);
    }
    let single = args.names.len() == 1 && pods.len() == 1;
    Ok(Listed { found: Found::Pods(pods), position: None, single })
}

async fn containers(client: &Client, args: &Args, missing: &mut Vec<String>) -> Result<Listed, CallError> {
    if args.names.is_empty() {
        let (pods, position) = all(client, args).await?;
        let containers = pods.into_iter().flat_map(|pod| {
            let identity = pod.identity.unwrap_or_default();
            pod.containers.into_iter().map(move |container| (container, identity.clone()))
        });
        let found = Found::Containers(containers.collect());
        return Ok(Listed { found, position: Some(position), single: false });
    }
    let mut found = Vec::new();
    for id in &args.names {
        match client.get_container(id, args.freshness()).await {
            Ok(container) => found.push(container),
            Err(CallError::NotFound { .. }) => {
                missing.push(format!("there is no container whose id begins with {id:?}"));
            }
            Err(error) => return Err(error),
        }
    }
    let single = args.names.len() == 1;
    Ok(Listed { found: Found::Containers(found), position: None, single })
}

/// All selected pods, in display order.
async fn all(client: &Client, args: &Args) -> Result<(Vec<v1::Pod>, Position), CallError> {
    let filter = v1::Filter {
        namespaces: args.namespaces.clone(),
        label_selector: args.selector.clone().unwrap_or_default(),
        ..Default::default()
    };
    let list = client.list_pods(filter).await?;
    let mut pods = list.pods;
    pods.sort_by_cached_key(|pod| {
        let identity = pod.identity.clone().unwrap_or_default();
        (identity.namespace, identity.name, identity.uid)
    });
    Ok((pods, list.position))
}

// === impl Args ===

impl Args {
    fn freshness(&self) -> Freshness {
        if self.fresh { Freshness::Now } else { Freshness::Held }
    }
}

#[cfg(test)]
mod tests;
