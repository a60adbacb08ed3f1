//! Label selectors and filters: parsing and printing round-trip, and the result equals a second, simpler
//! implementation.

use plegd::{
    api::v1,
    fuzzing,
    model::{Labels, PodIdentity},
    watch::{Filter, Selector},
};

use super::input::Input;

const KEYS: [&str; 6] = ["app", "tier", "in", "notin", "example.org/a", "x"];
const VALUES: [&str; 5] = ["web", "db", "", "in", "a.b-c_d"];
const WORDS: [&str; 16] =
    [",", ",", " ", " in ", " notin ", "(", ")", "=", "==", "!=", "!", "<", "\t", "a/b/c", "\u{e4}", "-"];

/// Runs one input: as a selector, as a sequence of words, and as a request with a filter.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let labels = labels(&mut input);
    let rows = input.chance(128);
    let text = if rows { row(&mut input) } else { String::from_utf8_lossy(input.rest()).into_owned() };
    let Ok(selector) = text.parse::<Selector>() else {
        return assert!(refused(&text), "only the request's filter takes {text:?}");
    };
    let written = selector.to_string();
    assert_eq!(written.parse::<Selector>(), Ok(selector.clone()), "{text:?} is written {written:?}");
    assert_eq!(selector.matches(&labels), matches(&text, &labels), "{text:?} and {labels:?}");
    assert_eq!(selector.matches(&labels), matches(&written, &labels), "{written:?} and {labels:?}");
    filter(&text, &labels);
}

/// Selectors of every form.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "\u{1}\u{2}\u{3}\u{0}app=web,tier!=test,example.org/a in (a,b),x notin (c),y,!z",
        "\u{0}\u{0}\u{0}\u{0}in in (in),notin notin (,x)",
        "\u{7}\u{2}\u{4}\u{0}app == web , !x,tier in()",
    ];
    let mut seeds = super::seeds::of_texts(&texts);
    seeds.extend(super::seeds::of_choices(8, 60));
    seeds
}

fn labels(input: &mut Input<'_>) -> Labels {
    let count = input.below(4);
    (0..count).map(|_| (input.pick(&KEYS).to_owned(), input.pick(&VALUES).to_owned())).collect()
}

fn row(input: &mut Input<'_>) -> String {
    let mut text = String::new();
    while !input.is_empty() && text.len() < 4096 {
        text += match input.below(8) {
            0 | 1 => input.pick(&KEYS),
            2 => input.pick(&VALUES),
            3 => input.pick(&["=", "!=", " in (", " notin (", ")"]),
            4 => ",",
            _ => input.pick(&WORDS),
        };
    }
    text
}

fn request(text: &str) -> v1::WatchRequest {
    let filter = v1::Filter {
        namespaces: vec!["ns".into(), "other".into()],
        label_selector: text.into(),
        ..v1::Filter::default()
    };
    v1::WatchRequest { filter: Some(filter), ..v1::WatchRequest::default() }
}

fn refused(text: &str) -> bool {
    match fuzzing::watch_request(request(text)) {
        Ok(_) => false,
        // The message is sent in a header.
        Err(status) => format!("{:?}", status.code()) == "InvalidArgument" && status.message().len() < 8192,
    }
}

/// Checks that a request's filter passes a pod if and only if the namespace and the selector do.
fn filter(text: &str, labels: &Labels) {
    let filter: Filter = match fuzzing::watch_request(request(text)) {
        Ok(request) => request.filter,
        Err(_) => return assert!(text.len() > 16 * 1024, "{text:?} is a selector and is refused"),
    };
    for namespace in ["ns", "other", "third", ""] {
        let pod = PodIdentity { uid: "u".into(), namespace: namespace.into(), name: "pod".into() };
        let expected = ["ns", "other"].contains(&namespace) && matches(text, labels);
        assert_eq!(filter.passes_pod(&pod, labels), expected, "{filter} and {namespace:?}, {labels:?}");
    }
}

/// Evaluates a valid selector requirement by requirement, without a parser.
fn matches(text: &str, labels: &Labels) -> bool {
    let mut within = 0;
    let at_top = |c: char| {
        within += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && within == 0
    };
    let requirements: Vec<&str> = text.split(at_top).map(str::trim).collect();
    text.trim().is_empty() || requirements.into_iter().all(|requirement| holds(requirement, labels))
}

fn holds(requirement: &str, labels: &Labels) -> bool {
    let value_of = |key: &str| labels.get(key.trim());
    if let Some((key, value)) = requirement.split_once("!=") {
        return value_of(key) != Some(value.trim());
    }
    if let Some(key) = requirement.strip_prefix('!') {
        return value_of(key).is_none();
    }
    if let Some((key, value)) = requirement.split_once('=') {
        return value_of(key) == Some(value.trim_start_matches('=').trim());
    }
    let Some((head, values)) = requirement.split_once('(') else { return value_of(requirement).is_some() };
    let head = head.trim();
    let among = |key: &str| {
        let mut values = values.trim_end_matches(')').split(',').map(str::trim);
        value_of(key).is_some_and(|value| values.any(|one| one == value))
    };
    match head.strip_suffix("notin") {
        Some(key) => !among(key),
        None => among(head.strip_suffix("in").unwrap_or(head)),
    }
}
