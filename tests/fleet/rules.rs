//! The recording and alerting rules.

use serde_json::Value;

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The alert's name or the recorded metric.
    pub name: String,
    pub expr: String,
    /// The fields of an alert; `None` for a recording rule.
    pub alert: Option<Value>,
}

/// Their file.
pub const FILE: &str = "deploy/prometheus/rules.yaml";

/// All rules, in the file's order.
pub fn all() -> Vec<Rule> {
    let [file] = &super::yaml(&super::text(FILE))[..] else { panic!("{FILE} has one document") };
    let groups = file["groups"].as_array().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    rules
        .map(|rule| {
            let text = |key: &str| rule[key].as_str().map(str::to_owned);
            Rule {
                name: text("alert").or_else(|| text("record")).expect("a name"),
                expr: text("expr").expect("an expression"),
                alert: rule.get("alert").map(|_| rule.clone()),
            }
        })
        .collect()
}

/// The alerts only.
pub fn alerts() -> Vec<(Rule, Value)> {
    all().into_iter().filter_map(|rule| rule.alert.clone().map(|alert| (rule, alert))).collect()
}
