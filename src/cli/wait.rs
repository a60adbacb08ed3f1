//! `plegd wait`: waits for a state of a pod or a container.

use std::{io, io::Write as _, time::Duration};

use clap::ValueEnum;
use humantime::format_duration;

use super::{connection::Connection, get::summary::current, target};
use crate::print::view;
use crate::{
    client::{CallError, Client, Freshness, PodRef, WaitCondition},
    config::Value,
    printable::visible,
    v1,
};

const EXAMPLES: &str = "\
Examples:
  plegd wait --for running shop/web -c app
  plegd wait --for exited batch/backup-29000001 --timeout 10m
  plegd wait --for sandbox-ready web -n shop    the pod may not exist yet
  plegd wait --for pod-gone shop/web

Conditions:
  running        the newest container with this name is running
  exited         the newest container with this name has exited
  gone           the container is removed from the runtime
  sandbox-ready  the newest sandbox of the pod is ready; containers may not run yet
  pod-gone       the pod with all its containers is removed from the runtime

If two pods have the same name, the one with a ready sandbox is selected.

Exit codes: 0 the condition holds, 1 timeout or error, 64 usage error.";

const DEPRECATED: &str = "warning: --for ready is deprecated, because a ready sandbox is not a ready pod. Use --for sandbox-ready.";

/// Flags of `plegd wait`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Condition: running, exited, gone, sandbox-ready or pod-gone
    #[arg(long = "for", value_enum, value_name = "CONDITION", hide_possible_values = true)]
    pub condition: Condition,
    /// Pod: namespace/name, a name, a UID, or the prefix of a container id
    pub pod: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: Connection,
    /// Namespace of the pod [default: the namespace that has a pod with this name]
    #[arg(long, short, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Name of the container; optional if the pod has only one
    #[arg(long, short, value_name = "NAME")]
    pub container: Option<String>,
    /// Timeout, such as 30s or 10m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = <Duration as Value>::parse)]
    pub timeout: Duration,
}

/// A condition to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Condition {
    /// The container runs
    Running,
    /// The container has exited
    Exited,
    /// The container is removed from the runtime
    Gone,
    /// The pod's newest sandbox is ready
    SandboxReady,
    /// Deprecated name of `sandbox-ready`: a pod with a ready sandbox is not a ready pod
    #[value(hide = true)]
    Ready,
    /// The pod with all its containers is removed from the runtime
    PodGone,
}

/// The object of the wait, once it is found.
struct Target {
    pod: PodRef,
    /// The name for messages.
    name: String,
    condition: WaitCondition,
}

/// Waits, and prints the reached state on stdout.
///
/// # Errors
///
/// If the condition does not hold in time, or a call to plegd fails.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if args.condition == Condition::Ready {
        eprintln!("plegd: {DEPRECATED}");
    }
    let client = args.connection.client().await?;
    let reached = wait(&client, &args).await?;
    Ok(writeln!(io::stdout(), "{}", visible(&reached))?)
}

/// Waits; returns the text for the reached state.
pub(super) async fn wait(client: &Client, args: &Args) -> anyhow::Result<String> {
    let Some(target) = resolve_target(client, args).await? else {
        return Ok(format!("{}: gone", args.pod));
    };
    match client.wait_for(&target.pod, &target.condition, args.timeout).await {
        Ok((pod, _)) => Ok(format!("{}: {}", target.name, holds(&target.condition, pod.as_ref()))),
        Err(CallError::Deadline { .. }) => {
            let now = match client.get_pod(&target.pod, Freshness::Held).await {
                Ok((pod, _)) => state(&target.condition, Some(&pod)),
                Err(CallError::NotFound { .. }) => state(&target.condition, None),
                Err(error) => error.to_string(),
            };
            let (name, time) = (&target.name, format_duration(args.timeout));
            Err(anyhow::anyhow!("{name}: timed out after {time}: {now}"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Finds the pod and the container. `None` if there is no such pod and the condition is its absence.
async fn resolve_target(client: &Client, args: &Args) -> anyhow::Result<Option<Target>> {
    let namespaces: Vec<String> = args.namespace.clone().into_iter().collect();
    let pods = target::find(client, &args.pod, &namespaces, Freshness::Held).await?;
    let (pod, name) = match &pods[..] {
        [] if matches!(args.condition, Condition::Gone | Condition::PodGone) => return Ok(None),
        [] => match target::meanings(&args.pod, &namespaces).swap_remove(0) {
            target::Meaning::One(pod) => (pod.clone(), pod.to_string()),
            target::Meaning::AnyNamespace(name) => anyhow::bail!(
                "there is no pod {name:?}; to wait for a pod that does not exist yet, specify its namespace: default/{name}"
            ),
        },
        [pod] => {
            let identity = pod.identity.clone().unwrap_or_default();
            // A condition that may hold in the future applies to any pod with this name. A removal applies to this pod only, not to its successor.
            let future =
                matches!(args.condition, Condition::Running | Condition::SandboxReady | Condition::Ready);
            let reference = if future && args.pod.ends_with(&identity.name) {
                PodRef::name(identity.namespace, identity.name)
            } else {
                PodRef::Uid(identity.uid)
            };
            (reference, target::name(pod))
        }
        several => {
            let names: Vec<String> = several.iter().map(target::name).collect();
            anyhow::bail!("{:?} matches several pods: {}; specify one", args.pod, names.join(", "))
        }
    };
    let container = || container(args, pods.first());
    let condition = match args.condition {
        Condition::Running => WaitCondition::ContainerRunning(container()?),
        Condition::Exited => WaitCondition::ContainerExited(container()?),
        Condition::Gone => WaitCondition::ContainerGone(container()?),
        Condition::SandboxReady | Condition::Ready => WaitCondition::SandboxReady,
        Condition::PodGone => WaitCondition::PodGone,
    };
    Ok(Some(Target { pod, name, condition }))
}

/// The container's name: the given one, the one of the given id, or the only one in the pod.
fn container(args: &Args, pod: Option<&v1::Pod>) -> anyhow::Result<String> {
    if let Some(name) = &args.container {
        return Ok(name.clone());
    }
    let Some(pod) = pod else {
        anyhow::bail!("{} does not exist yet; specify the container with -c", args.pod);
    };
    if let Some(meant) = pod.containers.iter().find(|it| it.id.starts_with(&args.pod)) {
        return Ok(meant.name.clone());
    }
    let mut names: Vec<&str> = pod.containers.iter().map(|container| container.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names[..] {
        [one] => Ok(one.to_owned()),
        [] => anyhow::bail!("{} has no container yet; specify it with -c", target::name(pod)),
        _ => anyhow::bail!(
            "{} has several containers; specify one with -c: {}",
            target::name(pod),
            names.join(", ")
        ),
    }
}

/// The text for the reached state.
fn holds(condition: &WaitCondition, pod: Option<&v1::Pod>) -> String {
    match condition {
        WaitCondition::ContainerRunning(name) => format!("{name} is running"),
        WaitCondition::ContainerExited(name) => match newest(pod, name) {
            Some(container) => format!("{name} {}", ended(container)),
            None => format!("{name} has exited"),
        },
        WaitCondition::ContainerGone(name) => format!("{name} is gone"),
        WaitCondition::SandboxReady => "its sandbox is ready".into(),
        WaitCondition::PodGone => "gone".into(),
    }
}

/// The text for the current state, if the condition does not hold.
fn state(condition: &WaitCondition, pod: Option<&v1::Pod>) -> String {
    let Some(pod) = pod else { return "there is no such pod".into() };
    match condition {
        WaitCondition::ContainerRunning(name)
        | WaitCondition::ContainerExited(name)
        | WaitCondition::ContainerGone(name) => match newest(Some(pod), name) {
            Some(container) if container.state() == v1::ContainerState::Exited => {
                format!("{name} {}", ended(container))
            }
            Some(container) => format!("{name} is {}", view::container_state(container)),
            None => format!("it has no container {name:?}"),
        },
        WaitCondition::SandboxReady => "its sandbox is not ready".into(),
        WaitCondition::PodGone => "it still exists".into(),
    }
}

fn newest<'a>(pod: Option<&'a v1::Pod>, name: &str) -> Option<&'a v1::Container> {
    let pod = pod?;
    current(pod)
        .into_iter()
        .find(|it| it.name == name)
        .or_else(|| pod.containers.iter().find(|it| it.name == name))
}

fn ended(container: &v1::Container) -> String {
    let code = container.exit_code.map(|code| format!(" with code {code}")).unwrap_or_default();
    let reason = if container.reason.is_empty() { String::new() } else { format!(" ({})", container.reason) };
    format!("has exited{code}{reason}")
}

#[cfg(test)]
mod tests;
