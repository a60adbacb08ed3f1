//! Which pod a person means: a name, with its namespace or without, a UID, or the beginning of a container's id.

use std::collections::BTreeMap;

use crate::{
    client::{CallError, Client, Freshness, PodRef},
    v1,
};

/// One of the things that a word may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// One pod.
    One(PodRef),
    /// The pods of this name in whatever namespace.
    AnyNamespace(String),
}

/// The shortest beginning of a container's id that is taken for one.
const SHORTEST_ID: usize = 4;

/// All that a word may mean, the likeliest first.
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

/// As the kubelet makes them: a UUID, or for a pod from a file a hash of 32 digits.
fn looks_like_uid(word: &str) -> bool {
    let groups: Vec<&str> = word.split('-').collect();
    let hex = groups.iter().all(|group| group.chars().all(|c| c.is_ascii_hexdigit()));
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    hex && (lengths == [8, 4, 4, 4, 12] || lengths == [32])
}

/// The pods that are meant; none if there are none.
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
        // With namespaces each word means a pod in each of them; else it means one thing.
        if !found.is_empty() && namespaces.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// These pods; of several with one namespace and name, the one that plegd means by that name.
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
            // The same rule as for each other request by name: the daemon decides.
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

/// `in the namespace a` or `in the namespaces a and b`; nothing without one.
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
    fn a_word_means_what_it_looks_like() {
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
