//! Compiles the protos with protox, so that no `protoc` is needed.
//!
//! | proto | into | what |
//! | --- | --- | --- |
//! | `cri.proto` | `OUT_DIR/cri` | the read-only client of the daemon |
//! | `cri_lab.proto` | `OUT_DIR/sim` | the server of the simulated runtime |
//! | `cri_lab.proto` | `OUT_DIR/lab` | the tests' client, which the library does not include |

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    compile("cri", "cri", Side::Client)?;
    compile("cri_lab", "sim", Side::Server)?;
    compile("cri_lab", "lab", Side::Client)
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Client,
    Server,
}

fn compile(proto: &str, module: &str, side: Side) -> io::Result<()> {
    let file = format!("proto/{proto}.proto");
    println!("cargo::rerun-if-changed={file}");
    let descriptors = protox::compile([&file], ["proto"]).map_err(io::Error::other)?;
    let out =
        PathBuf::from(env::var_os("OUT_DIR").ok_or(io::Error::other("OUT_DIR is not set"))?).join(module);
    fs::create_dir_all(&out)?;
    tonic_prost_build::configure()
        .build_client(side == Side::Client)
        .build_server(side == Side::Server)
        .build_transport(false)
        .codec_path(match side {
            Side::Client => "tonic_prost::ProstCodec",
            // Go servers can send strings that are not UTF-8, prost cannot: the simulation has a codec of its own.
            Side::Server => "crate::sim::codec::SimCodec",
        })
        .out_dir(out)
        .compile_fds(descriptors)
}
