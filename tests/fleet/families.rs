//! What `/metrics` prints, as families.

use std::collections::{BTreeMap, BTreeSet};

/// A family of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// The labels and their values; without those of a histogram's buckets.
    pub labels: BTreeMap<String, BTreeSet<String>>,
    /// The upper ends of a histogram's buckets, in order.
    pub buckets: Vec<String>,
}

/// All families that a text shows, by name.
pub type Families = BTreeMap<String, Family>;

/// What a plegd that has seen nothing prints: every family, with every value of its labels.
pub fn of_the_program() -> Families {
    parse(&plegd::metrics::Metrics::new().scrape().expect("the metrics"))
}

/// Reads Prometheus' text format.
pub fn parse(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            families.entry(name.into()).or_default().help = help.into();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            families.entry(name.into()).or_default().kind = kind.into();
        } else if let Some((sample, labels)) = line.split_once('{') {
            let labels = labels.rsplit_once('}').expect("a closing brace").0;
            let name = family_of(&families, sample).unwrap_or_else(|| panic!("{sample} has no type"));
            let family = families.get_mut(&name).expect("it is there");
            for (label, value) in pairs(labels) {
                if label != "le" {
                    family.labels.entry(label).or_default().insert(value);
                } else if !family.buckets.contains(&value) {
                    family.buckets.push(value);
                }
            }
        }
    }
    families
}

/// The family that a sample is of.
pub fn family_of(families: &Families, sample: &str) -> Option<String> {
    if families.contains_key(sample) {
        return Some(sample.into());
    }
    ["_bucket", "_sum", "_count"].iter().find_map(|part| {
        let name = sample.strip_suffix(part)?;
        (families.get(name)?.kind == "histogram").then(|| name.into())
    })
}

/// `a="b",c="d"`; no value of plegd's has a quote in it.
fn pairs(labels: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = labels.split('"').collect();
    let pair = |parts: &[&str]| (parts[0].trim_matches([',', '=', ' ']).to_owned(), parts[1].to_owned());
    parts.chunks_exact(2).map(pair).collect()
}
