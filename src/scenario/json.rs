//! A strict JSON reader: unknown keys are errors, and each error has its place.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Minimum similarity, of at most 1, at which an error suggests a known word.
const SIMILAR: f64 = 0.8;
/// Maximum number of characters of a wrong value in an error.
const SHOWN: usize = 40;

/// An error in a scenario file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct FormatError {
    /// Its place: a path such as `steps[3].status`, or a line and column.
    pub place: String,
    /// The problem, with a suggestion where there is one.
    pub problem: String,
}

/// A type that can be parsed from a JSON value.
pub(super) trait Parse: Sized {
    /// Parses a value. `place` is its place in the file.
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError>;
}

/// An object all of whose keys are known.
pub(super) struct Object<'a> {
    place: String,
    fields: BTreeMap<String, &'a Value>,
}

/// The text with its line breaks, and with all other control characters escaped.
pub(super) fn readable(text: &str) -> String {
    let mut readable = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '"' | '\'' | '\\' => readable.push(letter),
            _ => readable.extend(letter.escape_debug()),
        }
    }
    readable
}

// === impl FormatError ===

impl FormatError {
    pub(super) fn new(place: &str, problem: impl Into<String>) -> Self {
        Self { place: place.to_owned(), problem: problem.into() }
    }
}

// === impl Object ===

impl<'a> Object<'a> {
    /// Parses an object that has only these keys. Keys may also be in camelCase, as in protobuf's JSON.
    pub(super) fn new(value: &'a Value, place: &str, keys: &[&str]) -> Result<Self, FormatError> {
        let object = value.as_object().ok_or_else(|| expected("an object", value, place))?;
        Ok(Self { place: place.to_owned(), fields: known(object, place, keys)? })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn place_of(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Whether the key is present and null.
    pub(super) fn is_null(&self, key: &str) -> bool {
        self.fields.get(key).is_some_and(|value| value.is_null())
    }

    /// The value of a key; none if the key is missing or null.
    pub(super) fn optional<T: Parse>(&self, key: &str) -> Result<Option<T>, FormatError> {
        let value = self.fields.get(key).filter(|value| !value.is_null());
        value.map(|value| T::parse(value, &self.place_of(key))).transpose()
    }

    /// The value of a key, or the type's default.
    pub(super) fn or_default<T: Parse + Default>(&self, key: &str) -> Result<T, FormatError> {
        Ok(self.optional(key)?.unwrap_or_default())
    }

    /// The value of a required key.
    pub(super) fn required<T: Parse>(&self, key: &str) -> Result<T, FormatError> {
        self.optional(key)?
            .ok_or_else(|| FormatError::new(&self.place, format!("the key {key:?} is missing")))
    }
}

fn known<'a>(
    object: &'a Map<String, Value>,
    place: &str,
    keys: &[&str],
) -> Result<BTreeMap<String, &'a Value>, FormatError> {
    let mut fields = BTreeMap::new();
    for (key, value) in object {
        let name = snake_case(key);
        if !keys.contains(&name.as_str()) {
            return Err(FormatError::new(place, unknown("key", key, keys)));
        }
        if fields.insert(name, value).is_some() {
            return Err(FormatError::new(place, format!("the key {key:?} is given twice")));
        }
    }
    Ok(fields)
}

/// The message for an unknown key, verb or state, with a suggestion.
pub(super) fn unknown(what: &str, word: &str, all: &[&str]) -> String {
    let similarity = |other: &str| strsim::jaro_winkler(&word.to_lowercase(), &other.to_lowercase());
    let nearest = all.iter().copied().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let hint = match nearest.filter(|nearest| similarity(nearest) > SIMILAR) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("expected one of {}", all.join(", ")),
    };
    format!("unknown {what} {word:?}; {hint}")
}

/// Parses a value that is one of several words.
pub(super) fn one_of<T: Copy>(
    value: &Value,
    place: &str,
    what: &str,
    words: &[(&str, T)],
) -> Result<T, FormatError> {
    let word = String::parse(value, place)?;
    let found = words.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        FormatError::new(place, unknown(what, &word, &names))
    })
}

pub(super) fn expected(what: &str, found: &Value, place: &str) -> FormatError {
    let complete = found.to_string();
    let mut text = readable(&complete.chars().take(SHOWN).collect::<String>());
    if complete.chars().count() > SHOWN {
        text.push('…');
    }
    FormatError::new(place, format!("expected {what}, found {text}"))
}

fn snake_case(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 2);
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

// === impl Parse ===

impl Parse for String {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        value.as_str().map(str::to_owned).ok_or_else(|| expected("a string", value, place))
    }
}

impl Parse for bool {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        value.as_bool().ok_or_else(|| expected("true or false", value, place))
    }
}

/// Whole numbers in their range.
macro_rules! whole_numbers {
    ($($number:ty)*) => {
        $(impl Parse for $number {
            fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
                let number = value.as_i64().and_then(|number| <$number>::try_from(number).ok());
                number.ok_or_else(|| {
                    let what = format!("an integer from {} to {}", <$number>::MIN, <$number>::MAX);
                    expected(&what, value, place)
                })
            }
        })*
    };
}

whole_numbers! { u8 u32 i32 usize }

impl<T: Parse> Parse for Vec<T> {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let items = value.as_array().ok_or_else(|| expected("an array", value, place))?;
        items.iter().enumerate().map(|(n, item)| T::parse(item, &format!("{place}[{n}]"))).collect()
    }
}

impl<T: Parse> Parse for BTreeMap<String, T> {
    fn parse(value: &Value, place: &str) -> Result<Self, FormatError> {
        let object = value.as_object().ok_or_else(|| expected("an object", value, place))?;
        object
            .iter()
            .map(|(key, value)| Ok((key.clone(), T::parse(value, &format!("{place}.{key}"))?)))
            .collect()
    }
}
