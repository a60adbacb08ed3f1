//! Label selectors, as Kubernetes writes them: `app=web,tier!=test,env in (a,b),x notin (c),y,!z`.
//!
//! The grammar and the meaning are those of `k8s.io/apimachinery/pkg/labels`: `!=` and `notin` also pass what does not have
//! the label at all. Its `<` and `>`, which no other part of Kubernetes offers to its users, are left out.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::model::Labels;

/// How many requirements a selector may have.
const REQUIREMENTS: usize = 128;

/// A label selector; the empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
}

/// Why a text is no selector, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {}: {message}", at + 1)]
pub struct SelectorError {
    /// Place in the text, in characters from 0.
    pub at: usize,
    /// What is wrong there.
    pub message: String,
}

/// A word of the text, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `,` `(` `)` `!` `=` `==` `!=`
    Sign(&'static str),
    End,
}

/// Reads words one by one.
struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
}

// === impl Selector ===

impl Selector {
    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these labels are selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.test {
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { tokens: tokens(text)?, next: 0 };
        let mut requirements = Vec::new();
        if parser.peek() == &Token::End {
            return Ok(Self::default());
        }
        loop {
            if requirements.len() == REQUIREMENTS {
                let at = parser.take().0;
                return Err(SelectorError { at, message: format!("more than {REQUIREMENTS} requirements") });
            }
            requirements.push(parser.requirement()?);
            match parser.take() {
                (_, Token::End) => return Ok(Self(requirements)),
                (_, Token::Sign(",")) => {}
                (at, found) => return Err(expected(at, "a comma or the end", &found)),
            }
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Requirement { key, test }) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
            match test {
                Test::Exists => write!(f, "{comma}{key}")?,
                Test::Absent => write!(f, "{comma}!{key}")?,
                Test::In(values) if values.len() == 1 => write!(f, "{comma}{key}={}", list(values))?,
                Test::In(values) => write!(f, "{comma}{key} in ({})", list(values))?,
                Test::NotIn(values) if values.len() == 1 => write!(f, "{comma}{key}!={}", list(values))?,
                Test::NotIn(values) => write!(f, "{comma}{key} notin ({})", list(values))?,
            }
        }
        Ok(())
    }
}

// === impl Parser ===

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn take(&mut self) -> (usize, Token) {
        let last = self.tokens.last().map_or(0, |(at, _)| *at);
        let taken = self.tokens.get(self.next).cloned().unwrap_or((last, Token::End));
        self.next += 1;
        taken
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.peek() == &Token::Sign("!") {
            self.take();
            return Ok(Requirement { key: self.key()?, test: Test::Absent });
        }
        let key = self.key()?;
        let test = match self.peek().clone() {
            Token::End | Token::Sign(",") => Test::Exists,
            Token::Sign("=" | "==") => {
                self.take();
                Test::In(BTreeSet::from([self.value()?]))
            }
            Token::Sign("!=") => {
                self.take();
                Test::NotIn(BTreeSet::from([self.value()?]))
            }
            Token::Word(word) if word == "in" => {
                self.take();
                Test::In(self.values()?)
            }
            Token::Word(word) if word == "notin" => {
                self.take();
                Test::NotIn(self.values()?)
            }
            _ => {
                let (at, found) = self.take();
                return Err(expected(at, "=, ==, !=, in, notin, a comma or the end", &found));
            }
        };
        Ok(Requirement { key, test })
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        match self.take() {
            (at, Token::Word(key)) => match wrong_key(&key) {
                Some(why) => Err(SelectorError { at, message: format!("{key:?} is no label: {why}") }),
                None => Ok(key),
            },
            (at, found) => Err(expected(at, "the name of a label", &found)),
        }
    }

    /// A value after a sign, which may be empty.
    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Sign(",") => Ok(String::new()),
            _ => {
                let (at, token) = self.take();
                value(at, token)
            }
        }
    }

    /// Values between parentheses.
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.take() {
            (_, Token::Sign("(")) => {}
            (at, found) => return Err(expected(at, "an opening parenthesis", &found)),
        }
        let mut values = BTreeSet::new();
        loop {
            match self.peek() {
                Token::Sign("," | ")") => values.insert(String::new()),
                _ => {
                    let (at, token) = self.take();
                    values.insert(value(at, token)?)
                }
            };
            match self.take() {
                (_, Token::Sign(",")) => {}
                (_, Token::Sign(")")) => return Ok(values),
                (at, found) => return Err(expected(at, "a comma or a closing parenthesis", &found)),
            }
        }
    }
}

fn value(at: usize, token: Token) -> Result<String, SelectorError> {
    match token {
        Token::Word(word) if is_name(&word) => Ok(word),
        Token::Word(word) => {
            let rule = "at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends";
            Err(SelectorError { at, message: format!("{word:?} is no value of a label, which has {rule}") })
        }
        found => Err(expected(at, "a value", &found)),
    }
}

fn expected(at: usize, what: &str, found: &Token) -> SelectorError {
    let found = match found {
        Token::Word(word) => format!("{word:?}"),
        Token::Sign(sign) => format!("{sign:?}"),
        Token::End => "the end".into(),
    };
    SelectorError { at, message: format!("expected {what}, found {found}") }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, SelectorError> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().enumerate().peekable();
    while let Some((at, c)) = chars.next() {
        let mut then = |wanted| chars.next_if(|&(_, c)| c == wanted).is_some();
        let token = match c {
            c if c.is_ascii_whitespace() => continue,
            ',' => Token::Sign(","),
            '(' => Token::Sign("("),
            ')' => Token::Sign(")"),
            '!' => Token::Sign(if then('=') { "!=" } else { "!" }),
            '=' => Token::Sign(if then('=') { "==" } else { "=" }),
            c if is_of_word(c) => {
                let mut word = String::from(c);
                word.extend(std::iter::from_fn(|| chars.next_if(|&(_, c)| is_of_word(c)).map(|(_, c)| c)));
                Token::Word(word)
            }
            c => {
                return Err(SelectorError {
                    at,
                    message: format!("{c:?} has no meaning in a label selector"),
                });
            }
        };
        tokens.push((at, token));
    }
    tokens.push((text.chars().count(), Token::End));
    Ok(tokens)
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')
}

/// What Kubernetes allows as the last part of a key, and as a value that is not empty.
fn is_name(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63 && !text.contains('/') && ends(text.chars().next()) && ends(text.chars().last())
}

/// What is wrong with the key of a label, if anything is.
fn wrong_key(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !is_name(name) {
        return Some(
            "its name has at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
        );
    }
    let is_part = |part: &str| {
        let plain = part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        !part.is_empty() && plain && !part.starts_with('-') && !part.ends_with('-')
    };
    let is_domain = |prefix: &str| prefix.len() <= 253 && prefix.split('.').all(is_part);
    if prefix.is_some_and(|prefix| !is_domain(prefix)) {
        return Some("what stands before the slash is a DNS name in lower case");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    fn selects(selector: &str, pairs: &[(&str, &str)]) -> bool {
        selector.parse::<Selector>().unwrap().matches(&labels(pairs))
    }

    #[test]
    fn every_form_means_what_it_means_in_kubernetes() {
        let web = [("app", "web"), ("tier", "front"), ("empty", "")];
        for selector in [
            "",
            " ",
            "app=web",
            "app==web",
            "app = web , tier=front",
            "app!=db",
            "none!=x",
            "app in (web,db)",
            "app in(web)",
            "app notin (db)",
            "none notin (x)",
            "app",
            "!none",
            "app,!none,tier in (front)",
            "empty=",
            "empty",
            "empty in ()",
            "empty in (,x)",
            "app!=",
            "none!=",
        ] {
            assert!(selects(selector, &web), "{selector}");
        }
        for selector in [
            "app=db",
            "app!=web",
            "app in (db)",
            "app notin (web,db)",
            "none",
            "!app",
            "none=x",
            "none=",
            "app=web,none",
            "empty!=",
            "none in (x)",
        ] {
            assert!(!selects(selector, &web), "{selector}");
        }
        assert!(selects("in in (in),notin notin (x)", &[("in", "in")]));
        assert!(selects("app.kubernetes.io/name=x", &[("app.kubernetes.io/name", "x")]));
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_place() {
        for (text, at, part) in [
            (",", 0, "name of a label"),
            ("a=b,", 4, "found the end"),
            ("a b", 2, "found \"b\""),
            ("a in b", 5, "opening parenthesis"),
            ("a in (b", 7, "closing parenthesis"),
            ("a in (b c)", 8, "found \"c\""),
            ("a=b=c", 3, "a comma or the end"),
            ("a=(b)", 2, "a value"),
            ("!", 1, "name of a label"),
            ("a>1", 1, "'>' has no meaning"),
            ("ä=1", 0, "'ä' has no meaning"),
            ("-a=1", 0, "is no label"),
            ("A.b/c=1", 0, "lower case"),
            ("a//b", 0, "is no label"),
            ("a=b/c", 2, "no value of a label"),
            ("app in (a), tier === b", 19, "a value"),
        ] {
            let error = text.parse::<Selector>().unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert!(error.to_string().starts_with(&format!("at character {}: ", at + 1)), "{error}");
        }
        assert!("a".repeat(64).parse::<Selector>().is_err());
        assert!(format!("a={}", "b".repeat(64)).parse::<Selector>().is_err());
        assert!(format!("{}/a", "b.".repeat(127)).parse::<Selector>().is_err());
    }

    #[test]
    fn a_selector_is_read_as_it_is_written() {
        for (text, written) in
            [("a = b , !c,d in ( y, x ),e notin(z),f", "a=b,!c,d in (x,y),e!=z,f"), ("", "")]
        {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.to_string(), written);
            assert_eq!(written.parse(), Ok(selector));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_does_harm(text in "[a-c/!=,() in\u{e4}-]{0,24}") {
            if let Ok(selector) = text.parse::<Selector>() {
                assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
            }
        }
    }
}
