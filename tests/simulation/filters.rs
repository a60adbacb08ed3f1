//! Evaluates filters independently, from their text, because subscribers are checked with the library's own filter.

use plegd::{
    model::{Event, Subject},
    watch::Filter,
};

/// A difference between the library's filter and its documentation, if any.
pub fn wrong(filter: &Filter, event: &Event) -> Option<String> {
    let (is, should) = (filter.passes(event), passes(filter, event));
    (is != should)
        .then(|| format!("{filter}: event {} passes is {is}, and should be {should}", event.sequence))
}

fn passes(filter: &Filter, event: &Event) -> bool {
    let among = |names: &[String], name: &str| names.is_empty() || names.iter().any(|it| it == name);
    among(&filter.namespaces, &event.pod.namespace)
        && among(&filter.pod_uids, event.pod.uid.as_str())
        && among(&filter.pod_names, &event.pod.name)
        && (filter.types.is_empty() || filter.types.contains(&event.kind))
        && !(filter.containers_only && event.subject != Subject::Container)
        && requirements(&filter.selector.to_string()).iter().all(|it| is_met(it, |key| event.labels.get(key)))
}

/// The requirements of a selector, separated by commas outside parentheses.
fn requirements(selector: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for character in selector.chars() {
        depth += match character {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        match (character, depth, parts.last_mut()) {
            (',', 0, _) => parts.push(String::new()),
            (_, _, Some(part)) => part.push(character),
            _ => {}
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Whether labels meet one requirement, by the documentation of Kubernetes.
fn is_met<'a>(requirement: &str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    let in_set = |set: &str, key: &str| {
        let value = label(key.trim());
        set.trim_matches(['(', ')', ' ']).split(',').any(|it| value == Some(it.trim()))
    };
    if let Some((key, set)) = requirement.split_once(" notin ") {
        !in_set(set, key)
    } else if let Some((key, set)) = requirement.split_once(" in ") {
        in_set(set, key)
    } else if let Some((key, value)) = requirement.split_once("!=") {
        label(key.trim()) != Some(value.trim())
    } else if let Some((key, value)) = requirement.split_once('=') {
        label(key.trim()) == Some(value.trim_matches(['=', ' ']))
    } else if let Some(key) = requirement.strip_prefix('!') {
        label(key.trim()).is_none()
    } else {
        label(requirement).is_some()
    }
}
