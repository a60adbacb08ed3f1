//! Configuration from a file, the environment and flags: an accepted value round-trips, and an error names its place
//! and problem.

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt as _, path::PathBuf};

use plegd::config::{Config, Flag, Inputs, KEYS, Place, Problem, load};

use super::input::Input;

const VALUES: [&str; 48] = [
    "1s",
    "500ms",
    "1m 3s",
    "0s",
    "-1s",
    "1",
    "65536",
    "65_536",
    "-5",
    "4194305",
    "0.1",
    "0.5",
    "1e-9",
    "-0",
    "nan",
    "inf",
    "true",
    "false",
    "yes",
    "16MiB",
    "1GiB",
    "3 KiB",
    "0B",
    "/run/x.sock",
    "unix:///run/y.sock",
    "unix:/z",
    "off",
    "",
    "x",
    "0660",
    "0777",
    "888",
    "root,group",
    "uid:1000",
    "tls:spiffe://example.org/a",
    "any,",
    "127.0.0.1:7534",
    "[::1]:1",
    "0.0.0.0:80",
    ":1",
    "info",
    "warn,plegd::relister=trace",
    "[a{b=(}]=info",
    "json",
    "table",
    "started, died",
    "all",
    "a\nb\u{7f}",
];

/// Maximum length of an error line.
const LINE: usize = 2000;

/// Runs one input.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let place = place();
    let mut inputs = Inputs { file: Some(place.clone()), ..Inputs::default() };
    let mut text = String::new();
    let kind = input.byte();
    if kind & 1 == 1 {
        text = generated(&mut input, &mut inputs);
    }
    let rest = input.rest();
    let mut file = text.into_bytes();
    file.extend(rest);
    fs::write(&place, &file).expect("a file can be written");
    match load(&inputs) {
        Ok(loaded) => check_accepted(&loaded.config),
        Err(error) => {
            assert!(!error.0.is_empty(), "refused without a reason");
            error.0.iter().for_each(check_problem);
        }
    }
    // The file stays only if the check fails.
    let _ = fs::remove_file(place);
}

/// The reference, and files with all kinds of values.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = super::seeds::of_texts(&[
        "\u{0}[relist]\nperiod = \"2s\"\nparallelism = 8\njitter = 0.2\n",
        "\u{0}[api]\nallow_watch = [\"root\", \"uid:1000\"]\ntcp_address = \"127.0.0.1:7535\"\ntcp_plaintext = true\n",
        "\u{0}runtime.endpoint = \"/run/x.sock\"\nlog = { level = \"debug\", format = 'json' }\n",
    ]);
    seeds.push([b"\0", Config::default().to_toml().as_bytes()].concat());
    for seed in super::seeds::of_choices(24, 80) {
        seeds.push([&[1][..], &seed].concat());
    }
    seeds
}

/// A separate file for each thread.
fn place() -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    std::env::temp_dir().join(format!("plegd-fuzz-{}-{thread}.toml", std::process::id()))
}

/// Keys with values of all kinds, in all three layers. Returns the file's text.
fn generated(input: &mut Input<'_>, inputs: &mut Inputs) -> String {
    let mut text = String::new();
    let count = input.below(12);
    for _ in 0..count {
        let key = &KEYS[input.below(KEYS.len())];
        let value = input.pick(&VALUES);
        match input.below(4) {
            0 => {
                let mut bytes = value.as_bytes().to_vec();
                bytes.extend(input.chance(4).then_some(0xff));
                inputs.environment.push((key.variable().into(), OsString::from_vec(bytes)));
            }
            1 => inputs.flags.push(Flag { name: "--some-flag", key: path(key), value: value.into() }),
            quoted => {
                let value = if quoted == 2 { format!("{value:?}") } else { value.into() };
                text += &format!("{}.{} = {value}\n", key.section, key.name);
            }
        }
    }
    if input.chance(8) {
        inputs.environment.push((format!("PLEGD_{:?}", input.bytes(6)).into(), "x".into()));
    }
    text
}

/// A key's name with a static lifetime, for a flag.
fn path(key: &plegd::config::Key) -> &'static str {
    use std::sync::OnceLock;
    static PATHS: OnceLock<Vec<String>> = OnceLock::new();
    let paths = PATHS.get_or_init(|| KEYS.iter().map(plegd::config::Key::path).collect());
    let at = KEYS.iter().position(|it| it.section == key.section && it.name == key.name);
    &paths[at.unwrap_or_default()]
}

/// An accepted configuration is valid, and is the same after printing and parsing it as TOML.
fn check_accepted(config: &Config) {
    assert_eq!(config.check(), Ok(()), "{config:#?}");
    let text = config.to_toml();
    assert!(text.parse::<toml::Table>().is_ok(), "this is not TOML:\n{text}");
    let place = place();
    fs::write(&place, &text).expect("a file can be written");
    let again = load(&Inputs { file: Some(place), ..Inputs::default() });
    let again = again.unwrap_or_else(|error| panic!("written as\n{text}\nit is refused: {error}"));
    assert_eq!(again.config, *config, "it is written as\n{text}");
    assert_eq!(again.config.to_toml(), text);
}

/// An error names the key, variable or flag, or that the file cannot be read; in one line without control characters.
fn check_problem(problem: &Problem) {
    let line = problem.to_string();
    let of_key = KEYS.iter().any(|key| line.contains(&key.path()));
    let named = match &problem.place {
        Place::Variable(name) => line.contains(name.as_str()),
        Place::Flag(name) => line.contains(name.as_str()),
        _ => false,
    };
    let of_file = ["invalid TOML", "cannot be read", "section", "unknown key"];
    assert!(of_key || named || of_file.iter().any(|part| line.contains(part)), "it names nothing: {line}");
    assert!(!line.chars().any(char::is_control), "it controls the terminal: {line:?}");
    assert!(line.len() <= LINE || problem.message.len() <= LINE, "{} bytes: {line}", line.len());
}
