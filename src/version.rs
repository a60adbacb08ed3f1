//! Version, revision and build of this binary, set by `build.rs`.

/// Version of plegd.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The git commit of the build; none if unknown.
pub const REVISION: Option<&str> = option_env!("PLEGD_REVISION");

/// The compiler's version line.
pub const RUSTC: &str = match option_env!("PLEGD_RUSTC") {
    Some(rustc) => rustc,
    None => "unknown",
};

/// The target platform.
pub const TARGET: &str = match option_env!("PLEGD_TARGET") {
    Some(target) => target,
    None => "unknown",
};
