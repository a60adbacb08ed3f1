//! Validates requests and converts them to plegd's own types.

use std::{sync::Arc, time::Duration};

use tonic::Status;

use super::Reference;
use crate::{
    api::truncate,
    cache::{Cache, LookUpError},
    model::{EventType, ObjectId, Pod, PodIdentity},
    v1,
    watch::{Detail, Filter, Request, SlowPolicy, Start},
};

/// The longest client name, in characters.
const MAX_CLIENT_NAME: usize = 64;

/// The largest number of names and types in a filter: more than a node has pods.
const MAX_NAMES: usize = 1024;

/// The longest name, UID or id, in bytes. This is the Kubernetes limit for names.
const MAX_NAME_BYTES: usize = 253;

/// The longest label selector, in bytes.
const MAX_SELECTOR_BYTES: usize = 16 * 1024;

/// A validated watch request.
pub(super) struct ParsedWatch {
    pub(super) request: Request,
    pub(super) detail: Detail,
    pub(super) client_name: String,
}

// === impl ParsedWatch ===

impl ParsedWatch {
    pub(super) fn parse(request: v1::WatchRequest) -> Result<Self, Status> {
        let start = match (request.start(), request.after) {
            (v1::Start::Unspecified, Some(after)) => Start::After(after.into()),
            (_, Some(_)) => return Err(invalid("start and after are mutually exclusive")),
            (v1::Start::Unspecified | v1::Start::Snapshot, None) => {
                check_known(request.start, v1::Start::try_from(request.start).is_ok(), "start")?;
                Start::Snapshot
            }
            (v1::Start::Now, None) => Start::Now,
            (v1::Start::Oldest, None) => Start::Oldest,
        };
        check_known(request.detail, v1::Detail::try_from(request.detail).is_ok(), "detail")?;
        let detail = match request.detail() {
            v1::Detail::Unspecified | v1::Detail::Event => Detail::Event,
            v1::Detail::Pod => Detail::Pod,
        };
        check_known(
            request.slow_policy,
            v1::SlowPolicy::try_from(request.slow_policy).is_ok(),
            "slow_policy",
        )?;
        let slow_policy = match request.slow_policy() {
            v1::SlowPolicy::Unspecified | v1::SlowPolicy::Resync => SlowPolicy::Resync,
            v1::SlowPolicy::LatestPerPod if detail != Detail::Pod => {
                return Err(invalid(
                    "SLOW_POLICY_LATEST_PER_POD requires DETAIL_POD: an event alone is not the latest state",
                ));
            }
            v1::SlowPolicy::LatestPerPod => SlowPolicy::LatestPerPod,
            v1::SlowPolicy::Fail => SlowPolicy::Fail,
        };
        let interval = request.bookmark_interval.map(|interval| {
            let seconds = u64::try_from(interval.seconds).ok();
            let nanos = u32::try_from(interval.nanos).ok().filter(|&nanos| nanos < 1_000_000_000);
            seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos))
        });
        let bookmark_interval = match interval {
            Some(None) => return Err(invalid("bookmark_interval is negative or invalid")),
            Some(interval) => interval,
            None => None,
        };
        if request.client_name.chars().count() > MAX_CLIENT_NAME {
            return Err(invalid(format!("client_name is longer than {MAX_CLIENT_NAME} characters")));
        }
        let (filter, wait_ready) = (filter(request.filter)?, request.wait_ready);
        let client_name = request.client_name;
        let request = Request { start, filter, slow_policy, bookmark_interval, wait_ready };
        Ok(Self { request, detail, client_name })
    }
}

/// Converts a filter. If its selector cannot be parsed, returns `INVALID_ARGUMENT` with the position of the error.
pub(super) fn filter(filter: Option<v1::Filter>) -> Result<Filter, Status> {
    let Some(filter) = filter else { return Ok(Filter::default()) };
    let names = [
        ("namespaces", &filter.namespaces),
        ("pod_uids", &filter.pod_uids),
        ("pod_names", &filter.pod_names),
    ];
    for (field, names) in names {
        names.iter().try_for_each(|name| check_length(&format!("filter.{field}"), name))?;
    }
    let count = names.iter().map(|(_, names)| names.len()).sum::<usize>() + filter.types.len();
    if count > MAX_NAMES {
        return Err(invalid(format!("the filter has {count} names and types; the limit is {MAX_NAMES}")));
    }
    if filter.label_selector.len() > MAX_SELECTOR_BYTES {
        return Err(invalid(format!("the label selector is longer than {MAX_SELECTOR_BYTES} bytes")));
    }
    let selector = filter.label_selector.parse().map_err(|error| {
        invalid(format!(
            "the label selector {:?} cannot be parsed: {error}",
            truncate(&filter.label_selector, 200)
        ))
    })?;
    let types = (filter.types.iter())
        .map(|&number| match v1::EventType::try_from(number) {
            Ok(v1::EventType::ContainerStarted) => Ok(EventType::ContainerStarted),
            Ok(v1::EventType::ContainerDied) => Ok(EventType::ContainerDied),
            Ok(v1::EventType::ContainerRemoved) => Ok(EventType::ContainerRemoved),
            Ok(v1::EventType::ContainerChanged) => Ok(EventType::ContainerChanged),
            Ok(v1::EventType::PodSync) => Ok(EventType::PodSync),
            Ok(v1::EventType::Unspecified) | Err(_) => {
                Err(invalid(format!("filter.types has {number}, which is not an event type")))
            }
        })
        .collect::<Result<_, _>>()?;
    Ok(Filter {
        namespaces: filter.namespaces,
        pod_uids: filter.pod_uids,
        pod_names: filter.pod_names,
        selector,
        types,
        containers_only: filter.containers_only,
    })
}

/// Converts a reference to a pod.
pub(super) fn reference(pod: Option<v1::PodReference>) -> Result<Reference, Status> {
    use v1::pod_reference::Pod;
    let not_set =
        || invalid("pod is not set: set its uid, its namespace and name, or the id of one of its containers");
    let pod = pod.and_then(|pod| pod.pod).ok_or_else(not_set)?;
    match &pod {
        Pod::Uid(name) => check_length("pod.uid", name)?,
        Pod::ContainerId(name) => check_length("pod.container_id", name)?,
        Pod::Name(v1::NamespacedName { namespace, name }) => {
            check_length("pod.name.namespace", namespace)?;
            check_length("pod.name.name", name)?;
        }
    }
    match pod {
        Pod::Uid(uid) if uid.is_empty() => Err(invalid("pod.uid is empty")),
        Pod::Uid(uid) => Ok(Reference::Uid(uid.into())),
        Pod::Name(v1::NamespacedName { namespace, name }) if namespace.is_empty() || name.is_empty() => {
            Err(invalid("pod.name requires both namespace and name"))
        }
        Pod::Name(v1::NamespacedName { namespace, name }) => Ok(Reference::Name { namespace, name }),
        Pod::ContainerId(id) if id.is_empty() => Err(invalid("pod.container_id is empty")),
        Pod::ContainerId(id) => Ok(Reference::Id(id.into())),
    }
}

/// The cached pod that the reference names.
pub(super) fn resolve(cache: &Cache, reference: &Reference) -> Result<Option<Arc<Pod>>, Status> {
    match reference {
        Reference::Uid(uid) => Ok(cache.get(uid)),
        Reference::Pod(pod) => Ok(cache.get_pod(pod)),
        Reference::Name { namespace, name } => Ok(cache.named(namespace, name)),
        Reference::Id(id) => Ok(cache.get_pod(&find(cache, id.as_str())?.1)),
    }
}

/// Finds the container id with this prefix, and its pod.
pub(super) fn find(cache: &Cache, prefix: &str) -> Result<(ObjectId, PodIdentity), Status> {
    check_length("container_id", prefix)?;
    cache.find(prefix).map_err(|error| match error {
        LookUpError::Unknown(_) => Status::not_found(error.to_string()),
        LookUpError::Ambiguous(..) => invalid(error.to_string()),
    })
}

pub(super) fn not_found(reference: &Reference) -> Status {
    Status::not_found(match reference {
        Reference::Uid(uid) => format!("there is no pod with the UID {uid}"),
        Reference::Name { namespace, name } => format!("there is no pod {namespace}/{name}"),
        Reference::Pod(pod) => format!("there is no pod {}/{}", pod.namespace, pod.name),
        Reference::Id(id) => format!("no pod has a container or sandbox {id}"),
    })
}

/// An `INVALID_ARGUMENT` status. The message is shortened, because it is sent in a header, which has a size limit.
pub(super) fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(truncate(&message.into(), 1000))
}

pub(super) fn check_length(field: &str, name: &str) -> Result<(), Status> {
    if name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    Err(invalid(format!("{field} has a name of {} bytes; the limit is {MAX_NAME_BYTES}", name.len())))
}

/// Rejects an enum number that this version does not know, so that it is not taken for another value.
fn check_known(number: i32, known: bool, field: &str) -> Result<(), Status> {
    if known {
        Ok(())
    } else {
        Err(invalid(format!("{field} has {number}, which this version of plegd does not know")))
    }
}
