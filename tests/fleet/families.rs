//! The output of `/metrics`, as families.

use std::collections::{BTreeMap, BTreeSet};

/// A family of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// The labels and their values, without `le`.
    pub labels: BTreeMap<String, BTreeSet<String>>,
    /// The upper bounds of a histogram's buckets, in order.
    pub buckets: Vec<String>,
}

/// Families by name.
pub type Families = BTreeMap<String, Family>;

/// The output of a plegd without any input: every family, with every label value.
pub fn of_the_program() -> Families {
    parse(&plegd::metrics::Metrics::new().scrape().expect("the metrics"))
}

/// Parses Prometheus' text format.
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
            let family = families.get_mut(&name).expect("a family of this name");
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

/// The family of a sample.
pub fn family_of(families: &Families, sample: &str) -> Option<String> {
    if families.contains_key(sample) {
        return Some(sample.into());
    }
    ["_bucket", "_sum", "_count"].iter().find_map(|part| {
        let name = sample.strip_suffix(part)?;
        (families.get(name)?.kind == "histogram").then(|| name.into())
    })
}

/// `a="b",c="d"`; plegd's label values contain no quotes.
fn pairs(labels: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = labels.split('"').collect();
    let pair = |parts: &[&str]| (parts[0].trim_matches([',', '=', ' ']).to_owned(), parts[1].to_owned());
    parts.chunks_exact(2).map(pair).collect()
}
