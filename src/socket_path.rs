//! The rules for the path of a UNIX socket.

/// Maximum length in bytes: Linux' `sun_path` without the terminating zero.
pub(crate) const MAX_LENGTH: usize = 107;

/// Checks the path of a socket. The error is a clause that names the problem.
pub(crate) fn check(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("the path of the socket is not absolute".into());
    }
    if path.ends_with('/') {
        return Err("it names a directory, not the socket in it".into());
    }
    if path.len() > MAX_LENGTH {
        return Err(format!("it is longer than the {MAX_LENGTH} bytes that a socket's path may have"));
    }
    Ok(())
}
