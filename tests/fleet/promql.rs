//! The metrics and labels that an expression reads. Not a full parser: Prometheus checks the syntax.

use std::{iter::Peekable, str::Chars};

/// A metric with its label matchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    /// Label, operator, value.
    pub matchers: Vec<(String, String, String)>,
}

/// Everything that an expression reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub selectors: Vec<Selector>,
    /// Labels for grouping and joining.
    pub grouped_by: Vec<String>,
}

const OPERATORS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Finds the selectors and groupings of `expression`.
pub fn reads(expression: &str) -> Reads {
    let mut reads = Reads::default();
    let mut rest = expression.chars().peekable();
    while let Some(&next) = rest.peek() {
        if next == '"' {
            rest.next();
            while rest.next_if(|c| *c != '"').is_some() {}
            rest.next();
        } else if next == '[' {
            while rest.next_if(|c| *c != ']').is_some() {}
        } else if next.is_ascii_digit() {
            word(&mut rest);
        } else if begins_a_name(next) {
            let name = word(&mut rest);
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
            match rest.peek().copied() {
                Some('(') if GROUPINGS.contains(&name.as_str()) => {
                    let inside = until(&mut rest, ')');
                    let labels = inside.split(',').map(str::trim).filter(|label| !label.is_empty());
                    reads.grouped_by.extend(labels.map(str::to_owned));
                }
                Some('(') => {}
                // `sum by (…) (…)`
                _ if ["by", "without"].contains(&word(&mut rest.clone()).as_str()) => {}
                _ if OPERATORS.contains(&name.as_str()) => {}
                Some('{') => {
                    let matchers = matchers(&until(&mut rest, '}'));
                    reads.selectors.push(Selector { metric: name, matchers });
                }
                _ => reads.selectors.push(Selector { metric: name, matchers: Vec::new() }),
            }
        } else {
            rest.next();
        }
    }
    reads
}

fn begins_a_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':'
}

fn word(rest: &mut Peekable<Chars<'_>>) -> String {
    std::iter::from_fn(|| rest.next_if(|c| c.is_ascii_alphanumeric() || "_:.".contains(*c))).collect()
}

/// The text up to the closing bracket; label values contain none.
fn until(rest: &mut Peekable<Chars<'_>>, end: char) -> String {
    rest.next();
    let inside = std::iter::from_fn(|| rest.next_if(|c| *c != end)).collect();
    rest.next();
    inside
}

/// `a="b", c=~"d|e"`.
fn matchers(inside: &str) -> Vec<(String, String, String)> {
    let parts: Vec<&str> = inside.split('"').collect();
    let of = |pair: &[&str]| {
        let left = pair[0].trim_matches([',', ' ', '\n']);
        let at = left.find(['=', '!']).unwrap_or_else(|| panic!("{inside} has no operator"));
        (left[..at].trim().to_owned(), left[at..].trim().to_owned(), pair[1].to_owned())
    };
    parts.chunks_exact(2).map(of).collect()
}

#[test]
fn selectors_and_groupings_of_an_expression_are_found() {
    let of = reads(
        r#"sum by (cluster, le) (rate(plegd_a_bucket{by="x", state=~"down|up"}[5m])) > 1e3 * 2
           and on (job) plegd_b == 1 or label_replace(up, "plegd_no", "$1", "x", "(.*)") unless absent(c:d:e)"#,
    );
    let metrics: Vec<&str> = of.selectors.iter().map(|selector| selector.metric.as_str()).collect();
    assert_eq!(metrics, ["plegd_a_bucket", "plegd_b", "up", "c:d:e"]);
    let matchers = [("by", "=", "x"), ("state", "=~", "down|up")];
    assert_eq!(of.selectors[0].matchers, matchers.map(|(a, b, c)| (a.into(), b.into(), c.into())));
    assert_eq!(of.grouped_by, ["cluster", "le", "job"]);
}
