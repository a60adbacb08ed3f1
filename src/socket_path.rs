//! What the path of a UNIX socket has to be, wherever one is named.

/// What fits into Linux' `sun_path`, with the zero at its end, in bytes.
pub(crate) const LONGEST: usize = 107;

/// Whether this can be the path of a socket. The error is a clause that says what is wrong.
pub(crate) fn check(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("the path of the socket is not absolute".into());
    }
    if path.ends_with('/') {
        return Err("it names a folder, not the socket in it".into());
    }
    if path.len() > LONGEST {
        return Err(format!("it is longer than the {LONGEST} bytes that a socket's path may have"));
    }
    Ok(())
}
