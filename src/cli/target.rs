//! Resolves an argument that selects a pod: a name with or without a namespace, a UID, or the prefix of a container id.

use std::collections::BTreeMap;

use crate::{
    client::{CallError, Client, Freshness, PodRef},
    v1,
};

/// One possible meaning of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    One(PodRef),
    /// The pods with this name in any namespace.
    AnyNamespace(String),
}

/// Minimum length of the prefix of a container id.
const SHORTEST_ID: usize = 4;

/// All possible meanings of a word, the most likely first.
pub(super) fn meanings(word: &str, namespaces: &[String]) -> Vec<Meaning> {
    if let Some((namespace, name)) = word.split_once('/') {
        return vec![Meaning::One(PodRef::name(namespace, name))];
    }
    if !namespaces.is_empty() {
        return namespaces
            .iter()
            .map(|namespace| Meaning::One(PodRef::name(namespace.clone(), word)))
            .collect();
    }
    let mut meanings = Vec::new();
    if looks_like_uid(word) {
        meanings.push(Meaning::One(PodRef::Uid(word.into())));
    }
    meanings.push(Meaning::AnyNamespace(word.into()));
    if word.len() >= SHORTEST_ID && word.chars().all(|c| c.is_ascii_hexdigit()) {
        meanings.push(Meaning::One(PodRef::ContainerId(word.into())));
    }
    meanings
}

/// A UID as the kubelet sets it: a UUID, or for a static pod a hash of 32 digits.
fn looks_like_uid(word: &str) -> bool {
    let groups: Vec<&str> = word.split('-').collect();
    let hex = groups.iter().all(|group| group.chars().all(|c| c.is_ascii_hexdigit()));
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    hex && (lengths == [8, 4, 4, 4, 12] || lengths == [32])
}

/// The selected pods; empty if there are none.
pub(super) async fn find(
    client: &Client,
    word: &str,
    namespaces: &[String],
    freshness: Freshness,
) -> Result<Vec<v1::Pod>, CallError> {
    let mut found = Vec::new();
    for meaning in meanings(word, namespaces) {
        match meaning {
            Meaning::One(pod) => found.extend(get(client, &pod, freshness).await?),
            Meaning::AnyNamespace(name) => {
                let filter = v1::Filter { pod_names: vec![name], ..Default::default() };
                found
                    .extend(one_of_each_name(client, client.list_pods(filter).await?.pods, freshness).await?);
            }
        }
        // With namespaces, each word selects a pod in each of them; otherwise it selects one object.
        if !found.is_empty() && namespaces.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// These pods; of several with the same namespace and name, the one that plegd selects by that name.
async fn one_of_each_name(
    client: &Client,
    pods: Vec<v1::Pod>,
    freshness: Freshness,
) -> Result<Vec<v1::Pod>, CallError> {
    let mut by_name: BTreeMap<String, Vec<v1::Pod>> = BTreeMap::new();
    for pod in pods {
        by_name.entry(name(&pod)).or_default().push(pod);
    }
    let mut found = Vec::new();
    for mut pods in by_name.into_values() {
        let identity = pods.first().and_then(|pod| pod.identity.clone()).unwrap_or_default();
        match (pods.len(), freshness) {
            (1, Freshness::Held) => found.append(&mut pods),
            (1, freshness) => found.extend(get(client, &PodRef::Uid(identity.uid), freshness).await?),
            // The daemon decides, so that the rule is the same for every request by name.
            _ => {
                let named = PodRef::name(identity.namespace, identity.name);
                found.extend(get(client, &named, freshness).await?);
            }
        }
    }
    Ok(found)
}

async fn get(client: &Client, pod: &PodRef, freshness: Freshness) -> Result<Option<v1::Pod>, CallError> {
    match client.get_pod(pod, freshness).await {
        Ok((pod, _)) => Ok(Some(pod)),
        Err(CallError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `namespace/name`.
pub(super) fn name(pod: &v1::Pod) -> String {
    pod.identity.as_ref().map(identity_name).unwrap_or_default()
}

/// `namespace/name`.
pub(super) fn identity_name(pod: &v1::PodIdentity) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// `in the namespace a` or `in the namespaces a and b`; empty without namespaces.
pub(super) fn within(namespaces: &[String]) -> String {
    match namespaces {
        [] => String::new(),
        [one] => format!(" in the namespace {one}"),
        several => format!(" in the namespaces {}", several.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_argument_determines_its_possible_meanings() {
        let any = |name: &str| Meaning::AnyNamespace(name.into());
        let id = |id: &str| Meaning::One(PodRef::ContainerId(id.into()));
        let uid = |uid: &str| Meaning::One(PodRef::Uid(uid.into()));
        let name = |namespace: &str, name: &str| Meaning::One(PodRef::name(namespace, name));
        assert_eq!(meanings("web", &[]), [any("web")]);
        assert_eq!(meanings("shop/web", &[]), [name("shop", "web")]);
        assert_eq!(meanings("web", &["a".into(), "b".into()]), [name("a", "web"), name("b", "web")]);
        assert_eq!(meanings("cafe", &[]), [any("cafe"), id("cafe")]);
        assert_eq!(meanings("abc", &[]), [any("abc")]);
        let uuid = "8c5f6b1e-7f1a-4c9e-b500-b46b3c04f655";
        assert_eq!(meanings(uuid, &[]), [uid(uuid), any(uuid)]);
        let hash = "0123456789abcdef0123456789abcdef";
        assert_eq!(meanings(hash, &[]), [uid(hash), any(hash), id(hash)]);
    }
}
