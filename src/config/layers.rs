//! Merges the layers of a configuration: defaults, file, environment, flags.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Config, KEYS, Key,
    error::{ConfigError, Place, Problem, nearest},
    file,
};

/// The default file; it need not exist.
pub const DEFAULT_FILE: &str = "/etc/plegd/plegd.toml";

/// The environment variable with the path of another file.
pub(super) const FILE_VARIABLE: &str = "PLEGD_CONFIG";

/// The environment variable with the address of a running plegd, for verbs that call it.
pub const SOCKET_VARIABLE: &str = "PLEGD_SOCKET";

const PREFIX: &str = "PLEGD_";

/// Variables that set no key: for the build of plegd, and for verbs that call a running plegd.
const OTHER_VARIABLES: [&str; 2] = ["PLEGD_REVISION", SOCKET_VARIABLE];

/// The inputs of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file from `--config`; it must exist.
    pub file: Option<PathBuf>,
    /// The file to read if neither `--config` nor the environment has one; it need not exist.
    pub default_file: Option<PathBuf>,
    /// The environment. Variables that do not begin with `PLEGD_` are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags that are set.
    pub flags: Vec<Flag>,
}

/// A flag of the command line that sets a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name, such as `--relist-period`.
    pub name: &'static str,
    /// The key that it sets, such as `relist.period`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// A configuration and its sources.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
    /// The place of the value of each of [`KEYS`].
    pub(super) origins: Vec<Place>,
}

/// A value for a key from one layer.
pub(super) struct Setting {
    pub(super) key: &'static Key,
    pub(super) place: Place,
    pub(super) text: String,
    /// The original text, for messages.
    pub(super) written: String,
}

/// Reads and validates all layers.
///
/// # Errors
///
/// All errors in all layers.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let (variables, named) = environment(inputs, &mut problems);
    let (file, mut settings) = file(inputs, named, &mut problems);
    settings.extend(variables);
    settings.extend(flags(inputs, &mut problems));

    let mut loaded = Loaded { config: Config::default(), file, origins: vec![Place::Default; KEYS.len()] };
    let mut rejected = Vec::new();
    for setting in settings {
        match (setting.key.set)(&mut loaded.config, &setting.text) {
            Ok(()) => loaded.origins[index(setting.key)] = setting.place,
            Err(why) => {
                let message = format!("{}: {why}. Allowed: {}", setting.written, setting.key.allowed());
                problems.push(Problem { place: setting.place, message });
                rejected.push(setting.key.section);
            }
        }
    }
    for (path, message) in loaded.config.contradictions() {
        // An invalid value is replaced by its default. A contradiction with that default is not an error of the user.
        if !rejected.iter().any(|section| path.starts_with(section)) {
            problems.push(Problem { place: loaded.blame(path), message });
        }
    }
    problems.sort_by(|a, b| a.place.order().cmp(&b.place.order()));
    if problems.is_empty() { Ok(loaded) } else { Err(ConfigError(problems)) }
}

fn file(
    inputs: &Inputs,
    named: Option<PathBuf>,
    problems: &mut Vec<Problem>,
) -> (Option<PathBuf>, Vec<Setting>) {
    let chosen = inputs.chosen_file(named);
    let Some(path) = chosen.as_ref().or(inputs.default_file.as_ref()) else { return (None, Vec::new()) };
    match fs::read_to_string(path) {
        Ok(text) => {
            let (settings, wrong) = file::read(path, &text);
            problems.extend(wrong);
            (Some(path.clone()), settings)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && chosen.is_none() => (None, Vec::new()),
        Err(error) => {
            problems
                .push(Problem { place: Place::File(path.clone(), None), message: unreadable(path, &error) });
            (None, Vec::new())
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let what = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; set another path with --config or PLEGD_CONFIG".into()
        }
        io::ErrorKind::InvalidData => "the file is not valid UTF-8".into(),
        io::ErrorKind::PermissionDenied => "the user of plegd has no permission to read the file".into(),
        _ if path.is_dir() => "this is a directory; specify a file".into(),
        _ => error.to_string(),
    };
    format!("the configuration cannot be read: {what}")
}

/// The settings from the environment, and the path of the file in it.
fn environment(inputs: &Inputs, problems: &mut Vec<Problem>) -> (Vec<Setting>, Option<PathBuf>) {
    let mut settings = Vec::new();
    let mut file = None;
    for (name, value) in &inputs.environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let place = Place::Variable(name.to_owned());
        if name == FILE_VARIABLE {
            file = (!value.is_empty()).then(|| value.into());
        } else if let Some(key) = KEYS.iter().find(|key| key.variable() == name) {
            match value.to_str() {
                Some(text) => {
                    settings.push(Setting { key, place, text: text.into(), written: format!("{text:?}") })
                }
                None => problems.push(Problem { place, message: "its value is not valid UTF-8".into() }),
            }
        } else if !OTHER_VARIABLES.contains(&name) && !is_service_link(name) {
            problems.push(Problem { place, message: unknown_variable(name) });
        }
    }
    (settings, file)
}

/// Whether Kubernetes itself may have set this variable. Every pod gets variables for the services in its namespace, and a service named
/// `plegd` or `plegd-…` must not prevent the start.
fn is_service_link(name: &str) -> bool {
    let port = |name: &str| {
        name.ends_with("_PORT") || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol))
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT") && port(name))
}

fn unknown_variable(name: &str) -> String {
    // All names share the prefix, which must not count as similarity.
    let tail = name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_lowercase();
    let known: Vec<String> = KEYS.iter().map(|key| format!("{}_{}", key.section, key.name)).collect();
    let without_section = KEYS.iter().position(|key| key.name == tail).map(|place| known[place].as_str());
    let meant = || nearest(&tail, known.iter().map(String::as_str).chain(["config"]));
    match without_section.or_else(meant) {
        Some(meant) => {
            format!("unknown variable; did you mean {PREFIX}{}?", meant.to_uppercase())
        }
        None => "unknown variable; unset it".into(),
    }
}

fn flags(inputs: &Inputs, problems: &mut Vec<Problem>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for flag in &inputs.flags {
        let place = Place::Flag(flag.name.into());
        match KEYS.iter().find(|key| key.path() == flag.key) {
            Some(key) => {
                let (text, written) = (flag.value.clone(), format!("{:?}", flag.value));
                settings.push(Setting { key, place, text, written });
            }
            None => problems.push(Problem { place, message: format!("unknown key {}", flag.key) }),
        }
    }
    settings
}

fn index(key: &Key) -> usize {
    KEYS.iter().position(|known| (known.section, known.name) == (key.section, key.name)).unwrap_or_default()
}

// === impl Inputs ===

impl Inputs {
    /// The inputs of this process.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        Self {
            file,
            default_file: Some(DEFAULT_FILE.into()),
            environment: std::env::vars_os().collect(),
            flags,
        }
    }

    /// The path of the file to read, if there is one.
    pub fn path(&self) -> Option<PathBuf> {
        let chosen = self.chosen_file(environment(self, &mut Vec::new()).1);
        chosen.or_else(|| self.default_file.clone())
    }

    /// Whether plegd requires its file to exist.
    pub fn needs_file(&self) -> bool {
        self.chosen_file(environment(self, &mut Vec::new()).1).is_some()
    }

    /// The file that the user has chosen; `named` is from the environment.
    fn chosen_file(&self, named: Option<PathBuf>) -> Option<PathBuf> {
        self.file.clone().or(named)
    }
}

// === impl Loaded ===

impl Loaded {
    /// A configuration that a program has created.
    pub fn of_program(config: Config) -> Self {
        let default = Config::default();
        let origin = |key: &Key| match key.text(&config) == key.text(&default) {
            true => Place::Default,
            false => Place::Program,
        };
        Self { origins: KEYS.iter().map(origin).collect(), file: None, config }
    }

    /// Each key with the place of its value, in the order of the reference.
    pub fn origins(&self) -> impl Iterator<Item = (&'static Key, &Place)> {
        KEYS.iter().zip(&self.origins)
    }

    /// Logs the path of the file and all keys that are not at their default, each with its place.
    pub fn log(&self) {
        let file = self.file.as_ref().map_or_else(|| "none".into(), |file| file.display().to_string());
        tracing::info!(%file, version = crate::version::VERSION, "Configuration loaded.");
        for (key, place) in self.origins().filter(|(_, place)| **place != Place::Default) {
            tracing::info!(key = key.path(), value = key.text(&self.config), %place, "Configuration key set.");
        }
    }

    /// The place of a contradiction: the key itself, or a key of its section that is set.
    fn blame(&self, path: &str) -> Place {
        let set = || self.origins().filter(|(_, place)| **place != Place::Default);
        let section = path.split('.').next().unwrap_or_default();
        set()
            .find(|(key, _)| key.path() == path)
            .or_else(|| set().find(|(key, _)| key.section == section))
            .map_or(Place::Default, |(_, place)| place.clone())
    }
}
