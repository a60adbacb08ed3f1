//! One key of the configuration, and the macro that generates the typed sections and the table of keys from one description.

use std::ops::RangeInclusive;

use super::{Config, Value};

/// A section of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name, as in `[relist]`.
    pub name: &'static str,
    /// Its description.
    pub doc: &'static str,
}

/// A key: its place in a file, its meaning, and its conversions from and to text.
#[derive(Clone, Copy)]
pub struct Key {
    /// Its section.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// Its description; several lines.
    pub doc: &'static str,
    /// The form of its value in a file.
    pub form: Form,
    /// The time at which a change takes effect.
    pub change: Change,
    pub(super) allowed: fn() -> String,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    pub(super) get: fn(&Config) -> String,
    /// Copies the value from the first configuration to the second.
    pub(super) copy: fn(&Config, &mut Config),
}

/// The time at which a change of a key takes effect in a running plegd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// When the configuration is read again.
    Live,
    /// At the next start of plegd: the key is used only at the start.
    Restart,
}

/// The form of a value in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `"text"`
    Text,
    /// `"text"`, or an array of texts.
    List,
    /// `12`
    Integer,
    /// `0.5`, or `1`
    Number,
    /// `true`
    Boolean,
}

macro_rules! config {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {
            $(
                $(#[doc = $doc:literal])+
                $change:ident $name:ident: $type:ty = $default:expr $(, in $range:expr)?;
            )+
        }
    )+) => {
        /// The complete configuration.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Config {
            $( $(#[doc = $section_doc])+ pub $section: $Section, )+
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $(
                    $(#[doc = $doc])+
                    #[doc = ""]
                    #[doc = concat!("Default: `", stringify!($default), "`." $(, " Range: `", stringify!($range), "`.")?)]
                    pub $name: $type,
                )+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $name: $default, )+ }
                }
            }
        )+

        /// The sections in the order of the reference.
        pub const SECTIONS: &[key::Section] = &[
            $( key::Section { name: stringify!($section), doc: concat!($($section_doc, "\n"),+) }, )+
        ];

        /// All keys in the order of the reference.
        pub const KEYS: &[Key] = &[
            $($( Key {
                section: stringify!($section),
                name: stringify!($name),
                doc: concat!($($doc, "\n"),+),
                form: <$type as Value>::FORM,
                change: key::change!($change),
                allowed: || {
                    let range: Option<std::ops::RangeInclusive<$type>> = None$(.or(Some($range)))?;
                    key::allowed(range)
                },
                set: |config, text| {
                    let range: Option<std::ops::RangeInclusive<$type>> = None$(.or(Some($range)))?;
                    config.$section.$name = key::parse(text, range)?;
                    Ok(())
                },
                get: |config| config.$section.$name.text(),
                copy: |from, to| to.$section.$name = from.$section.$name.clone(),
            }, )+)+
        ];
    };
}
pub(super) use config;

/// The keyword before the name of a key.
macro_rules! change {
    (live) => {
        key::Change::Live
    };
    (restart) => {
        key::Change::Restart
    };
}
pub(super) use change;

// === impl Key ===

impl Key {
    /// Its full name, such as `relist.period`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Its environment variable, such as `PLEGD_RELIST_PERIOD`.
    pub fn variable(&self) -> String {
        format!("PLEGD_{}_{}", self.section, self.name).to_uppercase()
    }

    /// The allowed values, with unit and range.
    pub fn allowed(&self) -> String {
        (self.allowed)()
    }

    /// The value in `config`, in the notation of environment variables and flags.
    pub fn text(&self, config: &Config) -> String {
        (self.get)(config)
    }

    /// The value in `config`, in the notation of a file.
    pub fn toml(&self, config: &Config) -> String {
        match self.form {
            Form::Text | Form::List => toml::Value::String(self.text(config)).to_string(),
            Form::Integer | Form::Number | Form::Boolean => self.text(config),
        }
    }

    pub(super) fn default_toml(&self) -> String {
        self.toml(&Config::default())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path())
    }
}

// === impl Change ===

impl Change {
    /// The sentence for the reference.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Live => "A change takes effect at the next reload.",
            Self::Restart => "A change requires a restart.",
        }
    }
}

pub(super) fn parse<T: Value + PartialOrd>(
    text: &str,
    range: Option<RangeInclusive<T>>,
) -> Result<T, String> {
    let value = T::parse(text.trim())?;
    match range {
        Some(range) if value < *range.start() => Err("it is too small".into()),
        Some(range) if !range.contains(&value) => Err("it is too large".into()),
        _ => Ok(value),
    }
}

pub(super) fn allowed<T: Value>(range: Option<RangeInclusive<T>>) -> String {
    match range {
        Some(range) => format!("{}, from {} to {}", T::WANTED, range.start().text(), range.end().text()),
        None => T::WANTED.into(),
    }
}
