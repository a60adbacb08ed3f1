//! Compiles the protos with protox, so that no `protoc` is needed, and records the origin of the build.
//!
//! | proto | into | result |
//! | --- | --- | --- |
//! | `cri.proto` | `OUT_DIR/cri` | the daemon's read-only client |
//! | `cri_lab.proto` | `OUT_DIR/sim` | the server of the simulated runtime |
//! | `cri_lab.proto` | `OUT_DIR/lab` | the tests' client, not part of the library |
//! | `state.proto` | `OUT_DIR/state` | the records of the state on disk |
//! | `plegd/v1/*.proto` | `OUT_DIR/api` | plegd's messages and clients, and the descriptors for reflection |
//! | `plegd/v1/*.proto` | `OUT_DIR/api_server` | the servers of these messages |

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use prost::Message as _;

fn main() -> io::Result<()> {
    record_origin();
    if has("DAEMON") {
        compile("cri", "cri", Side::Client, "crate::cri::codec::SliceCodec")?;
        compile("state", "state", Side::Client, "")?;
    }
    if has("SIM") {
        // Go servers can send strings that are not UTF-8, prost cannot: the simulation has its own codec.
        compile("cri_lab", "sim", Side::Server, "crate::sim::codec::SimCodec")?;
    }
    if has("INTERNALS") {
        compile("cri_lab", "lab", Side::Client, "tonic_prost::ProstCodec")?;
    }
    if has("CLIENT") {
        compile_api()?;
    }
    Ok(())
}

/// Whether the crate is built with this feature.
fn has(feature: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{feature}")).is_some()
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Client,
    Server,
}

fn compile(proto: &str, module: &str, side: Side, codec: &str) -> io::Result<()> {
    let file = format!("proto/{proto}.proto");
    println!("cargo::rerun-if-changed={file}");
    let descriptors = protox::compile([&file], ["proto"]).map_err(io::Error::other)?;
    tonic_prost_build::configure()
        // Small maps, decoded and encoded by the thousand: without hashing, and ordered as labels are packed.
        .btree_map(".")
        .build_client(side == Side::Client)
        .build_server(side == Side::Server)
        .build_transport(false)
        .codec_path(codec)
        .out_dir(out(module)?)
        .compile_fds(descriptors)
}

/// plegd's own API: messages with clients, and servers of the same messages.
fn compile_api() -> io::Result<()> {
    println!("cargo::rerun-if-changed=proto/plegd");
    let files = ["proto/plegd/v1/pod_lifecycle.proto", "proto/plegd/v1/introspection.proto"];
    let descriptors = protox::compile(files, ["proto"]).map_err(io::Error::other)?;
    let api = out("api")?;
    fs::write(api.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // A deterministic order.
        .btree_map(".")
        .build_server(false)
        .build_transport(false)
        .out_dir(api)
        .compile_fds(descriptors.clone())?;
    if !has("DAEMON") {
        return Ok(());
    }
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .extern_path(".plegd.v1", "crate::v1")
        // A message for many subscribers is encoded once: the server streams messages that are already bytes.
        .extern_path(".plegd.v1.WatchResponse", "crate::api::wire::Encoded")
        .codec_path("crate::api::codec::SmallCodec")
        .out_dir(out("api_server")?)
        .compile_fds(descriptors)
}

fn out(module: &str) -> io::Result<PathBuf> {
    let out =
        PathBuf::from(env::var_os("OUT_DIR").ok_or(io::Error::other("OUT_DIR is not set"))?).join(module);
    fs::create_dir_all(&out)?;
    Ok(out)
}

/// Sets `PLEGD_REVISION`, `PLEGD_RUSTC` and `PLEGD_TARGET` for `src/version.rs`. Unknown values are left out: nothing
/// here may fail a build.
fn record_origin() {
    println!("cargo::rerun-if-env-changed=PLEGD_REVISION");
    let rustc = env::var("RUSTC").ok().and_then(|rustc| output(&rustc, &["--version"]));
    for (name, value) in [("PLEGD_RUSTC", rustc), ("PLEGD_TARGET", env::var("TARGET").ok())] {
        if let Some(value) = value {
            println!("cargo::rustc-env={name}={value}");
        }
    }
    // In development builds, each commit would recompile everything.
    if env::var_os("PLEGD_REVISION").is_none()
        && env::var("PROFILE").is_ok_and(|profile| profile == "release")
        && let Some(revision) = revision()
    {
        println!("cargo::rustc-env=PLEGD_REVISION={revision}");
    }
}

/// The commit, if this directory is a git repository of its own and not unpacked within another one.
fn revision() -> Option<String> {
    let root = output("git", &["rev-parse", "--show-toplevel"])?;
    let here = env::var_os("CARGO_MANIFEST_DIR")?;
    if fs::canonicalize(root).ok()? != fs::canonicalize(here).ok()? {
        return None;
    }
    let log = output("git", &["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"])?;
    let changed = !output("git", &["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if changed { format!("{commit}-dirty") } else { commit })
}

/// The output of a command, if it exists and succeeds.
fn output(command: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(command).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
