//! What is said on standard error meanwhile. Standard output is for the report alone.

pub(crate) fn say(line: &str) {
    eprintln!("soak: {line}");
}
