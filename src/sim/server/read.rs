//! The read calls: the answer of each from the truth, without faults or waiting.

use std::collections::BTreeMap;

use tonic::Status;

use super::RuntimeService;
use crate::sim::{
    profile::{ErrorTexts, StatusTimestamp},
    v1, wire,
};

impl RuntimeService {
    pub(super) fn read_version(&self) -> v1::VersionResponse {
        let (runtime_name, runtime_version) = self.runtime.core().version();
        v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name,
            runtime_version,
            runtime_api_version: "v1".to_owned(),
        }
    }

    pub(super) fn read_status(&self) -> v1::StatusResponse {
        let conditions = ["RuntimeReady", "NetworkReady"].map(|condition| v1::RuntimeCondition {
            r#type: condition.to_owned(),
            status: true,
            ..Default::default()
        });
        v1::StatusResponse { status: Some(v1::RuntimeStatus { conditions: conditions.into() }) }
    }

    pub(super) fn read_sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatusResponse, Status> {
        let profile = self.runtime.profile();
        let wall = self.runtime.clock().wall().as_nanos();
        self.runtime.read(|truth| {
            let view = truth.view();
            let sandbox = match resolve(&view.sandboxes, id)? {
                Some((_, sandbox)) => sandbox,
                None => return Err(Status::not_found(self.no_such("sandbox", "pod", id))),
            };
            let timestamp = match profile.status_timestamp {
                StatusTimestamp::Absent => 0,
                StatusTimestamp::Nanoseconds | StatusTimestamp::WithoutStatuses => wall,
                StatusTimestamp::Seconds => wall / 1_000_000_000,
            };
            Ok(v1::PodSandboxStatusResponse {
                status: Some(wire::sandbox_status(sandbox, profile)),
                info: self.info(),
                containers_statuses: match profile.status_timestamp {
                    StatusTimestamp::Absent | StatusTimestamp::WithoutStatuses => Vec::new(),
                    _ => view.containers_of(&sandbox.id).map(wire::container_status).collect(),
                },
                timestamp,
            })
        })
    }

    pub(super) fn read_container_status(&self, id: &str) -> Result<v1::ContainerStatusResponse, Status> {
        self.runtime.read(|truth| match resolve(&truth.view().containers, id)? {
            Some((_, container)) => Ok(v1::ContainerStatusResponse {
                status: Some(wire::container_status(container)),
                info: self.info(),
            }),
            None => Err(Status::not_found(self.no_such("container", "container", id))),
        })
    }

    pub(super) fn list_sandboxes(&self, filter: &v1::PodSandboxFilter) -> Vec<v1::PodSandbox> {
        self.runtime.core().list(|view| {
            let id = filter_id(&view.sandboxes, &filter.id);
            view.listed_sandboxes()
                .filter(|sandbox| {
                    id.as_ref().is_none_or(|id| *id == sandbox.id)
                        && filter
                            .state
                            .as_ref()
                            .is_none_or(|s| s.state() == wire::sandbox_state(sandbox.ready))
                        && selects(&filter.label_selector, &sandbox.spec.labels)
                })
                .map(wire::sandbox_item)
                .collect()
        })
    }

    pub(super) fn list_of_containers(&self, filter: &v1::ContainerFilter) -> Vec<v1::Container> {
        self.runtime.core().list(|view| {
            let id = filter_id(&view.containers, &filter.id);
            let sandbox_id = filter_id(&view.sandboxes, &filter.pod_sandbox_id);
            view.listed_containers()
                .filter(|container| {
                    id.as_ref().is_none_or(|id| *id == container.id)
                        && sandbox_id.as_ref().is_none_or(|id| *id == container.sandbox_id)
                        && filter
                            .state
                            .as_ref()
                            .is_none_or(|s| s.state() == wire::container_state(container.state))
                        && selects(&filter.label_selector, &container.spec.labels)
                })
                .map(wire::container_item)
                .collect()
        })
    }

    /// The full id of a sandbox; the given id if there is none: stopping or removing such a sandbox succeeds.
    pub(super) fn known_sandbox(&self, id: String) -> String {
        self.runtime.read(|truth| full_id(&truth.view().sandboxes, id))
    }

    /// The full id of a container; the given id if there is none.
    pub(super) fn known_container(&self, id: String) -> String {
        self.runtime.read(|truth| full_id(&truth.view().containers, id))
    }

    fn info(&self) -> BTreeMap<String, String> {
        if self.runtime.profile().unrequested_info {
            BTreeMap::from([("updatedResources".to_owned(), "null".to_owned())])
        } else {
            BTreeMap::new()
        }
    }

    fn no_such(&self, of_containerd: &str, of_cri_o: &str, id: &str) -> String {
        match self.runtime.profile().error_texts {
            ErrorTexts::Containerd if of_containerd == "sandbox" => {
                "an error occurred when try to find sandbox: not found".to_owned()
            }
            ErrorTexts::Containerd => {
                format!("an error occurred when try to find {of_containerd} {id:?}: not found")
            }
            ErrorTexts::CriO => format!("could not find {of_cri_o} {id:?}"),
        }
    }
}

/// The object with this id or unambiguous id prefix. An ambiguous prefix is an error other than NotFound.
fn resolve<'a, T>(map: &'a BTreeMap<String, T>, id: &str) -> Result<Option<(&'a String, &'a T)>, Status> {
    if id.is_empty() {
        return Ok(None);
    }
    let mut candidates = map.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
    match (candidates.next(), candidates.next()) {
        (Some(found), _) if found.0 == id => Ok(Some(found)),
        (found, None) => Ok(found),
        _ => Err(Status::unknown(format!("prefix {id:?} is ambiguous"))),
    }
}

fn full_id<T>(map: &BTreeMap<String, T>, id: String) -> String {
    match resolve(map, &id) {
        Ok(Some((full, _))) => full.clone(),
        _ => id,
    }
}

/// The full id for an id or prefix in a filter; `None` for an empty filter.
fn filter_id<T>(map: &BTreeMap<String, T>, id: &str) -> Option<String> {
    (!id.is_empty()).then(|| full_id(map, id.to_owned()))
}

fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
