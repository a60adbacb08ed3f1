//! Tests that no unsafe character is printed and that no text is lost.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Ranges that this module must escape, from the Unicode character database: controls, separators, format controls
/// and invisible characters. A second list, so that the rule is not tested with itself.
pub(crate) const UNSAFE: [(u32, u32); 30] = [
    (0x00, 0x1f),
    (0x7f, 0x9f),
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x600, 0x605),
    (0x61c, 0x61c),
    (0x6dd, 0x6dd),
    (0x70f, 0x70f),
    (0x890, 0x891),
    (0x8e2, 0x8e2),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0xfffe, 0xffff),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x1343f),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe007f),
    (0xe0080, 0xe0fff),
    (0x10fffe, 0x10ffff),
];

/// Whether a character is in [`UNSAFE`].
pub(crate) fn listed(c: char) -> bool {
    UNSAFE.iter().any(|&(first, last)| (first..=last).contains(&u32::from(c)))
}

/// Asserts that a printed text contains no character of [`UNSAFE`] except line feeds.
pub(crate) fn assert_safe(printed: &str) {
    let found = printed.chars().find(|&c| c != '\n' && listed(c));
    assert_eq!(found, None, "in {printed:?}");
}

/// Texts of a malicious pod: any characters, many of them unsafe, wide, combining, or with a meaning in YAML.
pub(crate) fn hostile() -> impl Strategy<Value = String> {
    let ranges = (0..UNSAFE.len()).prop_flat_map(|at| UNSAFE[at].0..=UNSAFE[at].1);
    let c = prop_oneof![
        2 => ranges.prop_filter_map("a surrogate", char::from_u32),
        1 => any::<char>(),
        1 => prop::sample::select("漢字🦀é\u{301}\u{65e}－ｱ".chars().collect::<Vec<_>>()),
        2 => prop::sample::select(" :#-?!&*|>'\"%@`{}[],\\~<=\t\n.0".chars().collect::<Vec<_>>()),
        3 => prop::char::range('a', 'z'),
    ];
    prop::collection::vec(c, 0..14).prop_map(String::from_iter)
}

/// A document with strings in all places.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Document {
    name: String,
    list: Vec<String>,
    map: BTreeMap<String, String>,
    items: Vec<Item>,
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Item {
    labels: BTreeMap<String, String>,
    reason: String,
    nested: Vec<Vec<String>>,
}

fn document() -> impl Strategy<Value = Document> {
    let map = || prop::collection::btree_map(hostile(), hostile(), 0..3);
    let list = || prop::collection::vec(hostile(), 0..3);
    let item = (map(), hostile(), prop::collection::vec(list(), 0..2));
    let item = item.prop_map(|(labels, reason, nested)| Item { labels, reason, nested });
    (hostile(), list(), map(), prop::collection::vec(item, 0..3))
        .prop_map(|(name, list, map, items)| Document { name, list, map, items })
}

#[test]
fn control_and_invisible_characters_are_unsafe_and_visible_ones_are_not() {
    for c in UNSAFE.iter().flat_map(|&(first, last)| first..=last).filter_map(char::from_u32) {
        assert!(is_unsafe(c), "U+{:04X}", u32::from(c));
    }
    for c in " ~aé漢字🦀ñ\u{301}ﬁ€–…\u{a0}\u{3000}ـעب".chars() {
        assert!(!is_unsafe(c), "U+{:04X}", u32::from(c));
    }
}

#[test]
fn an_escape_shows_the_code_point() {
    assert_eq!(visible("a\u{1b}[31m\u{9b}\u{202e}\r\n"), "a\\u{1b}[31m\\u{9b}\\u{202e}\\r\\n");
    assert_eq!(visible_lines("two\nlines\r"), "two\nlines\\r");
    assert_eq!(json(&"a\u{7f}\u{2066}\u{e0041}\n").unwrap(), r#""a\u007f\u2066\udb40\udc41\n""#);
    assert_eq!(
        yaml(&BTreeMap::from([("k\u{202e}\"\\", "v\u{e0041}"), ("plain", "two\nlines\u{200b}")])).unwrap(),
        "\"k\\u202E\\\"\\\\\": \"v\\U000E0041\"\nplain: \"two\\nlines\\u200B\"\n"
    );
}

#[test]
fn yaml_of_safe_text_is_unchanged() {
    assert_eq!(yaml(&BTreeMap::from([("message", "two\nlines\n")])).unwrap(), "message: |\n  two\n  lines\n");
}

#[test]
fn widths_are_those_of_a_terminal() {
    for (text, columns) in [("", 0), ("abc", 3), ("漢字", 4), ("🦀", 2), ("e\u{301}", 1), ("ｱ", 1)] {
        assert_eq!(width(text), columns, "{text}");
    }
    assert_eq!((prefix("a漢字", 2), prefix("a漢字", 3), prefix("e\u{301}x", 1)), ("a", "a漢", "e\u{301}"));
    assert_eq!((suffix("漢字a", 2), suffix("漢字a", 3), suffix("e\u{301}x", 1)), ("a", "字a", "x"));
    assert_eq!((prefix("abc", 9), suffix("abc", 9), suffix("abc", 0)), ("abc", "abc", ""));
}

proptest! {
    #[test]
    fn no_text_is_printed_with_an_unsafe_character(text in hostile()) {
        assert_safe(&visible(&text));
        prop_assert!(!visible(&text).contains('\n'));
        assert_safe(&visible_lines(&text));
    }

    #[test]
    fn json_is_safe_and_parses_to_the_same(document in document()) {
        for printed in [json(&document).unwrap(), json_pretty(&document).unwrap()] {
            assert_safe(&printed);
            prop_assert_eq!(&serde_json::from_str::<Document>(&printed).unwrap(), &document);
        }
    }

    #[test]
    fn yaml_is_safe_and_parses_to_the_same(document in document()) {
        let printed = yaml(&document).unwrap();
        assert_safe(&printed);
        let parsed = serde_saphyr::from_str::<Document>(&printed);
        prop_assert_eq!(&parsed.map_err(|error| TestCaseError::fail(format!("{error}\n{printed}")))?, &document);
    }

    #[test]
    fn a_cut_text_is_never_wider_than_its_limit(text in hostile(), columns in 0_usize..9) {
        prop_assert!(width(prefix(&text, columns)) <= columns && text.starts_with(prefix(&text, columns)));
        prop_assert!(width(suffix(&text, columns)) <= columns && text.ends_with(suffix(&text, columns)));
    }
}
