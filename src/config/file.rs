//! Reads the TOML file into settings, each with its line.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{
    Form, KEYS, Key, SECTIONS,
    error::{Place, Problem, nearest},
    layers::Setting,
};

/// The settings and the errors in the file at `path` with the content `text`.
pub(super) fn read(path: &Path, text: &str) -> (Vec<Setting>, Vec<Problem>) {
    let mut file = File { path, text, settings: Vec::new(), problems: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        file.sections(table.get_ref());
    }
    for error in errors {
        let place = Place::File(path.into(), error.span().map(|span| file.line(span.start)));
        file.problems
            .push(Problem { place, message: format!("invalid TOML: {}", one_line(error.message())) });
    }
    (file.settings, file.problems)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
    settings: Vec<Setting>,
    problems: Vec<Problem>,
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

// === impl File ===

impl File<'_> {
    fn sections(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let section = name.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(keys) if SECTIONS.iter().any(|known| known.name == section) => {
                    self.keys(section, keys);
                }
                _ if SECTIONS.iter().any(|known| known.name == section) => {
                    self.problem(
                        name.span().start,
                        format!("{section} is a section; write [{section}] on a line of its own"),
                    );
                }
                DeValue::Table(_) => {
                    let near = nearest(section, SECTIONS.iter().map(|known| known.name));
                    let hint = near.map_or_else(
                        || format!("the sections are {}", names(SECTIONS.iter().map(|known| known.name))),
                        |near| format!("did you mean [{near}]?"),
                    );
                    self.problem(name.span().start, format!("unknown section [{section}]; {hint}"));
                }
                _ => self.unknown(name.span().start, section, ""),
            }
        }
    }

    fn keys(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let at = name.span().start;
            match KEYS.iter().find(|key| key.section == section && key.name == name.get_ref()) {
                Some(key) => self.value(key, value.get_ref(), at, value.span()),
                None => self.unknown(at, name.get_ref(), section),
            }
        }
    }

    fn value(&mut self, key: &'static Key, value: &DeValue<'_>, at: usize, span: std::ops::Range<usize>) {
        let written = self.text.get(span).unwrap_or_default().to_owned();
        match text_of(key.form, value) {
            Some(text) => {
                let place = Place::File(self.path.into(), Some(self.line(at)));
                self.settings.push(Setting {
                    key,
                    place,
                    text,
                    written: format!("{} = {}", key.path(), one_line(&written)),
                });
            }
            None => {
                let message = format!(
                    "{} = {}: this is {}. Allowed: {}",
                    key.path(),
                    one_line(&written),
                    kind(value),
                    key.allowed()
                );
                self.problem(at, message);
            }
        }
    }

    fn unknown(&mut self, at: usize, name: &str, section: &str) {
        let full = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        // The same key in another section has priority, then a misspelt key of this section, then any key.
        let same = KEYS.iter().find(|key| key.name == name).map(Key::path);
        let near = || {
            let key = nearest(name, KEYS.iter().filter(|key| key.section == section).map(|key| key.name))?;
            Some(format!("{section}.{key}"))
        };
        let any = || {
            let paths: Vec<String> = KEYS.iter().map(Key::path).collect();
            nearest(&full, paths.iter().map(String::as_str)).map(str::to_owned)
        };
        let hint = match same.or_else(near).or_else(any) {
            Some(meant) => format!("did you mean {meant}?"),
            None if section.is_empty() => "all keys are in a section, such as period in [relist]".into(),
            None => format!(
                "[{section}] has {}",
                names(KEYS.iter().filter(|key| key.section == section).map(|key| key.name))
            ),
        };
        self.problem(at, format!("unknown key {full}; {hint}"));
    }

    fn problem(&mut self, at: usize, message: String) {
        let place = Place::File(self.path.into(), Some(self.line(at)));
        self.problems.push(Problem { place, message });
    }

    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// The value in the notation of the other layers, if its form is right.
fn text_of(form: Form, value: &DeValue<'_>) -> Option<String> {
    match (form, value) {
        (Form::Text | Form::List, DeValue::String(text)) => Some(text.to_string()),
        (Form::Integer | Form::Number, DeValue::Integer(number)) if number.radix() == 10 => {
            Some(number.as_str().to_owned())
        }
        (Form::Number, DeValue::Float(number)) => Some(number.as_str().to_owned()),
        (Form::Boolean, DeValue::Boolean(value)) => Some(value.to_string()),
        (Form::List, DeValue::Array(items)) => {
            let items: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            items.map(|items| items.join(","))
        }
        _ => None,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
