//! Compiles the protos with protox, so that no `protoc` is needed, and notes what the binary is built from and with.
//!
//! | proto | into | what |
//! | --- | --- | --- |
//! | `cri.proto` | `OUT_DIR/cri` | the read-only client of the daemon |
//! | `cri_lab.proto` | `OUT_DIR/sim` | the server of the simulated runtime |
//! | `cri_lab.proto` | `OUT_DIR/lab` | the tests' client, which the library does not include |
//! | `plegd/v1/*.proto` | `OUT_DIR/api` | plegd's own messages and clients, and the descriptors for reflection |
//! | `plegd/v1/*.proto` | `OUT_DIR/api_server` | the servers of the same |

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use prost::Message as _;

fn main() -> io::Result<()> {
    note_origin();
    if has("DAEMON") {
        compile("cri", "cri", Side::Client, "crate::cri::codec::SliceCodec")?;
    }
    if has("SIM") {
        // Go servers can send strings that are not UTF-8, prost cannot: the simulation has a codec of its own.
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
        // Small maps, decoded and encoded by the thousand: no hashing, and in the order in which labels are packed.
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
        // In an order that is always the same.
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
        // What is sent to many is encoded once: the server's stream is of messages that are bytes already.
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

/// Sets `PLEGD_REVISION`, `PLEGD_RUSTC` and `PLEGD_TARGET` for `src/version.rs`. Nothing here may fail a build: what is not
/// known is left out.
fn note_origin() {
    println!("cargo::rerun-if-env-changed=PLEGD_REVISION");
    let rustc = env::var("RUSTC").ok().and_then(|rustc| output(&rustc, &["--version"]));
    for (name, value) in [("PLEGD_RUSTC", rustc), ("PLEGD_TARGET", env::var("TARGET").ok())] {
        if let Some(value) = value {
            println!("cargo::rustc-env={name}={value}");
        }
    }
    // While developing, each commit would compile everything again for the sake of its name.
    if env::var_os("PLEGD_REVISION").is_none()
        && env::var("PROFILE").is_ok_and(|profile| profile == "release")
        && let Some(revision) = revision()
    {
        println!("cargo::rustc-env=PLEGD_REVISION={revision}");
    }
}

/// The commit that this is, if this folder is a git repository of its own and not merely unpacked within one.
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

/// What a command prints, if there is such a command and it succeeds.
fn output(command: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(command).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
