//! The types of values for access control: paths, a file's mode, a group, principals.

use std::path::{Path, PathBuf};

use super::{Form, Value};
use crate::config::{Principal, Principals, error::nearest};

/// Permission bits of a file, written in octal: `0660`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileMode(pub u32);

/// The group of a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketGroup {
    /// The group of the plegd process.
    Own,
    /// The group with this number.
    Number(u32),
    /// The group with this name, which is resolved when the socket is created.
    Name(String),
}

// === impl Value for std's types ===

impl Value for String {
    const FORM: Form = Form::Text;
    const WANTED: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            Err("it has control characters".into())
        } else {
            Ok(text.into())
        }
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Value for Option<PathBuf> {
    const FORM: Form = Form::Text;
    const WANTED: &'static str = r#"an absolute path, or "off""#;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "off" {
            return Ok(None);
        }
        // The notation of clients.
        let path = Path::new(text.strip_prefix("unix://").unwrap_or(text));
        if !path.is_absolute() {
            return Err("the path is not absolute".into());
        }
        match path.file_name() {
            Some(_) if !text.ends_with('/') => Ok(Some(path.into())),
            _ => Err("it is a directory".into()),
        }
    }

    fn text(&self) -> String {
        self.as_ref().map_or_else(|| "off".into(), |path| path.display().to_string())
    }
}

/// The directory of the state on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd)]
pub enum StateDirectory {
    /// The directory `state` beside the socket of the API.
    #[default]
    BesideSocket,
    /// This directory.
    At(PathBuf),
}

impl Value for StateDirectory {
    const FORM: Form = Form::Text;
    const WANTED: &'static str = r#"an absolute path, or "auto""#;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "auto" { Ok(Self::BesideSocket) } else { directory(text).map(Self::At) }
    }

    fn text(&self) -> String {
        match self {
            Self::BesideSocket => "auto".into(),
            Self::At(path) => path.display().to_string(),
        }
    }
}

/// A directory, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd)]
pub struct OptionalDirectory(pub Option<PathBuf>);

impl Value for OptionalDirectory {
    const FORM: Form = Form::Text;
    const WANTED: &'static str = r#"an absolute path, or "off""#;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "off" {
            Ok(Self(None))
        } else {
            directory(text).map(|it| Self(Some(it)))
        }
    }

    fn text(&self) -> String {
        self.0.as_ref().map_or_else(|| "off".into(), |path| path.display().to_string())
    }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err("the path is not absolute".into());
    }
    if text.trim_matches('/').is_empty() {
        return Err("it is the root directory".into());
    }
    Ok(text.trim_end_matches('/').into())
}

// === impl FileMode ===

impl Value for FileMode {
    const FORM: Form = Form::Text;
    const WANTED: &'static str = r#"an octal mode up to 0777, such as "0660""#;

    fn parse(text: &str) -> Result<Self, String> {
        if !(3..=4).contains(&text.len()) || !text.bytes().all(|digit| matches!(digit, b'0'..=b'7')) {
            return Err("it is not three or four octal digits".into());
        }
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Self(mode)),
            _ => Err("it is too large".into()),
        }
    }

    fn text(&self) -> String {
        format!("{:04o}", self.0)
    }
}

// === impl SocketGroup ===

impl Value for SocketGroup {
    const FORM: Form = Form::Text;
    const WANTED: &'static str = r#"the name or number of a group, or "" for the group of plegd"#;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Own);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return number(text).map(Self::Number);
        }
        if text.contains([':', ',', '\n']) || text.starts_with('-') {
            return Err("it is not a group name".into());
        }
        Ok(Self::Name(text.into()))
    }

    fn text(&self) -> String {
        match self {
            Self::Own => String::new(),
            Self::Number(gid) => gid.to_string(),
            Self::Name(name) => name.clone(),
        }
    }
}

// === impl Principals ===

const KEYWORDS: [(&str, Principal); 5] = [
    ("root", Principal::Root),
    ("group", Principal::Group),
    ("loopback", Principal::Loopback),
    ("tls", Principal::Tls),
    ("any", Principal::Any),
];

impl Value for Principals {
    const FORM: Form = Form::List;
    const WANTED: &'static str =
        "root, group, uid:NUMBER, gid:NUMBER, loopback, tls, tls:NAME and any, separated by commas";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(r#"the list is empty; the minimum is "root", which controls plegd anyway"#.into());
        }
        text.split(',').map(|word| principal(word.trim())).collect::<Result<Vec<_>, _>>().map(Self::of)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

fn principal(word: &str) -> Result<Principal, String> {
    if let Some((_, known)) = KEYWORDS.iter().find(|(name, _)| *name == word) {
        return Ok(known.clone());
    }
    let Some((kind, rest)) = word.split_once(':') else {
        return Err(match nearest(word, KEYWORDS.map(|(name, _)| name)) {
            Some(near) => format!("{word:?} is not a principal; did you mean {near:?}"),
            None if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("{word:?} is not a principal; did you mean \"uid:{word}\"")
            }
            None => format!("{word:?} is not a principal"),
        });
    };
    let id = || number(rest).map_err(|why| format!("{word:?} is not a principal: {rest:?}: {why}"));
    match kind {
        "uid" => id().map(Principal::Uid),
        "gid" => id().map(Principal::Gid),
        "tls" if rest.is_empty() => {
            Err(format!("{word:?} lacks the name; \"tls\" admits every verified certificate"))
        }
        "tls" => Ok(Principal::TlsName(rest.into())),
        _ => Err(match nearest(kind, ["uid", "gid", "tls"]) {
            Some(near) => format!("{word:?} is not a principal; did you mean \"{near}:{rest}\""),
            None => format!("{word:?} is not a principal"),
        }),
    }
}

/// A valid id of the kernel; 4294967295 means "none" there.
fn number(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(id) if id != u32::MAX => Ok(id),
        Ok(_) => Err("it is too large".into()),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err("it is too large".into())
        }
        Err(_) => Err("it is not a number; names are not looked up".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T: Value + std::fmt::Debug>(text: &str) -> String {
        T::parse(text).unwrap_err()
    }

    #[test]
    fn principals_are_parsed_and_formatted() {
        for text in [
            "root",
            "root,group,loopback,tls",
            "uid:0,gid:4294967294",
            "tls:spiffe://example.org/ns/x",
            "any",
        ] {
            assert_eq!(Principals::parse(text).unwrap().text(), text);
        }
        assert_eq!(Principals::parse("root , uid:5").unwrap().text(), "root,uid:5");
    }

    #[test]
    fn the_error_for_an_invalid_principal_has_a_suggestion() {
        for (text, why) in [
            ("", r#"the list is empty; the minimum is "root", which controls plegd anyway"#),
            ("rot", r#""rot" is not a principal; did you mean "root""#),
            ("root,,tls", r#""" is not a principal"#),
            ("1000", r#""1000" is not a principal; did you mean "uid:1000""#),
            (
                "uid:anna",
                r#""uid:anna" is not a principal: "anna": it is not a number; names are not looked up"#,
            ),
            ("gid:-1", r#""gid:-1" is not a principal: "-1": it is not a number; names are not looked up"#),
            ("uid:4294967295", r#""uid:4294967295" is not a principal: "4294967295": it is too large"#),
            ("uid:99999999999", r#""uid:99999999999" is not a principal: "99999999999": it is too large"#),
            ("uuid:5", r#""uuid:5" is not a principal; did you mean "uid:5""#),
            ("tls:", r#""tls:" lacks the name; "tls" admits every verified certificate"#),
            ("https://x", r#""https://x" is not a principal"#),
        ] {
            assert_eq!(refusal::<Principals>(text), why, "{text}");
        }
    }

    #[test]
    fn modes_groups_and_paths_are_parsed() {
        for (text, mode) in [("0660", 0o660), ("600", 0o600), ("0777", 0o777), ("000", 0)] {
            assert_eq!(FileMode::parse(text), Ok(FileMode(mode)));
        }
        assert_eq!(FileMode(0o60).text(), "0060");
        for text in ["", "0o660", "888", "1777", "66", "u=rw", "+660", "00660"] {
            assert!(FileMode::parse(text).is_err(), "{text}");
        }
        assert_eq!(SocketGroup::parse("0"), Ok(SocketGroup::Number(0)));
        assert_eq!(SocketGroup::parse("plegd"), Ok(SocketGroup::Name("plegd".into())));
        for text in ["99999999999", "4294967295", "a:b", "-1"] {
            assert!(SocketGroup::parse(text).is_err(), "{text}");
        }
        let path = <Option<PathBuf> as Value>::parse;
        for text in ["/run/x.sock", "unix:///run/x.sock"] {
            assert_eq!(path(text), Ok(Some("/run/x.sock".into())));
        }
        assert_eq!(path("off"), Ok(None));
        for text in ["run/x.sock", "unix://run/x", "/", "/run/", "/run/.."] {
            assert!(path(text).is_err(), "{text}");
        }
        assert!(String::parse("a\nb").is_err());
    }
}
