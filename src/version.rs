//! What this binary is: version, revision, and what built it. Noted by `build.rs`.

/// Version of plegd.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The git commit it was built from; none where the build did not know.
pub const REVISION: Option<&str> = option_env!("PLEGD_REVISION");

/// The compiler it was built with, as it names itself.
pub const RUSTC: &str = match option_env!("PLEGD_RUSTC") {
    Some(rustc) => rustc,
    None => "unknown",
};

/// The platform it was built for.
pub const TARGET: &str = match option_env!("PLEGD_TARGET") {
    Some(target) => target,
    None => "unknown",
};
