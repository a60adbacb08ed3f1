//! Pods and containers as a table, JSON, YAML or names.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

use super::{
    Output,
    summary::{Summary, summary},
};
use crate::{
    cli::target,
    client::wall,
    clock::Wall,
    model::Position,
    print::{
        columns::{Columns, age},
        view,
    },
    printable::{self, visible},
    v1,
};

/// The objects to show.
pub(super) struct Listed {
    pub(super) found: Found,
    /// The position that a complete list includes.
    pub(super) position: Option<Position>,
    /// One requested object instead of a list.
    pub(super) single: bool,
}

pub(super) enum Found {
    Pods(Vec<v1::Pod>),
    Containers(Vec<(v1::Container, v1::PodIdentity)>),
}

/// The JSON form of a list.
#[derive(Serialize)]
struct List<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<Vec<view::Pod<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Vec<view::Contained<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
}

/// The number of characters of an id that are shown, as in crictl.
const ID: usize = 13;

// === impl Listed ===

impl Listed {
    pub(super) fn is_empty(&self) -> bool {
        match &self.found {
            Found::Pods(pods) => pods.is_empty(),
            Found::Containers(containers) => containers.is_empty(),
        }
    }

    pub(super) fn write(
        &self,
        output: Output,
        headers: bool,
        now: Wall,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        match output {
            Output::Table | Output::Wide => self.table(output == Output::Wide, headers, now, out)?,
            Output::Name => self.names(out)?,
            Output::Json | Output::Yaml => self.data(output, out)?,
        }
        Ok(())
    }

    fn table(&self, wide: bool, headers: bool, now: Wall, out: &mut impl Write) -> io::Result<()> {
        match &self.found {
            Found::Pods(pods) => pod_table(pods, wide, headers, now).write(out),
            Found::Containers(containers) => container_table(containers, wide, headers, now).write(out),
        }
    }

    fn names(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.found {
            Found::Pods(pods) => {
                pods.iter().try_for_each(|pod| writeln!(out, "{}", visible(&target::name(pod))))
            }
            Found::Containers(containers) => {
                containers.iter().try_for_each(|(container, _)| writeln!(out, "{}", visible(&container.id)))
            }
        }
    }

    fn data(&self, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
        match &self.found {
            Found::Pods(pods) if self.single => {
                pods.iter().try_for_each(|pod| serialize(&view::Pod::from(pod), output, out))
            }
            Found::Containers(containers) if self.single => containers
                .iter()
                .try_for_each(|(it, pod)| serialize(&view::Contained::new(it, pod), output, out)),
            found => serialize(&List::of(found, self.position), output, out),
        }
    }
}

fn serialize(value: &impl Serialize, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    let mut text = match output {
        Output::Yaml => printable::yaml(value)?,
        _ => printable::json_pretty(value)?,
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(out.write_all(text.as_bytes())?)
}

/// The table of pods; the last three columns only if `wide`.
pub(in crate::cli) fn pod_table(pods: &[v1::Pod], wide: bool, headers: bool, now: Wall) -> Columns<9> {
    let names = ["NAMESPACE", "NAME", "RUNNING", "STATUS", "RESTARTS", "AGE", "IP", "UID", "SANDBOX"];
    let mut columns = begin(names, if wide { 9 } else { 6 }, headers);
    for pod in pods {
        let identity = pod.identity.clone().unwrap_or_default();
        let Summary { state, since } = summary(pod);
        let sandbox = pod.sandboxes.first().map(|sandbox| short(&sandbox.id)).unwrap_or_default();
        columns.row([
            identity.namespace,
            identity.name,
            format!("{}/{}", state.running, state.expected),
            state.status.into_owned(),
            state.restarts.to_string(),
            age_since(since, now),
            pod.ips.first().cloned().unwrap_or_default(),
            identity.uid,
            sandbox,
        ]);
    }
    columns
}

fn container_table(
    containers: &[(v1::Container, v1::PodIdentity)],
    wide: bool,
    headers: bool,
    now: Wall,
) -> Columns<10> {
    let names =
        ["CONTAINER ID", "NAME", "STATE", "EXIT", "ATTEMPT", "AGE", "POD", "REASON", "SANDBOX", "IMAGE"];
    let mut columns = begin(names, if wide { 10 } else { 7 }, headers);
    for (container, pod) in containers {
        columns.row([
            short(&container.id),
            container.name.clone(),
            view::container_state(container).into(),
            container.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            container.attempt.to_string(),
            age_since(container.created_at.as_ref().map(wall), now),
            target::identity_name(pod),
            container.reason.clone(),
            short(&container.sandbox_id),
            container.image.clone(),
        ]);
    }
    columns
}

fn begin<const N: usize>(names: [&'static str; N], shown: usize, headers: bool) -> Columns<N> {
    let columns = Columns::new(names, shown);
    if headers { columns } else { columns.without_headers() }
}

fn short(id: &str) -> String {
    id.chars().take(ID).collect()
}

fn age_since(time: Option<Wall>, now: Wall) -> String {
    let passed = |time| Duration::try_from_secs_f64(now.seconds_since(time)).unwrap_or_default();
    time.map(|time| age(passed(time))).unwrap_or_default()
}

// === impl List ===

impl<'a> List<'a> {
    fn of(found: &'a Found, position: Option<Position>) -> Self {
        let position = position.map(|position| position.to_string());
        match found {
            Found::Pods(pods) => {
                Self { pods: Some(pods.iter().map(view::Pod::from).collect()), containers: None, position }
            }
            Found::Containers(containers) => {
                let shown = containers.iter().map(|(it, pod)| view::Contained::new(it, pod));
                Self { pods: None, containers: Some(shown.collect()), position }
            }
        }
    }
}
